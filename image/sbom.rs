//! What the image's program is made of, as CycloneDX 1.6 in JSON. The Dockerfile compiles this with `rustc` alone: a tool from crates.io
//! would have to be compiled for each build of the image, with all that it depends on.
//!
//! `sbom Cargo.lock rust=1.95.0 glibc=2.36 libgcc=12.2.0 <TREE`, where TREE is what `cargo tree` prints with [`EDGES`] and [`FORMAT`]: the crates
//! that are linked for one target, and nothing that is only run when building or testing. Cargo.lock has their checksums.
//!
//! The same input gives the same bytes: there is no time and no serial number in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::Read;
use std::process::ExitCode;

/// The options of `cargo tree` that its output has to be made with: macros are not linked.
const EDGES: &str = "--edges normal,no-proc-macro --prefix depth";

/// Its `--format`: behind the depth the crate, its licence and where its sources are, with a tab before each.
const FORMAT: &str = "\t{p}\t{l}\t{r}";

/// What is linked besides crates: the name by which its version is given, its name, its licence, and what it is. The standard library
/// brings its own crates; the C library's and the compiler's run time are there because the program is static.
const RUNTIME: [(&str, &str, &str, &str); 3] = [
    ("rust", "rust-std", "MIT OR Apache-2.0", "Rust's standard library"),
    ("glibc", "glibc", "LGPL-2.1-or-later", "the GNU C library"),
    ("libgcc", "libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", "GCC's run time: the unwinder"),
];

/// A crate by name and version.
type Name = (String, String);

/// What is known of one crate.
#[derive(Debug, Default)]
struct Crate {
    licence: String,
    repository: String,
    /// A package of this workspace, which has no archive.
    is_local: bool,
    needs: BTreeSet<Name>,
}

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("sbom: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let mut arguments = std::env::args().skip(1);
    let lock =
        arguments.next().ok_or(format!("sbom Cargo.lock NAME=VERSION… <TREE, of cargo tree {EDGES} --format {FORMAT:?}"))?;
    let lock = std::fs::read_to_string(&lock).map_err(|error| format!("{lock}: {error}"))?;
    let mut tree = String::new();
    std::io::stdin().read_to_string(&mut tree).map_err(|error| format!("the tree: {error}"))?;
    document(&checksums(&lock), &tree, &arguments.collect::<Vec<_>>())
}

/// Of each crate from crates.io: the SHA-256 of its archive.
fn checksums(lock: &str) -> BTreeMap<Name, String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(checksum)) = (field("name"), field("version"), field("checksum")) {
            found.insert((name, version), checksum);
        }
    }
    found
}

/// The root of the tree, and all crates in it.
fn crates(tree: &str) -> Result<(Name, BTreeMap<Name, Crate>), String> {
    let mut all: BTreeMap<Name, Crate> = BTreeMap::new();
    // From the root to the crate of the line.
    let mut path: Vec<Name> = Vec::new();
    for line in tree.lines() {
        let told = || format!("not a line of cargo tree {EDGES} --format {FORMAT:?}: {line}");
        // What was told before is told without what it needs, and marked.
        let fields: Vec<&str> = line.strip_suffix(" (*)").unwrap_or(line).split('\t').collect();
        let &[depth, package, licence, repository] = &fields[..] else { return Err(told()) };
        let depth: usize = depth.parse().map_err(|_| told())?;
        // Behind name and version the root has its place, which is the builder's own affair.
        let (name, rest) = package.split_once(" v").ok_or_else(told)?;
        let version = rest.split(' ').next().unwrap_or(rest);
        let name = (name.to_owned(), version.to_owned());
        if depth > path.len() || (depth == 0) != all.is_empty() {
            return Err(told());
        }
        path.truncate(depth);
        if let Some(parent) = path.last() {
            all.entry(parent.clone()).or_default().needs.insert(name.clone());
        }
        let known = all.entry(name.clone()).or_default();
        // As crates wrote it before it was an expression.
        known.licence = licence.replace('/', " OR ");
        known.repository = repository.to_owned();
        known.is_local = rest.contains(" (/");
        path.push(name);
    }
    let root = path.first().cloned().ok_or("the tree is empty")?;
    Ok((root, all))
}

