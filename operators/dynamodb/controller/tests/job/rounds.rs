//! Rounds that delete nothing, counted whoever runs them.

use reconcile::{clock::Clock, conditions};
use testkit::{
    dynamodb::KeyType,
    fault::{Fault, FaultPlan, Schedule, schedule::Which},
};

use crate::bed::{BYSTANDERS, Bed, acknowledged, eventually, message, server};

const BATCHES: &str = "DynamoDB BatchWriteItem";
const LIMIT: i32 = 4;

/// Slow enough that a life of the operator ends between two rounds.
const SPEED: u32 = 10;

/// Rounds without a deletion, and whether the job has ended.
async fn rounds(bed: &Bed) -> (i64, bool) {
    let status = bed.status("x").await;
    let ended = conditions::find(&status.conditions, "Succeeded").is_some_and(|c| c.status != "Unknown");
    let progress = status.progress.unwrap_or_default();
    (progress.idle_rounds.unwrap_or(0), ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_operator_does_not_forget_the_rounds_that_brought_nothing() {
    let broken = Schedule::default().at(BATCHES, Which::Every, Fault::status(500));
    let plan = FaultPlan::clocked(broken, Clock::accelerated(SPEED));
    let key = (KeyType::S, |table| table);
    let bed = Bed::planned(&plan, SPEED, server().await, 50, key).await;
    let mut spec = bed.spec();
    spec.backoff_limit = LIMIT;
    bed.create("x", spec).await;
    let (mut lives, mut counted) = (0, 0);
    // No life is long enough to reach the limit by itself.
    loop {
        let operator = bed.operator();
        lives += 1;
        let (now, ended) = eventually("no round ends", async || match rounds(&bed).await {
            (now, ended) if now > counted || ended => Ok((now, ended)),
            other => Err(format!("{other:?}")),
        })
        .await;
        operator.stop().await;
        if ended {
            break;
        }
        assert!(
            now - counted <= i64::from(LIMIT),
            "the job outlived its limit: {now} rounds"
        );
        counted = now;
    }
    assert!(lives > 1 && counted > 0, "the limit was reached in one life");
    let status = bed.until("x", "False", "BackoffLimitExceeded").await;
    let told = message(&status);
    assert!(
        told.contains("5 rounds in a row") && told.contains("`backoffLimit` is 4"),
        "{told}"
    );
    assert_eq!(acknowledged(&status), 0);
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
}
