//! Normalization of paths.
//!
//! Every path without a route returns 200 on leader and followers, as in the old sidecar. A load balancer that misspells `/leader`
//! would take each follower for the leader, so all spellings of a route are that route.

use hyper::Uri;

/// How often a path is decoded. Proxies may encode an encoded path again.
const DECODINGS: usize = 3;

/// Returns the path in its normal form: decoded, in lower case, without dot segments, empty segments, parameters, a query, or
/// whitespace and punctuation at the end of a segment.
pub fn normalized(uri: &Uri) -> String {
    // A request line without the first slash, `GET leader HTTP/1.0`, names an authority.
    let authority = uri.authority().filter(|_| uri.scheme().is_none());
    let mut path = format!("{}{}", authority.map_or("", |authority| authority.as_str()), uri.path());
    for _ in 0..DECODINGS {
        path = decoded(&path);
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split(['?', '#', ';']).next().unwrap_or_default().split(['/', '\\']) {
        match segment.trim_matches(|c: char| c.is_whitespace() || c.is_control()) {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => {
                let segment = segment.trim_end_matches(|c: char| !c.is_alphanumeric());
                segments.extend((!segment.is_empty()).then(|| segment.to_lowercase()));
            }
        }
    }
    format!("/{}", segments.join("/"))
}

/// Decodes `%2F` and its like.
fn decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)?.try_into().ok());
    let (bytes, mut decoded) = (text.as_bytes(), Vec::new());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair: Option<(u8, u8)> = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2)));
        match pair.filter(|_| *byte == b'%') {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(target: &str) -> String {
        normalized(&target.parse().unwrap())
    }

    #[test]
    fn every_spelling_of_a_route_is_that_route() {
        for target in [
            "/leader",
            "/leader/",
            "//leader",
            "///leader//",
            "/leader?probe=1",
            "/leader?",
            "/leader/?probe=1",
            "/leader;jsessionid=1",
            "/LEADER",
            "/Leader",
            "/./leader",
            "/x/../leader",
            "/../leader",
            "/leader/.",
            "/leader/x/..",
            "/%6ceader",
            "/%6Ceader",
            "/leader%2F",
            "/%2Fleader",
            "%2Fleader",
            "/leader%20",
            "/leader%00",
            "/leader%3Fx",
            "/%256ceader",
            "/leader\\",
            "/leader.",
            "/leader*",
            "http://x/leader",
            "http://x//leader/",
            "leader",
        ] {
            let Ok(uri) = target.parse::<Uri>() else { continue };
            assert_eq!(normalized(&uri), "/leader", "{target}");
        }
    }

    #[test]
    fn other_paths_are_not_that_route() {
        for target in ["/", "/x/leader", "/leaders", "/leader/x", "/index.html", "/leader%zz/x", "*", "http://leader/", "/%"]
        {
            assert_ne!(route(target), "/leader", "{target}");
        }
    }
}
