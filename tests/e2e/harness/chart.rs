//! The chart's permissions and policies, read from its committed renderings. The accounts of the tests get the same.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// Cluster-wide: the plain manifest.
pub const CLUSTER: &str = "charts/podium.yaml";

/// Two namespaces, with a sidecar of each mode.
pub const NAMESPACES: &str = "charts/rendered/namespaces.yaml";

/// A permission: API group, resource (`pods`, or `pods/status`) and verbs.
pub type Right = (&'static str, &'static str, &'static [&'static str]);

/// Permissions of a controller in a namespace.
pub static RIGHTS: LazyLock<[Right; 5]> = LazyLock::new(|| {
    let rights: Vec<Right> = rules(&object(NAMESPACES, "Role", "podium")).iter().map(right).collect();
    rights.try_into().expect("five rules, each of one resource: whoever adds one adds a test of it")
});

pub fn objects(rendering: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(rendering);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text);
    let documents = documents.map(|document| Value::deserialize(document).expect("a manifest"));
    documents.filter(|document| !document.is_null()).collect()
}

pub fn object(rendering: &str, kind: &str, name: &str) -> Value {
    let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects(rendering).into_iter().find(is_it).unwrap_or_else(|| panic!("the chart renders no {kind} {name}"))
}

pub fn rules(role: &Value) -> Vec<Value> {
    role["rules"].as_array().expect("rules").clone()
}

pub fn right(rule: &Value) -> Right {
    let only = |field: &str| match rule[field].as_array().map(Vec::as_slice) {
        Some([Value::String(one)]) => &*one.clone().leak(),
        _ => panic!("one rule, one resource: {rule}"),
    };
    let verbs =
        rule["verbs"].as_array().expect("verbs").iter().map(|verb| &*verb.as_str().expect("a verb").to_owned().leak());
    (only("apiGroups"), only("resources"), verbs.collect::<Vec<_>>().leak())
}
