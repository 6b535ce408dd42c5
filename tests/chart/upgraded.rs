//! A release with an older Election resource, upgraded.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::release::{Release, chart, led, populate, remove, remove_resource};
use crate::tools::{eventually, folder, get, kubectl, objects, text};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable directory");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry").path();
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).expect("a copy");
        }
    }
}

fn suspend(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["suspend"]
}

#[test]
fn an_upgrade_brings_a_changed_resource_and_disturbs_nobody() {
    let older = folder("older").join("podium");
    copy(&chart(), &older);
    let file = older.join("files/elections.podium.dev.yaml");
    let mut definition = objects(&fs::read_to_string(&file).expect("the resource")).remove(0);
    let fields = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    assert!(fields.as_object_mut().expect("fields").remove("suspend").is_some());
    fs::write(&file, serde_yaml::to_string(&definition).expect("YAML")).expect("a writable directory");

    let release = Release::install("podium", &older, &[]);
    let definition = || get(&["crd", "elections.podium.dev"]).expect("the resource");
    assert!(suspend(&definition()).is_null());
    let controller = release.run();
    populate(&release, "upgraded");
    led("upgraded");
    let before = get(&["election", "web", "--namespace", "upgraded"]).expect("the Election");
    let patch =
        ["patch", "election", "web", "--namespace=upgraded", "--type=merge", "--patch={\"spec\":{\"suspend\":true}}"];
    let patched = |answer: &str| {
        let output = kubectl(&[&patch[..], &["--dry-run=server", "--output=jsonpath={.spec.suspend}"]].concat());
        let shown = text(&output);
        if shown == answer { Ok(()) } else { Err(shown) }
    };
    assert_eq!(patched(""), Ok(()), "an unknown field is dropped");

    release.upgrade(&chart(), &[]);
    assert!(!suspend(&definition()).is_null());
    eventually("the new field is kept", || patched("true"));
    led("upgraded");
    let after = get(&["election", "web", "--namespace", "upgraded"]).expect("the Election is there still");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["term"], before["status"]["term"]);
    drop(controller);
    remove(&["upgraded"]);
    drop(release);
    remove_resource();
}
