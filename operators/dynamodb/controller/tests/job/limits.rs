//! `limits`, over everything that may happen to the operator.

use serde_json::json;
use testkit::{
    audit::Filter,
    dynamodb::KeyType,
    fault::{Fault, FaultPlan, Schedule, schedule::Which},
};

use crate::{
    bed::{BYSTANDERS, Bed, Gate, SPEED, VICTIM, message, server},
    writer::writer,
};

const ITEMS: u64 = 2000;

/// Items that count against the limits, those included that may be deleted.
async fn counted(bed: &Bed) -> u64 {
    let allowance = bed.status("x").await.allowance.unwrap_or_default();
    // Eight characters of base64 for each digest.
    let reserved = allowance.reserved_keys.map_or(0, |keys| keys.len() / 8);
    u64::try_from(allowance.items_spent).unwrap() + reserved as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_written_down_before_they_are_deleted_and_nothing_is_written_for_each_batch() {
    let bed = Bed::new(server().await, ITEMS).await;
    let begin = bed.plane.audit().settle(&bed.plane.client()).await.unwrap();
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 500);
    let mut spec = bed.spec();
    spec.limits = serde_json::from_value(json!({ "maxItems": ITEMS, "maxWcuTotal": 2 * ITEMS })).unwrap();
    bed.create("x", spec).await;
    gate.until_held().await;
    let (deleted, counted_now) = (ITEMS - bed.count(VICTIM).await, counted(&bed).await);
    assert!(
        counted_now >= deleted,
        "{deleted} are deleted, and {counted_now} of them stand written"
    );
    gate.open();
    let status = bed.until("x", "True", "PartitionEmpty").await;
    let allowance = status.allowance.unwrap();
    assert_eq!(allowance.items_spent, i64::try_from(ITEMS).unwrap());
    assert_eq!(allowance.reserved_keys, None, "nothing is in doubt at the end");
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    let mine = Filter::writes()
        .namespace(bed.namespace.name())
        .subresource("status");
    let client = bed.plane.client();
    let writes = bed.plane.audit().query(&client, begin, &mine).await.unwrap();
    let batches = bed.proxy.audit().count("DynamoDB BatchWriteItem");
    println!("{} writes of the status, {batches} batches", writes.len());
    let written = writes.len() as u64;
    assert!(written * 2 < batches, "{written} of {batches}");
    operator.stop().await;
}

/// What was sent and never answered may be deleted or not: the run after it has to know.
#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_answer_was_lost_count_after_a_suspension_and_after_a_change() {
    const FEW: u64 = 100;
    for changed in [false, true] {
        // The first batch is carried out, and every answer from then on fails to arrive.
        let lost = Schedule::default().at("DynamoDB BatchWriteItem", Which::Every, Fault::Lose);
        let plan = FaultPlan::clocked(lost, reconcile::clock::Clock::accelerated(SPEED));
        let key = (KeyType::S, |table| table);
        let bed = Bed::planned(&plan, SPEED, server().await, FEW, key).await;
        let operator = bed.operator();
        let mut spec = bed.spec();
        spec.backoff_limit = 1000;
        spec.limits = serde_json::from_value(json!({ "maxItems": FEW })).unwrap();
        // Held there, nothing can come to an end meanwhile.
        let gate = Gate::after(&bed.faults, FEW / 2);
        bed.create("x", spec).await;
        gate.until_held().await;
        // No answer has come: not one of them is acknowledged. Others take their places.
        writer(&bed, FEW..2 * FEW)().await;
        if changed {
            bed.patch("x", json!({ "spec": { "backoffLimit": 999 } })).await;
            gate.open();
        } else {
            bed.patch("x", json!({ "spec": { "suspend": true } })).await;
            bed.until("x", "Unknown", "Running").await;
            gate.open();
            bed.until_condition("x", "Suspended", "True", "Suspended").await;
            bed.patch("x", json!({ "spec": { "suspend": false } })).await;
        }
        let status = bed.until("x", "False", "LimitExceeded").await;
        assert!(
            message(&status).contains("limits.maxItems"),
            "{}",
            message(&status)
        );
        assert_eq!(bed.counts().await, (FEW, BYSTANDERS), "changed: {changed}");
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_loses_its_limits_and_gets_them_again_counts_what_it_deleted_between() {
    let bed = Bed::new(server().await, ITEMS).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 300);
    let mut spec = bed.spec();
    spec.limits = serde_json::from_value(json!({ "maxItems": ITEMS })).unwrap();
    bed.create("x", spec).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": { "limits": null } })).await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(
        bed.status("x").await.allowance,
        None,
        "an old count would be taken for the present one"
    );
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}
