//! What the pages say about the sources is there: every test, function and file that they name.
//!
//! Read are the lists that begin with `* Tests:` and `* Where:`. A path, or `tables`, says where the names after it are. A name
//! that ends with `…` is the beginning of exactly one, or of as many as the word in parentheses behind it says.

use std::path::{Path, PathBuf};

const FAILURES: &str = include_str!("../docs/contributing/failure-modes.md");
const PROTOCOL: &str = include_str!("../docs/contributing/protocol.md");

/// What a failure that no test shows must say about itself.
const EXCUSES: [&str; 3] = ["**Not built yet", "**Not prevented", "**Does not apply"];

#[test]
fn whatever_the_pages_name_is_there() {
    for (page, text, least) in [("protocol.md", PROTOCOL, 80), ("failure-modes.md", FAILURES, 100)] {
        let (names, problems) = check(text);
        assert!(problems.is_empty(), "docs/contributing/{page}:\n{}", problems.join("\n"));
        assert!(names >= least, "docs/contributing/{page}: only {names} names were found in it");
    }
}

#[test]
fn every_failure_has_a_test_or_says_why_not() {
    assert_eq!(unexplained(FAILURES), Vec::<String>::new());
    let page = "* **1. A.** Told.\n  * Tests: `tables` `hold_…`\n* **2. B.** Told.\n* **4. C.** **Not prevented**: so.\n";
    assert_eq!(unexplained(page), ["2 has neither a test nor an excuse", "4 comes after 2"]);
}

#[test]
fn what_is_misspelt_is_found() {
    let wrong = |list: &str| check(list).1;
    assert_eq!(wrong("* Tests: `tables` `a_vacancy_is_not_renewed`, `a_healthy_leader_…`"), [""; 0]);
    assert_eq!(wrong("* Tests: `tables` `rule_2_…`, `rule_4_…` (five); `e2e/tells.rs`\n\n`prose_is_not_read`"), [""; 0]);
    for (list, problem) in [
        ("* Tests: `tables` `a_vacancy_is_renewed`", "`a_vacancy_is_renewed`: 0 of these, not 1"),
        ("* Tests: `tables` `a_vacancy_is_not`", "`a_vacancy_is_not`: 0 of these, not 1"),
        ("* Tests: `tables`\n  `a_vacancy_was_…`", "`a_vacancy_was_…`: 0 of these, not 1"),
        ("* Tests: `tables` `rule_4_…`", "`rule_4_…`: 5 of these, not 1"),
        ("* Tests: `tables` `rule_4_…` (four)", "`rule_4_…`: 5 of these, not 4"),
        ("* Tests: `tables` `guard`", "`guard`: 0 of these, not 1"),
        ("* Tests: `e2e/tells.rs` `a_vacancy_is_not_renewed`", "`a_vacancy_is_not_renewed`: 0 of these, not 1"),
        ("* Tests: `controller/tables` `a_vacancy_is_not_renewed`", "`controller/tables`: 0 such paths"),
        ("* Tests: `a_vacancy_is_not_renewed`", "`a_vacancy_is_not_renewed`: no path before it"),
        ("* Tests: `api/names.rs`", "`api/names.rs`: no test in it"),
        ("* Tests: `tests/model` `Mutation::NoFences`", "`Mutation::NoFences`: 0 of these, not 1"),
        ("* Where: `election/decide.rs` `decided`", "`decided`: 0 of these, not 1"),
    ] {
        assert_eq!(wrong(list), [problem], "{list}");
    }
}

