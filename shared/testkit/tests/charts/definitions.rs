//! What a definition promises to what is stored of its kind, and what of it a later one breaks.
//!
//! A field that is gone is dropped from stored objects by the API server without a word; one whose bounds are narrower, or
//! that is required now, has an object of before refused when somebody updates it; another default means something else by
//! the same manifest. New versions, new fields that may be left out and wider bounds break nothing. Rules in CEL are not
//! compared.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Keys of a schema that are to be the same.
const EXACT: [&str; 9] = [
    "type",
    "format",
    "default",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
];
const LEAST: [&str; 4] = ["minimum", "minLength", "minItems", "minProperties"];
const MOST: [&str; 4] = ["maximum", "maxLength", "maxItems", "maxProperties"];

/// By version: whether it is served and stored, and its fields by their paths, each with its bounds as JSON.
pub(crate) fn versions(spec: &Value) -> Value {
    let versions = spec["versions"].as_array().into_iter().flatten();
    let recorded = versions.map(|version| {
        let mut fields = BTreeMap::new();
        collect(&version["schema"]["openAPIV3Schema"], "", false, &mut fields);
        let text = version["name"].as_str().unwrap_or_default().to_owned();
        (
            text,
            json!({"served": version["served"], "storage": version["storage"], "fields": fields}),
        )
    });
    Value::Object(recorded.collect())
}

fn collect(schema: &Value, path: &str, required: bool, fields: &mut BTreeMap<String, String>) {
    let mut own = Map::new();
    for key in EXACT
        .iter()
        .chain(&LEAST)
        .chain(&MOST)
        .chain(&["enum", "pattern"])
    {
        if let Some(value) = schema
            .get(key)
            .filter(|value| !value.is_object() || *key == "default")
        {
            own.insert((*key).to_owned(), value.clone());
        }
    }
    if required {
        own.insert("required".to_owned(), true.into());
    }
    fields.insert(path.to_owned(), Value::Object(own).to_string());
    let needed = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        collect(
            inner,
            &format!("{path}.{name}"),
            needed.contains(&json!(name)),
            fields,
        );
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            collect(&schema[key], &format!("{path}{mark}"), false, fields);
        }
    }
}

/// What of the older versions the newer ones break, in words.
pub(crate) fn broken(older: &Value, newer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, was) in older.as_object().into_iter().flatten() {
        let Some(is) = newer.get(name) else {
            found.push(format!("the version {name} is gone"));
            continue;
        };
        if was["served"] == true && is["served"] != true {
            found.push(format!("{name} is not served any more"));
        }
        if was["storage"] != is["storage"] {
            found.push(format!("another version than before is stored: {name}"));
        }
        let fields = |of: &Value| of["fields"].as_object().cloned().unwrap_or_default();
        found.extend(
            narrowed(&fields(was), &fields(is))
                .into_iter()
                .map(|what| format!("{name}{what}")),
        );
    }
    found
}

fn narrowed(older: &Map<String, Value>, newer: &Map<String, Value>) -> Vec<String> {
    let parsed = |field: &Value| -> Value {
        serde_json::from_str(field.as_str().unwrap_or_default()).unwrap_or_default()
    };
    let mut found = Vec::new();
    for (path, was) in older {
        match newer.get(path) {
            None => found.push(format!("{path} is gone")),
            Some(is) => {
                let difference = difference(&parsed(was), &parsed(is));
                found.extend(difference.map(|what| format!("{path}: {what}")));
            }
        }
    }
    for (path, is) in newer.iter().filter(|(path, _)| !older.contains_key(*path)) {
        let is = parsed(is);
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        if older.contains_key(parent) && is["required"] == true && is["default"].is_null() {
            found.push(format!("{path} is new and required"));
        }
    }
    found
}

