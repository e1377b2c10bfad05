//! Suspending, resuming, cancelling, deleting, and the limits of time and amount.

use dynamodb_api::{DdbctlDpJobStatus, RunMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use reconcile::{clock::Clock, conditions};
use serde_json::json;
use testkit::audit::Filter;

use crate::bed::{BYSTANDERS, Bed, Gate, VICTIM, acknowledged, eventually, message, server, servers};

fn of<'a>(status: &'a DdbctlDpJobStatus, type_: &str) -> &'a Condition {
    conditions::find(&status.conditions, type_).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_awaits_what_is_in_flight_rests_and_goes_on_where_it_was() {
    for server in servers().await {
        let bed = Bed::new(server, 1200).await;
        let operator = bed.operator();
        let gate = Gate::after(&bed.faults, 300);
        bed.create("x", bed.spec()).await;
        gate.until_held().await;
        bed.patch("x", json!({ "spec": { "suspend": true } })).await;
        // It says that it is stopping, and does not say that it has stopped, while a request is unanswered.
        let stopping = bed.until("x", "Unknown", "Running").await;
        let suspended = of(&stopping, "Suspended");
        assert_eq!(
            (suspended.status.as_str(), suspended.reason.as_str()),
            ("False", "Running")
        );
        assert!(suspended.message.contains("in flight"), "{}", suspended.message);
        gate.open();
        let resting = bed.until_condition("x", "Suspended", "True", "Suspended").await;
        let left = bed.count(VICTIM).await;
        assert!(left > 0, "nothing was left to be suspended");
        assert_eq!(
            acknowledged(&resting),
            1200 - left,
            "every deletion was awaited and counted"
        );
        assert!(resting.rate.is_none());
        let note = bed.until_event("x", "Suspended").await.note.unwrap();
        let told = format!("{} deletions acknowledged", 1200 - left);
        assert!(note.contains(&told), "{note}; {told}");
        let asked = bed.proxy.audit().total();

        bed.patch("x", json!({ "spec": { "suspend": false } })).await;
        let done = bed.until("x", "True", "PartitionEmpty").await;
        assert_eq!(acknowledged(&done), 1200, "nothing was deleted twice");
        assert_eq!(done.plan, resting.plan, "the plan is of the beginning");
        assert!(bed.proxy.audit().total() > asked);
        assert_eq!(bed.counts().await, (0, BYSTANDERS));
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_created_suspended_asks_nothing_of_dynamodb() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    let mut spec = bed.spec();
    spec.suspend = true;
    bed.create("x", spec).await;
    bed.until_condition("x", "Suspended", "True", "Suspended").await;
    assert_eq!(bed.proxy.audit().total(), 0);
    bed.patch("x", json!({ "spec": { "suspend": false } })).await;
    bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_awaits_what_is_in_flight_and_tells_what_it_did() {
    let bed = Bed::new(server().await, 1200).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 300);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": { "cancel": true } })).await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    let status = bed.until("x", "False", "Cancelled").await;
    let (left, bystanders) = bed.counts().await;
    assert!(left > 0 && bystanders == BYSTANDERS);
    assert_eq!(acknowledged(&status), 1200 - left);
    let suspended = of(&status, "Suspended");
    assert_eq!(
        (suspended.status.as_str(), suspended.reason.as_str()),
        ("False", "Finished")
    );
    let note = bed.until_event("x", "Cancelled").await.note.unwrap();
    let told = format!("{} deletions acknowledged", 1200 - left);
    assert!(note.contains(&told), "{note}; {told}");
    // No change wakes it again.
    bed.patch("x", json!({ "spec": { "maxWcuPerSecond": 7 } })).await;
    operator.stop().await;
    assert_eq!(bed.count(VICTIM).await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_keeps_its_finalizer_until_nothing_is_in_flight_and_leaves_its_totals_in_an_event() {
    for server in servers().await {
        let bed = Bed::new(server, 1200).await;
        let before = bed.plane.audit().settle(&bed.plane.client()).await.unwrap();
        let operator = bed.operator();
        let gate = Gate::after(&bed.faults, 300);
        bed.create("x", bed.spec()).await;
        gate.until_held().await;
        let passes = || operator.counter(&["controller_runtime_reconcile_total", "requeue_after"]);
        let seen = passes();
        bed.delete("x").await;
        // Passes of the clean-up come and go, and wait.
        eventually("the clean-up waits", async || {
            let job = bed.jobs.get_opt("x").await.unwrap();
            let job = job.expect("released although requests are in flight");
            assert!(job.metadata.deletion_timestamp.is_some());
            if passes() > seen + 1.0 {
                Ok(())
            } else {
                Err(String::new())
            }
        })
        .await;
        gate.open();
        bed.until_gone("x").await;

        let total = bed.proxy.audit().total();
        let patches = Filter::writes()
            .namespace(bed.namespace.name())
            .name("x")
            .verb("patch")
            .subresource("");
        let events = bed
            .plane
            .audit()
            .query(&bed.plane.client(), before, &patches)
            .await
            .unwrap();
        let released = events.last().unwrap().received;
        let late: Vec<_> = bed
            .proxy
            .audit()
            .since(0)
            .into_iter()
            .filter(|entry| entry.at > released)
            .collect();
        assert!(
            late.is_empty(),
            "asked of DynamoDB after the finalizer was gone: {late:?}"
        );
        operator.stop().await;
        assert_eq!(bed.proxy.audit().total(), total);

        let (left, bystanders) = bed.counts().await;
        assert!(left > 0 && bystanders == BYSTANDERS);
        let note = bed.until_event("x", "DeletedInMidRun").await.note.unwrap();
        let told = format!("{} deletions acknowledged", 1200 - left);
        assert!(note.contains(&told), "{note}; {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_job_and_what_is_in_flight_is_awaited() {
    let bed = Bed::new(server().await, 1200).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 300);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": { "activeDeadlineSeconds": 1 } }))
        .await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    let status = bed.until("x", "False", "DeadlineExceeded").await;
    let left = bed.count(VICTIM).await;
    assert!(left > 0);
    assert_eq!(acknowledged(&status), 1200 - left);
    bed.until_event("x", "DeadlineExceeded").await;
    operator.stop().await;
}

/// In real time, in which another attempt is minutes away.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_comes_while_a_failed_job_waits_ends_it_in_time() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator_with(|options, _| options.clock = Clock::system());
    bed.faults
        .set(|settings| settings.denied = vec!["DescribeTable".to_owned()]);
    let mut spec = bed.spec();
    spec.active_deadline_seconds = Some(3);
    bed.create("x", spec).await;
    bed.until("x", "False", "DeadlineExceeded").await;
    bed.until_event("x", "AccessDenied").await;
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_does_not_count_a_suspension() {
    let bed = Bed::new(server().await, 1000).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 100);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": { "suspend": true } })).await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    let resting = bed.until_condition("x", "Suspended", "True", "Suspended").await;
    let begun = resting.start_time.unwrap().0;
    let elapsed = eventually("time passes", async || {
        let elapsed = bed.clock.now().duration_since(begun).as_secs();
        if elapsed >= 600 {
            Ok(elapsed)
        } else {
            Err(elapsed.to_string())
        }
    })
    .await;
    // Counted from the beginning it would be over.
    bed.patch(
        "x",
        json!({ "spec": { "suspend": false, "activeDeadlineSeconds": elapsed } }),
    )
    .await;
    let status = bed.until("x", "True", "PartitionEmpty").await;
    assert!(status.start_time.unwrap().0 > begun);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_time_has_passed_never_begins() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    let mut spec = bed.spec();
    spec.not_after = Some(Time("2020-01-01T00:00:00Z".parse().unwrap()));
    bed.create("x", spec).await;
    let status = bed.until("x", "False", "Expired").await;
    assert!(message(&status).contains("notAfter"));
    bed.until_event("x", "Expired").await;
    assert_eq!(bed.proxy.audit().total(), 0);
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_publishes_the_plan_and_writes_nothing() {
    for server in servers().await {
        let bed = Bed::new(server, 500).await;
        let operator = bed.operator();
        let mut spec = bed.spec();
        spec.mode = RunMode::DryRun;
        bed.create("x", spec).await;
        let plan = bed.until("x", "True", "DryRunCompleted").await.plan.unwrap();
        assert_eq!((plan.items, plan.complete), (500, true));
        assert!(plan.wcu_min >= 500 && plan.wcu_max >= plan.wcu_min && plan.bytes > 0);
        bed.until_event("x", "DryRunCompleted").await;
        assert_eq!(bed.proxy.audit().count("DynamoDB BatchWriteItem"), 0);
        assert_eq!(bed.counts().await, (500, BYSTANDERS));
        // It forbids no later deletion under the same name.
        bed.delete("x").await;
        bed.until_gone("x").await;
        bed.create("x", bed.spec()).await;
        bed.until("x", "True", "PartitionEmpty").await;
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_above_a_limit_ends_the_job_before_anything_is_deleted() {
    let bed = Bed::new(server().await, 500).await;
    let operator = bed.operator();
    for (name, limits) in [
        ("items", json!({ "maxItems": 499 })),
        ("wcu", json!({ "maxWcuTotal": 499 })),
    ] {
        let mut spec = bed.spec();
        spec.limits = serde_json::from_value(limits).unwrap();
        bed.create(name, spec).await;
        let status = bed.until(name, "False", "LimitExceeded").await;
        assert!(message(&status).contains("limits."), "{}", message(&status));
        bed.until_event(name, "LimitExceeded").await;
    }
    assert_eq!(bed.counts().await, (500, BYSTANDERS));
    let mut spec = bed.spec();
    spec.limits = serde_json::from_value(json!({ "maxItems": 500, "maxWcuTotal": 10_000 })).unwrap();
    bed.create("enough", spec).await;
    bed.until("enough", "True", "PartitionEmpty").await;
    operator.stop().await;
}
