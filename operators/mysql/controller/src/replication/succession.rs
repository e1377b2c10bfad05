//! A primary goes: by plan it hands over to a replica, or a person has recorded another one. Pure.
//!
//! # Guarantees
//! - Who is chosen leads only when it has every transaction that anybody who answers has, or has received. Nobody who was open
//!   is open then, and nobody receives any more.
//! - No replica is told to follow another primary before it has applied what it has received, or the other has it.

use std::collections::BTreeSet;

use mysql_api::{
    Reason,
    cluster::{Durability, Topology},
};

use super::{Goal, Member, Plan};
use crate::server::{Change, Replication, Survey};

impl Plan {
    /// The leader takes no more writes; then who has everything of it takes its place.
    pub(super) fn hand_over(&mut self, goal: &Goal, (head, survey): (&Member, &Survey), members: &[Member]) {
        let message = || {
            format!(
                "the primary, {}, is to be replaced or removed: it takes no writes any more, and another member takes its place as soon as it has all of them",
                head.name
            )
        };
        self.lack(Reason::HandingOver, message);
        if !survey.super_read_only {
            self.changes.push((head.ordinal, Change::Close));
            return;
        }
        let complete = |member: &&Member| {
            let theirs = member.survey.as_ref();
            goal.successors.contains(&member.ordinal)
                && theirs.is_some_and(|theirs| {
                    survey.executed.is_within(&theirs.executed) && survey.accounts.is_subset(&theirs.accounts)
                })
        };
        let successor = members.iter().find(complete);
        self.elect = successor.and_then(|successor| {
            Some(Topology {
                primary: successor.ordinal,
                server_uuid: successor.survey.as_ref()?.uuid.clone(),
            })
        });
    }
}

/// What is to be done before the chosen one leads, and why it does not yet; none if it does already, or may.
pub(super) fn before_leading(goal: &Goal, leader: (&Member, &Survey), members: &[Member]) -> Option<Plan> {
    let (head, led) = leader;
    let source = led.replication.as_ref()?;
    let wait = |changes, why: String| {
        let message = format!("{} is to take the primary's place: {why}", head.name);
        let mut plan = Plan::waiting(goal, members, Reason::HandingOver, message);
        plan.changes = changes;
        Some(plan)
    };
    let others = || {
        let others = members.iter().filter(|member| member.ordinal != head.ordinal);
        others.filter_map(|member| Some((member, member.survey.as_ref()?)))
    };
    let open: Vec<_> = others()
        .filter(|(_, survey)| !survey.super_read_only && !survey.copying)
        .map(|(member, _)| member)
        .collect();
    if !open.is_empty() {
        let changes = open.iter().map(|member| (member.ordinal, Change::Close));
        return wait(
            changes.collect(),
            format!(
                "{} still takes writes; where it cannot be closed, terminate its instance to go on without it",
                names(&open)
            ),
        );
    }
    // Whom it follows is there and closed: what it lacks it gets from there.
    if let Some((from, theirs)) = others().find(|(member, _)| is_at(member, source))
        && !theirs.executed.is_within(&led.executed)
    {
        let mut changes = Vec::new();
        if let Some(address) = from.address.clone()
            && !(source.receives && source.applies)
            && source.error.is_empty()
        {
            if goal.durability == Durability::Lossless && !led.syncs {
                changes.push((head.ordinal, Change::Sync));
            }
            changes.push((head.ordinal, Change::Resume(address)));
        }
        let why = format!(
            "it has yet to receive and apply what {} has, which takes no more writes; terminate its instance to go on without that",
            from.name
        );
        return wait(changes, why);
    }
    let (mut changes, mut waits) = (Vec::new(), BTreeSet::new());
    for (member, survey) in others().chain([(head, led)]) {
        let settling = settle(member, survey, (led, members));
        changes.extend(settling.change.map(|change| (member.ordinal, change)));
        waits.extend(settling.waits);
        if !settling.is_relieved && !survey.executed.is_within(&led.executed) {
            waits.insert(format!(
                "{} has transactions that it does not have; record that one in status.topology instead, or terminate its instance to go on without them",
                member.name
            ));
        }
    }
    if changes.is_empty() && waits.is_empty() {
        return None;
    }
    let why = waits.into_iter().collect::<Vec<_>>().join(", ");
    let why = if why.is_empty() {
        "nobody is to receive anything any more".into()
    } else {
        why
    };
    wait(changes, why)
}

/// What one member has to do before its relay log may be thrown away.
#[derive(Default)]
pub(super) struct Settling {
    pub(super) change: Option<Change>,
    /// What is waited for, in words.
    pub(super) waits: Option<String>,
    /// Whether everything that it can have received is with the leader: what it has beyond that is its own.
    is_relieved: bool,
}

/// What `member`, which follows somebody else than the leader, or is to lead, has to do before its relay log may be thrown
/// away. Who follows nobody has none.
pub(super) fn settle(member: &Member, survey: &Survey, (led, members): (&Survey, &[Member])) -> Settling {
    let Some(replication) = &survey.replication else {
        return Settling::default();
    };
    let is_known = replication.received.is_within(&led.executed);
    let is_ended = |source: &Member| {
        let theirs = source.survey.as_ref();
        is_at(source, replication)
            && theirs.is_some_and(|theirs| theirs.super_read_only && theirs.executed.is_within(&led.executed))
    };
    if is_known && members.iter().any(is_ended) {
        return Settling {
            is_relieved: true,
            ..Settling::default()
        };
    }
    let waits = (!is_known && is_behind(survey)).then(|| {
        if replication.error.is_empty() {
            format!("{} is still applying what it received", member.name)
        } else {
            format!(
                "{} has stopped ({}) and has not applied all that it received; terminate its instance to go on without that",
                member.name, replication.error
            )
        }
    });
    let change = if replication.receives {
        Some(Change::Detach)
    } else if waits.is_some() {
        resumed(survey)
    } else {
        None
    };
    Settling {
        change,
        waits,
        is_relieved: false,
    }
}

/// While the primary is not there: replicas that were restarted apply what they have received.
pub(super) fn apply_received(members: &[Member]) -> Vec<(i32, Change)> {
    let surveys = members
        .iter()
        .filter_map(|member| Some((member.ordinal, member.survey.as_ref()?)));
    let behind = surveys.filter(|(_, survey)| is_behind(survey));
    behind
        .filter_map(|(ordinal, survey)| Some((ordinal, resumed(survey)?)))
        .collect()
}

/// Has it apply again, if it does not and nothing shows that it cannot.
fn resumed(survey: &Survey) -> Option<Change> {
    let replication = survey.replication.as_ref()?;
    (!replication.applies && replication.error.is_empty()).then_some(Change::Apply)
}

/// Whether a replica has received what it has not applied.
fn is_behind(survey: &Survey) -> bool {
    let replication = survey.replication.as_ref();
    replication.is_some_and(|replication| !replication.received.is_within(&survey.executed))
}

fn is_at(member: &Member, replication: &Replication) -> bool {
    let address = member.address.as_ref();
    address.is_some_and(|address| address.host == replication.source)
}

fn names(members: &[&Member]) -> String {
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    names.join(", ")
}
