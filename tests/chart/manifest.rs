//! The manifest for `kubectl apply`, charts/podium.yaml.

use std::collections::BTreeMap;

use crate::release::remove_crd;
use crate::tools::{errors, eventually, get, kubectl, objects, path, text};

/// The generation of each object in the file, or its resourceVersion if it has no generation.
fn versions() -> BTreeMap<String, String> {
    let file = std::fs::read_to_string(path("charts/podium.yaml")).expect("it is committed");
    let found = objects(&file).into_iter().map(|object| {
        let string = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (string(&object["kind"]), string(&object["metadata"]["name"]));
        let namespace = string(&object["metadata"]["namespace"]);
        let namespace = if namespace.is_empty() { "default".into() } else { namespace };
        let found =
            get(&[&kind, &name, "--namespace", &namespace]).unwrap_or_else(|| panic!("{kind} {name} does not exist"));
        let metadata = &found["metadata"];
        let version = if metadata["generation"].is_null() { &metadata["resourceVersion"] } else { &metadata["generation"] };
        (format!("{kind} {name}"), version.to_string())
    });
    found.collect()
}

#[test]
fn manifest_can_be_applied_repeatedly_without_a_change() {
    let file = path("charts/podium.yaml");
    for options in [&["--server-side", "--force-conflicts"][..], &[]] {
        let apply = [&["apply", "--filename", file.to_str().expect("UTF-8")], options].concat();
        let first = kubectl(&apply);
        text(&first);
        assert_eq!(errors(&first), "", "{options:?}");
        eventually("the controllers are ready", || {
            let deployment = get(&["deployment", "podium", "--namespace=podium"]).ok_or("no Deployment")?;
            if deployment["status"]["readyReplicas"] == 2 { Ok(()) } else { Err(deployment["status"].to_string()) }
        });
        let before = versions();
        let second = kubectl(&apply);
        text(&second);
        assert_eq!(errors(&second), "", "{options:?}");
        assert_eq!(versions(), before, "{options:?}");
        text(&kubectl(&["delete", "--filename", file.to_str().expect("UTF-8")]));
    }
    remove_crd();
}
