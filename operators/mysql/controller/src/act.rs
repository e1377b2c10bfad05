//! Carries out a pass for one cluster: observe, plan, act.
//!
//! # Guarantees
//! - A launch is made only after its record was acknowledged, with the parameters that were frozen for it.
//! - An instance is terminated only after it was recorded that it is to go.
//! - Every step can be repeated after a crash before, during or after it.

mod account;
mod launch;
mod leave;
mod member;
mod tags;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use mysql_api::cluster::{Launch, LaunchPhase};
use parking_lot::Mutex;
use reconcile::{ReconcileError, clock::Clock};

pub use self::{
    leave::{Leaving, SWEEP_AGAIN},
    tags::{launched_along, tags},
};
use crate::{
    cloud::{CloudError, Instance, InstanceState, Instances},
    desired::Desired,
    evidence::{Evidence, Sighting},
    identity::Identity,
    ledger::Ledger,
    plan::{self, Seen, Step},
    reader::Reader,
    records::Records,
    sabotage,
};

/// How old a listing may be while something is moving.
const FRESH: Duration = Duration::from_secs(10);
/// How old it may be while nothing is.
const SETTLED: Duration = Duration::from_secs(60);

/// Why a pass was given up. What it was about to do is not lost: the next pass plans it again.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E: ReconcileError> {
    /// The records could not be read or written.
    #[error(transparent)]
    Records(E),
    /// The cloud could not be looked at.
    #[error(transparent)]
    Cloud(CloudError),
    /// The lease is lost.
    #[error(transparent)]
    Lease(#[from] reconcile::fence::LeaseLost),
}

/// What a pass needs.
pub struct Operator<I> {
    /// The cloud.
    pub cloud: Arc<I>,
    /// Its shared reader.
    pub reader: Reader<I>,
    /// Our id, in the tags of our instances.
    pub operator_id: String,
    /// The clock.
    pub clock: Clock,
}

impl<I> Operator<I> {
    /// A moment of the monotonic scale, as people write it.
    fn at(&self, elapsed: Duration) -> Timestamp {
        let now = self.clock.now();
        let ago = self.clock.elapsed().saturating_sub(elapsed);
        let ago = SignedDuration::try_from(ago).unwrap_or_default();
        now.checked_sub(ago).unwrap_or(now)
    }
}

/// What a pass knows when it is over.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The ledger as it now stands.
    pub ledger: Ledger,
    /// What was seen.
    pub seen: Seen,
    /// What happened, in words, for events: `launched i-…`.
    pub events: Vec<Event>,
    /// When to look again.
    pub next: Duration,
    /// Whether instances are on their way, so that a look a second later may show something else.
    pub restless: bool,
}

/// Something that happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many instances are about to be launched.
    Provisioning(usize),
    /// Its instance is known.
    Launched(i32, String),
    /// Its instance was asked to go.
    Terminating(i32, String),
    /// Its stopped instance was started.
    Started(i32, String),
    /// Its instance had lost its tags and has them again.
    Marked(i32, String),
    /// Its instance, volumes and interfaces have the tags of the spec.
    Tagged(i32, String),
    /// It has an older spec and is replaced.
    Replacing(i32),
    /// Its instance is proven gone.
    Gone(i32),
}

