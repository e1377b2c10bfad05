//! What to do next: a pure function of what is desired, what the ledger says and what was seen.
//!
//! # Guarantees
//! - A converged world has an empty plan.
//! - A member is launched only when its last launch is over; a launch is over only by proof.
//! - At most one member is taken away at a time, from the highest number down, and none that may hold what no other has.

mod surplus;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use mysql_api::cluster::{Launch, LaunchPhase};

pub use self::surplus::next_surplus;
use self::surplus::surplus;
use crate::{
    cloud::{Instance, InstanceState},
    desired::Desired,
    evidence::{Evidence, PROPAGATION, Sighting},
    identity::is_our_token,
    ledger::Ledger,
    topology,
};

/// So many launches of a member may end before they run; then the next waits.
pub const MOST_FAILURES: i32 = 3;
/// How long it waits then.
const FAILURE_PAUSE: SignedDuration = SignedDuration::from_mins(30);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Freeze the parameters, record the launch, make it.
    Launch {
        /// The member.
        ordinal: i32,
        /// Which launch of it.
        incarnation: i32,
        /// Where to.
        subnet: String,
        /// How many launches before this one failed.
        failures: i32,
    },
    /// Make a recorded launch (again).
    Replay {
        /// The member.
        ordinal: i32,
    },
    /// Look for the instance of a recorded launch, without launching.
    Search {
        /// The member.
        ordinal: i32,
    },
    /// Record the instance that came of a launch.
    Record {
        /// The member.
        ordinal: i32,
        /// The instance.
        instance_id: String,
    },
    /// Record that a member's instance is to go.
    Retire {
        /// The member.
        ordinal: i32,
    },
    /// Record that a launch is over.
    Conclude {
        /// The member.
        ordinal: i32,
        /// Whether it ended before it ran.
        failed: bool,
    },
    /// Terminate an instance.
    Terminate {
        /// The member.
        ordinal: i32,
        /// The instance.
        instance_id: String,
    },
    /// Give an instance the tags back that somebody took off it.
    Mark {
        /// The member.
        ordinal: i32,
        /// The instance.
        instance_id: String,
    },
    /// Give a member's instance, its volumes and its interfaces the tags that they are to have.
    Tag {
        /// The member.
        ordinal: i32,
        /// The instance.
        instance_id: String,
    },
    /// Start an instance that somebody stopped.
    Start {
        /// The member.
        ordinal: i32,
        /// The instance.
        instance_id: String,
    },
}

/// What was seen of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What is known of each instance in the ledger, by id.
    pub sightings: BTreeMap<String, Sighting>,
    /// Every instance that carries the cluster's UID and our operator's id.
    pub instances: Vec<Instance>,
    /// Zones by subnet.
    pub zones: BTreeMap<String, String>,
    /// The member that leads, as recorded.
    pub leader: Option<i32>,
    /// Members whose instances have other tags than they are to have.
    pub mistagged: BTreeSet<i32>,
    /// Instances of the ledger that the listing did not show: as they were when they were asked for by their id, or seen
    /// last.
    pub unlisted: Vec<Instance>,
    /// The member beyond the number of replicas that may be removed: another one has what it has.
    pub spare: Option<i32>,
    /// Why the next one may not be.
    pub kept: Option<String>,
}

impl Seen {
    /// The instance of this id as it was seen last.
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        let mut all = self.instances.iter().chain(&self.unlisted);
        all.find(|instance| instance.id == id)
    }

    fn of(&self, id: &str) -> &Sighting {
        self.sightings.get(id).unwrap_or(&Sighting::Missing)
    }

    /// The instance that was launched with this token.
    fn with_token(&self, token: &str) -> Option<&Instance> {
        self.instances
            .iter()
            .find(|instance| instance.client_token.as_deref() == Some(token))
    }
}

