//! Every test, function and file that the contributors' pages list must exist in the sources.
//!
//! The lists begin with `* Tests:` or `* Where:`. A path, or `tables`, is the place of the names that follow it. A name that ends
//! with `…` is the beginning of exactly one name, or of as many as the number word in parentheses after it.

use std::path::{Path, PathBuf};

const FAILURES: &str = include_str!("../docs/contributing/failure-modes.md");
const PROTOCOL: &str = include_str!("../docs/contributing/protocol.md");

/// A failure without a test must carry one of these.
const EXCUSES: [&str; 3] = ["**Not built yet", "**Not prevented", "**Does not apply"];

#[test]
fn listed_names_exist() {
    for (page, text, least) in [("protocol.md", PROTOCOL, 80), ("failure-modes.md", FAILURES, 100)] {
        let (names, problems) = check(text);
        assert!(problems.is_empty(), "docs/contributing/{page}:\n{}", problems.join("\n"));
        assert!(names >= least, "docs/contributing/{page}: found only {names} names");
    }
}

#[test]
fn each_failure_has_a_test_or_an_excuse() {
    assert_eq!(unexplained(FAILURES), Vec::<String>::new());
    let page = "* **1. A.** Text.\n  * Tests: `tables` `hold_…`\n* **2. B.** Text.\n* **4. C.** **Not prevented**: so.\n";
    assert_eq!(unexplained(page), ["2 has neither a test nor an excuse", "4 comes after 2"]);
}

#[test]
fn misspelled_name_is_reported() {
    let wrong = |list: &str| check(list).1;
    assert_eq!(wrong("* Tests: `tables` `vacancy_begins_no_further_term`, `a_healthy_leader_…`"), [""; 0]);
    assert_eq!(
        wrong("* Tests: `tables` `rule_2_…`, `rule_4_…` (five); `e2e/controller/events_and_logs.rs`\n\n`prose_is_not_read`"),
        [""; 0]
    );
    for (list, problem) in [
        ("* Tests: `tables` `a_vacancy_is_renewed`", "`a_vacancy_is_renewed`: 0 of these, not 1"),
        ("* Tests: `tables` `a_vacancy_is_not`", "`a_vacancy_is_not`: 0 of these, not 1"),
        ("* Tests: `tables`\n  `a_vacancy_was_…`", "`a_vacancy_was_…`: 0 of these, not 1"),
        ("* Tests:\n  * `tables` `a_vacancy_was_…`\n* `not_in_the_list`", "`a_vacancy_was_…`: 0 of these, not 1"),
        ("  * Tests:\n    * `tables`\n      `a_vacancy_was_…`\n  * `next`", "`a_vacancy_was_…`: 0 of these, not 1"),
        ("* Tests: `tables` `rule_4_…`", "`rule_4_…`: 5 of these, not 1"),
        ("* Tests: `tables` `rule_4_…` (four)", "`rule_4_…`: 5 of these, not 4"),
        ("* Tests: `tables` `guard`", "`guard`: 0 of these, not 1"),
        (
            "* Tests: `e2e/controller/events_and_logs.rs` `vacancy_begins_no_further_term`",
            "`vacancy_begins_no_further_term`: 0 of these, not 1",
        ),
        ("* Tests: `controller/tables` `vacancy_begins_no_further_term`", "`controller/tables`: 0 paths, not 1"),
        ("* Tests: `vacancy_begins_no_further_term`", "`vacancy_begins_no_further_term`: no path precedes it"),
        ("* Tests: `api/names.rs`", "`api/names.rs`: has no test"),
        ("* Tests: `tests/model` `Mutation::NoFences`", "`Mutation::NoFences`: 0 of these, not 1"),
        ("* Where: `election/decide.rs` `decided`", "`decided`: 0 of these, not 1"),
    ] {
        assert_eq!(wrong(list), [problem], "{list}");
    }
}

