//! The modules of the controller have one order: a module imports only from modules before it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/controller`, from the lowest to the highest.
const CONTROLLER: &[&str] = &[
    "key",
    "limits",
    "identity",
    "options",
    "queue",
    "slots",
    "coalesced",
    "problem_log",
    "disputes",
    "outranking",
    "observe",
    "server",
    "kube_server",
    "answer",
    "monitor",
    "replicas",
    "shared",
    "announce",
    "act",
    "background",
    "cleanup",
    "reconcile",
    "watch",
    "nodes",
    "followed",
    "workers",
    "http",
];

/// The modules of `src/controller/monitor`.
const MONITOR: &[&str] =
    &["census", "outcome", "requests", "table", "process", "metrics", "elections", "health", "silence", "client"];

/// Modules that exist only in unit tests.
const TEST_MODULES: [&str; 3] = ["fixtures", "properties", "tests"];

/// Returns the lines of a source file without its unit tests.
fn code(file: &Path) -> String {
    let source = fs::read_to_string(file).unwrap();
    source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// Returns the files of a module: `module.rs`, or all of `module/` but test modules.
fn files(root: &Path, module: &str) -> Vec<PathBuf> {
    let file = root.join(format!("{module}.rs"));
    if file.is_file() {
        return vec![file];
    }
    let entries = fs::read_dir(root.join(module)).unwrap().map(|entry| entry.unwrap().path());
    let is_test = |path: &PathBuf| TEST_MODULES.contains(&path.file_stem().unwrap().to_str().unwrap());
    entries.filter(|path| path.extension().is_some_and(|end| end == "rs") && !is_test(path)).collect()
}

/// Returns the first segments after these prefixes in the `use` lines of a file.
fn imports(file: &Path, prefixes: &[&str]) -> BTreeSet<String> {
    let source = code(file);
    let uses = source.lines().filter_map(|line| line.trim_start().trim_start_matches("pub ").strip_prefix("use "));
    let after = |path: &str| prefixes.iter().find_map(|prefix| path.strip_prefix(prefix).map(str::to_owned));
    let first = |rest: String| rest.split([':', ';', ' ', ',']).next().unwrap_or_default().to_owned();
    uses.filter_map(|path| after(path).map(first)).collect()
}

/// Returns each import of a module that is not before the importing module in `order`.
fn upward(root: &Path, order: &[&str], prefixes: impl Fn(&Path) -> Vec<String>) -> Vec<String> {
    let mut upward = Vec::new();
    for (position, module) in order.iter().enumerate() {
        for file in files(root, module) {
            let prefixes = prefixes(&file);
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            for import in imports(&file, &prefixes) {
                let before = order[..position].contains(&import.as_str());
                if !before && import != *module {
                    upward.push(format!("{} imports {import}", file.display()));
                }
            }
        }
    }
    upward
}

fn modules_of(root: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let names = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && !TEST_MODULES.contains(&name.as_str())).collect()
}

#[test]
fn controller_modules_import_only_lower_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/controller");
    assert_eq!(modules_of(&root), CONTROLLER.iter().map(|name| (*name).to_owned()).collect());
    let upward = upward(&root, CONTROLLER, |file| {
        let mut prefixes = vec!["crate::controller::".to_owned()];
        let is_top = file.parent() == Some(&root);
        let is_root_of_module = file.file_name().is_some_and(|name| name == "mod.rs");
        prefixes.extend((is_top || is_root_of_module).then(|| "super::".to_owned()));
        prefixes
    });
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn monitor_modules_import_only_lower_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/controller/monitor");
    assert_eq!(modules_of(&root), MONITOR.iter().map(|name| (*name).to_owned()).collect());
    let upward = upward(&root, MONITOR, |_| vec!["super::".to_owned()]);
    assert!(upward.is_empty(), "{upward:#?}");
}
