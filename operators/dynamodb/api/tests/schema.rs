//! The promises that the generated CRD keeps, and its CEL rules evaluated without an API server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobSpec, RunMode};
use kube::CustomResourceExt;
use kube_cel::{ValidationErrors, Validator};
use serde_json::{Value, json};

fn schema() -> Value {
    let crd = serde_json::to_value(DdbctlDpJob::crd()).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema")
        .cloned()
        .unwrap()
}

fn visit(path: &str, node: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, node);
    for (name, child) in node
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        visit(&format!("{path}.{name}"), child, check);
    }
    if let Some(items) = node.get("items") {
        visit(&format!("{path}[]"), items, check);
    }
}

fn spec_and_status() -> Vec<(String, Value)> {
    let schema = schema();
    let mut nodes = Vec::new();
    for part in ["spec", "status"] {
        visit(part, &schema["properties"][part], &mut |path, node| {
            nodes.push((path.to_owned(), node.clone()));
        });
    }
    assert!(nodes.len() > 60, "only {} nodes visited", nodes.len());
    nodes
}

#[test]
fn every_field_says_what_it_means() {
    for (path, node) in spec_and_status() {
        let described = node
            .get("description")
            .and_then(Value::as_str)
            .is_some_and(|text| text.len() > 10);
        assert!(described || path.ends_with("[]"), "{path} has no description");
    }
}

#[test]
fn every_string_number_and_list_is_bounded() {
    for (path, node) in spec_and_status() {
        let has = |key: &str| node.get(key).is_some();
        match node.get("type").and_then(Value::as_str) {
            Some("string") => {
                assert!(
                    has("maxLength") || has("enum") || node.get("format") == Some(&json!("date-time")),
                    "{path}: {node}"
                );
            }
            Some("integer") => assert!(has("minimum") || path.contains("conditions"), "{path}: {node}"),
            Some("number") => panic!("{path} is a float"),
            Some("array") => assert!(has("maxItems"), "{path}: {node}"),
            _ => {}
        }
        assert!(!has("nullable") || path == "status", "{path} may be null");
        let format = node.get("format").and_then(Value::as_str).unwrap_or("int64");
        assert!(
            ["int32", "int64", "date-time"].contains(&format),
            "{path} has format {format}"
        );
    }
}

#[test]
fn the_crd_has_the_names_columns_and_subresource_that_users_know() {
    let crd = DdbctlDpJob::crd();
    assert_eq!(
        crd.metadata.name.as_deref(),
        Some("ddbctldpjobs.dynamoctl.dp.operators.sanjivmadhavan.io")
    );
    assert_eq!(crd.spec.scope, "Namespaced");
    assert_eq!(crd.spec.names.short_names, Some(vec!["ddbjob".to_owned()]));
    let version = &crd.spec.versions[0];
    assert!(version.subresources.as_ref().unwrap().status.is_some());
    let columns: Vec<_> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .filter(|c| c.priority.is_none())
        .collect();
    let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["Table", "State", "Deleted", "Progress", "WCU/s", "Age"]);
}

#[test]
fn defaults_stand_in_the_schema_and_region_has_none() {
    let spec = &schema()["properties"]["spec"]["properties"];
    assert_eq!(spec["mode"]["default"], json!("Delete"));
    assert_eq!(spec["backoffLimit"]["default"], json!(6));
    assert_eq!(spec["suspend"]["default"], json!(false));
    assert!(spec["awsRegion"].get("default").is_none());
    assert_eq!(DdbctlDpJobSpec::default().mode, RunMode::Delete);
}

fn check(new: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    Validator::new().validate(&schema(), &object(new), old.map(object).as_ref())
}

