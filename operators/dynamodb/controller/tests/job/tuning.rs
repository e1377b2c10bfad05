//! What may be changed while a job runs, and what the change does.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    bed::{BYSTANDERS, Bed, Gate, VICTIM, acknowledged, message, server},
    writer::writer,
};

const ITEMS: u64 = 2000;
/// Deleted when the requests are held.
const HELD: u64 = 300;
/// More than can be deleted by then: 16 requests of 25 keys may be in flight.
const MOST: u64 = HELD + 16 * 25 + 60;

/// A job that has deleted some and waits for answers.
async fn at_work(bed: &Bed, limits: serde_json::Value) -> Gate {
    let gate = Gate::after(&bed.faults, HELD);
    let mut spec = bed.spec();
    spec.limits = serde_json::from_value(limits).unwrap();
    bed.create("x", spec).await;
    gate.until_held().await;
    gate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_lowered_in_mid_run_is_kept_to_the_item() {
    let bed = Bed::new(server().await, ITEMS).await;
    let operator = bed.operator();
    let gate = at_work(&bed, json!(null)).await;
    bed.patch("x", json!({ "spec": { "limits": { "maxItems": MOST } } }))
        .await;
    // It has seen the change when it stops, to begin anew with the new limit.
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    let status = bed.until("x", "False", "LimitExceeded").await;
    assert!(
        message(&status).contains("limits.maxItems"),
        "{}",
        message(&status)
    );
    bed.until_event("x", "LimitExceeded").await;
    let (left, bystanders) = bed.counts().await;
    assert!(ITEMS - left <= MOST, "{} deleted, {MOST} allowed", ITEMS - left);
    assert_eq!((acknowledged(&status), bystanders), (ITEMS - left, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_raised_in_mid_run_lets_the_job_finish() {
    for raised in [false, true] {
        let bed = Bed::new(server().await, ITEMS).await;
        let operator = bed.operator();
        let gate = at_work(&bed, json!({ "maxItems": ITEMS })).await;
        // More than the plan knew of.
        writer(&bed, ITEMS..ITEMS + 50)().await;
        if raised {
            bed.patch("x", json!({ "spec": { "limits": { "maxItems": 2 * ITEMS } } }))
                .await;
            bed.until("x", "Unknown", "Running").await;
        }
        gate.open();
        if raised {
            bed.until("x", "True", "PartitionEmpty").await;
            assert_eq!(bed.counts().await, (0, BYSTANDERS));
        } else {
            bed.until("x", "False", "LimitExceeded").await;
            assert!(bed.count(VICTIM).await >= 50);
        }
        operator.stop().await;
    }
}

async fn put_secret(bed: &Bed, name: &str, key_id: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
        "stringData": { "AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": "secret" },
    });
    let secrets: Api<Secret> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let params = PatchParams::apply("author").force();
    secrets.patch(name, &params, &Patch::Apply(secret)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_given_another_secret_in_mid_run_signs_with_it_from_then_on() {
    let bed = Bed::new(server().await, ITEMS).await;
    let operator = bed.operator();
    put_secret(&bed, "first", "FIRST").await;
    put_secret(&bed, "second", "SECOND").await;
    let gate = Gate::after(&bed.faults, HELD);
    let mut spec = bed.spec();
    spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "first" } })).unwrap();
    bed.create("x", spec).await;
    gate.until_held().await;
    let credentials = json!({ "secretRef": { "name": "second" } });
    bed.patch("x", json!({ "spec": { "credentials": credentials } }))
        .await;
    // It is told to stop, and stops when what is in flight has been answered.
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    let status = bed.until("x", "True", "PartitionEmpty").await;
    let asked = bed.proxy.audit().since(0);
    let signers = || asked.iter().filter_map(|entry| entry.key_id.as_deref());
    let changed = signers().position(|signer| signer == "SECOND").unwrap();
    assert!(changed > 0 && signers().skip(changed).all(|signer| signer == "SECOND"));
    assert_eq!(acknowledged(&status), ITEMS, "nothing was deleted twice");
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}
