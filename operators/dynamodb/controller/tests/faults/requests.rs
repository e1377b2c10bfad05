//! One request fails, whichever, in every way that servers and networks have.

use std::{sync::Arc, time::Duration};

use testkit::fault::{Fault, Schedule, schedule::Which};

use crate::bed::Bed;
use crate::world::{
    SITES, check, check_bounded, full, harness, kubernetes_only, reached_every_site, run, world,
};

/// The long loops try every request, the short ones every fourth: that every single one may fail is shown by those that
/// are lost.
fn stride() -> u64 {
    if full() { 1 } else { 4 }
}

/// One life, of which one request is disturbed.
async fn once(world: Arc<Bed>) -> anyhow::Result<()> {
    check_bounded(world, 1).await
}

/// Longer than a round takes, shorter than the operator's patience.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_late_does_no_harm_whichever_it_is() {
    let late = Fault::Delay(Duration::from_secs(5));
    let report = harness("delay at every request")
        .stride(stride())
        .fault_at_every_request(late, world, run, once)
        .await
        .unwrap();
    reached_every_site(&report);
    assert!(report.injected > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_any_request_does_no_harm() {
    let report = harness("lost response at every request")
        .fault_at_every_request(Fault::Lose, world, run, once)
        .await
        .unwrap();
    reached_every_site(&report);
    assert!(
        report.injected >= SITES.len(),
        "each kind of request was lost once: {report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_or_a_throttle_at_any_request_does_no_harm() {
    let failures = [
        ("500", Fault::status(500)),
        ("429", Fault::throttle(1)),
        (
            "504 although applied",
            Fault::Status {
                code: 504,
                retry_after: None,
                applied: true,
            },
        ),
    ];
    for (name, fault) in failures {
        let report = harness(&format!("{name} at every request"))
            .stride(stride())
            .fault_at_every_request(fault, world, run, once)
            .await
            .unwrap();
        reached_every_site(&report);
    }
}

/// DynamoDB knows no such answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_at_any_request_to_kubernetes_does_no_harm() {
    let report = harness("409 at every request to Kubernetes")
        .base(kubernetes_only())
        .stride(stride())
        .fault_at_every_request(Fault::status(409), world, run, once)
        .await
        .unwrap();
    assert!(report.sites.iter().all(|site| !site.starts_with("DynamoDB")) && report.injected > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_the_past_and_watches_that_end_do_no_harm() {
    let watch = "WATCH ddbctldpjobs";
    let schedules = [
        Schedule::default().at(watch, Which::Every, Fault::DropWatch(0)),
        Schedule::default().at(watch, Which::Nth(1), Fault::DropWatch(1)),
        Schedule::default()
            .at(watch, Which::Nth(1), Fault::DropWatch(2))
            .at("LIST ddbctldpjobs", Which::From(2), Fault::StaleList),
        Schedule::default()
            .at(watch, Which::From(1), Fault::status(410))
            .at("LIST ddbctldpjobs", Which::From(2), Fault::StaleList),
    ];
    let report = harness("stale lists and dropped watches")
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    reached_every_site(&report);
    assert!(report.injected > 4, "watches end and lists are stale: {report}");
}

/// A hang lasts as long as the operator's patience, which is real time: only DynamoDB's share is tried by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_never_answered_is_given_up_and_sent_again() {
    let mut sites = vec![
        "DynamoDB DescribeTable",
        "DynamoDB Query",
        "DynamoDB BatchWriteItem",
    ];
    if full() {
        sites.extend([
            "PATCH ddbctldpjobs",
            "PATCH ddbctldpjobs/status",
            "POST configmaps",
        ]);
    }
    let schedules: Vec<_> = sites
        .iter()
        .map(|site| Schedule::default().at(site, Which::Nth(1), Fault::Hang))
        .collect();
    let plans = schedules.len();
    let report = harness("hangs")
        .parallel(plans)
        .deadline(Duration::from_secs(180))
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    reached_every_site(&report);
    assert_eq!(report.injected, plans, "each plan has its hang: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_drawn_from_a_seed_do_no_harm() {
    let seeds = if full() { 1000 } else { 8 };
    let schedules = (0..seeds).map(|seed| {
        let often = 100 + u32::try_from(seed % 4).unwrap() * 75;
        Schedule::default().seeded(seed, often, 3)
    });
    let report = harness("seeded faults")
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    reached_every_site(&report);
    // A tenth of all requests at the least is disturbed by the mildest of the seeds.
    assert!(report.injected as u64 >= report.requests / 10, "{report}");
}