/// The steps towards `desired`.
pub fn plan(
    desired: &Desired,
    ledger: &Ledger,
    seen: &Seen,
    evidence: &Evidence,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut taken = topology::occupancy(ledger.entries());
    for ordinal in 0..desired.replicas {
        let entry = ledger.get(ordinal);
        if let Some(entry) = entry.filter(|entry| entry.phase != LaunchPhase::Over) {
            steps.extend(keep(entry, seen, evidence, now));
            continue;
        }
        if let Some(late) = entry.and_then(|entry| late(entry, seen)) {
            steps.push(late);
            continue;
        }
        if is_occupied(ordinal, seen)
            || evidence.is_held(ordinal, now)
            || entry.is_some_and(|entry| is_pausing(entry, now))
        {
            continue;
        }
        let exhausted = |subnet: &str| evidence.is_exhausted(&desired.template.instance_type, subnet, now);
        let Some(subnet) = topology::next_subnet(&desired.subnets, &seen.zones, &taken, exhausted) else {
            continue;
        };
        *taken.entry(subnet.to_owned()).or_insert(0) += 1;
        steps.push(Step::Launch {
            ordinal,
            incarnation: entry.map_or(1, |entry| entry.incarnation + 1),
            subnet: subnet.to_owned(),
            failures: entry.map_or(0, |entry| entry.failures),
        });
    }
    steps.extend(surplus(desired, ledger, seen, evidence, now));
    steps.extend(tag(desired, ledger, seen, evidence, now));
    steps
}

/// The first member whose tags are to be changed: one at a time, and none while EC2 refuses it.
fn tag(desired: &Desired, ledger: &Ledger, seen: &Seen, evidence: &Evidence, now: Timestamp) -> Option<Step> {
    if evidence.tags_refused(now).is_some() {
        return None;
    }
    let mut launched = ledger
        .entries()
        .iter()
        .filter(|entry| entry.phase == LaunchPhase::Launched && entry.ordinal < desired.replicas);
    let entry = launched.find(|entry| seen.mistagged.contains(&entry.ordinal))?;
    Some(Step::Tag {
        ordinal: entry.ordinal,
        instance_id: entry.instance_id.clone()?,
    })
}

/// Whether a member failed so often that it has to rest.
pub fn is_pausing(entry: &Launch, now: Timestamp) -> bool {
    entry.phase == LaunchPhase::Over
        && entry.failures >= MOST_FAILURES
        // It may have been decided by another process, whose clock is another one.
        && now.duration_since(entry.decided_at.0).abs() < FAILURE_PAUSE
}

/// A member that is to be there.
fn keep(entry: &Launch, seen: &Seen, evidence: &Evidence, now: Timestamp) -> Option<Step> {
    let ordinal = entry.ordinal;
    match (entry.phase, &entry.instance_id) {
        (LaunchPhase::Over, _) => None,
        // It was to go, and is wanted again: it goes all the same, and comes back.
        (LaunchPhase::Retiring, Some(id)) => leave(entry, id, seen, evidence.is_held(ordinal, now)),
        (LaunchPhase::Launched, Some(id)) => match seen.of(id) {
            Sighting::Seen {
                state: InstanceState::Stopped,
                ..
            } if !evidence.is_held(ordinal, now) && !evidence.is_just_started(id, now) => Some(Step::Start {
                ordinal,
                instance_id: id.clone(),
            }),
            Sighting::Seen {
                state: InstanceState::Terminated,
                reason,
            } => Some(Step::Conclude {
                ordinal,
                failed: is_failure(reason.as_deref()),
            }),
            Sighting::Gone => Some(Step::Conclude {
                ordinal,
                failed: false,
            }),
            Sighting::Unmarked if !evidence.is_held(ordinal, now) => Some(Step::Mark {
                ordinal,
                instance_id: id.clone(),
            }),
            Sighting::Seen { .. } | Sighting::Unmarked | Sighting::Missing => None,
        },
        (_, None) | (LaunchPhase::Launching, Some(_)) => unresolved(entry, seen, evidence, now),
    }
}

/// A launch that counts as never made, or its instance as gone, and is there after all.
fn late(entry: &Launch, seen: &Seen) -> Option<Step> {
    let is_over = entry.phase == LaunchPhase::Over;
    let instance = seen.with_token(&entry.token).filter(|_| is_over)?;
    instance.is_live().then(|| Step::Record {
        ordinal: entry.ordinal,
        instance_id: instance.id.clone(),
    })
}

