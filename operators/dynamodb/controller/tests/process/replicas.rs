//! Two replicas, one lease.

use std::time::Duration;

use jiff::Timestamp;
use testkit::{fault::proxy::Entry, progress};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, eventually, server},
    replica::{Replica, Start, elected, until_led},
};

const ITEMS: u64 = 3000;
const BATCHES: &str = "DynamoDB BatchWriteItem";
/// From the leader's death, or its leave, to the successor's first deletion: the lease, and preflight. How fast that is on
/// a machine with nothing else to do the framework's benchmark tells; here it may have a lot.
const TAKEOVER: Duration = Duration::from_mins(1);
/// The same after a leader that said good-bye. Without a word from it, it would be longer: so long is a tolerant lease.
const HANDOVER: Duration = Duration::from_secs(50);

struct Pair {
    bed: Bed,
    leader: Replica,
    standby: Replica,
}

impl Pair {
    /// A leader at work and a standby, with a lease that expires soon or not so soon.
    async fn new(fast: bool) -> Self {
        let bed = Bed::new(server().await, ITEMS).await;
        let mut flags = elected(bed.namespace.name());
        if !fast {
            flags.retain(|flag| !flag.contains("preset"));
            flags.push("--leader-elect-preset=tolerant".to_owned());
        }
        let start = |user| Start {
            user,
            flags: flags.clone(),
            ..Start::default()
        };
        let leader = Replica::start(&bed, start("replica-one"));
        until_led(&bed, &leader).await;
        let standby = Replica::start(&bed, start("replica-two"));
        standby.until_ready().await;
        let mut spec = bed.spec();
        spec.max_wcu_per_second = Some(500);
        bed.create("x", spec).await;
        Self { bed, leader, standby }
    }

    /// Waits until the proxy has seen so many requests.
    async fn until_asked(&self, least: u64) {
        eventually("the leader does not work", async || {
            let asked = self.bed.proxy.audit().total();
            if asked >= least {
                Ok(())
            } else {
                Err(self.leader.log())
            }
        })
        .await;
    }

    fn batches_since(&self, moment: Timestamp) -> Vec<Entry> {
        let mut entries = self.bed.proxy.audit().since(0);
        entries.retain(|entry| entry.at > moment && &*entry.operation == BATCHES);
        entries
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_leaders_death_the_other_finishes_within_seconds() {
    let mut pair = Pair::new(true).await;
    pair.until_asked(20).await;
    pair.leader.kill();
    let died = Timestamp::now();
    assert!(pair.bed.count(VICTIM).await > 0, "it had finished already");
    pair.bed.until("x", "True", "PartitionEmpty").await;
    let first = pair
        .batches_since(died)
        .first()
        .map(|entry| entry.at.duration_since(died));
    let took = first.expect("the successor deleted something").unsigned_abs();
    progress::line(&format!("first deletion {took:?} after the leader's death"));
    assert!(took < TAKEOVER, "{took:?}");
    assert_eq!(pair.bed.counts().await, (0, BYSTANDERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_leader_hands_over_at_once() {
    let mut pair = Pair::new(false).await;
    pair.until_asked(20).await;
    pair.leader.signal("TERM");
    assert!(pair.leader.ended().await, "{}", pair.leader.log());
    let left = Timestamp::now();
    pair.bed.until("x", "True", "PartitionEmpty").await;
    let first = pair
        .batches_since(left)
        .first()
        .map(|entry| entry.at.duration_since(left));
    let took = first.expect("the successor deleted something").unsigned_abs();
    progress::line(&format!("first deletion {took:?} after the leader left"));
    assert!(took < HANDOVER, "{took:?}");
    assert_eq!(pair.bed.counts().await, (0, BYSTANDERS));
}