fn object(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for (field, default) in [
        ("mode", json!("Delete")),
        ("suspend", json!(false)),
        ("cancel", json!(false)),
    ] {
        spec.as_object_mut().unwrap().entry(field).or_insert(default);
    }
    json!({"apiVersion": "dynamoctl.dp.operators.sanjivmadhavan.io/v1alpha1", "kind": "DdbctlDpJob",
           "metadata": {"name": "job"}, "spec": spec})
}

#[track_caller]
fn refused(new: &Value, old: Option<&Value>, words: &str) {
    let errors = check(new, old).expect_err("must be refused").to_string();
    assert!(errors.contains(words), "{errors}");
}

fn flat() -> Value {
    json!({"tableName": "Orders", "partitionValue": "A", "endpointURL": "http://dynamodb.local:8000", "awsRegion": "us-east-1"})
}

fn nested() -> Value {
    json!({"ddbCtlDpJob": flat()})
}

#[test]
fn both_forms_are_accepted_alone_and_refused_together() {
    check(&flat(), None).unwrap();
    check(&nested(), None).unwrap();
    check(&json!({"tableName": "t", "partitionValue": "v"}), None).unwrap();
    let mut both = flat();
    both["ddbCtlDpJob"] = flat();
    refused(&both, None, "exactly once");
    refused(
        &json!({"ddbCtlDpJob": flat(), "awsRegion": "eu-west-1"}),
        None,
        "exactly once",
    );
    refused(&json!({}), None, "exactly once");
    refused(&json!({"tableName": "t"}), None, "must both be set");
}

#[test]
fn changing_the_form_is_no_change_of_identity() {
    check(&nested(), Some(&flat())).unwrap();
    check(&flat(), Some(&nested())).unwrap();
    let (bare, explicit) = (
        json!({"tableName": "t", "partitionValue": "v"}),
        json!({"ddbCtlDpJob": {"tableName": "t", "partitionValue": "v", "awsRegion": "us-east-1", "endpointURL": ""}}),
    );
    check(&explicit, Some(&bare)).unwrap();
    check(&bare, Some(&explicit)).unwrap();
}

#[test]
fn what_is_deleted_cannot_change() {
    for (field, value) in [
        ("tableName", "Other"),
        ("partitionValue", "B"),
        ("endpointURL", "http://x:1"),
        ("awsRegion", "eu-west-1"),
    ] {
        let (mut changed_flat, mut changed_nested) = (flat(), nested());
        changed_flat[field] = json!(value);
        changed_nested["ddbCtlDpJob"][field] = json!(value);
        for old in [flat(), nested()] {
            refused(&changed_flat, Some(&old), field);
            refused(&changed_nested, Some(&old), field);
        }
    }
    let mut ranged = flat();
    ranged["sortKey"] = json!({"beginsWith": "2023-"});
    refused(&ranged, Some(&flat()), "sortKey");
    refused(&flat(), Some(&ranged), "sortKey");
    let mut dry = flat();
    dry["mode"] = json!("DryRun");
    refused(&flat(), Some(&dry), "mode");
}

#[test]
fn how_fast_and_whether_can_change_but_cancel_is_one_way() {
    let mut tuned = flat();
    tuned["suspend"] = json!(true);
    tuned["maxWcuPerSecond"] = json!(10);
    check(&tuned, Some(&flat())).unwrap();
    check(&flat(), Some(&tuned)).unwrap();
    let mut cancelled = flat();
    cancelled["cancel"] = json!(true);
    check(&cancelled, Some(&flat())).unwrap();
    refused(&flat(), Some(&cancelled), "cancel");
}

#[test]
fn a_sort_key_condition_is_exactly_one() {
    let with = |sort_key: Value| {
        let mut spec = flat();
        spec["sortKey"] = sort_key;
        spec
    };
    check(&with(json!({"between": {"from": "a", "to": "b"}})), None).unwrap();
    check(&with(json!({"ge": "a"})), None).unwrap();
    refused(&with(json!({})), None, "exactly one");
    refused(&with(json!({"ge": "a", "le": "b"})), None, "exactly one");
}
