//! Defaults of Elections, from the installed CRD.

use std::sync::LazyLock;

use serde_json::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let definition = include_str!("../../../../crds/elections.podium.dev.yaml");
    let definition: Value = serde_yaml::from_str(definition).expect("the definition is YAML");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
});

/// Sets the CRD's defaults.
pub fn default_election(object: &mut Value) {
    default(&SCHEMA, object);
}

fn default(schema: &Value, value: &mut Value) {
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object_mut()) else { return };
    for (name, schema) in properties {
        let given = schema.get("default");
        // With a default, null counts as absent.
        if let Some(given) = given
            && fields.get(name).is_none_or(Value::is_null)
        {
            fields.insert(name.clone(), given.clone());
        }
        if let Some(field) = fields.get_mut(name) {
            default(schema, field);
        }
    }
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Some(fields) = target.as_object_mut() {
        for (name, value) in patch {
            if value.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}
