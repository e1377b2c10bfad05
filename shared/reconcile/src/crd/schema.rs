//! Walks the schemas of a definition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The formats that the API server knows. Any other draws a warning at every `kubectl apply`.
const KNOWN_FORMATS: &[&str] = &[
    "int32",
    "int64",
    "float",
    "double",
    "byte",
    "password",
    "date",
    "date-time",
    "datetime",
    "duration",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "bsonobjectid",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
];

/// Removes formats that Kubernetes does not know (`uint32` and the like, which Rust's unsigned types yield).
///
/// An unsigned type keeps its meaning: where there is no lower bound, 0 becomes it.
pub fn tidy(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        let root = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(root) = root {
            tidy_schema(root);
        }
    }
}

fn tidy_schema(schema: &mut JSONSchemaProps) {
    if let Some(format) = schema
        .format
        .take_if(|format| !KNOWN_FORMATS.contains(&format.as_str()))
        && format.starts_with("uint")
        && schema.minimum.is_none()
    {
        schema.minimum = Some(0.0);
    }
    let named = [
        &mut schema.properties,
        &mut schema.pattern_properties,
        &mut schema.definitions,
    ];
    named
        .into_iter()
        .flatten()
        .flat_map(|map| map.values_mut())
        .for_each(tidy_schema);
    let listed = [&mut schema.all_of, &mut schema.any_of, &mut schema.one_of];
    listed.into_iter().flatten().flatten().for_each(tidy_schema);
    schema.not.as_deref_mut().into_iter().for_each(tidy_schema);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => tidy_schema(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy_schema),
        None => {}
    }
    for other in [&mut schema.additional_properties, &mut schema.additional_items] {
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = other {
            tidy_schema(value);
        }
    }
}

/// The fields that have no description, as `v1alpha1.spec.tableName`: for a test that wants none.
pub fn undescribed(definition: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for version in &definition.spec.versions {
        if let Some(root) = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref())
        {
            collect_undescribed(root, &version.name, &mut found);
        }
    }
    found
}

fn collect_undescribed(schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        if field
            .description
            .as_deref()
            .is_none_or(|text| text.trim().is_empty())
        {
            found.push(path.clone());
        }
        collect_undescribed(field, &path, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        collect_undescribed(item, &format!("{path}[]"), found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        collect_undescribed(value, &format!("{path}.*"), found);
    }
}
