//! The Markdown of the repository: links and anchors resolve, `docs/SUMMARY.md` lists every page, lines are wrapped, and tables
//! have headers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Pages of the book link to files outside of it by this address, because the book has only what is in `docs/`.
const REPOSITORY: &str = "https://github.com/podium-dev/podium/blob/main/";
const SUMMARY: &str = "docs/SUMMARY.md";
const WIDTH: usize = 100;

#[test]
fn every_link_and_anchor_resolves() {
    let problems = Repository::read().broken_links();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn summary_lists_every_page_of_the_book_once() {
    let problems = Repository::read().unlisted_pages();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn lines_are_wrapped_and_tables_are_complete() {
    let repository = Repository::read();
    let problems: Vec<String> = repository
        .pages
        .iter()
        .flat_map(|(path, text)| [long_lines(path, text), broken_tables(path, text)].concat())
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn broken_links_are_reported() {
    let page = |links: &str| {
        let other = "# Other page\n\n## Run `podium run`, twice!\n\n## Again\n\n## Again\n";
        Repository::of(&[("docs/a.md", links), ("docs/how-to/b.md", other), ("Makefile", "")]).broken_links()
    };
    for good in [
        "# Here\n\n[a](#here), [b](how-to/b.md), [c](how-to/b.md#run-podium-run-twice), [d](how-to/b.md#again-1)",
        "[folder](how-to) and [file](https://github.com/podium-dev/podium/blob/main/Makefile)",
        "[wrapped\ntext](how-to/b.md), [elsewhere](https://kubernetes.io/nowhere), `[code](nothing.md)`",
        "```sh\n[code](nothing.md)\n```\n\n[reference][r]\n\n[r]: how-to/b.md",
    ] {
        assert_eq!(page(good), [""; 0], "{good}");
    }
    for (wrong, target) in [
        ("[a](nothing.md)", "nothing.md"),
        ("text [a](how-to/nothing.md \"title\") text", "how-to/nothing.md"),
        ("![a](nothing.png)", "nothing.png"),
        ("[a\nb](nothing.md)", "nothing.md"),
        ("[a](how-to/b.md#run)", "how-to/b.md#run"),
        ("[a](how-to/b.md#again-2)", "how-to/b.md#again-2"),
        ("[a](#nowhere)", "#nowhere"),
        ("[a](../Makefile)", "../Makefile"),
        ("[a](../../Makefile)", "../../Makefile"),
        ("[a](/Makefile)", "/Makefile"),
        ("[r]: nothing.md", "nothing.md"),
        (
            "[a](https://github.com/podium-dev/podium/blob/main/Nothing)",
            "https://github.com/podium-dev/podium/blob/main/Nothing",
        ),
    ] {
        assert_eq!(page(wrong), [format!("docs/a.md: {target} does not resolve")], "{wrong}");
    }
}

#[test]
fn pages_missing_from_the_summary_are_reported() {
    let pages =
        [("docs/SUMMARY.md", "[A](a.md)\n[A](a.md)\n"), ("docs/a.md", ""), ("docs/how-to/b.md", ""), ("README.md", "")];
    let expected = ["docs/a.md is 2 times in docs/SUMMARY.md", "docs/how-to/b.md is 0 times in docs/SUMMARY.md"];
    assert_eq!(Repository::of(&pages).unlisted_pages(), expected);
}

#[test]
fn long_lines_and_broken_tables_are_reported() {
    let long = "word ".repeat(21);
    let good = format!("| a |\n|---|\n| {long} |\n\n```\n{long}\n```\n\n[{}](https://x.example/{})\n", "a", "b".repeat(90));
    assert_eq!(long_lines("a.md", &good), [""; 0]);
    assert_eq!(long_lines("a.md", &format!("\n{long}\n")), ["a.md:2: 104 characters, not at most 100"]);
    assert_eq!(broken_tables("a.md", &good), [""; 0]);
    let wrong = "| a | |\n|---|---|\n| b | c |\n\n| d |\n| e |\n";
    let expected = ["a.md:1: the table needs a header for each column", "a.md:5: the table needs a header for each column"];
    assert_eq!(broken_tables("a.md", wrong), expected);
    let wrong = "| a | b |\n|---|---|\n| `c|d` | e |\n| `c\\|d` | e |\n";
    assert_eq!(broken_tables("a.md", wrong), ["a.md:3: the row has 3 columns, not 2"]);
}

/// The files of the repository: the text of Markdown pages, and the paths of everything.
struct Repository {
    pages: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

impl Repository {
    fn read() -> Self {
        let mut repository = Self { pages: BTreeMap::new(), paths: BTreeSet::from([String::new()]) };
        repository.add_folder(Path::new(env!("CARGO_MANIFEST_DIR")), "");
        repository
    }

    fn add_folder(&mut self, folder: &Path, path: &str) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if (name.starts_with('.') && name != ".github") || name == "target" {
                continue;
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if entry.file_type().unwrap().is_dir() {
                self.add_folder(&entry.path(), &path);
            } else if path.ends_with(".md") {
                self.pages.insert(path.clone(), fs::read_to_string(entry.path()).unwrap());
            }
            self.paths.insert(path);
        }
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let pages = files.iter().filter(|(path, _)| path.ends_with(".md"));
        let folders = files.iter().flat_map(|(path, _)| path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        Self {
            pages: pages.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
            paths: folders.chain(files.iter().map(|(path, _)| (*path).to_owned())).collect(),
        }
    }

    fn broken_links(&self) -> Vec<String> {
        let links = self.pages.iter().flat_map(|(path, text)| links(text).into_iter().map(move |link| (path, link)));
        links
            .filter(|(path, link)| !self.resolves(path, link))
            .map(|(path, link)| format!("{path}: {link} does not resolve"))
            .collect()
    }

    fn resolves(&self, page: &str, link: &str) -> bool {
        let (target, anchor) = link.split_once('#').map_or((link, None), |(target, anchor)| (target, Some(anchor)));
        let path = match target.strip_prefix(REPOSITORY) {
            Some(path) => Some(path.to_owned()),
            None if target.contains("://") || target.starts_with("mailto:") => return true,
            None if target.is_empty() => Some(page.to_owned()),
            None => joined(page, target).filter(|path| !page.starts_with("docs/") || path.starts_with("docs/")),
        };
        let Some(path) = path.filter(|path| self.paths.contains(path)) else { return false };
        anchor.is_none_or(|anchor| self.pages.get(&path).is_some_and(|text| anchors(text).contains(anchor)))
    }

    fn unlisted_pages(&self) -> Vec<String> {
        let listed = links(&self.pages[SUMMARY]);
        let count = |page: &str| listed.iter().filter(|link| joined(SUMMARY, link).as_deref() == Some(page)).count();
        let pages = self.pages.keys().filter(|page| page.starts_with("docs/") && *page != SUMMARY);
        pages
            .map(|page| (page, count(page)))
            .filter(|(_, count)| *count != 1)
            .map(|(page, count)| format!("{page} is {count} times in {SUMMARY}"))
            .collect()
    }
}

/// Resolves a relative link to a path from the repository's root. `None` if it leads outside.
fn joined(page: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Numbered lines of a page without fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// Targets of inline links, images and reference definitions.
fn links(text: &str) -> Vec<String> {
    let lines: Vec<&str> = prose(text).map(|(_, line)| line).collect();
    let definition = |line: &&str| Some(line.strip_prefix('[')?.split_once("]: ")?.1.to_owned());
    let definitions = lines.iter().filter_map(definition);
    let text = lines.join("\n");
    let outside_code: String = text.split('`').step_by(2).collect();
    let inline = outside_code.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    definitions.chain(inline).filter_map(|link| Some(link.split_whitespace().next()?.to_owned())).collect()
}

/// The anchors that GitHub and mdBook give the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim();
        let shown: String = title.split("](").enumerate().map(|(index, part)| after_target(index, part)).collect();
        let kept = |character: &char| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_');
        let anchor: String = shown.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect();
        let repeated = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(repeated).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// A part of a heading that was split at link targets, without the target at its start.
fn after_target(index: usize, part: &str) -> &str {
    if index == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) }
}

fn long_lines(path: &str, text: &str) -> Vec<String> {
    // A link's target has no spaces at which the line could break.
    let visible =
        |line: &str| -> String { line.split("](").enumerate().map(|(index, part)| after_target(index, part)).collect() };
    // `make bench` prints the text between these markers.
    let mut measured = false;
    let mut is_measured = |line: &str| {
        measured = (measured || line.starts_with("<!-- measured:")) && line != "<!-- end -->";
        measured
    };
    let unbroken = |line: &str| line.trim_start().split(' ').any(|word| word.chars().count() > WIDTH);
    prose(text)
        .filter(|(_, line)| !is_measured(line))
        .filter(|(_, line)| !line.trim_start().starts_with('|') && !unbroken(line))
        .map(|(number, line)| (number, visible(line.trim_end()).chars().count()))
        .filter(|(_, length)| *length > WIDTH)
        .map(|(number, length)| format!("{path}:{number}: {length} characters, not at most {WIDTH}"))
        .collect()
}

fn broken_tables(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut columns = 0;
    let lines: Vec<(usize, &str)> = prose(text).collect();
    for (index, (number, line)) in lines.iter().enumerate() {
        let cells = cells(line);
        let begins = columns == 0;
        columns = if begins || cells.is_empty() { cells.len() } else { columns };
        let is_named = cells.iter().all(|cell| !cell.is_empty());
        let is_delimited = lines.get(index + 1).is_some_and(|(_, next)| next.starts_with("|--") || next.starts_with("|:-"));
        if begins && !cells.is_empty() && !(is_named && is_delimited) {
            problems.push(format!("{path}:{number}: the table needs a header for each column"));
        }
        if cells.len() != columns {
            problems.push(format!("{path}:{number}: the row has {} columns, not {columns}", cells.len()));
        }
    }
    problems
}

/// Cells of a table row, empty if the line is none. A bar in code also ends a cell unless it is escaped.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().replace("\\|", "");
    let inner = line.strip_prefix('|').map(|inner| inner.strip_suffix('|').unwrap_or(inner));
    inner.into_iter().flat_map(|inner| inner.split('|')).map(|cell| cell.trim().to_owned()).collect()
}
