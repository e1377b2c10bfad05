//! With faults: nothing is lost, nothing is claimed that is not so, and it ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use dynamodb_api::Reason;
use dynamodb_controller::partition::{Bottleneck, End, Engine, Request, Tuning};
use reconcile::Class;
use serde_json::json;
use testkit::{
    dynamodb::{
        KeyType,
        faults::{Hook, Limit, Throttle},
    },
    fault::{Fault, Schedule, schedule::Which},
};

use crate::bed::{Bed, TENANT};

pub(crate) const WRITE: &str = "DynamoDB BatchWriteItem";

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_the_keys_unprocessed_is_sent_again_within_the_same_pass() {
    let faulty = Bed::orders(4000)
        .await
        .faulty(Schedule::default(), |faults| faults.unprocessed = 20);
    let finished = faulty.run(faulty.bed.request()).await.unwrap();
    assert_eq!(
        (finished.end, finished.rounds),
        (End::Empty, 1),
        "the second pass would be for what was forgotten"
    );
    assert_eq!(finished.totals.keys_acknowledged, 4000);
    assert!(finished.totals.unprocessed_retries > 400, "{:?}", finished.totals);
    assert_eq!(faulty.bed.left().await, 0);
    faulty.bed.others_are_untouched().await;
    let batches = faulty.proxy.audit().count(WRITE);
    // What is sent in all, in whole batches. More of them are half empty: what came back may not have to wait for more.
    // The clock runs on while the machine is busy, so the bound only catches keys that are sent one by one.
    let least = (4000 + finished.totals.unprocessed_retries) / 25;
    println!("{batches} batches instead of {least}");
    assert!(
        batches as u64 <= least * 5 / 2,
        "{batches} batches instead of {least}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_batches_refused_slow_the_run_down_and_name_the_bottleneck() {
    let faulty = Bed::orders(600).await.faulty(Schedule::default(), |faults| {
        faults.throttle = Some(Throttle {
            percent: 30,
            on_demand: false,
            reason: "IndexWriteProvisionedThroughputExceeded",
            index: Some("byStatus".into()),
        });
    });
    let control = faulty.bed.control();
    let mut progress = control.progress.subscribe();
    let (client, engine) = (faulty.client(), Engine::default());
    let run = engine.delete_partition(&client, faulty.bed.request(), control);
    // The value itself would stay locked while it is held.
    let seen = async {
        let by_index = Some(Bottleneck::Index("byStatus".into()));
        progress
            .wait_for(|progress| progress.bottleneck == by_index)
            .await
            .is_ok_and(|seen| seen.throttled)
    };
    let (finished, seen) = tokio::join!(run, seen);
    let finished = finished.unwrap();
    assert!(seen);
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert!(finished.totals.throttles > 0);
    assert_eq!(faulty.bed.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_range_does_not_hold_up_the_others_nor_lose_a_key() {
    let boundaries = (1..4)
        .map(|part| json!({"S": format!("{:012}", part * 500)}))
        .collect();
    let faulty = Bed::orders(2000).await.faulty(Schedule::default(), |faults| {
        faults.limits = vec![Limit::ranges("Orders", "sk", boundaries, 100.0)];
    });
    let finished = faulty.run(faulty.bed.request()).await.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(finished.totals.keys_acknowledged, 2000);
    assert_eq!(faulty.bed.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_failures_and_hangs_lose_nothing() {
    let schedule = Schedule::default()
        .at(WRITE, Which::Nth(2), Fault::Lose)
        .at(WRITE, Which::Nth(3), Fault::Refuse)
        .at(WRITE, Which::Nth(5), Fault::status(500))
        .at(WRITE, Which::Nth(6), Fault::status(504))
        .at(
            WRITE,
            Which::Nth(8),
            Fault::Status {
                code: 503,
                retry_after: None,
                applied: true,
            },
        )
        .at("DynamoDB Query", Which::Nth(4), Fault::Lose)
        .at("DynamoDB Query", Which::Nth(6), Fault::status(500));
    let faulty = Bed::orders(2000).await.faulty(schedule, |_| {});
    let finished = faulty.run(faulty.bed.request()).await.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(faulty.bed.left().await, 0);
    faulty.bed.others_are_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_given_up_is_taken_up_where_everything_before_is_acknowledged() {
    // One range, one batch at a time; then a storm that ends the round, with keys read and not acknowledged.
    let mut schedule = Schedule::default();
    for number in 10..30 {
        schedule = schedule.at(WRITE, Which::Nth(number), Fault::Refuse);
    }
    let faulty = Bed::orders(900).await.faulty(schedule, |_| {});
    let tuning = Tuning {
        max_in_flight: 1,
        max_segments: 1,
        page_keys: 100,
        ..Tuning::default()
    };
    let finished = faulty
        .run(Request {
            tuning,
            ..faulty.bed.request()
        })
        .await
        .unwrap();
    assert_eq!(
        (finished.end, finished.rounds),
        (End::Empty, 2),
        "a third pass would be for what was skipped"
    );
    assert_eq!(finished.totals.keys_acknowledged, 900);
    assert!(
        finished.totals.keys_read <= 900 + 3 * 100,
        "little is read again: {:?}",
        finished.totals
    );
    assert_eq!(faulty.bed.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_ends_in_backoff_limit_exceeded_and_says_why() {
    let schedule = Schedule::default().at(WRITE, Which::From(1), Fault::status(500));
    let faulty = Bed::orders(50).await.faulty(schedule, |_| {});
    let failure = faulty
        .run(Request {
            backoff_limit: 1,
            ..faulty.bed.request()
        })
        .await
        .unwrap_err();
    assert_eq!(failure.reason, Reason::BackoffLimitExceeded, "{failure}");
    assert!(failure.message.contains("BatchWriteItem"), "{failure}");
    assert_eq!(faulty.bed.left().await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_somebody_fills_is_never_called_empty() {
    let bed = Bed::orders(200).await;
    let client = bed.server.client();
    // New items appear behind the reader, once.
    let refill: Hook = Arc::new(move || {
        let client = client.clone();
        Box::pin(async move {
            for number in 0..30 {
                let put = client
                    .put_item()
                    .table_name("Orders")
                    .item("pk", KeyType::S.value(TENANT))
                    .item("sk", KeyType::S.value(number));
                let _ = put.send().await;
            }
        })
    });
    let faulty = bed.faulty(Schedule::default(), |faults| faults.hooks = vec![(200, refill)]);
    let finished = faulty.run(faulty.bed.request()).await.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 2));
    assert_eq!(faulty.bed.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_reads_cause_no_second_pass() {
    let faulty = Bed::orders(600).await.faulty(Schedule::default(), |faults| {
        faults.stale = Duration::from_secs(60);
    });
    let finished = faulty.run(faulty.bed.request()).await.unwrap();
    assert_eq!(
        (finished.end, finished.rounds),
        (End::Empty, 1),
        "only a consistent read decides"
    );
    assert_eq!(faulty.bed.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_again_under_the_same_name_is_left_alone() {
    let bed = Bed::orders(100).await;
    let pinned = bed.table_id().await;
    let (server, table) = (bed.server.clone(), bed.table.clone());
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let replace: Hook = Arc::new(move || {
        let (server, table, flag) = (server.clone(), table.clone(), Arc::clone(&flag));
        Box::pin(async move {
            let recreated = server.recreate_table(&table).await.is_ok();
            flag.store(recreated, Ordering::SeqCst);
        })
    });
    let faulty = bed.faulty(Schedule::default(), |faults| faults.hooks = vec![(100, replace)]);
    let failure = faulty.run(faulty.bed.request()).await.unwrap_err();
    assert!(done.load(Ordering::SeqCst), "the table was not made again");
    // Between the two tables there is a moment without any.
    assert!(
        matches!(failure.reason, Reason::TableReplaced | Reason::TableNotFound),
        "{failure}"
    );
    // Another run of the same job, for which the id is pinned, leaves the new table alone as well.
    faulty.bed.fill(TENANT, 10).await;
    let again = Request {
        table_id: Some(pinned),
        ..faulty.bed.request()
    };
    assert_eq!(faulty.run(again).await.unwrap_err().reason, Reason::TableReplaced);
    assert_eq!(faulty.bed.left().await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_and_expired_credentials_are_told_apart_and_keep_what_was_done() {
    let denied = Bed::orders(100).await.faulty(Schedule::default(), |faults| {
        faults.denied = vec!["BatchWriteItem".into()];
    });
    let failure = denied.run(denied.bed.request()).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.class),
        (Reason::AccessDenied, Class::Denied)
    );
    assert!(failure.message.contains("dynamodb:BatchWriteItem"), "{failure}");
    assert_eq!(denied.bed.left().await, 100);

    let expired = Bed::orders(3000)
        .await
        .faulty(Schedule::default(), |faults| faults.expire_after = Some(30));
    let failure = expired.run(expired.bed.request()).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.class),
        (Reason::CredentialsInvalid, Class::Denied)
    );
    expired.faults.set(|faults| faults.expire_after = None);
    assert_eq!(expired.run(expired.bed.request()).await.unwrap().end, End::Empty);
    assert_eq!(expired.bed.left().await, 0);
}
