//! The upgrade of a release with an older Election CRD.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::release::{Release, await_leader, chart, populate, remove, remove_crd};
use crate::tools::{eventually, folder, get, kubectl, objects, text};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry").path();
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).expect("a copy");
        }
    }
}

fn suspend_field(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["suspend"]
}

#[test]
fn upgrade_updates_the_crd_and_keeps_the_leader() {
    let older = folder("older").join("podium");
    copy(&chart(), &older);
    let file = older.join("files/elections.podium.dev.yaml");
    let mut crd = objects(&fs::read_to_string(&file).expect("the CRD")).remove(0);
    let fields = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    assert!(fields.as_object_mut().expect("fields").remove("suspend").is_some());
    fs::write(&file, serde_yaml::to_string(&crd).expect("YAML")).expect("a writable directory");

    let release = Release::install("podium", &older, &[]);
    let crd = || get(&["crd", "elections.podium.dev"]).expect("the CRD");
    assert!(suspend_field(&crd()).is_null());
    let controller = release.run();
    populate(&release, "upgraded");
    await_leader("upgraded");
    let before = get(&["election", "web", "--namespace", "upgraded"]).expect("the Election");
    let patch =
        ["patch", "election", "web", "--namespace=upgraded", "--type=merge", "--patch={\"spec\":{\"suspend\":true}}"];
    let patched = |expected: &str| {
        let output = kubectl(&[&patch[..], &["--dry-run=server", "--output=jsonpath={.spec.suspend}"]].concat());
        let suspend = text(&output);
        if suspend == expected { Ok(()) } else { Err(suspend) }
    };
    assert_eq!(patched(""), Ok(()), "the API server drops an unknown field");

    release.upgrade(&chart(), &[]);
    assert!(!suspend_field(&crd()).is_null());
    eventually("the API server keeps the new field", || patched("true"));
    await_leader("upgraded");
    let after = get(&["election", "web", "--namespace", "upgraded"]).expect("the Election is kept");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["term"], before["status"]["term"]);
    drop(controller);
    remove(&["upgraded"]);
    drop(release);
    remove_crd();
}
