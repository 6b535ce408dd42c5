//! The CustomResourceDefinition: what the derive generates, and the few things that it cannot say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::Election;

/// The CustomResourceDefinition of `Election`, as `podium crd` prints it and `crds/` holds it.
pub fn custom_resource_definition() -> CustomResourceDefinition {
    let mut definition = Election::crd();
    let schemas =
        definition.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        let Some(properties) = schema.properties.as_mut() else { continue };
        // The derive knows no metadata. The name becomes part of an annotation's key, which has room for 63 characters.
        let name = JSONSchemaProps { type_: Some("string".into()), max_length: Some(63), ..JSONSchemaProps::default() };
        let metadata = JSONSchemaProps {
            type_: Some("object".into()),
            properties: Some([("name".into(), name)].into()),
            ..JSONSchemaProps::default()
        };
        properties.insert("metadata".into(), metadata);
        properties.values_mut().for_each(unwrap_lines);
        // A new object must never read as current: without this, tools that compare generations take it for reconciled.
        if let Some(status) = properties.get_mut("status") {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
            status.nullable = None;
        }
    }
    definition
}

/// Doc comments break lines where the source does; `kubectl explain` breaks them where the terminal does.
fn unwrap_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(unwrap_lines);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unwrap_lines(items);
    }
}
