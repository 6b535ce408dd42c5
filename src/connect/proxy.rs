//! The proxy for the API server, from the kubeconfig and the environment as in kubectl.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Returns the proxy for this cluster, if there is one.
///
/// The kubeconfig's `proxy-url` has precedence and no exceptions. Otherwise it is HTTPS_PROXY or HTTP_PROXY, by the scheme of the
/// cluster's URL, unless NO_PROXY lists the cluster's address or the cluster is on this machine.
///
/// # Errors
/// An unusable proxy: its place and the remedy.
pub fn choose(
    cluster: &Uri,
    proxy_url: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, String> {
    if let Some(url) = proxy_url.filter(|url| !url.is_empty()) {
        return usable("the kubeconfig's proxy-url", url).map(Some);
    }
    let first = |names: [&'static str; 2]| {
        let set = names.into_iter().find_map(|name| Some((name, variable(name)?)).filter(|(_, value)| !value.is_empty()));
        set.map(|(name, value)| (name, value.trim().to_owned()))
    };
    let names = if is_plain(cluster) { ["HTTP_PROXY", "http_proxy"] } else { ["HTTPS_PROXY", "https_proxy"] };
    let Some((name, url)) = first(names) else { return Ok(None) };
    let excepted = first(["NO_PROXY", "no_proxy"]).is_some_and(|(_, list)| excepts(&list, cluster));
    if excepted || is_this_machine(cluster) {
        return Ok(None);
    }
    usable(name, &url).map(Some)
}

/// True if the cluster's URL is plain HTTP.
fn is_plain(cluster: &Uri) -> bool {
    cluster.scheme_str() == Some("http")
}

/// Returns the port of this URL, or its scheme's default.
pub fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if is_plain(url) { 80 } else { 443 })
}

fn usable(place: &str, url: &str) -> Result<Uri, String> {
    let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let unusable =
        |why: &str| format!("{place} cannot be used ({shown}: {why}): write http://, https:// or socks5://HOST:PORT");
    // As in kubectl, a URL without a scheme is HTTP.
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let parsed: Uri = full.parse().map_err(|_| unusable("no URL"))?;
    let place = parsed.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    let host = parsed.host().unwrap_or_default();
    match parsed.scheme_str() {
        Some("http" | "https" | "socks5" | "socks5h") if host.is_empty() => Err(unusable("no host")),
        Some("http" | "https" | "socks5" | "socks5h") if host != place && parsed.port_u16().is_none() => {
            Err(unusable("no port"))
        }
        Some("http" | "https" | "socks5" | "socks5h") => Ok(parsed),
        _ => Err(unusable("this protocol is not supported")),
    }
}