fn document(checksums: &BTreeMap<Name, String>, tree: &str, runtime: &[String]) -> Result<String, String> {
    let (root, all) = crates(tree)?;
    let mut components = Vec::new();
    let mut needs: Vec<(String, BTreeSet<String>)> = Vec::new();
    for (name, Crate { licence, repository, is_local, needs: needed }) in &all {
        let reference = if *name == root { name.0.clone() } else { purl(name) };
        needs.push((reference.clone(), needed.iter().map(purl).collect()));
        if *name == root {
            continue;
        }
        if licence.is_empty() {
            return Err(format!("{} {} has no licence", name.0, name.1));
        }
        let mut more = match checksums.get(name) {
            Some(checksum) => format!(r#", "hashes": [{{"alg": "SHA-256", "content": {}}}]"#, text(checksum)),
            None if *is_local => String::new(),
            None => return Err(format!("Cargo.lock has no checksum of {} {}", name.0, name.1)),
        };
        let _ = write!(more, r#", "licenses": [{{"expression": {}}}], "purl": {}"#, text(licence), text(&reference));
        if !repository.is_empty() {
            let _ = write!(more, r#", "externalReferences": [{{"type": "vcs", "url": {}}}]"#, text(repository));
        }
        components.push(component("library", &reference, name, &more));
    }
    let mut given: BTreeMap<&str, &str> = runtime.iter().filter_map(|one| one.split_once('=')).collect();
    for (key, name, licence, what) in RUNTIME {
        let version = given.remove(key).filter(|version| version.starts_with(|first: char| first.is_ascii_digit()));
        let version = version.ok_or(format!("which version of {what}? {key}=VERSION"))?;
        let reference = format!("pkg:generic/{name}@{version}");
        let mut more = format!(r#", "description": {}, "licenses": [{{"expression": {}}}]"#, text(what), text(licence));
        let _ = write!(more, r#", "purl": {}"#, text(&reference));
        components.push(component("library", &reference, &(name.into(), version.into()), &more));
        needs.push((reference.clone(), BTreeSet::new()));
        // The root needs each of them.
        needs.iter_mut().filter(|(of, _)| *of == root.0).for_each(|(_, needed)| needed.extend([reference.clone()]));
    }
    if let Some(unknown) = given.keys().next() {
        return Err(format!("what is {unknown}?"));
    }
    let licence = &all[&root].licence;
    let subject =
        component("application", &root.0, &root, &format!(r#", "licenses": [{{"expression": {}}}]"#, text(licence)));
    let needs: Vec<String> = needs
        .iter()
        .map(|(of, needed)| {
            let needed: Vec<String> = needed.iter().map(|one| text(one)).collect();
            format!(r#"{{"ref": {}, "dependsOn": [{}]}}"#, text(of), needed.join(", "))
        })
        .collect();
    let mut document = String::from("{\n");
    let _ = writeln!(document, r#""$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json","#);
    let _ = writeln!(document, r#""bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,"#);
    let _ = writeln!(document, r#""metadata": {{"lifecycles": [{{"phase": "build"}}], "component": {subject}}},"#);
    let _ = writeln!(document, "\"components\": [\n{}\n],", components.join(",\n"));
    let _ = writeln!(document, "\"dependencies\": [\n{}\n]\n}}", needs.join(",\n"));
    Ok(document)
}

fn component(kind: &str, reference: &str, (name, version): &Name, more: &str) -> String {
    let (reference, name, version) = (text(reference), text(name), text(version));
    format!(r#"{{"type": "{kind}", "bom-ref": {reference}, "name": {name}, "version": {version}{more}}}"#)
}

/// A crate's package URL. Of all that a version may have in it, only the plus is written otherwise there.
fn purl((name, version): &Name) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// A string in JSON.
fn text(plain: &str) -> String {
    let mut quoted = String::from('"');
    for character in plain.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"aa\"\n\
        [[package]]\nname = \"b\"\nversion = \"2.0.0+c\"\nchecksum = \"bb\"\n[[package]]\nname = \"podium\"\nversion = \"0.1.0\"\n";
    const TREE: &str = "0\tpodium v0.1.0 (/src)\tApache-2.0\t\n1\ta v1.0.0\tMIT/Apache-2.0\thttps://a\n2\tb v2.0.0+c\tMIT\t\n\
        1\tb v2.0.0+c\tMIT\t (*)\n1\tpart v0.1.0 (/src/crates/part)\tMIT\t\n";

    fn made(tree: &str, runtime: &[&str]) -> Result<Value, String> {
        let runtime: Vec<String> = runtime.iter().map(|one| (*one).to_owned()).collect();
        document(&checksums(LOCK), tree, &runtime).map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    #[test]
    fn what_is_linked_is_listed_with_its_checksum_its_licence_and_what_it_needs() {
        let made = made(TREE, &["rust=1.95.0", "glibc=2.36", "libgcc=12.2.0"]).unwrap();
        let names = made["components"].as_array().unwrap().iter().map(|one| one["bom-ref"].as_str().unwrap());
        let names: Vec<&str> = names.collect();
        let runtime = ["pkg:generic/rust-std@1.95.0", "pkg:generic/glibc@2.36", "pkg:generic/libgcc@12.2.0"];
        assert_eq!(
            names,
            ["pkg:cargo/a@1.0.0", "pkg:cargo/b@2.0.0%2Bc", "pkg:cargo/part@0.1.0", runtime[0], runtime[1], runtime[2]]
        );
        let a = json!({ "type": "library", "bom-ref": names[0], "name": "a", "version": "1.0.0", "purl": names[0],
            "hashes": [{ "alg": "SHA-256", "content": "aa" }], "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            "externalReferences": [{ "type": "vcs", "url": "https://a" }] });
        assert_eq!(made["components"][0], a);
        assert_eq!(made["components"][2]["hashes"], Value::Null, "a package of the workspace has no archive");
        let mut needed = vec![names[0], names[1], names[2]];
        needed.extend([runtime[1], runtime[2], runtime[0]]);
        assert_eq!(made["dependencies"][0], json!({ "ref": names[0], "dependsOn": [names[1]] }));
        assert_eq!(made["dependencies"][3], json!({ "ref": "podium", "dependsOn": needed }));
        assert_eq!(made["metadata"]["component"]["version"], "0.1.0");
    }

    #[test]
    fn what_cannot_be_told_of_is_an_error() {
        let all = ["rust=1.95.0", "glibc=2.36", "libgcc=12.2.0"];
        for (tree, runtime, why) in [
            ("", &all[..], "the tree is empty"),
            (TREE, &all[..2], "which version of GCC's run time: the unwinder? libgcc=VERSION"),
            (TREE, &["rust=", "glibc=2", "libgcc=2"], "which version of Rust's standard library? rust=VERSION"),
            (TREE, &["rust=1", "glibc=2", "libgcc=3", "musl=1"], "what is musl?"),
            (&TREE.replace("b v2.0.0+c", "b v3.0.0"), &all, "Cargo.lock has no checksum of b 3.0.0"),
            (&TREE.replace("MIT/Apache-2.0", ""), &all, "a 1.0.0 has no licence"),
        ] {
            assert_eq!(made(tree, runtime).unwrap_err(), why);
        }
        for tree in ["podium v0.1.0", "0\tpodium\tMIT\t", "1\ta v1.0.0\tMIT\t", &format!("{TREE}3\ta v1.0.0\tMIT\t")] {
            assert!(made(tree, &all).unwrap_err().starts_with("not a line of cargo tree"), "{tree}");
        }
    }

    #[test]
    fn strings_are_quoted_as_json_has_them() {
        let told: Value = serde_json::from_str(&text("a\"\\\n\u{1}é")).unwrap();
        assert_eq!(told, "a\"\\\n\u{1}é");
    }
}
