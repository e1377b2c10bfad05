//! Steering a run: cancel, resume, fence, limits that change, many runs at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dynamodb_controller::partition::{Control, End, Engine, Finished, Request, Tuning};
use reconcile::clock::Clock;
use testkit::fault::Schedule;
use tokio::sync::watch;

use crate::bed::{Bed, Faulty, SPEED};

/// A control whose progress is watched.
fn watched(bed: &Bed) -> (Control, watch::Receiver<dynamodb_controller::partition::Progress>) {
    let control = bed.control();
    let progress = control.progress.subscribe();
    (control, progress)
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_awaits_what_is_in_flight_and_another_run_finishes() {
    let faulty = Bed::orders(5000)
        .await
        .delayed(Duration::from_millis(5), Schedule::default(), |_| {});
    let (control, mut progress) = watched(&faulty.bed);
    let (client, engine, cancel) = (faulty.client(), Engine::default(), control.cancel.clone());
    let run = engine.delete_partition(&client, faulty.bed.request(), control);
    let steer = async {
        progress
            .wait_for(|progress| progress.totals.keys_acknowledged > 200)
            .await
            .unwrap();
        cancel.cancel();
    };
    let (finished, ()) = tokio::join!(run, steer);
    let first = finished.unwrap();
    assert_eq!(first.end, End::Interrupted);
    let requests = faulty.proxy.audit().total();
    let left = faulty.bed.left().await;
    assert_eq!(
        first.totals.keys_acknowledged,
        5000 - left,
        "what was in flight is accounted for"
    );
    assert!(left > 0, "cancelled too late to show anything");
    assert_eq!(
        faulty.proxy.audit().total(),
        requests,
        "nothing is sent after the run returned"
    );
    let again = Request {
        earlier: first.totals,
        ..faulty.bed.request()
    };
    let second = faulty.run(again).await.unwrap();
    assert_eq!((second.end, second.totals.keys_acknowledged), (End::Empty, 5000));
    assert_eq!(faulty.bed.left().await, 0);
    faulty.bed.others_are_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_once_the_fence_is_closed() {
    let faulty = Bed::orders(3000).await.faulty(Schedule::default(), |_| {});
    let finished = fenced_after(&faulty, 20).await;
    // Each is asked for twice.
    let writes = faulty.proxy.audit().count(crate::faults::WRITE);
    assert!((1..=10).contains(&writes), "{writes}");
    assert_eq!(faulty.bed.left().await, 3000 - finished.totals.keys_acknowledged);
}

/// As after a freeze between the decision to send and the connection's being made.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_decided_on_before_the_fence_closed_does_not_leave_after_it() {
    // One batch.
    let faulty = Bed::orders(20).await.faulty(Schedule::default(), |_| {});
    let finished = fenced_after(&faulty, 1).await;
    assert_eq!(faulty.proxy.audit().count(crate::faults::WRITE), 0);
    assert_eq!(
        (finished.totals.keys_acknowledged, faulty.bed.left().await),
        (0, 20)
    );
}

/// A run whose fence is found open this many times.
async fn fenced_after(faulty: &Faulty, open: u64) -> Finished {
    let asked = AtomicU64::new(0);
    let control = Control {
        fence: Arc::new(move || asked.fetch_add(1, Ordering::SeqCst) < open),
        ..faulty.bed.control()
    };
    let client = faulty.client();
    let finished = Engine::default()
        .delete_partition(&client, faulty.bed.request(), control)
        .await
        .unwrap();
    assert_eq!(finished.end, End::Interrupted);
    finished
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_capacity_is_kept_and_can_be_lifted_in_mid_run() {
    let bed = Bed::orders(2000).await;
    let (limit, max_wcu) = watch::channel(Some(400));
    let (control, mut progress) = watched(&bed);
    let control = Control { max_wcu, ..control };
    let clock = bed.clock.clone();
    let (client, engine) = (bed.client(), Engine::default());
    let run = engine.delete_partition(&client, bed.request(), control);
    let steer = async {
        let begun = clock.elapsed();
        progress
            .wait_for(|progress| progress.totals.keys_acknowledged >= 1000)
            .await
            .unwrap();
        let took = clock.elapsed().checked_sub(begun).unwrap();
        assert!(
            took >= Duration::from_secs(2),
            "1,000 WCU at 400 per second took {took:?}"
        );
        limit.send_replace(None);
        clock.elapsed()
    };
    let (finished, lifted) = tokio::join!(run, steer);
    assert_eq!(finished.unwrap().end, End::Empty);
    // The rest would have taken another 2.5 s; in real time that is a fraction of what a busy machine may need.
    let rest = bed.clock.elapsed().saturating_sub(lifted) / SPEED;
    assert!(rest < Duration::from_secs(20), "{rest:?}");
    assert_eq!(bed.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_share_few_slots_and_all_finish() {
    let bed = Bed::orders(0).await;
    let tenants = 100..140u64;
    for tenant in tenants.clone() {
        bed.fill(tenant, 300).await;
    }
    let engine = Engine::with_slots(4);
    let runs = tenants.map(|tenant| {
        let request = Request {
            partition_value: format!("{tenant:012}"),
            tuning: Tuning {
                page_keys: 20,
                ..Tuning::default()
            },
            ..bed.request()
        };
        // In real time a turn is long enough to delete what was read.
        let control = Control::unattended(Clock::system());
        let (engine, client) = (engine.clone(), bed.client());
        async move { engine.delete_partition(&client, request, control).await }
    });
    for finished in futures::future::join_all(runs).await {
        let finished = finished.unwrap();
        assert_eq!(
            (finished.end, finished.rounds, finished.totals.keys_read),
            (End::Empty, 1, 300)
        );
    }
    bed.others_are_untouched().await;
}

#[tokio::test]
async fn a_run_that_knows_its_plan_does_not_measure_again() {
    let faulty = Bed::orders(4000).await.faulty(Schedule::default(), |_| {});
    let prepared = Engine::default()
        .prepare(&faulty.client(), faulty.bed.request(), faulty.bed.control())
        .await
        .unwrap();
    let request = Request {
        plan: prepared.plan().cloned(),
        table_id: Some(prepared.table().id.clone()),
        ..faulty.bed.request()
    };
    let before = faulty.proxy.audit().count("DynamoDB Query");
    let again = Engine::default()
        .prepare(&faulty.client(), request, faulty.bed.control())
        .await
        .unwrap();
    assert_eq!(
        faulty.proxy.audit().count("DynamoDB Query") - before,
        2,
        "only both ends are read"
    );
    assert_eq!(again.execute().await.unwrap().end, End::Empty);
    assert_eq!(faulty.bed.left().await, 0);
}
