//! Prints an SBOM of the image's program as CycloneDX 1.6 in JSON. The Dockerfile compiles this file with `rustc` alone, because a
//! tool from crates.io would add its own dependencies to each build of the image.
//!
//! Usage: `sbom Cargo.lock rust=1.95.0 glibc=2.36 libgcc=12.2.0 <TREE`. TREE is the output of `cargo tree` with [`EDGES`] and
//! [`FORMAT`]: the crates that are linked for one target, without build and test dependencies. Cargo.lock has their checksums.
//!
//! The same input gives the same bytes: the SBOM has neither a time nor a serial number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::Read;
use std::process::ExitCode;

/// Options of `cargo tree` for the input. Procedural macros are not linked.
const EDGES: &str = "--edges normal,no-proc-macro --prefix depth";

/// `--format` of `cargo tree`: after the depth, crate, license and repository, each preceded by a tab.
const FORMAT: &str = "\t{p}\t{l}\t{r}";

/// Linked libraries that are no crates: the argument with the version, name, license, and description. The static program contains
/// the C library and the runtime of the C compiler.
const RUNTIME: [(&str, &str, &str, &str); 3] = [
    ("rust", "rust-std", "MIT OR Apache-2.0", "Rust's standard library"),
    ("glibc", "glibc", "LGPL-2.1-or-later", "the GNU C library"),
    ("libgcc", "libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", "GCC runtime library: the unwinder"),
];

/// Name and version of a crate.
type Name = (String, String);

/// A crate in the tree.
#[derive(Debug, Default)]
struct Crate {
    license: String,
    repository: String,
    /// A package of this workspace, which has no archive.
    is_local: bool,
    dependencies: BTreeSet<Name>,
}

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sbom: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let mut arguments = std::env::args().skip(1);
    let lock = arguments
        .next()
        .ok_or(format!("usage: sbom Cargo.lock NAME=VERSION… <TREE, of cargo tree {EDGES} --format {FORMAT:?}"))?;
    let lock = std::fs::read_to_string(&lock).map_err(|error| format!("failed to read {lock}: {error}"))?;
    let mut tree = String::new();
    std::io::stdin().read_to_string(&mut tree).map_err(|error| format!("failed to read the tree: {error}"))?;
    document(&checksums(&lock), &tree, &arguments.collect::<Vec<_>>())
}

/// Returns the SHA-256 of the archive of each crate from crates.io.
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

/// Parses the tree, and returns its root and all its crates.
fn crates(tree: &str) -> Result<(Name, BTreeMap<Name, Crate>), String> {
    let mut all: BTreeMap<Name, Crate> = BTreeMap::new();
    // The path from the root to the crate of the current line.
    let mut path: Vec<Name> = Vec::new();
    for line in tree.lines() {
        let invalid = || format!("not a line of cargo tree {EDGES} --format {FORMAT:?}: {line}");
        // cargo tree marks a repeated crate and omits its dependencies.
        let fields: Vec<&str> = line.strip_suffix(" (*)").unwrap_or(line).split('\t').collect();
        let &[depth, package, license, repository] = &fields[..] else { return Err(invalid()) };
        let depth: usize = depth.parse().map_err(|_| invalid())?;
        // For packages of this workspace, a path follows name and version.
        let (name, rest) = package.split_once(" v").ok_or_else(invalid)?;
        let version = rest.split(' ').next().unwrap_or(rest);
        let name = (name.to_owned(), version.to_owned());
        if depth > path.len() || (depth == 0) != all.is_empty() {
            return Err(invalid());
        }
        path.truncate(depth);
        if let Some(parent) = path.last() {
            all.entry(parent.clone()).or_default().dependencies.insert(name.clone());
        }
        let entry = all.entry(name.clone()).or_default();
        // Old crates separate alternatives by a slash, which is no license expression.
        entry.license = license.replace('/', " OR ");
        entry.repository = repository.to_owned();
        entry.is_local = rest.contains(" (/");
        path.push(name);
    }
    let root = path.first().cloned().ok_or("the tree is empty")?;
    Ok((root, all))
}

