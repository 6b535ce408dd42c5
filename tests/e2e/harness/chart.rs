//! What the chart grants and forbids, read from what is committed of it: the tests' accounts have these rights, and meet these
//! policies.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// For the whole cluster: the plain file.
pub const CLUSTER: &str = "charts/podium.yaml";

/// For two namespaces, with a sidecar of each mode.
pub const NAMESPACES: &str = "charts/rendered/namespaces.yaml";

/// What may be done: API group, resource (`pods`, or `pods/status`) and verbs.
pub type Right = (&'static str, &'static str, &'static [&'static str]);

/// What a controller needs in a namespace.
pub static RIGHTS: LazyLock<[Right; 5]> = LazyLock::new(|| {
    let rights: Vec<Right> = rules(&object(NAMESPACES, "Role", "podium")).iter().map(right).collect();
    rights.try_into().expect("five rules, each of one resource: whoever adds one adds a test of it")
});

/// The objects of a rendering.
pub fn objects(rendering: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(rendering);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text);
    let documents = documents.map(|document| Value::deserialize(document).expect("a manifest"));
    documents.filter(|document| !document.is_null()).collect()
}

/// The first object of this kind and name.
pub fn object(rendering: &str, kind: &str, name: &str) -> Value {
    let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects(rendering).into_iter().find(is_it).unwrap_or_else(|| panic!("the chart renders no {kind} {name}"))
}

/// The rules of a role.
pub fn rules(role: &Value) -> Vec<Value> {
    role["rules"].as_array().expect("rules").clone()
}

/// A rule about one resource.
pub fn right(rule: &Value) -> Right {
    let only = |field: &str| match rule[field].as_array().map(Vec::as_slice) {
        Some([Value::String(one)]) => &*one.clone().leak(),
        _ => panic!("one rule, one resource: {rule}"),
    };
    let verbs =
        rule["verbs"].as_array().expect("verbs").iter().map(|verb| &*verb.as_str().expect("a verb").to_owned().leak());
    (only("apiGroups"), only("resources"), verbs.collect::<Vec<_>>().leak())
}
