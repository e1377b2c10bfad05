//! The page of one kind.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The page, from its heading on.
pub(super) fn of(crd: &CustomResourceDefinition) -> Result<String> {
    let names = &crd.spec.names;
    let stored = crd
        .spec
        .versions
        .iter()
        .find(|version| version.storage)
        .context("no version is stored")?;
    let schema = stored
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .context("the stored version has no schema")?;
    let mut page = format!("# {}\n", names.kind);
    if let Some(description) = &schema.description {
        line(&mut page, &format!("\n{}", paragraphs(description)));
    }
    line(
        &mut page,
        &format!("\n- group `{}`, {}", crd.spec.group, versions(crd)),
    );
    let mut words = vec![format!("`{}`", names.plural)];
    words.extend(names.short_names.iter().flatten().map(|name| format!("`{name}`")));
    words.extend(
        names
            .categories
            .iter()
            .flatten()
            .map(|name| format!("category `{name}`")),
    );
    line(
        &mut page,
        &format!("- {}: {}", crd.spec.scope.to_lowercase(), words.join(", ")),
    );
    columns(
        &mut page,
        stored.additional_printer_columns.as_deref().unwrap_or_default(),
    );
    for part in ["spec", "status"] {
        let Some(schema) = schema.properties.as_ref().and_then(|fields| fields.get(part)) else {
            continue;
        };
        line(&mut page, &format!("\n## {part}\n"));
        if let Some(description) = &schema.description {
            line(&mut page, &format!("{}\n", paragraphs(description)));
        }
        line(&mut page, "| field | type | meaning |\n|---|---|---|");
        fields(&mut page, part, schema);
        let mut rules = Vec::new();
        collect_rules(&mut rules, part, schema);
        if !rules.is_empty() {
            line(
                &mut page,
                &format!("\nRules beside those of single fields:\n\n{}", rules.join("\n")),
            );
        }
    }
    Ok(page)
}

fn line(page: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}

fn versions(crd: &CustomResourceDefinition) -> String {
    let shown = crd
        .spec
        .versions
        .iter()
        .filter(|version| version.served)
        .map(|version| {
            let mut notes = Vec::new();
            if version.storage && crd.spec.versions.len() > 1 {
                notes.push("stored");
            }
            if version.deprecated == Some(true) {
                notes.push("deprecated");
            }
            match notes.as_slice() {
                [] => format!("`{}`", version.name),
                notes => format!("`{}` ({})", version.name, notes.join(", ")),
            }
        });
    format!("versions {}", shown.collect::<Vec<_>>().join(", "))
}

fn columns(
    page: &mut String,
    columns: &[k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition],
) {
    if columns.is_empty() {
        return;
    }
    line(page, "\n## kubectl get\n\n| column | field | |\n|---|---|---|");
    for column in columns {
        let wide = if column.priority.unwrap_or(0) > 0 {
            "`-o wide`"
        } else {
            ""
        };
        line(
            page,
            &format!("| {} | `{}` | {wide} |", column.name, cell(&column.json_path)),
        );
    }
}

/// A row for each field below `path`, and below those.
fn fields(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let inner = format!("{path}.{name}");
        let meaning = meaning(field, required);
        line(page, &format!("| `{inner}` | {} | {meaning} |", kind(field)));
        below(page, &inner, field);
    }
}

fn below(page: &mut String, path: &str, field: &JSONSchemaProps) {
    fields(page, path, field);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
        below(page, &format!("{path}[]"), items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &field.additional_properties {
        below(page, &format!("{path}.*"), values);
    }
}

fn kind(field: &JSONSchemaProps) -> String {
    if field.x_kubernetes_int_or_string == Some(true) {
        return "integer or string".to_owned();
    }
    let name = field.type_.as_deref().unwrap_or("any");
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
        return format!("list of {}", kind(items));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &field.additional_properties {
        return format!("map of {}", kind(values));
    }
    match &field.format {
        Some(format) => format!("{name} ({format})"),
        None => name.to_owned(),
    }
}

/// What the field means, and the bounds that its schema sets.
fn meaning(field: &JSONSchemaProps, required: bool) -> String {
    let mut parts = Vec::new();
    if required {
        parts.push("**Required.**".to_owned());
    }
    if let Some(description) = &field.description {
        parts.push(cell(description));
    }
    if let Some(default) = &field.default {
        parts.push(format!("Default `{}`.", cell(&default.0.to_string())));
    }
    let values: Vec<_> = field
        .enum_
        .iter()
        .flatten()
        .map(|value| format!("`{}`", cell(&value.0.to_string())))
        .collect();
    if !values.is_empty() {
        parts.push(format!("One of {}.", values.join(", ")));
    }
    let bounds = bounds(field);
    if !bounds.is_empty() {
        parts.push(format!("Bounds: {}.", bounds.join(", ")));
    }
    parts.join(" ")
}

fn bounds(field: &JSONSchemaProps) -> Vec<String> {
    let mut bounds = Vec::new();
    let numbers = [("at least", field.minimum), ("at most", field.maximum)];
    for (words, number) in numbers {
        bounds.extend(number.map(|number| format!("{words} {number}")));
    }
    let counts = [
        ("characters", field.min_length, field.max_length),
        ("items", field.min_items, field.max_items),
        ("keys", field.min_properties, field.max_properties),
    ];
    for (unit, least, most) in counts {
        bounds.extend(match (least, most) {
            (Some(least), Some(most)) => Some(format!("{least} to {most} {unit}")),
            (Some(least), None) => Some(format!("at least {least} {unit}")),
            (None, Some(most)) => Some(format!("at most {most} {unit}")),
            (None, None) => None,
        });
    }
    bounds.extend(
        field
            .pattern
            .as_ref()
            .map(|pattern| format!("matches `{}`", cell(pattern))),
    );
    bounds
}

/// What CEL rules say where they do not hold, each once.
fn collect_rules(rules: &mut Vec<String>, path: &str, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let said = rule.message.as_deref().unwrap_or(&rule.rule);
        let text = format!(
            "- `{path}`: {}",
            said.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        if !rules.contains(&text) {
            rules.push(text);
        }
    }
    for (name, field) in schema.properties.iter().flatten() {
        collect_rules(rules, &format!("{path}.{name}"), field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect_rules(rules, &format!("{path}[]"), items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        collect_rules(rules, &format!("{path}.*"), values);
    }
}

/// Text for a cell of a table: one line, nothing that ends the cell or begins a tag.
fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace('|', "\\|").replace('<', "&lt;")
}

/// Text as paragraphs of one line each.
fn paragraphs(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_its_default_its_bounds_and_whether_it_is_needed() {
        let field: JSONSchemaProps = serde_json::from_value(serde_json::json!({
            "type": "string", "description": "A name.\nOf a | thing.", "default": "x", "maxLength": 5, "minLength": 1,
            "pattern": "^a|b$", "enum": ["x", "y"],
        }))
        .unwrap();
        assert_eq!(
            meaning(&field, true),
            "**Required.** A name. Of a \\| thing. Default `\"x\"`. One of `\"x\"`, `\"y\"`. Bounds: 1 to 5 characters, \
             matches `^a\\|b$`."
        );
    }

    #[test]
    fn lists_and_maps_say_what_they_hold() {
        let field: JSONSchemaProps = serde_json::from_value(serde_json::json!({
            "type": "array", "items": {"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}},
        }))
        .unwrap();
        assert_eq!(kind(&field), "list of map of integer (int32)");
    }
}
