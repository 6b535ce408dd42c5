//! Lists in options and variables: entries are separated by commas, trimmed and validated.

use clap::ArgMatches;
use clap::parser::ValueSource;
use podium::controller::limits::LabelKeys;

/// The default of the allowed label keys.
pub const LABEL_KEYS: &str = "leader,*/leader";

/// The entries of one option. A variable that is set but empty, as templates render it, has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(Vec<String>);

/// Collects the entries of a repeated option.
pub fn entries<T: FromIterator<String>>(lists: Vec<List>) -> T {
    lists.into_iter().flat_map(|List(entries)| entries).collect()
}

/// Collects the entries as patterns of label keys. Without entries: the default.
pub fn patterns(lists: Vec<List>) -> LabelKeys {
    let patterns: Vec<String> = entries(lists);
    match patterns.is_empty() {
        true => LabelKeys::new(LABEL_KEYS.split(',').map(str::to_owned)),
        false => LabelKeys::new(patterns),
    }
}

/// Rejects an option that is empty on the command line: a shell variable was not set, and empty would mean the whole cluster.
///
/// In the environment it is allowed, because templates render empty values.
pub fn refuse_empty(matches: &ArgMatches) -> Result<(), String> {
    let Some((_, matches)) = matches.subcommand() else { return Ok(()) };
    for (id, option) in [("namespaces", "--namespaces"), ("allowed_label_keys", "--allowed-label-keys")] {
        let is_there = matches.try_contains_id(id).unwrap_or(false);
        if is_there && matches.value_source(id) == Some(ValueSource::CommandLine) {
            let mut lists = matches.get_many::<List>(id).into_iter().flatten();
            if lists.any(|List(entries)| entries.is_empty()) {
                return Err(format!("{option} must not be empty: give a value, or remove the option"));
            }
        }
    }
    Ok(())
}

/// Parses names of namespaces.
pub fn namespaces(text: &str) -> Result<List, String> {
    list(text, |entry| {
        let fits = is_dns_label(entry);
        fits.then_some(()).ok_or("a namespace must have at most 63 characters: lower case letters, digits, and - in between")
    })
}

/// Parses label keys and patterns of them.
pub fn label_keys(text: &str) -> Result<List, String> {
    list(text, |entry| {
        let (prefix, name) = entry.split_once('/').map_or((None, entry), |(prefix, name)| (Some(prefix), name));
        let fits = is_label_name(name) && prefix.is_none_or(|prefix| prefix == "*" || is_dns_subdomain(prefix));
        fits.then_some(()).ok_or("write a label key such as leader or example.com/leader, or */leader for any prefix")
    })
}

fn list(text: &str, check: impl Fn(&str) -> Result<(), &'static str>) -> Result<List, String> {
    if text.trim().is_empty() {
        return Ok(List(Vec::new()));
    }
    let entries = text.split(',').map(str::trim).map(|entry| match entry {
        "" => Err("entries must not be empty: remove the extra comma".to_owned()),
        entry => check(entry).map(|()| entry.to_owned()).map_err(|why| format!("{entry:?} is invalid: {why}")),
    });
    Ok(List(entries.collect::<Result<_, _>>()?))
}

/// RFC 1123, as in Kubernetes.
fn is_dns_label(text: &str) -> bool {
    let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// The part of a label key after the slash.
fn is_label_name(text: &str) -> bool {
    let inner = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let outer = |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    #[test]
    fn empty_option_on_the_command_line_is_rejected() {
        for (line, expected) in [
            (&["podium", "controller"][..], None),
            (&["podium", "crd"], None),
            (&["podium", "controller", "--namespaces", "a"], None),
            (&["podium", "controller", "--namespaces", ""], Some("--namespaces must not be empty")),
            (&["podium", "controller", "--namespaces=a", "--namespaces= "], Some("--namespaces must not be empty")),
            (&["podium", "controller", "--allowed-label-keys="], Some("--allowed-label-keys must not be empty")),
            (&["podium", "cleanup", "-n", ""], Some("--namespaces must not be empty")),
        ] {
            let matches = Cli::command().try_get_matches_from(line).unwrap();
            let refused = refuse_empty(&matches).err();
            assert_eq!(refused.as_deref().map(|why| why.split(':').next().unwrap()), expected, "{line:?}");
        }
    }

    #[test]
    fn entries_are_trimmed_and_empty_or_invalid_ones_are_rejected_with_a_remedy() {
        let list = |entries: &[&str]| Ok(List(entries.iter().map(|entry| (*entry).to_owned()).collect()));
        let long = "x".repeat(64);
        for (text, expected) in [
            ("a", Ok(&["a"][..])),
            (" a,\tb ,team-1\n", Ok(&["a", "b", "team-1"])),
            ("", Ok(&[])),
            (" ", Ok(&[])),
            ("a,", Err("empty")),
            (",", Err("empty")),
            ("a,,b", Err("empty")),
            ("a, ,b", Err("empty")),
            ("A", Err("lower case")),
            ("a b", Err("\"a b\" is invalid")),
            ("a;b", Err("63 characters")),
            ("*", Err("63 characters")),
            ("-a", Err("63 characters")),
            ("a.b", Err("63 characters")),
            (&long, Err("63 characters")),
        ] {
            match expected {
                Ok(entries) => assert_eq!(namespaces(text), list(entries), "{text:?}"),
                Err(words) => assert!(namespaces(text).is_err_and(|error| error.contains(words)), "{text:?}"),
            }
        }
        for (text, expected) in [
            ("leader, */leader", Ok(&["leader", "*/leader"][..])),
            ("example.com/Leader_1.x", Ok(&["example.com/Leader_1.x"])),
            ("leader,", Err("empty")),
            ("*", Err("*/leader for any prefix")),
            ("*/", Err("*/leader")),
            ("/leader", Err("*/leader")),
            ("*.com/leader", Err("*/leader")),
            ("a/b/c", Err("*/leader")),
            ("lead er", Err("*/leader")),
            ("Example.com/leader", Err("*/leader")),
            ("leader-", Err("*/leader")),
            (&long, Err("*/leader")),
        ] {
            match expected {
                Ok(entries) => assert_eq!(label_keys(text), list(entries), "{text:?}"),
                Err(words) => assert!(label_keys(text).is_err_and(|error| error.contains(words)), "{text:?}"),
            }
        }
    }
}