fn document(checksums: &BTreeMap<Name, String>, tree: &str, runtime: &[String]) -> Result<String, String> {
    let (root, all) = crates(tree)?;
    let mut components = Vec::new();
    let mut dependencies: Vec<(String, BTreeSet<String>)> = Vec::new();
    for (name, Crate { license, repository, is_local, dependencies: direct }) in &all {
        let reference = if *name == root { name.0.clone() } else { purl(name) };
        dependencies.push((reference.clone(), direct.iter().map(purl).collect()));
        if *name == root {
            continue;
        }
        if license.is_empty() {
            return Err(format!("{} {} has no license", name.0, name.1));
        }
        let mut more = match checksums.get(name) {
            Some(checksum) => format!(r#", "hashes": [{{"alg": "SHA-256", "content": {}}}]"#, text(checksum)),
            None if *is_local => String::new(),
            None => return Err(format!("Cargo.lock has no checksum of {} {}", name.0, name.1)),
        };
        let _ = write!(more, r#", "licenses": [{{"expression": {}}}], "purl": {}"#, text(license), text(&reference));
        if !repository.is_empty() {
            let _ = write!(more, r#", "externalReferences": [{{"type": "vcs", "url": {}}}]"#, text(repository));
        }
        components.push(component("library", &reference, name, &more));
    }
    let mut given: BTreeMap<&str, &str> = runtime.iter().filter_map(|one| one.split_once('=')).collect();
    for (key, name, license, description) in RUNTIME {
        let version = given.remove(key).filter(|version| version.starts_with(|first: char| first.is_ascii_digit()));
        let version = version.ok_or(format!("the version of {name} ({description}) is missing: add {key}=VERSION"))?;
        let reference = format!("pkg:generic/{name}@{version}");
        let mut more =
            format!(r#", "description": {}, "licenses": [{{"expression": {}}}]"#, text(description), text(license));
        let _ = write!(more, r#", "purl": {}"#, text(&reference));
        components.push(component("library", &reference, &(name.into(), version.into()), &more));
        dependencies.push((reference.clone(), BTreeSet::new()));
        // Each of them is a direct dependency of the root.
        dependencies.iter_mut().filter(|(of, _)| *of == root.0).for_each(|(_, direct)| direct.extend([reference.clone()]));
    }
    if let Some(unknown) = given.keys().next() {
        return Err(format!("unknown library {unknown}: must be rust, glibc or libgcc"));
    }
    let license = &all[&root].license;
    let subject =
        component("application", &root.0, &root, &format!(r#", "licenses": [{{"expression": {}}}]"#, text(license)));
    let dependencies: Vec<String> = dependencies
        .iter()
        .map(|(of, direct)| {
            let direct: Vec<String> = direct.iter().map(|one| text(one)).collect();
            format!(r#"{{"ref": {}, "dependsOn": [{}]}}"#, text(of), direct.join(", "))
        })
        .collect();
    let mut document = String::from("{\n");
    let _ = writeln!(document, r#""$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json","#);
    let _ = writeln!(document, r#""bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,"#);
    let _ = writeln!(document, r#""metadata": {{"lifecycles": [{{"phase": "build"}}], "component": {subject}}},"#);
    let _ = writeln!(document, "\"components\": [\n{}\n],", components.join(",\n"));
    let _ = writeln!(document, "\"dependencies\": [\n{}\n]\n}}", dependencies.join(",\n"));
    Ok(document)
}

fn component(kind: &str, reference: &str, (name, version): &Name, more: &str) -> String {
    let (reference, name, version) = (text(reference), text(name), text(version));
    format!(r#"{{"type": "{kind}", "bom-ref": {reference}, "name": {name}, "version": {version}{more}}}"#)
}

/// The package URL of a crate. In a version, only the plus must be escaped.
fn purl((name, version): &Name) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// Quotes a string for JSON.
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

    fn sbom(tree: &str, runtime: &[&str]) -> Result<Value, String> {
        let runtime: Vec<String> = runtime.iter().map(|one| (*one).to_owned()).collect();
        document(&checksums(LOCK), tree, &runtime).map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    #[test]
    fn linked_crates_are_listed_with_checksum_license_and_dependencies() {
        let sbom = sbom(TREE, &["rust=1.95.0", "glibc=2.36", "libgcc=12.2.0"]).unwrap();
        let names = sbom["components"].as_array().unwrap().iter().map(|one| one["bom-ref"].as_str().unwrap());
        let names: Vec<&str> = names.collect();
        let runtime = ["pkg:generic/rust-std@1.95.0", "pkg:generic/glibc@2.36", "pkg:generic/libgcc@12.2.0"];
        assert_eq!(
            names,
            ["pkg:cargo/a@1.0.0", "pkg:cargo/b@2.0.0%2Bc", "pkg:cargo/part@0.1.0", runtime[0], runtime[1], runtime[2]]
        );
        let a = json!({ "type": "library", "bom-ref": names[0], "name": "a", "version": "1.0.0", "purl": names[0],
            "hashes": [{ "alg": "SHA-256", "content": "aa" }], "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            "externalReferences": [{ "type": "vcs", "url": "https://a" }] });
        assert_eq!(sbom["components"][0], a);
        assert_eq!(sbom["components"][2]["hashes"], Value::Null, "a package of the workspace has no archive");
        let mut direct = vec![names[0], names[1], names[2]];
        direct.extend([runtime[1], runtime[2], runtime[0]]);
        assert_eq!(sbom["dependencies"][0], json!({ "ref": names[0], "dependsOn": [names[1]] }));
        assert_eq!(sbom["dependencies"][3], json!({ "ref": "podium", "dependsOn": direct }));
        assert_eq!(sbom["metadata"]["component"]["version"], "0.1.0");
    }

    #[test]
    fn incomplete_input_is_an_error() {
        let all = ["rust=1.95.0", "glibc=2.36", "libgcc=12.2.0"];
        for (tree, runtime, error) in [
            ("", &all[..], "the tree is empty"),
            (TREE, &all[..2], "the version of libgcc (GCC runtime library: the unwinder) is missing: add libgcc=VERSION"),
            (
                TREE,
                &["rust=", "glibc=2", "libgcc=2"],
                "the version of rust-std (Rust's standard library) is missing: add rust=VERSION",
            ),
            (TREE, &["rust=1", "glibc=2", "libgcc=3", "musl=1"], "unknown library musl: must be rust, glibc or libgcc"),
            (&TREE.replace("b v2.0.0+c", "b v3.0.0"), &all, "Cargo.lock has no checksum of b 3.0.0"),
            (&TREE.replace("MIT/Apache-2.0", ""), &all, "a 1.0.0 has no license"),
        ] {
            assert_eq!(sbom(tree, runtime).unwrap_err(), error);
        }
        for tree in ["podium v0.1.0", "0\tpodium\tMIT\t", "1\ta v1.0.0\tMIT\t", &format!("{TREE}3\ta v1.0.0\tMIT\t")] {
            assert!(sbom(tree, &all).unwrap_err().starts_with("not a line of cargo tree"), "{tree}");
        }
    }

    #[test]
    fn strings_are_quoted_for_json() {
        let parsed: Value = serde_json::from_str(&text("a\"\\\n\u{1}é")).unwrap();
        assert_eq!(parsed, "a\"\\\n\u{1}é");
    }
}