/// Returns the number of names in the page's lists, and the problems with them.
fn check(page: &str) -> (usize, Vec<String>) {
    let (mut names, mut problems) = (0, Vec::new());
    for list in lists(page) {
        let tests = list.starts_with("* Tests:");
        let mut place: Option<Sources> = None;
        // The text between backticks, and the text after it.
        let (spans, afters) = (list.split('`').skip(1).step_by(2), list.split('`').skip(2).step_by(2));
        for (span, after) in spans.zip(afters) {
            if span.contains('/') || span.ends_with(".rs") || span == "tables" {
                let (paths, sources) = Sources::at(span);
                if paths != 1 {
                    problems.push(format!("`{span}`: {paths} paths, not 1"));
                } else if tests && sources.tests().is_empty() && !sources.text.contains("Mutation::") {
                    problems.push(format!("`{span}`: has no test"));
                }
                if paths != 1 {
                    break; // Names after a wrong path cannot be checked.
                }
                place = Some(sources);
                continue;
            }
            names += 1;
            let Some(place) = &place else {
                problems.push(format!("`{span}`: no path precedes it"));
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

/// Returns the lists of a page, each as one line. A list ends where a line is not indented deeper than its first line.
fn lists(page: &str) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    let mut indent_of_list = None;
    for line in page.lines() {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if text.starts_with("* Tests:") || text.starts_with("* Where:") {
            indent_of_list = Some(indent);
            lists.push(text.into());
        } else if text.is_empty() || indent_of_list.is_some_and(|of_list| indent <= of_list) {
            indent_of_list = None;
        } else if indent_of_list.is_some()
            && let Some(list) = lists.last_mut()
        {
            *list = format!("{list} {text}");
        }
    }
    lists
}

/// Returns how many names must match, by the text after the name.
fn expected(after: &str) -> usize {
    let words = ["(one)", "(two)", "(three)", "(four)", "(five)", "(six)", "(seven)", "(eight)"];
    words.iter().position(|word| after.trim_start().starts_with(word)).map_or(1, |index| index + 1)
}

/// Returns the problems of the page's numbered failures: gaps in the numbers, and neither a test nor an excuse.
fn unexplained(page: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let entries: Vec<&str> = page.split("\n* **").collect();
    // The first entry may begin the page.
    let entries = entries.iter().map(|entry| entry.trim_start_matches("* **"));
    let mut last = 0;
    for (number, entry) in entries.filter_map(|entry| Some((entry.split_once('.')?.0.parse::<usize>().ok()?, entry))) {
        if number != last + 1 {
            problems.push(format!("{number} comes after {last}"));
        }
        last = number;
        if check(entry).0 == 0 && !EXCUSES.iter().any(|excuse| entry.contains(excuse)) {
            problems.push(format!("{number} has neither a test nor an excuse"));
        }
    }
    assert!(last > 0, "found no failures");
    problems
}

/// The text of a source file, or of all files in a folder.
struct Sources {
    text: String,
}

impl Sources {
    /// Returns the number of paths that match, and their text.
    fn at(path: &str) -> (usize, Self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = ["", "src", "src/election", "tests"].map(|folder| root.join(folder));
        let crates = std::fs::read_dir(root.join("crates")).into_iter().flatten();
        let crates = crates.map(|entry| entry.unwrap().path().join("src"));
        let places = folders.into_iter().chain(crates).map(|folder| folder.join(path));
        let found: Vec<PathBuf> = places.filter(|path| path.exists()).collect();
        let mut text = String::new();
        found.iter().for_each(|path| read(path, &mut text));
        (found.len(), Self { text })
    }

    /// Returns the names of the tests.
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

    /// Returns the number of tests with this name. For any other name: 1 if it occurs.
    fn count(&self, name: &str, tests: bool) -> usize {
        if tests && !name.contains("::") {
            return match name.strip_suffix('…') {
                Some(beginning) => self.tests().iter().filter(|test| test.starts_with(beginning)).count(),
                None => self.tests().iter().filter(|test| **test == name).count(),
            };
        }
        // Source code has the last part of `Type::function` alone, but both parts of a `Variant` in use.
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