/// Work on one cluster.
pub struct Work<'a, I, R> {
    /// What all clusters share.
    pub operator: &'a Operator<I>,
    /// The cluster's records.
    pub records: &'a R,
    /// What is remembered about it.
    pub evidence: &'a Mutex<Evidence>,
    /// UID of the cluster.
    pub cluster_uid: &'a str,
    /// The region of its members.
    pub region: &'a str,
    /// To be asked immediately before each call that changes something.
    pub fence: &'a reconcile::fence::Fence,
    /// The member that leads, as recorded: it is not removed.
    pub leader: Option<i32>,
    /// The member beyond the number of replicas that may be removed: [`Seen::spare`].
    pub spare: Option<i32>,
}

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// One pass towards `desired`.
    pub async fn apply(&self, desired: &Desired, ledger: Ledger) -> Result<Outcome, PassError<R::Error>> {
        let moving = is_moving(&ledger, desired.replicas);
        let mut seen = self
            .observe(&ledger, if moving { FRESH } else { SETTLED })
            .await?;
        if !moving && is_restless(&seen) {
            seen = self.observe(&ledger, FRESH).await?;
        }
        // Members may be in subnets that the spec does not name any more.
        let named = desired.subnets.iter();
        let named: BTreeSet<&String> = named
            .chain(ledger.entries().iter().map(|entry| &entry.subnet_id))
            .collect();
        let named: Vec<String> = named.into_iter().cloned().collect();
        let zones = self.operator.reader.zones(self.region, &named).await;
        // Without the zones members are spread over subnets; a wrong subnet is reported by its launch.
        seen.zones = zones.unwrap_or_default().into_iter().collect();
        (seen.leader, seen.spare) = (self.leader, self.spare);
        seen.mistagged = self.mistagged(desired, &ledger, &seen);
        let steps = plan::plan(
            desired,
            &ledger,
            &seen,
            &self.evidence.lock(),
            self.operator.clock.steady(),
        );
        self.carry_out(Some(desired), ledger, seen, steps).await
    }

    async fn observe(&self, ledger: &Ledger, age: Duration) -> Result<Seen, PassError<R::Error>> {
        let listing = self
            .operator
            .reader
            .listing(self.region, age)
            .await
            .map_err(PassError::Cloud)?;
        {
            let mut evidence = self.evidence.lock();
            evidence.sighted(self.operator.at(listing.at));
            evidence.trust_account();
        }
        let mut seen = Seen {
            instances: listing.of(self.cluster_uid).to_vec(),
            ..Seen::default()
        };
        for entry in ledger.entries() {
            if let Some(id) = entry
                .instance_id
                .as_deref()
                .filter(|_| entry.phase != LaunchPhase::Over)
            {
                let (sighting, unlisted) = self.sight(entry, id, &seen.instances).await;
                seen.sightings.insert(id.to_owned(), sighting);
                seen.unlisted.extend(unlisted);
            }
        }
        Ok(seen)
    }

    /// What is known of an instance, and what it was if the listing does not show it. Only EC2's own word that it does
    /// not exist, asked for after a while, counts as proof of absence.
    async fn sight(&self, entry: &Launch, id: &str, shown: &[Instance]) -> (Sighting, Option<Instance>) {
        let now = self.operator.clock.steady();
        if let Some(instance) = shown.iter().find(|instance| instance.id == id) {
            self.evidence.lock().seen(instance);
            return (Sighting::of(instance), None);
        }
        if sabotage::active("trust-empty-list") {
            return (Sighting::Gone, None);
        }
        let (is_missing, last) = {
            let mut evidence = self.evidence.lock();
            evidence.missed(id, now);
            (evidence.is_missing(id), evidence.last(id).cloned())
        };
        // Who remembers nothing of it, after a restart, asks at once: clients are not told of a member without an address.
        if !is_missing && last.is_some() {
            return (Sighting::Missing, last);
        }
        match self.operator.cloud.get(self.region, id).await {
            Ok(instance) => {
                let ours = instance.client_token.as_deref() == Some(&entry.token);
                let identity = self.identity(entry.ordinal, entry.incarnation);
                let marked = instance.identity().as_ref() == Some(&identity)
                    && instance.is_ours(&self.operator.operator_id);
                let sighting = if ours && instance.is_live() && !marked {
                    Sighting::Unmarked
                } else {
                    Sighting::of(&instance)
                };
                (sighting, Some(instance))
            }
            Err(error) => {
                let may_be_gone = error.is_not_found() && self.evidence.lock().is_long_missing(id, now);
                if may_be_gone && self.is_proof(entry).await {
                    (Sighting::Gone, None)
                } else {
                    (Sighting::Missing, last)
                }
            }
        }
    }

    async fn carry_out(
        &self,
        desired: Option<&Desired>,
        ledger: Ledger,
        seen: Seen,
        steps: Vec<Step>,
    ) -> Result<Outcome, PassError<R::Error>> {
        let mut outcome = Outcome {
            ledger,
            seen,
            events: Vec::new(),
            next: SETTLED,
            restless: false,
        };
        let mut calls = Vec::new();
        let before = outcome.ledger.clone();
        for step in steps {
            match step {
                Step::Launch {
                    ordinal,
                    incarnation,
                    subnet,
                    failures,
                } => {
                    let Some(desired) = desired else { continue };
                    let (member, how) = ((ordinal, incarnation), (subnet.as_str(), failures));
                    calls.extend(self.decide(desired, member, how, &mut outcome).await);
                }
                Step::Replay { ordinal } => calls.push((ordinal, None)),
                Step::Search { ordinal } => self.search(ordinal, &mut outcome).await,
                Step::Record { ordinal, instance_id } => {
                    // Whatever an attempt failed with, the launch was made.
                    self.evidence.lock().release(ordinal);
                    outcome.ledger.record(ordinal, &instance_id);
                    outcome.events.push(Event::Launched(ordinal, instance_id));
                }
                Step::Retire { ordinal } => outcome.ledger.retire(ordinal),
                Step::Conclude { ordinal, failed } => {
                    let entry = outcome.ledger.get(ordinal);
                    let was_made = entry.is_some_and(|entry| entry.instance_id.is_some());
                    outcome.ledger.conclude(ordinal, failed);
                    outcome.events.extend(was_made.then_some(Event::Gone(ordinal)));
                }
                Step::Terminate { ordinal, instance_id } => {
                    self.terminate(ordinal, instance_id, &mut outcome).await?;
                }
                Step::Start { ordinal, instance_id } => {
                    self.start(ordinal, instance_id, &mut outcome).await?;
                }
                Step::Mark { ordinal, instance_id } => {
                    self.mark(desired, ordinal, instance_id, &mut outcome).await?;
                }
                Step::Tag { ordinal, instance_id } => {
                    self.tag(desired, ordinal, instance_id, &mut outcome).await?;
                }
            }
        }
        let new = calls.iter().filter(|(_, frozen)| frozen.is_some()).count();
        if new > 0 {
            outcome.events.insert(0, Event::Provisioning(new));
        }
        if !sabotage::active("skip-intent") {
            self.save(&before, &outcome.ledger).await?;
        }
        self.launch(desired, calls, &mut outcome).await?;
        let replicas = desired.map_or(0, |desired| desired.replicas);
        let moving = is_moving(&outcome.ledger, replicas)
            || is_restless(&outcome.seen)
            || self.is_tagging(&outcome.seen);
        outcome.next = self.next(moving, replicas);
        outcome.restless = is_restless(&outcome.seen) || has_news(&outcome.ledger, &outcome.seen);
        Ok(outcome)
    }

    async fn save(&self, before: &Ledger, after: &Ledger) -> Result<(), PassError<R::Error>> {
        if before == after {
            return Ok(());
        }
        self.records.write(after).await.map_err(PassError::Records)
    }

    fn identity(&self, ordinal: i32, incarnation: i32) -> Identity {
        Identity {
            cluster_uid: self.cluster_uid.to_owned(),
            ordinal,
            incarnation,
        }
    }

    /// When to look again: soon while something moves, at the end of the shortest wait.
    fn next(&self, moving: bool, replicas: i32) -> Duration {
        let now = self.operator.clock.steady();
        let evidence = self.evidence.lock();
        let waits = (0..replicas.max(9))
            .filter_map(|ordinal| evidence.held(ordinal))
            .map(|hold| Duration::try_from(hold.until.duration_since(now)).unwrap_or_default());
        let usual = if moving { FRESH } else { SETTLED };
        waits
            .filter(|wait| !wait.is_zero())
            .min()
            .map_or(usual, |wait| wait.min(usual))
    }
}

