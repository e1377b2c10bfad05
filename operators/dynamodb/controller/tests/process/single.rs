//! One process: killed, terminated, and whose credentials it uses.

use std::time::{Duration, Instant};

use testkit::dynamodb::Server;

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, acknowledged, eventually, server},
    replica::{Replica, Start},
};

const ITEMS: u64 = 1500;
const BATCHES: &str = "DynamoDB BatchWriteItem";

/// A bed with a job that takes a few seconds.
async fn bed(server: Server) -> Bed {
    let bed = Bed::new(server, ITEMS).await;
    let mut spec = bed.spec();
    spec.max_wcu_per_second = Some(400);
    bed.create("x", spec).await;
    bed
}

/// Waits until so many requests have deleted something.
async fn until_batches(bed: &Bed, least: u64) {
    eventually("nothing is being deleted", async || {
        let sent = bed.proxy.audit().count(BATCHES);
        if sent >= least {
            Ok(())
        } else {
            Err(sent.to_string())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_is_followed_by_one_that_finishes() {
    let bed = bed(server().await).await;
    for kill in 1..=3 {
        let mut replica = Replica::start(&bed, Start::default());
        until_batches(&bed, kill * 8).await;
        replica.kill();
    }
    assert!(bed.count(VICTIM).await > 0, "it had finished already");
    let _last = Replica::start(&bed, Start::default());
    let status = bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    assert_eq!(
        status.plan.unwrap().items,
        i64::try_from(ITEMS).unwrap(),
        "the plan is of the beginning"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_operator_awaits_what_is_in_flight_and_ends_well_and_in_time() {
    let bed = bed(server().await).await;
    let mut replica = Replica::start(&bed, Start::default());
    until_batches(&bed, 8).await;
    replica.signal("TERM");
    let told = Instant::now();
    assert!(replica.ended().await, "{}", replica.log());
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    let (sent, left) = (bed.proxy.audit().total(), bed.count(VICTIM).await);
    assert!(left > 0, "it had finished already");
    let _next = Replica::start(&bed, Start::default());
    let status = bed.until("x", "True", "PartitionEmpty").await;
    assert!(bed.proxy.audit().total() > sent);
    assert!(acknowledged(&status) >= left);
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_identity_is_not_shown_to_a_host_that_is_not_aws() {
    let bed = bed(server().await).await;
    let _replica = Replica::start(&bed, Start::default());
    bed.until("x", "True", "PartitionEmpty").await;
    let signers: Vec<_> = bed.proxy.audit().signers().into_keys().collect();
    assert_eq!(signers, ["local"]);
}
