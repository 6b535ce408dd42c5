//! The plain file.

use std::collections::BTreeMap;

use crate::release::remove_resource;
use crate::tools::{errors, eventually, get, kubectl, objects, path, text};

/// The generation, or where there is none the revision, of each object in the file.
fn versions() -> BTreeMap<String, String> {
    let file = std::fs::read_to_string(path("charts/podium.yaml")).expect("it is committed");
    let found = objects(&file).into_iter().map(|object| {
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (word(&object["kind"]), word(&object["metadata"]["name"]));
        let namespace = word(&object["metadata"]["namespace"]);
        let namespace = if namespace.is_empty() { "default".into() } else { namespace };
        let found = get(&[&kind, &name, "--namespace", &namespace]).unwrap_or_else(|| panic!("{kind} {name} is there"));
        let metadata = &found["metadata"];
        let version = if metadata["generation"].is_null() { &metadata["resourceVersion"] } else { &metadata["generation"] };
        (format!("{kind} {name}"), version.to_string())
    });
    found.collect()
}

#[test]
fn the_plain_file_can_be_applied_again_and_again() {
    let file = path("charts/podium.yaml");
    for way in [&["--server-side", "--force-conflicts"][..], &[]] {
        let apply = [&["apply", "--filename", file.to_str().expect("UTF-8")], way].concat();
        let first = kubectl(&apply);
        text(&first);
        assert_eq!(errors(&first), "", "{way:?}");
        eventually("the controllers are there", || {
            let deployment = get(&["deployment", "podium", "--namespace=podium"]).ok_or("no Deployment")?;
            if deployment["status"]["readyReplicas"] == 2 { Ok(()) } else { Err(deployment["status"].to_string()) }
        });
        let before = versions();
        let second = kubectl(&apply);
        text(&second);
        assert_eq!(errors(&second), "", "{way:?}");
        assert_eq!(versions(), before, "{way:?}");
        text(&kubectl(&["delete", "--filename", file.to_str().expect("UTF-8")]));
    }
    remove_resource();
}
