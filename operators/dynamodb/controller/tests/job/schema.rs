//! The rules of the schema, on the API server that carries them out.

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobSpec, DpJobTarget, SortKeyBounds, SortKeyPredicate};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testkit::control_plane::TestNamespace;

use crate::bed::plane;

struct Schema {
    jobs: Api<DdbctlDpJob>,
    _namespace: TestNamespace,
}

impl Schema {
    async fn new() -> Self {
        reconcile::cli::install_crypto_provider();
        let plane = plane().await;
        let namespace = plane.namespace().await.unwrap();
        Self {
            jobs: Api::namespaced(plane.client(), namespace.name()),
            _namespace: namespace,
        }
    }

    async fn create(&self, name: &str, spec: Value) -> Result<DdbctlDpJob, String> {
        let spec: DdbctlDpJobSpec = serde_json::from_value(spec).unwrap();
        let job = DdbctlDpJob::new(name, spec);
        let created = self.jobs.create(&PostParams::default(), &job).await;
        created.map_err(|error| error.to_string())
    }

    async fn change(&self, name: &str, spec: Value) -> Result<DdbctlDpJob, String> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let changed = self.jobs.patch(name, &PatchParams::default(), &patch).await;
        changed.map_err(|error| error.to_string())
    }

    async fn refuses(&self, name: &str, change: Value, words: &str) {
        let error = self
            .change(name, change.clone())
            .await
            .expect_err(&change.to_string());
        assert!(error.contains(words), "{change}: {error}");
    }
}

fn flat() -> Value {
    json!({ "tableName": "Orders", "partitionValue": "tenant", "endpointURL": "http://a:8000", "awsRegion": "us-east-1" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_given_in_exactly_one_form_and_is_never_empty() {
    let schema = Schema::new().await;
    let mut both = flat();
    both["ddbCtlDpJob"] = flat();
    for (spec, words) in [
        (both, "exactly once"),
        (json!({}), "exactly once"),
        (json!({ "tableName": "Orders" }), "must both be set"),
        (json!({ "partitionValue": "tenant" }), "must both be set"),
        (
            json!({ "tableName": "Orders", "partitionValue": "" }),
            "partitionValue",
        ),
        (
            json!({ "tableName": "", "partitionValue": "tenant" }),
            "tableName",
        ),
        (
            json!({ "ddbCtlDpJob": { "tableName": "Orders", "partitionValue": "" } }),
            "partitionValue",
        ),
        (
            json!({ "tableName": "Orders", "partitionValue": "x", "awsRegion": "r".repeat(300) }),
            "awsRegion",
        ),
    ] {
        let error = schema
            .create("x", spec.clone())
            .await
            .expect_err(&spec.to_string());
        assert!(error.contains(words), "{spec}: {error}");
    }
    let error = schema.create(&"n".repeat(300), flat()).await.unwrap_err();
    assert!(error.contains("253"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_of_a_job_never_changes_and_its_form_may() {
    let schema = Schema::new().await;
    schema.create("x", flat()).await.unwrap();
    for (field, value) in [
        ("tableName", json!("Other")),
        ("partitionValue", json!("other")),
        ("endpointURL", json!("http://b:8000")),
        ("endpointURL", Value::Null),
        ("awsRegion", json!("eu-west-1")),
        ("mode", json!("DryRun")),
        ("keyType", json!("S")),
        ("sortKey", json!({ "eq": "1" })),
    ] {
        schema
            .refuses(
                "x",
                json!({ field: value }),
                &format!("`{field}` must not change"),
            )
            .await;
    }
    // The default region is the region, written or not.
    schema.change("x", json!({ "awsRegion": "" })).await.unwrap();
    schema.change("x", json!({ "awsRegion": null })).await.unwrap();
    schema
        .change("x", json!({ "awsRegion": "us-east-1" }))
        .await
        .unwrap();
    let nested = json!({ "tableName": null, "partitionValue": null, "endpointURL": null, "awsRegion": null, "ddbCtlDpJob": flat() });
    let mut other = nested.clone();
    other["ddbCtlDpJob"]["tableName"] = json!("Other");
    schema.refuses("x", other, "`tableName` must not change").await;
    schema.change("x", nested).await.unwrap();
    let mut back = flat();
    back["ddbCtlDpJob"] = Value::Null;
    schema.change("x", back).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_change_changes_and_cancel_is_not_taken_back() {
    let schema = Schema::new().await;
    schema.create("x", flat()).await.unwrap();
    for change in [
        json!({ "suspend": true }),
        json!({ "suspend": false }),
        json!({ "maxWcuPerSecond": 5, "activeDeadlineSeconds": 60, "backoffLimit": 0 }),
        json!({ "maxWcuPerSecond": null }),
        json!({ "cancel": true }),
    ] {
        schema
            .change("x", change.clone())
            .await
            .unwrap_or_else(|_| panic!("{}", change.to_string()));
    }
    schema
        .refuses("x", json!({ "cancel": false }), "must not be taken back")
        .await;
    schema
        .refuses("x", json!({ "cancel": null }), "must not be taken back")
        .await;
    schema
        .refuses("x", json!({ "maxWcuPerSecond": 0 }), "maxWcuPerSecond")
        .await;
}

/// Every rule that compares strings is charged by their greatest length: a budget that is exceeded would refuse the
/// CRD or, at run time, this object and each of its changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_maximum_size_is_accepted_and_changed_within_the_cost_budget() {
    let schema = Schema::new().await;
    let target = DpJobTarget {
        table_name: "t".repeat(1024),
        partition_value: "é".repeat(2732),
        endpoint_url: Some(format!("http://{}", "h".repeat(2041))),
        aws_region: Some("r".repeat(64)),
    };
    let bounds = SortKeyBounds {
        from: "a".repeat(1368),
        to: "b".repeat(1368),
    };
    let spec = DdbctlDpJobSpec {
        ddb_ctl_dp_job: Some(target.clone()),
        sort_key: Some(SortKeyPredicate {
            between: Some(bounds),
            ..SortKeyPredicate::default()
        }),
        ..DdbctlDpJobSpec::default()
    };
    let name = "n".repeat(253);
    schema
        .create(&name, serde_json::to_value(spec).unwrap())
        .await
        .unwrap();
    let mut flat = serde_json::to_value(target).unwrap();
    flat["ddbCtlDpJob"] = Value::Null;
    schema.change(&name, flat).await.unwrap();
    schema.change(&name, json!({ "suspend": true })).await.unwrap();
    schema
        .refuses(
            &name,
            json!({ "partitionValue": "e".repeat(2732) }),
            "must not change",
        )
        .await;
}