/// Returns whether the cluster is on this machine. As in Go, a proxy does not apply to it.
fn is_this_machine(cluster: &Uri) -> bool {
    let host = cluster.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// True if this list of NO_PROXY contains the cluster.
fn excepts(list: &str, cluster: &Uri) -> bool {
    let entries: Vec<&str> = list.split(',').filter_map(|entry| entry_for(entry.trim(), port(cluster))).collect();
    let any = "http://proxy.invalid";
    Matcher::builder().http(any).https(any).no(entries.join(",")).build().intercept(cluster).is_none()
}

/// Returns the entry in the matcher's form, or `None` if it names another port.
fn entry_for(entry: &str, port: u16) -> Option<&str> {
    // `[::1]:6443`, `10.0.0.1:6443`, `example.com:6443`, but not `::1`.
    let (host, of) = match entry.rsplit_once(':') {
        Some((host, of)) if !host.contains(':') || host.ends_with(']') => (host, Some(of)),
        _ => (entry, None),
    };
    if of.is_some_and(|of| of.parse() != Ok(port)) {
        return None;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // `*.example.com` is another way to write `.example.com`.
    Some(host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(cluster: &str, proxy_url: Option<&str>, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable = |name: &str| environment.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let chosen = choose(&cluster.parse().unwrap(), proxy_url, variable);
        chosen.map(|proxy| proxy.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn proxy_is_the_one_that_kubectl_uses() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://h:1")];
        for (cluster, proxy_url, environment, expected) in [
            ("https://a:6443", None, &[][..], None),
            ("https://a:6443", None, &both[..], Some("http://s:1/")),
            ("http://a:8080", None, &both[..], Some("http://h:1/")),
            ("https://a:6443", None, &[("https_proxy", "socks5://s:1")], Some("socks5://s:1/")),
            ("https://a:6443", None, &[("HTTPS_PROXY", ""), ("https_proxy", "s:1")], Some("http://s:1/")),
            ("https://a:6443", None, &[("HTTPS_PROXY", "http://u:p%40@s:1")], Some("http://u:p%40@s:1/")),
            ("https://localhost:6443", None, &both[..], None),
            ("https://127.0.0.1:6443", None, &both[..], None),
            ("https://[::1]:6443", None, &both[..], None),
            ("https://a:6443", Some("http://k:1"), &both[..], Some("http://k:1/")),
            ("https://a:6443", Some(""), &both[..], Some("http://s:1/")),
            // The kubeconfig's proxy has no exceptions.
            ("https://127.0.0.1:1", Some("socks5://k:1"), &[("NO_PROXY", "*")], Some("socks5://k:1/")),
        ] {
            let expected = Ok(expected.map(str::to_owned));
            assert_eq!(chosen(cluster, proxy_url, environment), expected, "{cluster} {proxy_url:?} {environment:?}");
        }
    }

    #[test]
    fn no_proxy_lists_names_addresses_networks_and_ports() {
        for (list, cluster, excepted) in [
            ("*", "https://a", true),
            ("a", "https://a:6443", true),
            ("a:6443", "https://a:6443", true),
            ("a:6443", "https://a", false),
            ("a:443", "https://a", true),
            ("b, a", "https://a", true),
            ("b,,a,", "https://a", true),
            ("", "https://a", false),
            ("A.Example", "https://a.example", true),
            ("example.com", "https://a.example.com", true),
            (".example.com", "https://a.example.com", true),
            ("*.example.com", "https://a.example.com:6443", true),
            ("example.com", "https://notexample.com", false),
            ("10.0.0.0/8", "https://10.1.2.3:6443", true),
            ("10.0.0.0/8", "https://11.1.2.3:6443", false),
            ("10.1.2.3", "https://10.1.2.3:6443", true),
            ("10.1.2.3:6443", "https://10.1.2.3:6443", true),
            ("10.1.2.3:443", "https://10.1.2.3:6443", false),
            ("fd00::/8", "https://[fd00::1]:6443", true),
            ("fd00::1", "https://[fd00::1]:6443", true),
            ("[fd00::1]", "https://[fd00::1]:6443", true),
            ("[fd00::1]:6443", "https://[fd00::1]:6443", true),
            ("[fd00::1]:443", "https://[fd00::1]:6443", false),
            ("no host, http://a, ::, 10.0.0.0/99", "https://a", false),
        ] {
            let found = chosen(cluster, None, &[("HTTPS_PROXY", "http://s:1"), ("NO_PROXY", list)]);
            assert_eq!(found.map(|proxy| proxy.is_none()), Ok(excepted), "{list:?} {cluster}");
        }
    }

    #[test]
    fn unusable_proxy_is_refused_with_its_place_and_a_remedy_and_without_its_password() {
        for url in ["socks4://u:secret@s:1", "ftp://u:secret@s", "http://", "http://u:secret@s:port", "http://a b"] {
            let remedy = "write http://, https:// or socks5://HOST:PORT";
            let error = chosen("https://a", Some(url), &[]).unwrap_err();
            assert!(error.starts_with("the kubeconfig's proxy-url cannot be used") && error.ends_with(remedy), "{error}");
            assert!(!error.contains("secret"), "{error}");
            let error = chosen("https://a", None, &[("https_proxy", url)]).unwrap_err();
            assert!(error.starts_with("https_proxy cannot be used"), "{error}");
        }
    }
}