/// What the second schema of a field refuses, or means otherwise, of what the first takes.
fn difference(was: &Value, is: &Value) -> Option<String> {
    let beyond = |key: &str, narrower: fn(f64, f64) -> bool| match (was[key].as_f64(), is[key].as_f64()) {
        (Some(was), Some(is)) => narrower(is, was),
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let values = |of: &Value| of["enum"].as_array().cloned();
    let fewer = match (values(was), values(is)) {
        (Some(was), Some(is)) => was.iter().any(|value| !is.contains(value)),
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let changed = EXACT.into_iter().find(|key| was[*key] != is[*key]);
    let lower = LEAST.into_iter().find(|key| beyond(key, |is, was| is > was));
    let upper = MOST.into_iter().find(|key| beyond(key, |is, was| is < was));
    let pattern = !is["pattern"].is_null() && was["pattern"] != is["pattern"];
    let needed = is["required"] == true && was["required"] != true;
    let others = [(fewer, "enum"), (pattern, "pattern"), (needed, "required")];
    let key = changed
        .or(lower)
        .or(upper)
        .or_else(|| others.into_iter().find_map(|(is, key)| is.then_some(key)))?;
    Some(format!("{key} was {}, is {}", was[key], is[key]))
}

fn spec(replicas: &Value, more: &Value) -> Value {
    let mut properties =
        json!({"replicas": replicas, "tags": {"type": "array", "items": {"type": "string"}}});
    for (name, schema) in more.as_object().into_iter().flatten() {
        properties[name] = schema.clone();
    }
    let schema = json!({"type": "object", "required": ["replicas"], "properties": properties});
    json!({"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]})
}

#[test]
fn what_is_wider_or_new_breaks_nothing_and_what_is_narrower_or_gone_does() {
    let older = versions(&spec(
        &json!({"type": "integer", "minimum": 1, "maximum": 9, "default": 1}),
        &json!({}),
    ));
    let of = |replicas: Value, more: Value| broken(&older, &versions(&spec(&replicas, &more)));
    let same = json!({"type": "integer", "minimum": 1, "maximum": 9, "default": 1});
    let wider = json!({"type": "integer", "maximum": 10, "default": 1});
    assert_eq!(of(same.clone(), json!({})), [""; 0]);
    assert_eq!(of(wider, json!({"new": {"type": "string"}})), [""; 0]);
    let with = |key: &str, value: Value| {
        let mut changed = same.clone();
        changed[key] = value;
        changed
    };
    for (replicas, more, what) in [
        (with("type", json!("string")), json!({}), "v1.replicas: type"),
        (
            with("minimum", json!(2)),
            json!({}),
            "v1.replicas: minimum was 1, is 2",
        ),
        (with("maximum", json!(8)), json!({}), "v1.replicas: maximum"),
        (with("default", json!(3)), json!({}), "v1.replicas: default"),
        (with("enum", json!([1, 3])), json!({}), "v1.replicas: enum"),
        (
            same.clone(),
            json!({"tags": {"type": "array", "items": {"type": "integer"}}}),
            "v1.tags[]: type",
        ),
        (
            with("maxProperties", json!(3)),
            json!({}),
            "v1.replicas: maxProperties",
        ),
        (
            same.clone(),
            json!({"tags": {"type": "array", "maxItems": 5, "items": {"type": "string"}}}),
            "v1.tags: maxItems",
        ),
    ] {
        let found = of(replicas, more);
        assert!(
            found.len() == 1 && found[0].starts_with(what),
            "{what}: {found:?}"
        );
    }
    let gone = versions(&json!({"versions": [{"name": "v2", "served": true, "storage": true}]}));
    assert_eq!(broken(&older, &gone), ["the version v1 is gone"]);
    let mut unserved = older.clone();
    unserved["v1"]["served"] = false.into();
    assert_eq!(broken(&older, &unserved), ["v1 is not served any more"]);
    unserved["v1"]["fields"]
        .as_object_mut()
        .unwrap()
        .remove(".tags[]");
    assert_eq!(broken(&older, &unserved)[1], "v1.tags[] is gone");
    let mut stricter = spec(&same, &json!({"new": {"type": "string"}}));
    stricter["versions"][0]["schema"]["openAPIV3Schema"]["required"] = json!(["replicas", "new"]);
    assert_eq!(
        broken(&older, &versions(&stricter)),
        ["v1.new is new and required"]
    );
}
