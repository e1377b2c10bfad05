//! A job at rest costs nothing.

use std::time::Duration;

use dynamodb_api::RunMode;
use dynamodb_controller::manager;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use testkit::audit::Filter;

use crate::bed::{Bed, eventually, server};

const RESYNCS: f64 = 50.0;

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
    for (name, reason) in [
        ("done", "PartitionEmpty"),
        ("failed", "TableNotFound"),
        ("resting", "Suspended"),
    ] {
        bed.until_event(name, reason).await;
    }

    let client = bed.plane.client();
    let begin = bed.plane.audit().settle(&client).await.unwrap();
    let asked = bed.proxy.audit().total();
    let passes = || operator.counter(&["controller_runtime_reconcile_total", "ddbctldpjob"]);
    let first = passes();
    eventually("50 resyncs of 5 jobs", async || {
        let done = passes() - first;
        if done >= RESYNCS * 5.0 {
            Ok(())
        } else {
            Err(done.to_string())
        }
    })
    .await;
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