/// How many names the lists of the page have, and what is wrong with them.
fn check(page: &str) -> (usize, Vec<String>) {
    let (mut names, mut problems) = (0, Vec::new());
    for list in lists(page) {
        let tests = list.starts_with("* Tests:");
        let mut place: Option<Sources> = None;
        // What is between backticks, and what follows on it.
        let (spans, afters) = (list.split('`').skip(1).step_by(2), list.split('`').skip(2).step_by(2));
        for (span, after) in spans.zip(afters) {
            if span.contains('/') || span.ends_with(".rs") || span == "tables" {
                let (paths, sources) = Sources::at(span);
                if paths != 1 {
                    problems.push(format!("`{span}`: {paths} such paths"));
                } else if tests && sources.tests().is_empty() && !sources.text.contains("Mutation::") {
                    problems.push(format!("`{span}`: no test in it"));
                }
                if paths != 1 {
                    break; // Nothing can be said about what is named in a place that is none.
                }
                place = Some(sources);
                continue;
            }
            names += 1;
            let Some(place) = &place else {
                problems.push(format!("`{span}`: no path before it"));
                continue;
            };
            let (found, expected) = (place.count(span, tests), expected(after));
            if found != expected {
                problems.push(format!("`{span}`: {found} of these, not {expected}"));
            }
        }
    }
    (names, problems)
}

/// The lists of a page: each from its beginning to the next bullet, headline or empty line.
fn lists(page: &str) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['*', '#']) {
            inside = line.starts_with("* Tests:") || line.starts_with("* Where:");
            if inside {
                lists.push(line.into());
            }
        } else if inside && let Some(list) = lists.last_mut() {
            *list = format!("{list} {line}");
        }
    }
    lists
}

/// How many there must be, by what follows on the name.
fn expected(after: &str) -> usize {
    let words = ["(one)", "(two)", "(three)", "(four)", "(five)", "(six)", "(seven)", "(eight)"];
    words.iter().position(|word| after.trim_start().starts_with(word)).map_or(1, |index| index + 1)
}

/// What the page's numbered failures lack.
fn unexplained(page: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let entries: Vec<&str> = page.split("\n* **").collect();
    // The first one may begin the page.
    let entries = entries.iter().map(|entry| entry.trim_start_matches("* **"));
    let mut last = 0;
    for (number, entry) in entries.filter_map(|entry| Some((entry.split_once('.')?.0.parse::<usize>().ok()?, entry))) {
        if number != last + 1 {
            problems.push(format!("{number} comes after {last}"));
        }
        last = number;
        if !entry.contains("* Tests: `") && !EXCUSES.iter().any(|excuse| entry.contains(excuse)) {
            problems.push(format!("{number} has neither a test nor an excuse"));
        }
    }
    assert!(last > 0, "no failures were found");
    problems
}

/// The text of a source file, or of all in a folder.
struct Sources {
    text: String,
}

impl Sources {
    /// How many paths are meant, and what is there.
    fn at(path: &str) -> (usize, Self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let meant: Vec<PathBuf> = ["", "src", "src/election", "tests"]
            .iter()
            .map(|folder| root.join(folder).join(path))
            .filter(|path| path.exists())
            .collect();
        let mut text = String::new();
        meant.iter().for_each(|path| read(path, &mut text));
        (meant.len(), Self { text })
    }

    /// The names of the tests.
    fn tests(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut marked = false;
        for line in self.text.lines().map(str::trim) {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            if let Some((before, after)) = line.split_once("fn ")
                && marked
                && matches!(before, "" | "async ")
            {
                names.extend(after.split('(').next());
                marked = false;
            }
        }
        names
    }

    /// How many tests have this name. Of anything else: whether it is there.
    fn count(&self, name: &str, tests: bool) -> usize {
        if tests && !name.contains("::") {
            return match name.strip_suffix('…') {
                Some(beginning) => self.tests().iter().filter(|test| test.starts_with(beginning)).count(),
                None => self.tests().iter().filter(|test| **test == name).count(),
            };
        }
        // Of `Type::function` in code, the source has the function alone; of a `Variant` that is used, both.
        let name = if tests { name } else { name.rsplit("::").next().unwrap_or(name) };
        let is_part =
            |character: Option<char>| character.is_some_and(|character| character.is_alphanumeric() || character == '_');
        let whole = |(at, _): (usize, &str)| {
            !is_part(self.text[..at].chars().next_back()) && !is_part(self.text[at + name.len()..].chars().next())
        };
        usize::from(self.text.match_indices(name).any(whole))
    }
}

fn read(path: &Path, text: &mut String) {
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| read(entry, text));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        *text += &std::fs::read_to_string(path).unwrap();
    }
}
