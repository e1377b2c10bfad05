//! Two replicas, one lease.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::{Api, api::ListParams};
use testkit::{audit::Filter, fault::proxy::Entry};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, eventually, server},
    replica::{Replica, Start, elected},
};

const ITEMS: u64 = 3000;
const BATCHES: &str = "DynamoDB BatchWriteItem";
/// From the leader's death to the successor's first deletion: the lease, and preflight.
const TAKEOVER: Duration = Duration::from_secs(5);

struct Pair {
    bed: Bed,
    leader: Replica,
    standby: Replica,
}

impl Pair {
    /// A leader at work and a standby.
    async fn new() -> Self {
        let bed = Bed::new(server().await, ITEMS).await;
        let start = |user| Start {
            user,
            flags: elected(bed.namespace.name()),
            ..Start::default()
        };
        let leader = Replica::start(&bed, start("replica-one"));
        let leases: Api<Lease> = Api::namespaced(bed.plane.client(), bed.namespace.name());
        eventually("nobody leads", async || {
            let all = leases.list(&ListParams::default()).await.unwrap().items;
            let held = all.iter().any(|lease| {
                let holder = lease
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.holder_identity.as_deref());
                holder.is_some_and(|holder| !holder.is_empty())
            });
            if held { Ok(()) } else { Err(leader.log()) }
        })
        .await;
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

    /// How many events tell that somebody no longer leads.
    async fn farewells(&self) -> usize {
        let events: Api<Event> = Api::namespaced(self.bed.plane.client(), self.bed.namespace.name());
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let of_lease = |event: &&Event| {
            let kind = event
                .regarding
                .as_ref()
                .and_then(|regarding| regarding.kind.as_deref());
            kind == Some("Lease")
                && event
                    .note
                    .as_ref()
                    .is_some_and(|note| note.contains("stopped leading"))
        };
        events.iter().filter(of_lease).count()
    }

    /// Writes that a replica asked Kubernetes for after `moment`, leases included.
    async fn writes(&self, user: &str, moment: Timestamp) -> Vec<String> {
        let client = self.bed.plane.client();
        let theirs = Filter::all().username(user).namespace(self.bed.namespace.name());
        let mut events = self
            .bed
            .plane
            .audit()
            .query(&client, testkit::audit::Position::default(), &theirs)
            .await
            .unwrap();
        // One that had arrived in part before the freeze is not one that began after it.
        events.retain(|event| event.received > moment && event.is_write() && event.code() < 400);
        events
            .iter()
            .map(|event| format!("{} {} at {}", event.verb, event.uri, event.received))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_leaders_death_the_other_finishes_within_seconds() {
    let mut pair = Pair::new().await;
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
    eprintln!("first deletion {took:?} after the leader's death");
    assert!(took < TAKEOVER, "{took:?}");
    assert_eq!(pair.bed.counts().await, (0, BYSTANDERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_leader_hands_over_within_a_second_or_so() {
    let mut pair = Pair::new().await;
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
    eprintln!("first deletion {took:?} after the leader left");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(pair.bed.counts().await, (0, BYSTANDERS));
}

/// Frozen at several points: while it looks at the table, plans, records, deletes.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_thaws_after_its_deadline_deletes_nothing_and_writes_nothing() {
    let points: &[u64] = if std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1") {
        &[1, 2, 3, 4, 5, 6, 8, 12, 20, 40, 80]
    } else {
        &[1, 4, 20]
    };
    let frozen_at = |point: u64| async move {
        let mut pair = Pair::new().await;
        pair.until_asked(point).await;
        pair.leader.signal("STOP");
        pair.bed.until("x", "True", "PartitionEmpty").await;
        // What is written now belongs to whoever wrote it.
        pair.bed.fill(VICTIM, 0..200).await;
        let thawed = Timestamp::now();
        pair.leader.signal("CONT");
        assert!(
            !pair.leader.ended().await,
            "it ended as if all were well: {}",
            pair.leader.log()
        );
        let late = pair.batches_since(thawed);
        assert!(late.is_empty(), "frozen after {point} requests: {late:?}");
        // It says good-bye with an event about the lease, as client-go does; that is all.
        let farewells = pair.farewells().await;
        let mut writes = pair.writes(&pair.leader.user, thawed).await;
        writes.retain(|write| !write.starts_with("create /apis/events.k8s.io/") || farewells != 1);
        assert!(writes.is_empty(), "frozen after {point} requests: {writes:?}");
        assert_eq!(
            pair.bed.counts().await,
            (200, BYSTANDERS),
            "frozen after {point} requests"
        );
        assert!(
            pair.standby.log().contains("Reconciled"),
            "{}",
            pair.standby.log()
        );
    };
    let slots = Arc::new(tokio::sync::Semaphore::new(2));
    let runs = points.iter().map(|point| {
        let slots = slots.clone();
        async move {
            let _slot = slots.acquire().await.unwrap();
            frozen_at(*point).await;
        }
    });
    futures::future::join_all(runs).await;
}