/// Whether something is under way.
fn is_moving(ledger: &Ledger, replicas: i32) -> bool {
    let launched = ledger
        .entries()
        .iter()
        .filter(|entry| entry.phase == LaunchPhase::Launched)
        .count();
    let settled = ledger
        .entries()
        .iter()
        .all(|entry| matches!(entry.phase, LaunchPhase::Launched | LaunchPhase::Over));
    !settled || usize::try_from(replicas) != Ok(launched)
}

/// Whether an instance was last seen on its way from one state to another, or not at all.
fn is_restless(seen: &Seen) -> bool {
    let at_rest = |sighting: &Sighting| match sighting {
        Sighting::Seen { state, .. } => matches!(state, InstanceState::Running | InstanceState::Terminated),
        Sighting::Gone => true,
        Sighting::Missing | Sighting::Unmarked => false,
    };
    !seen.sightings.values().all(at_rest)
}

/// Whether a launch was begun, made or undone since the last look.
fn has_news(ledger: &Ledger, seen: &Seen) -> bool {
    ledger.entries().iter().any(|entry| match entry.phase {
        LaunchPhase::Launching | LaunchPhase::Retiring => true,
        LaunchPhase::Launched => {
            let id = entry.instance_id.as_ref();
            !id.is_some_and(|id| seen.sightings.contains_key(id))
        }
        LaunchPhase::Over => false,
    })
}

/// Whether every launch is proven over.
pub fn is_over(ledger: &Ledger) -> bool {
    ledger
        .entries()
        .iter()
        .all(|entry| entry.phase == LaunchPhase::Over)
}
