//! A leader that is frozen, at any step, until another has done its work.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event as Told;
use kube::{Api, api::ListParams};
use reconcile::conditions;
use testkit::{
    audit::Event,
    fault::{FaultPlan, proxy::Proxy},
};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, eventually, server},
    replica::{Replica, Start, elected, until_led},
    steps::Steps,
};

/// Three requests delete them.
const ITEMS: u64 = 60;
/// Written after the job has succeeded, by somebody else.
const LATER: u64 = 200;
/// Leaders that are frozen at the same time: most of it is waiting for leases to expire.
const PARALLEL: usize = 4;
const USERS: [&str; 2] = ["replica-one", "replica-two"];

/// A leader behind proxies, a standby, and a job.
struct Scene {
    bed: Bed,
    steps: Arc<Steps>,
    leader: Replica,
    standby: Replica,
    _proxies: [Proxy; 2],
}

impl Scene {
    async fn new(at: Option<usize>) -> Self {
        let bed = Bed::new(server().await, ITEMS).await;
        let steps = Steps::new(at);
        let undisturbed = FaultPlan::default();
        let (kubernetes, dynamodb) = (
            steps.before_kubernetes(&bed, USERS[0], &undisturbed),
            steps.before_dynamodb(&bed, &undisturbed),
        );
        let start = |user, kubernetes| {
            let start = Start {
                user,
                flags: elected(bed.namespace.name()),
                kubernetes,
                ..Start::default()
            };
            Replica::of(bed.plane, bed.namespace.name(), &dynamodb.endpoint(), start)
        };
        let leader = start(USERS[0], Some(kubernetes.endpoint()));
        steps.of(leader.id());
        until_led(&bed, &leader).await;
        let standby = start(USERS[1], None);
        standby.until_ready().await;
        let mut spec = bed.spec();
        spec.endpoint_url = Some(dynamodb.endpoint());
        bed.create("x", spec).await;
        Self {
            bed,
            steps,
            leader,
            standby,
            _proxies: [kubernetes, dynamodb],
        }
    }

    /// Waits until the leader is frozen, and returns at which step; nothing if its work took fewer steps.
    async fn until_frozen(&self) -> Option<String> {
        eventually("the leader does not act", async || {
            if let Some(site) = self.steps.frozen() {
                return Ok(Some(site));
            }
            let status = self.bed.status("x").await;
            let done = conditions::is_true(&status.conditions, "Succeeded");
            // What follows success is an event at most.
            if done && self.told("PartitionEmpty").await > 0 {
                Ok(self.steps.frozen())
            } else {
                Err(format!("{:?}\n{}", self.steps.seen(), self.leader.log()))
            }
        })
        .await
    }

    /// Events of this reason, or whose note contains this.
    async fn told(&self, what: &str) -> usize {
        let events: Api<Told> = Api::namespaced(self.bed.plane.client(), self.bed.namespace.name());
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let is = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains(what));
        events
            .iter()
            .filter(|event| is(&event.reason) || is(&event.note))
            .count()
    }

    /// No effect came twice, whoever of the two it was.
    async fn no_effect_is_doubled(&self) {
        let keys = self.steps.deleted();
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(
            (keys.len(), distinct.len()),
            (usize::try_from(ITEMS).unwrap(), usize::try_from(ITEMS).unwrap()),
            "each key is deleted once"
        );
        let mut writes = self.leader.writes(&self.bed).await;
        writes.extend(self.standby.writes(&self.bed).await);
        let count = |is: &dyn Fn(&Event) -> bool| writes.iter().filter(|event| is(event)).count();
        let of = |event: &Event, resource: &str, subresource: &str| {
            let object = event.object_ref.as_ref();
            object.is_some_and(|of| of.resource == resource && of.subresource == subresource)
        };
        let finalizers = count(&|event| of(event, "ddbctldpjobs", ""));
        let intents = count(&|event| of(event, "ddbctldpjobs", "status") && event.uri.contains("-intent"));
        // A record that is there already is written over with what it says.
        let records = count(&|event| of(event, "configmaps", "") && event.verb == "create");
        assert_eq!((finalizers, intents, records), (1, 1, 1), "{writes:?}");
        assert!(self.told("Planned").await <= 1 && self.told("PartitionEmpty").await <= 1);
    }

    /// The leader goes on where it was: too late.
    async fn thaw(&mut self) {
        let (thawed, deleted) = (Timestamp::now(), self.steps.deleted());
        self.leader.signal("CONT");
        assert!(
            !self.leader.ended().await,
            "it ended as if all were well: {}",
            self.leader.log()
        );
        assert_eq!(self.steps.deleted(), deleted, "deleted after the thaw");
        let mut late = self.leader.writes(&self.bed).await;
        // One that had arrived in part before the freeze is not one that began after it.
        late.retain(|event| event.received > thawed);
        // It says good-bye with an event about the lease, as client-go does; that is all.
        let farewells = self.told("stopped leading").await;
        let is_farewell = |event: &Event| event.uri.starts_with("/apis/events.k8s.io/") && farewells == 1;
        late.retain(|event| !is_farewell(event));
        assert!(late.is_empty(), "{late:?}");
    }
}

/// The sites of the steps that a leader takes which nobody disturbs.
async fn undisturbed() -> Vec<String> {
    let scene = Scene::new(None).await;
    scene.until_frozen().await;
    scene.no_effect_is_doubled().await;
    scene.steps.seen()
}

/// Freezes the leader at one step, and returns which it was.
async fn frozen_at(step: usize) -> Option<String> {
    let mut scene = Scene::new(Some(step)).await;
    let site = scene.until_frozen().await?;
    // The job may have succeeded before the freeze: it is the lease that must be another's.
    eventually("the standby does not take over", async || {
        let log = scene.standby.log();
        if log.contains("Reconciled") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    scene.bed.until("x", "True", "PartitionEmpty").await;
    scene.no_effect_is_doubled().await;
    // What is written now belongs to whoever wrote it.
    scene.bed.fill(VICTIM, 0..LATER).await;
    scene.thaw().await;
    assert_eq!(scene.bed.counts().await, (LATER, BYSTANDERS), "{site}");
    Some(site)
}

/// The numbers of the steps to freeze at: all of them in a full run, otherwise the first of each kind, and the last.
fn chosen(steps: &[String]) -> Vec<usize> {
    let full = std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1");
    let mut kinds = BTreeSet::new();
    let numbered = steps.iter().zip(1..);
    numbered
        .filter(|(site, number)| kinds.insert(*site) || full || *number == steps.len())
        .map(|(_, number)| number)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_frozen_at_any_step_until_another_is_done_does_nothing_twice_and_nothing_late() {
    let steps = undisturbed().await;
    let sites: Vec<_> = stream::iter(chosen(&steps))
        .map(frozen_at)
        .buffered(PARALLEL)
        .filter_map(std::future::ready)
        .collect()
        .await;
    testkit::progress::line(&format!(
        "frozen at {} of {} steps: {sites:?}",
        sites.len(),
        steps.len()
    ));
    // Which number a step has depends on how often the status is written.
    let kinds: BTreeSet<_> = steps.iter().collect();
    assert!(
        sites.len() + 2 >= kinds.len(),
        "of {kinds:?} only {sites:?} were met"
    );
}
