//! krew accepts the manifest of the plugin, by the rules of its `internal/index/validation`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// The manifest as krew parses it. krew knows no other fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plugin {
    api_version: String,
    kind: String,
    metadata: BTreeMap<String, String>,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    version: String,
    homepage: String,
    short_description: String,
    description: String,
    platforms: Vec<Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    selector: BTreeMap<String, BTreeMap<String, String>>,
    uri: String,
    sha256: String,
    bin: String,
}

fn manifest(directory: &Path) -> std::process::Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/image/krew");
    Command::new(script).arg("1.2.3").arg(directory).output().expect("image/krew starts")
}

#[test]
fn manifest_names_the_released_archive_of_each_architecture() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("krew");
    // Files of an interrupted run must not count as output.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("podium-linux-amd64.tar.gz"), "abc").unwrap();
    assert!(!manifest(&directory).status.success(), "an archive is missing");
    fs::write(directory.join("podium-linux-arm64.tar.gz"), "").unwrap();
    let made = manifest(&directory);
    assert!(made.status.success(), "{made:?}");

    let Plugin { api_version, kind, metadata, spec } = serde_yaml::from_slice(&made.stdout).expect("a manifest");
    assert_eq!((api_version.as_str(), kind.as_str()), ("krew.googlecontainertools.github.com/v1alpha2", "Plugin"));
    assert_eq!(metadata, BTreeMap::from([("name".to_owned(), "podium".to_owned())]));
    let Spec { version, homepage, short_description, description, platforms } = spec;
    assert_eq!((version.as_str(), homepage.as_str()), ("v1.2.3", env!("CARGO_PKG_REPOSITORY")));
    // krew prints it in a table cell.
    assert!(!short_description.is_empty() && short_description.len() <= 50 && !short_description.contains('\n'));
    assert!(["kubectl podium status", "kubectl podium cleanup"].iter().all(|command| description.contains(command)));
    // The SHA-256 of "abc", and of nothing (FIPS 180-4's examples).
    let sums = [
        ("amd64", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("arm64", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ];
    assert_eq!(platforms.len(), sums.len());
    for (Platform { selector, uri, sha256, bin }, (architecture, sum)) in platforms.into_iter().zip(sums) {
        let labels = [("os", "linux"), ("arch", architecture)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(selector, BTreeMap::from([("matchLabels".to_owned(), BTreeMap::from(labels))]));
        let released = format!("{homepage}/releases/download/v1.2.3/podium-linux-{architecture}.tar.gz");
        assert_eq!((uri, sha256.as_str(), bin.as_str()), (released, sum, "podium"));
    }
    let workflow = include_str!("../.github/workflows/release.yml");
    assert!(
        workflow.contains("podium-linux-$ARCHITECTURE.tar.gz"),
        "the workflow must name its archive podium-linux-$ARCHITECTURE.tar.gz"
    );
}
