//! The CustomResourceDefinition: the output of the derive macro, and the few parts that it cannot express.

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
        // The macro cannot bound metadata. The name becomes part of an annotation's key, which has at most 63 characters.
        let name = JSONSchemaProps { type_: Some("string".into()), max_length: Some(63), ..JSONSchemaProps::default() };
        let metadata = JSONSchemaProps {
            type_: Some("object".into()),
            properties: Some([("name".into(), name)].into()),
            ..JSONSchemaProps::default()
        };
        properties.insert("metadata".into(), metadata);
        properties.values_mut().for_each(unwrap_lines);
        // Without this default, tools that compare generations consider a new object reconciled.
        if let Some(status) = properties.get_mut("status") {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
            status.nullable = None;
        }
    }
    definition
}

/// Joins the lines of doc comments: `kubectl explain` wraps them itself.
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
