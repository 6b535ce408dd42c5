//! Finds in `metadata.managedFields` which client set a label last.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::compact::Keys;
use crate::api::names;

/// Fields of one field manager. Only the labels are read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    manager: Option<String>,
    #[serde(rename = "fieldsV1")]
    fields: Option<Fields>,
}

#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(rename = "f:metadata")]
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(rename = "f:labels")]
    labels: Option<BTreeMap<String, IgnoredAny>>,
}

impl Entry {
    fn labels(&self) -> impl Iterator<Item = &str> {
        let labels = self.fields.as_ref().and_then(|fields| fields.metadata.as_ref()?.labels.as_ref());
        labels.into_iter().flat_map(BTreeMap::keys).filter_map(|field| field.strip_prefix("f:"))
    }

    fn is_ours(&self) -> bool {
        self.manager.as_deref() == Some(names::MANAGER)
    }
}

/// Returns the keys of labels that Podium set, and that no other client set later or applies as well.
pub fn ours(entries: &[Entry]) -> Keys {
    let (ours, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.is_ours());
    let labels = ours.into_iter().flat_map(Entry::labels);
    Keys::of(labels.filter(|key| !others.iter().any(|other| other.labels().any(|label| label == *key))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(manager: &str, labels: Value) -> Value {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:annotations": { ".": {} }, "f:labels": labels } },
        })
    }

    fn is_ours(entries: &[Value]) -> bool {
        let entries: Vec<Entry> = serde_json::from_value(Value::from(entries)).unwrap();
        ours(&entries).contains("example.com/leader")
    }

    #[test]
    fn a_label_is_ours_if_podium_set_it_and_nobody_else() {
        let label = json!({ ".": {}, "f:app": {}, "f:example.com/leader": {} });
        let without = json!({ ".": {}, "f:app": {} });
        assert!(is_ours(&[entry("kubectl-label", without.clone()), entry(names::MANAGER, label.clone())]));
        assert!(!is_ours(&[entry("kubectl-label", label.clone()), entry(names::MANAGER, without)]));
        assert!(!is_ours(&[entry("argocd", label.clone()), entry(names::MANAGER, label)]), "others apply it as well");
        assert!(!is_ours(&[]), "nobody knows");
    }

    #[test]
    fn entries_without_labels_are_read() {
        for fields in [json!(null), json!({}), json!({ "f:status": {} }), json!({ "f:metadata": null })] {
            assert!(!is_ours(&[json!({ "manager": names::MANAGER, "fieldsV1": fields }), json!({})]));
        }
    }
}
