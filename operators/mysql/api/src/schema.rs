//! Corrections to the generated schema, applied where the types are declared so that every reader of the CRD sees
//! the same one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, transform::Transform};

/// Makes an optional field absent or present, never null.
///
/// The API server removes a null that the schema does not allow, so `has(self.x)` in a CEL rule then means what it
/// says; with `nullable: true` a null would count as present.
pub(crate) fn absent_instead_of_null(schema: &mut Schema) {
    let mut rule = AbsentInsteadOfNull;
    rule.transform(schema);
}

struct AbsentInsteadOfNull;

impl Transform for AbsentInsteadOfNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(object) = schema.as_object_mut() {
            unwrap_nullable_any_of(object);
            drop_null_type(object);
            if object.get("default").is_some_and(serde_json::Value::is_null) {
                object.remove("default");
            }
        }
        schemars::transform::transform_subschemas(self, schema);
    }
}

type Object = serde_json::Map<String, serde_json::Value>;

fn unwrap_nullable_any_of(object: &mut Object) {
    let Some(serde_json::Value::Array(branches)) = object.get("anyOf") else {
        return;
    };
    let (null, mut other): (Vec<_>, Vec<_>) = branches
        .iter()
        .cloned()
        .partition(|branch| branch.get("type").is_some_and(|kind| kind == "null"));
    if null.len() != 1 || other.len() != 1 {
        return;
    }
    let Some(serde_json::Value::Object(inner)) = other.pop() else {
        return;
    };
    object.remove("anyOf");
    for (key, value) in inner {
        // What the field says about itself stands above what its type says.
        object.entry(key).or_insert(value);
    }
}

fn drop_null_type(object: &mut Object) {
    let Some(serde_json::Value::Array(kinds)) = object.get("type") else {
        return;
    };
    let kept: Vec<_> = kinds.iter().filter(|kind| *kind != "null").cloned().collect();
    if let [only] = kept.as_slice() {
        object.insert("type".into(), only.clone());
    }
}

/// The list of conditions: keyed by type, every string with the limit that Kubernetes itself gives it.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut item = Condition::json_schema(generator);
    for (field, limit) in [
        ("type", 316),
        ("status", 16),
        ("reason", 1024),
        ("message", 32_768),
    ] {
        let property = item.pointer_mut(&format!("/properties/{field}"));
        if let Some(property) = property.and_then(|property| property.as_object_mut()) {
            property.insert("maxLength".into(), limit.into());
        }
    }
    schemars::json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// Options of my.cnf: at most 64, keyed by name, values of at most 1,024 characters.
pub(crate) fn options(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 1024},
        "maxProperties": 64,
    })
}
