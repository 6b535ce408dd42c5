//! The committed CRD is current. Its CEL rules, evaluated without a cluster.

use kube::core::cel::{validate_cel, validate_cel_update};
use podium::api::{Election, ElectionSpec, custom_resource_definition};
use serde_json::{Value, json};

#[test]
fn committed_crd_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/elections.podium.dev.yaml");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let generated = serde_yaml::to_string(&custom_resource_definition()).expect("YAML");
    assert!(committed == generated, "crds/elections.podium.dev.yaml is not what `podium crd` prints: run `make generate`");
}

/// Without `fieldPath` some API servers print `<nil>` as the field of a root rule.
#[test]
fn every_rule_has_a_message_and_root_rules_name_the_field() {
    let definition = serde_json::to_value(custom_resource_definition()).expect("JSON");
    let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut rules = Vec::new();
    collect_rules(root, &mut rules);
    assert!(rules.len() >= 5, "{rules:?}");
    for rule in &rules {
        assert!(rule["message"].is_string(), "{rule}");
    }
    for rule in root["x-kubernetes-validations"].as_array().expect("rules") {
        assert!(rule["fieldPath"].is_string(), "{rule}");
    }
}

fn collect_rules<'a>(schema: &'a Value, rules: &mut Vec<&'a Value>) {
    let Value::Object(fields) = schema else { return };
    for (key, value) in fields {
        match value {
            Value::Array(entries) if key == "x-kubernetes-validations" => rules.extend(entries),
            value => collect_rules(value, rules),
        }
    }
}

fn election(fields: Value) -> Election {
    let mut spec = json!({ "selector": { "matchLabels": { "app": "web" } } });
    for (key, value) in fields.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    Election::new("web", serde_json::from_value::<ElectionSpec>(spec).expect("a spec"))
}

fn problems(fields: Value) -> Vec<String> {
    validate_cel(&election(fields)).err().into_iter().flatten().map(|error| error.to_string()).collect()
}

#[test]
fn valid_spec_passes_every_rule() {
    let expression = |operator: &str, values: Value| json!({ "matchExpressions": [{ "key": "a.b/c", "operator": operator, "values": values }] });
    let selectors = [
        json!({ "matchLabels": { "example.com/app": "web", "tier": "" } }),
        expression("In", json!(["a"])),
        expression("NotIn", json!(["a", "b"])),
        expression("Exists", Value::Null),
        expression("DoesNotExist", json!([])),
    ];
    for selector in selectors {
        assert_eq!(problems(json!({ "selector": selector })), [""; 0], "{selector}");
    }
}

#[test]
fn invalid_selector_is_refused_with_the_remedy() {
    let expression = |operator: &str, values: Value| json!({ "matchExpressions": [{ "key": "a", "operator": operator, "values": values }] });
    let cases = [
        (json!({}), "set matchLabels or matchExpressions"),
        (json!({ "matchLabels": {}, "matchExpressions": [] }), "set matchLabels or matchExpressions"),
        (json!({ "matchLabels": { "a b": "c" } }), "must be a label key: [prefix/]name"),
        (json!({ "matchLabels": { "-a": "c" } }), "must be a label key: [prefix/]name"),
        (json!({ "matchLabels": { ("x".repeat(64)): "c" } }), "must be a label key: [prefix/]name"),
        (expression("In", json!([])), "must have at least one entry for operators In and NotIn"),
        (expression("NotIn", Value::Null), "must have at least one entry for operators In and NotIn"),
        (expression("Exists", json!(["a"])), "must be empty for Exists"),
    ];
    for (selector, remedy) in cases {
        let problems = problems(json!({ "selector": selector }));
        assert!(problems.iter().any(|problem| problem.contains(remedy)), "{selector}: {problems:?}");
    }
}

#[test]
fn label_and_lease_name_are_immutable_even_by_default() {
    let (label, lease) = ("spec.label is immutable", "spec.leaseName is immutable");
    let cases = [
        (json!({}), json!({ "label": { "key": "a.example/leader" } }), Some(label)),
        (json!({}), json!({ "label": { "key": "leader", "value": "true" } }), None),
        (json!({}), json!({ "leaseName": "other" }), Some(lease)),
        (json!({ "leaseName": "other" }), json!({}), Some(lease)),
        (json!({ "leaseName": "web" }), json!({}), None),
        (json!({}), json!({ "minReadySeconds": 5 }), None),
    ];
    for (before, after, refusal) in cases {
        let answer = validate_cel_update(&election(after.clone()), &election(before.clone()));
        let problems: Vec<String> = answer.err().into_iter().flatten().map(|error| error.to_string()).collect();
        match refusal {
            None => assert_eq!(problems, [""; 0], "{before} to {after}"),
            Some(words) => {
                assert!(problems.iter().any(|problem| problem.contains(words)), "{before} to {after}: {problems:?}")
            }
        }
    }
}
