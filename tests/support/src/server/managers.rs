//! Managers of labels, as in `metadata.managedFields`. No test needs other fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Records the manager of each label that a write changed.
pub fn note(before: &Value, after: &mut Value, manager: &str) {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in before["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let fields = entry["fieldsV1"]["f:metadata"]["f:labels"].as_object();
        let known = fields.into_iter().flatten().filter_map(|(field, _)| field.strip_prefix("f:"));
        labels.entry(entry["manager"].as_str().unwrap_or_default().into()).or_default().extend(known.map(str::to_owned));
    }
    let (then, now) = (values(before), values(after));
    for key in then.keys().chain(now.keys()).filter(|key| then.get(*key) != now.get(*key)) {
        for own in labels.values_mut() {
            own.remove(key);
        }
        if now.contains_key(key) {
            labels.entry(manager.into()).or_default().insert(key.clone());
        }
    }
    labels.retain(|_, own| !own.is_empty());
    let entries = labels.into_iter().map(|(manager, own)| {
        let fields: Map<String, Value> = own.into_iter().map(|key| (format!("f:{key}"), json!({}))).collect();
        json!({ "manager": manager, "operation": "Update", "fieldsV1": { "f:metadata": { "f:labels": fields } } })
    });
    let entries: Vec<Value> = entries.collect();
    if let Some(metadata) = after["metadata"].as_object_mut() {
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".into(), entries.into());
        }
    }
}

fn values(object: &Value) -> BTreeMap<String, Value> {
    object["metadata"]["labels"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}
