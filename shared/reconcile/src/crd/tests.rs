//! Schemas are tidied without losing meaning; waiting tells apart what must be repaired differently.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Client, client::Body};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    tidy, undescribed,
    wait::{Found, classify},
    wait_established,
};
use crate::clock::Clock;

fn definition(schema: &Value, status: &Value) -> CustomResourceDefinition {
    let definition = json!({
        "metadata": { "name": "databases.example.com" },
        "spec": {
            "group": "example.com",
            "names": { "kind": "Database", "plural": "databases" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema }
            }],
        },
        "status": status,
    });
    serde_json::from_value(definition).unwrap()
}

#[test]
fn unknown_formats_go_at_every_depth_and_bounds_stay() {
    let schema = |formatted: bool| {
        let number = |format: &str, minimum: f64| {
            let mut node = json!({ "type": "integer", "minimum": minimum });
            if formatted {
                node["format"] = format.into();
            }
            node
        };
        json!({ "type": "object", "properties": {
            "size": number("uint32", 1.0),
            "list": { "type": "array", "items": number("uint64", 0.0) },
            "map": { "type": "object", "additionalProperties": number("uint8", 0.0) },
            "either": { "anyOf": [number("int8", 5.0), { "not": number("uint", 0.0) }] },
            "kept": { "type": "string", "format": "date-time" },
            "port": { "type": "integer", "format": "int32" },
        }})
    };
    let mut dirty = definition(&schema(true), &Value::Null);
    tidy(&mut dirty);
    assert_eq!(dirty, definition(&schema(false), &Value::Null));
}

#[test]
fn an_unsigned_number_without_bound_stays_unsigned() {
    let mut dirty = definition(
        &json!({ "properties": { "n": { "format": "uint16" } } }),
        &Value::Null,
    );
    tidy(&mut dirty);
    assert_eq!(
        dirty,
        definition(
            &json!({ "properties": { "n": { "minimum": 0.0 } } }),
            &Value::Null
        )
    );
}

#[test]
fn fields_that_explain_has_nothing_to_say_about_are_named() {
    let schema = json!({ "properties": {
        "spec": { "description": "What to have.", "properties": {
            "disks": { "description": "Disks.", "items": { "properties": { "size": {} } } },
            "labels": { "description": " ", "additionalProperties": { "properties": { "value": {} } } },
        }},
    }});
    let found = undescribed(&definition(&schema, &Value::Null));
    assert_eq!(
        found,
        ["v1.spec.disks[].size", "v1.spec.labels", "v1.spec.labels.*.value"]
    );
}

fn status(conditions: &[(&str, &str)]) -> Value {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(kind, status)| json!({ "type": kind, "status": status }))
        .collect();
    json!({ "conditions": conditions, "acceptedNames": { "kind": "Database", "plural": "databases" }, "storedVersions": [] })
}

#[rstest]
#[case::fresh(&[], Found::NotServed)]
#[case::names_accepted(&[("NamesAccepted", "True"), ("Established", "False")], Found::NotServed)]
#[case::served(&[("NamesAccepted", "True"), ("Established", "True")], Found::Established)]
#[case::going(&[("Established", "True"), ("Terminating", "True")], Found::Established)]
fn a_definition_is_ready_when_it_is_served(#[case] conditions: &[(&str, &str)], #[case] expected: Found) {
    assert_eq!(
        classify(Ok(Some(definition(&json!({}), &status(conditions))))),
        expected
    );
}

/// Answers still to be given: status and body.
type Script = Arc<Mutex<VecDeque<(u16, Value)>>>;

/// A client whose server gives these answers, one after the other.
fn scripted(answers: Vec<(u16, Value)>) -> (Client, Script) {
    let script = Arc::new(Mutex::new(VecDeque::from(answers)));
    let remaining = Arc::clone(&script);
    let service = tower::service_fn(move |_: Request<Body>| {
        let next = script.lock().unwrap().pop_front();
        async move {
            let (code, body) = next.ok_or_else(|| std::io::Error::other("connection refused"))?;
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), remaining)
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": reason }),
    )
}

#[tokio::test]
async fn waiting_outlasts_missing_forbidden_and_unserved_definitions() {
    let unserved = serde_json::to_value(definition(&json!({}), &status(&[]))).unwrap();
    let served = serde_json::to_value(definition(&json!({}), &status(&[("Established", "True")]))).unwrap();
    let answers = vec![
        failure(404, "NotFound"),
        failure(403, "Forbidden"),
        failure(500, "InternalError"),
        (200, unserved),
        (200, served),
    ];
    let (client, remaining) = scripted(answers);
    let names = ["databases.example.com".to_owned()];
    let clock = Clock::accelerated(1000);
    let waited = wait_established(&client, &names, &clock);
    tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .expect("established");
    assert!(
        remaining.lock().unwrap().is_empty(),
        "it returned before the definition was served"
    );
}

#[tokio::test]
async fn trouble_is_told_apart() {
    let get = async |answers| {
        let definitions: kube::Api<CustomResourceDefinition> = kube::Api::all(scripted(answers).0);
        classify(definitions.get_opt("databases.example.com").await)
    };
    assert_eq!(get(vec![failure(404, "NotFound")]).await, Found::Missing);
    assert!(matches!(
        get(vec![failure(403, "Forbidden")]).await,
        Found::Denied(_)
    ));
    assert!(matches!(
        get(vec![failure(401, "Unauthorized")]).await,
        Found::Denied(_)
    ));
    assert!(matches!(get(vec![]).await, Found::Unreachable(_)));
}
