//! Two elected replicas, answers to both that get lost, and a leader that dies in the middle: the work passes from one
//! to the other once, and no effect comes twice.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, stream};
use testkit::{
    audit::Event,
    fault::{
        Fault, FaultPlan, Schedule,
        proxy::{Entry, Proxy},
        schedule::Which,
    },
};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, eventually, server},
    replica::{Replica, Start, elected, until_led},
    steps::Steps,
};

/// Twenty batches.
const ITEMS: u64 = 500;
/// Keys in a batch.
const BATCH: usize = 25;
/// Batches in flight at once, which a death may cost.
const IN_FLIGHT: usize = 16;
/// Batches after which the leader dies.
const LIVES: usize = 6;
/// Written after the job has succeeded, by somebody else.
const LATER: u64 = 200;
/// Scenes at the same time: most of it is waiting for a lease to expire.
const PARALLEL: usize = 2;
const USERS: [&str; 2] = ["replica-one", "replica-two"];

/// Requests whose answers get lost: all that change something, the lease's included, and what is read to decide.
const SITES: [&str; 7] = [
    "DynamoDB BatchWriteItem",
    "DynamoDB Query",
    "DynamoDB DescribeTable",
    "PATCH ddbctldpjobs",
    "PATCH ddbctldpjobs/status",
    "POST configmaps",
    "PUT leases",
];

/// Loses every third answer of each kind of request; which of three follows from the seed. A replica may lose any of
/// them, but not all in a row.
fn losses(seed: u64) -> FaultPlan {
    let numbers = (1..100).filter(|number| number % 3 == 1 + seed % 2);
    let every = numbers.flat_map(|number| SITES.map(|site| (site, number)));
    let schedule = every.fold(Schedule::default(), |schedule, (site, number)| {
        schedule.at(site, Which::Nth(number), Fault::Lose)
    });
    FaultPlan::new(schedule)
}

/// Two replicas, each behind a proxy before Kubernetes, and both behind one before DynamoDB.
struct Pair {
    bed: Bed,
    /// What reached Kubernetes, and what reached DynamoDB.
    steps: [Arc<Steps>; 2],
    lost: [FaultPlan; 3],
    leader: Replica,
    standby: Replica,
    proxies: [Proxy; 3],
}

impl Pair {
    async fn new(seed: u64) -> Self {
        let bed = Bed::new(server().await, ITEMS).await;
        let steps = [Steps::new(None), Steps::new(None)];
        let lost = [losses(seed), losses(seed + 1), losses(seed)];
        let before = |user: usize| steps[0].before_kubernetes(&bed, USERS[user], &lost[user]);
        let proxies = [before(0), before(1), steps[1].before_dynamodb(&bed, &lost[2])];
        // Not the fast preset: a machine that is busy for two seconds is to cost no lease here.
        let mut flags = elected(bed.namespace.name());
        flags.retain(|flag| !flag.contains("preset"));
        let replica = |user: usize| {
            let start = Start {
                user: USERS[user],
                flags: flags.clone(),
                kubernetes: Some(proxies[user].endpoint()),
                ..Start::default()
            };
            Replica::of(bed.plane, bed.namespace.name(), &proxies[2].endpoint(), start)
        };
        let leader = replica(0);
        until_led(&bed, &leader).await;
        let standby = replica(1);
        standby.until_ready().await;
        let mut spec = bed.spec();
        spec.endpoint_url = Some(proxies[2].endpoint());
        // Slow until the leader is dead, however late that is seen.
        spec.max_wcu_per_second = Some(20);
        bed.create("x", spec).await;
        Self {
            bed,
            steps,
            lost,
            leader,
            standby,
            proxies,
        }
    }

    /// Kills the leader once it has deleted something, however many of the answers it got.
    async fn kill(&mut self) {
        let (steps, leader) = (self.steps[1].clone(), &self.leader);
        eventually("the leader does not delete", async || {
            if steps.seen().len() >= LIVES {
                Ok(())
            } else {
                Err(leader.log())
            }
        })
        .await;
        self.leader.kill();
        assert!(self.bed.count(VICTIM).await > 0, "it had finished already");
        let faster = serde_json::json!({ "spec": { "maxWcuPerSecond": 500 } });
        self.bed.patch("x", faster).await;
    }

    /// What a replica asked of Kubernetes that changes something and was granted, leases and events apart.
    async fn writes(&self, replica: &Replica) -> Vec<Event> {
        let mut writes = replica.writes(&self.bed).await;
        writes.retain(|event| !["leases", "events"].contains(&resource(event)));
        writes
    }

    /// Every key was deleted, and sent again only if it was not known to be.
    fn each_key_is_deleted(&self) {
        let keys = self.steps[1].deleted();
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len() as u64, ITEMS);
        let lost = self.lost[2].injected();
        let batches = lost.iter().filter(|lost| lost.site.ends_with("BatchWriteItem"));
        let most = (batches.count() + IN_FLIGHT) * BATCH;
        let again = keys.len() - distinct.len();
        assert!(
            again <= most,
            "{again} keys were sent again, {most} may have been"
        );
    }

    /// What is not to be repeated was granted once, to either; and all of the leader's before all of its successor's.
    async fn no_effect_is_doubled(&self) {
        let [first, second] = [self.writes(&self.leader).await, self.writes(&self.standby).await];
        let (last, begin) = (first.last().unwrap(), second.first().unwrap());
        assert!(last.received < begin.received, "both acted: {last:?} {begin:?}");
        let (mut intents, mut records) = (first, second);
        intents.retain(|event| event.uri.contains("-intent"));
        records.retain(|event| resource(event) == "configmaps" && event.verb == "create");
        assert_eq!(records.len(), 1, "{records:?}");
        // One whose answer got lost is written again with what it said; never once something is deleted.
        let batch = |entry: &Entry| entry.operation.ends_with("BatchWriteItem");
        let begun = self.proxies[2].audit().since(0).into_iter().find(batch).unwrap();
        assert!(!intents.is_empty() && intents.iter().all(|intent| intent.received < begun.at));
    }
}

fn resource(event: &Event) -> &str {
    event.object_ref.as_ref().map_or("", |of| of.resource.as_str())
}

/// The sites whose answers got lost to either replica.
async fn scene(seed: u64) -> BTreeSet<String> {
    let mut pair = Pair::new(seed).await;
    pair.kill().await;
    pair.bed.until("x", "True", "PartitionEmpty").await;
    // What is written now belongs to whoever wrote it.
    pair.bed.fill(VICTIM, 0..LATER).await;
    pair.each_key_is_deleted();
    pair.no_effect_is_doubled().await;
    pair.standby.signal("TERM");
    assert!(pair.standby.ended().await, "{}", pair.standby.log());
    assert_eq!(pair.bed.counts().await, (LATER, BYSTANDERS));
    let lost = pair.lost.iter().flat_map(FaultPlan::injected);
    lost.map(|lost| lost.site).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_elected_replicas_that_lose_answers_double_no_effect_when_the_leader_dies() {
    let full = std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1");
    let seeds: u64 = if full { 20 } else { 2 };
    let lost: Vec<_> = stream::iter((0..seeds).map(scene))
        .buffered(PARALLEL)
        .collect()
        .await;
    let lost: BTreeSet<_> = lost.into_iter().flatten().collect();
    testkit::progress::line(&format!("{seeds} pairs; answers lost: {lost:?}"));
    let missed: Vec<_> = SITES.iter().filter(|site| !lost.contains(**site)).collect();
    assert!(missed.is_empty(), "no answer got lost of {missed:?}");
}