/// Whether an instance of a launch of this member is there that the ledger does not have any more. It is told of, and a second
/// one is not launched beside it.
fn is_occupied(ordinal: i32, seen: &Seen) -> bool {
    seen.instances.iter().any(|instance| {
        instance.is_live()
            && instance.client_token.as_deref().is_some_and(is_our_token)
            && instance
                .identity()
                .is_some_and(|identity| identity.ordinal == ordinal)
    })
}

/// A launch whose instance is not known: it may be seen; else it is made again, or looked for if that is refused.
fn unresolved(entry: &Launch, seen: &Seen, evidence: &Evidence, now: Timestamp) -> Option<Step> {
    let ordinal = entry.ordinal;
    if let Some(instance) = seen.with_token(&entry.token) {
        return Some(Step::Record {
            ordinal,
            instance_id: instance.id.clone(),
        });
    }
    if evidence.is_doubted(ordinal, &entry.token) {
        let due = evidence.is_disproved(ordinal, &entry.token, now);
        return due.then_some(Step::Search { ordinal });
    }
    (!evidence.is_held(ordinal, now)).then_some(Step::Replay { ordinal })
}

/// A member whose instance is to go. Held, it is not asked for that again yet.
fn leave(entry: &Launch, id: &str, seen: &Seen, is_held: bool) -> Option<Step> {
    let ordinal = entry.ordinal;
    match seen.of(id) {
        Sighting::Seen {
            state: InstanceState::Terminated,
            ..
        }
        | Sighting::Gone => Some(Step::Conclude {
            ordinal,
            failed: false,
        }),
        Sighting::Seen {
            state: InstanceState::ShuttingDown,
            ..
        } => None,
        // Not seeing it is no reason not to ask: the request is harmless.
        Sighting::Seen { .. } | Sighting::Unmarked | Sighting::Missing => {
            (!is_held).then(|| Step::Terminate {
                ordinal,
                instance_id: id.to_owned(),
            })
        }
    }
}

/// The steps towards nothing. `since` is when the deletion began, after which nothing is launched any more.
///
/// A launch whose outcome is unknown is looked for, not repeated; after the time that EC2 may take to show it, it
/// counts as never made.
pub fn wind_up(
    ledger: &Ledger,
    seen: &Seen,
    evidence: &Evidence,
    since: Timestamp,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for entry in ledger.entries().iter().rev() {
        let ordinal = entry.ordinal;
        let step = match (entry.phase, &entry.instance_id) {
            (LaunchPhase::Over, _) => None,
            (LaunchPhase::Launched, Some(_)) => Some(Step::Retire { ordinal }),
            (LaunchPhase::Retiring, Some(id)) => leave(entry, id, seen, evidence.is_held(ordinal, now)),
            _ => match seen.with_token(&entry.token) {
                Some(instance) => Some(Step::Record {
                    ordinal,
                    instance_id: instance.id.clone(),
                }),
                None if now.duration_since(since) > PROPAGATION => Some(Step::Conclude {
                    ordinal,
                    failed: false,
                }),
                None => Some(Step::Search { ordinal }),
            },
        };
        steps.extend(step);
    }
    steps
}

/// Whether an instance ended by itself, before it ran: a volume that could not be had, a key that was denied.
fn is_failure(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| {
        [
            "Server.InsufficientInstanceCapacity",
            "Server.InternalError",
            "Client.InternalError",
            "Client.VolumeLimitExceeded",
            "Client.InvalidSnapshot.NotFound",
        ]
        .contains(&reason)
    })
}

/// Live instances that carry the cluster's identity and stand in no entry of the ledger.
pub fn strays<'a>(ledger: &Ledger, seen: &'a Seen) -> Vec<&'a Instance> {
    let known = |instance: &Instance| {
        ledger.entries().iter().any(|entry| {
            entry.instance_id.as_deref() == Some(&instance.id)
                || entry.phase != LaunchPhase::Over && instance.client_token.as_deref() == Some(&entry.token)
        })
    };
    seen.instances
        .iter()
        .filter(|instance| instance.is_live() && !known(instance))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
