//! A job at rest costs nothing.

use std::time::Duration;

use dynamodb_api::RunMode;
use dynamodb_controller::manager;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use testkit::audit::Filter;

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, eventually, server},
    operator::Operator,
};

const RESYNCS: f64 = 50.0;

/// Waits for so many passes more.
async fn passes(operator: &Operator, wanted: f64) {
    let passes = || operator.counter(&["controller_runtime_reconcile_total", "ddbctldpjob"]);
    let first = passes();
    eventually("resyncs are passing by", async || {
        let done = passes() - first;
        if done >= wanted {
            Ok(())
        } else {
            Err(done.to_string())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_resyncs_of_converged_jobs_write_nothing_and_ask_nothing_of_dynamodb() {
    let bed = Bed::new(server().await, 200).await;
    let operator = bed.operator_with(|options, _| options.sync_period = Duration::from_secs(10));
    let mut spec = bed.spec();
    spec.mode = RunMode::DryRun;
    bed.create("measured", spec).await;
    bed.until("measured", "True", "DryRunCompleted").await;
    bed.create("done", bed.spec()).await;
    bed.until("done", "True", "PartitionEmpty").await;
    let mut spec = bed.spec();
    spec.table_name = Some("no-such-table".into());
    bed.create("failed", spec).await;
    bed.until("failed", "False", "TableNotFound").await;
    let mut spec = bed.spec();
    spec.not_after = Some(Time("2020-01-01T00:00:00Z".parse().unwrap()));
    bed.create("expired", spec).await;
    bed.until("expired", "False", "Expired").await;
    let mut spec = bed.spec();
    spec.suspend = true;
    bed.create("resting", spec).await;
    bed.until_condition("resting", "Suspended", "True", "Suspended")
        .await;
    let mut spec = bed.spec();
    spec.cancel = true;
    bed.create("cancelled", spec).await;
    bed.until("cancelled", "False", "Cancelled").await;
    // It has to delete something to be remembered.
    bed.fill(VICTIM, 0..40).await;
    bed.create("again", bed.spec()).await;
    bed.until("again", "True", "PartitionEmpty").await;
    bed.delete("again").await;
    bed.until_gone("again").await;
    bed.create("again", bed.spec()).await;
    bed.until("again", "False", "AlreadyRan").await;
    for (name, reason) in [
        ("done", "PartitionEmpty"),
        ("cancelled", "Cancelled"),
        ("again", "AlreadyRan"),
        ("failed", "TableNotFound"),
        ("resting", "Suspended"),
    ] {
        bed.until_event(name, reason).await;
    }

    let client = bed.plane.client();
    let begin = bed.plane.audit().settle(&client).await.unwrap();
    let asked = bed.proxy.audit().total();
    passes(&operator, RESYNCS * 7.0).await;
    let ours = Filter::all()
        .user_agent(manager::NAME)
        .namespace(bed.namespace.name());
    let mut calls = bed.plane.audit().query(&client, begin, &ours).await.unwrap();
    // A watch that the server ended begins anew.
    calls.retain(|call| call.verb != "watch");
    assert!(calls.is_empty(), "{calls:?}");
    assert_eq!(bed.proxy.audit().total(), asked);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_job_that_is_denied_stays_as_it_is_as_often_as_it_is_tried_again() {
    let bed = Bed::new(server().await, 50).await;
    bed.faults
        .set(|settings| settings.denied = vec!["DescribeTable".to_owned()]);
    let operator = bed.operator_with(|options, _| options.sync_period = Duration::from_secs(10));
    bed.create("denied", bed.spec()).await;
    let mut spec = bed.spec();
    spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "missing" } })).unwrap();
    bed.create("lacking", spec).await;
    for (name, reason) in [("denied", "AccessDenied"), ("lacking", "CredentialsMissing")] {
        bed.until(name, "Unknown", reason).await;
        bed.until_event(name, reason).await;
    }
    let client = bed.plane.client();
    let begin = bed.plane.audit().settle(&client).await.unwrap();
    let asked = bed.proxy.audit().total();
    passes(&operator, RESYNCS * 2.0).await;
    eventually("it is tried again", async || match bed.proxy.audit().total() {
        total if total > asked => Ok(()),
        total => Err(total.to_string()),
    })
    .await;
    let ours = Filter::writes()
        .user_agent(manager::NAME)
        .namespace(bed.namespace.name());
    let mut writes = bed.plane.audit().query(&client, begin, &ours).await.unwrap();
    // The event of a failure counts how often it has come, less and less often.
    writes.retain(|write| write.object_ref.as_ref().is_none_or(|of| of.resource != "events"));
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    operator.stop().await;
}

/// It gets past the look at the table each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_not_read_shows_nothing_but_that() {
    let bed = Bed::new(server().await, 50).await;
    bed.faults
        .set(|settings| settings.denied = vec!["Query".to_owned()]);
    let operator = bed.operator_with(|options, _| options.sync_period = Duration::from_secs(10));
    bed.create("x", bed.spec()).await;
    bed.until("x", "Unknown", "AccessDenied").await;
    bed.until_event("x", "AccessDenied").await;
    let asked = || bed.proxy.audit().count("DynamoDB Query");
    let first = asked();
    eventually("it is tried again", async || {
        let status = bed.status("x").await;
        let shown = reconcile::conditions::find(&status.conditions, "Succeeded").map(|c| c.reason.clone());
        assert_eq!(shown.as_deref(), Some("AccessDenied"));
        match asked() {
            now if now >= first + 6 => Ok(()),
            now => Err(now.to_string()),
        }
    })
    .await;
    operator.stop().await;
}
