//! What becomes of the members beyond the number of replicas.

use jiff::Timestamp;
use mysql_api::cluster::{Launch, LaunchPhase};

use super::{Seen, Step, keep, late, leave, unresolved};
use crate::{desired::Desired, evidence::Evidence, ledger::Ledger};

/// The launch of the member beyond the number of replicas that goes next. The leader does not: another one takes its
/// place first.
pub fn next_surplus(replicas: i32, ledger: &Ledger, leader: Option<i32>) -> Option<&Launch> {
    let beyond = |entry: &&Launch| {
        let leads = leader == Some(entry.ordinal) && entry.phase == LaunchPhase::Launched;
        entry.ordinal >= replicas && entry.phase != LaunchPhase::Over && !leads
    };
    ledger.entries().iter().rev().find(beyond)
}

/// The steps: what is to be done about those that stay yet, else about the one that goes next.
pub(super) fn surplus(
    desired: &Desired,
    ledger: &Ledger,
    seen: &Seen,
    evidence: &Evidence,
    now: Timestamp,
) -> Vec<Step> {
    let beyond = || {
        let entries = ledger.entries().iter();
        entries.filter(|entry| entry.ordinal >= desired.replicas)
    };
    if let Some(late) = beyond().find_map(|entry| late(entry, seen)) {
        return vec![late];
    }
    let steps: Vec<Step> = beyond()
        .filter_map(|entry| stay(entry, seen, evidence, now))
        .collect();
    if !steps.is_empty() {
        return steps;
    }
    let next = next_surplus(desired.replicas, ledger, seen.leader);
    let step = next.and_then(|entry| part(entry, desired, seen, evidence, now));
    step.into_iter().collect()
}

/// A member beyond the number of replicas that has not been told to go. One whose instance has ended is waited for by nobody
/// any more, whoever ended it. One that leads is kept as any member is, and as long as nobody is known to lead each that was
/// adopted: it may be the one, or have what no other has.
fn stay(entry: &Launch, seen: &Seen, evidence: &Evidence, now: Timestamp) -> Option<Step> {
    if entry.phase != LaunchPhase::Launched || entry.instance_id.is_none() {
        return None;
    }
    let may_lead = match seen.leader {
        Some(leader) => leader == entry.ordinal,
        None => entry.adopted_from.is_some(),
    };
    let step = keep(entry, seen, evidence, now)?;
    (may_lead || matches!(step, Step::Conclude { .. })).then_some(step)
}

/// The member that goes next.
fn part(entry: &Launch, desired: &Desired, seen: &Seen, evidence: &Evidence, now: Timestamp) -> Option<Step> {
    match (entry.phase, &entry.instance_id) {
        // EC2 would not terminate it.
        (LaunchPhase::Launched, Some(_)) if desired.template.termination_protection => None,
        (LaunchPhase::Launched, Some(_)) => {
            let ordinal = entry.ordinal;
            (seen.spare == Some(ordinal)).then_some(Step::Retire { ordinal })
        }
        (LaunchPhase::Retiring, Some(id)) => leave(entry, id, seen, evidence.is_held(entry.ordinal, now)),
        // Nothing has come of it, and nothing is to.
        (LaunchPhase::Launching, None)
            if seen.with_token(&entry.token).is_none()
                && evidence.is_only_refused(entry.ordinal, &entry.token) =>
        {
            Some(Step::Conclude {
                ordinal: entry.ordinal,
                failed: false,
            })
        }
        // Only a launch whose instance is known can be undone.
        _ => unresolved(entry, seen, evidence, now),
    }
}
