//! The conditions of a cluster that is wanted, each from what was found.

use mysql_api::{ConditionType, MySQLCluster, Reason, cluster::LaunchPhase};
use reconcile::conditions::DesiredCondition;

use super::{Findings, condition};
use crate::{
    cloud::{Instance, InstanceState},
    desired::Desired,
    evidence::{Hold, Sighting},
    identity::{OPERATOR_ID, is_our_token, member_name},
    outcome::Verdict,
    plan,
    rollout::{self, Obstacle, Turn},
};

pub(super) fn provisioned(findings: Findings<'_>, desired: &Desired, running: usize) -> DesiredCondition {
    let Findings { ledger, seen, .. } = findings;
    let say = |reason, message: String| condition(ConditionType::Provisioned, false, reason, message);
    if let Some(message) = strays(findings) {
        return say(Reason::Ambiguous, message);
    }
    if let Some(hold) = holds(findings, desired.replicas).next() {
        return if hold.is_protected() {
            let what = "take the protection off the instance in EC2, it then goes on by itself";
            say(Reason::TerminationProtected, format!("{}; {what}", hold.message))
        } else {
            say(hold.verdict.reason(), hold.message.clone())
        };
    }
    if let Some(why) = findings.evidence.account_doubt() {
        return say(Reason::CredentialsInvalid, why.to_owned());
    }
    let failing = ledger
        .entries()
        .iter()
        .find(|entry| entry.failures >= plan::MOST_FAILURES);
    if let Some(entry) = failing.filter(|entry| entry.phase == LaunchPhase::Over) {
        let name = member_name(&desired.name, entry.ordinal);
        return say(
            Reason::LaunchFailing,
            format!(
                "the last {} launches of member {name} ended before they ran; the next is made in half an hour",
                plan::MOST_FAILURES
            ),
        );
    }
    let wanted = usize::try_from(desired.replicas).unwrap_or_default();
    let present = |phase| {
        ledger
            .entries()
            .iter()
            .filter(|entry| entry.phase == phase)
            .count()
    };
    let surplus = ledger
        .entries()
        .iter()
        .any(|entry| entry.ordinal >= desired.replicas && entry.phase != LaunchPhase::Over);
    if surplus && desired.template.termination_protection {
        return say(
            Reason::TerminationProtected,
            format!(
                "members beyond {wanted} are kept by termination protection; set aws.terminationProtection to false, and take it off their instances in EC2"
            ),
        );
    }
    if surplus {
        let kept = seen.kept.as_ref();
        let waits = kept.map_or_else(String::new, |why| format!("; none is at the moment: {why}"));
        return say(
            Reason::ScalingDown,
            format!("members are removed until {wanted} are left{waits}"),
        );
    }
    if present(LaunchPhase::Launched) < wanted {
        let replaced = ledger
            .entries()
            .iter()
            .any(|entry| entry.phase == LaunchPhase::Over || entry.incarnation > 1);
        let reason = if replaced {
            Reason::Replacing
        } else {
            Reason::Launching
        };
        return say(
            reason,
            format!(
                "{} of {wanted} instances are launched",
                present(LaunchPhase::Launched)
            ),
        );
    }
    if running < wanted {
        return say(
            Reason::WaitingForInstances,
            format!(
                "{running} of {wanted} instances run{}",
                stopped(findings, desired)
            ),
        );
    }
    condition(
        ConditionType::Provisioned,
        true,
        Reason::InstancesRunning,
        format!("{wanted} of {wanted} instances run"),
    )
}

/// Which members' instances are stopped, and why: one may stop again at each start.
fn stopped(findings: Findings<'_>, desired: &Desired) -> String {
    let entries = findings.ledger.entries().iter();
    let stopped = entries.filter_map(|entry| {
        let sighting = findings.seen.sightings.get(entry.instance_id.as_ref()?)?;
        let Sighting::Seen {
            state: InstanceState::Stopped,
            reason,
        } = sighting
        else {
            return None;
        };
        let why = reason.as_deref().unwrap_or("EC2 does not say why");
        Some(format!(
            "{} is stopped ({why})",
            member_name(&desired.name, entry.ordinal)
        ))
    });
    let all: Vec<_> = stopped.collect();
    if all.is_empty() {
        return String::new();
    }
    format!("; {}: started again after 2 seconds to 5 minutes", all.join(", "))
}

/// Instances that are taken for members by their tags, and what to do about them.
fn strays(findings: Findings<'_>) -> Option<String> {
    let strays: Vec<&Instance> = plan::strays(findings.ledger, findings.seen);
    if strays.is_empty() {
        return None;
    }
    let ids: Vec<_> = strays.iter().map(|instance| instance.id.as_str()).collect();
    let token = |instance: &Instance| instance.client_token.as_deref().is_some_and(is_our_token);
    let hint = if strays.iter().any(|instance| token(instance)) {
        "they were launched by this operator; terminate those that are not needed"
    } else {
        "somebody gave them this cluster's tags; remove them"
    };
    let ids = ids.join(", ");
    Some(format!(
        "instances carry this cluster's identity ({OPERATOR_ID} and UID) and are none of its members: {ids}; {hint}"
    ))
}

/// What members are held for: those that are to be there, and those that are to go.
fn holds(findings: Findings<'_>, replicas: i32) -> impl Iterator<Item = &Hold> {
    let Findings { ledger, evidence, .. } = findings;
    let leaves = |ordinal| {
        let entry = ledger.get(ordinal);
        entry.is_some_and(|entry| entry.phase != LaunchPhase::Over)
    };
    let concerned = evidence.holds().filter(move |(n, _)| *n < replicas || leaves(*n));
    concerned.map(|(_, hold)| hold)
}

pub(super) fn credentials(findings: Findings<'_>, replicas: i32) -> DesiredCondition {
    let denied = holds(findings, replicas).find(|hold| hold.verdict == Verdict::Denied);
    let denied = denied.map(|hold| hold.message.as_str());
    match denied.or_else(|| findings.evidence.account_doubt()) {
        Some(message) => condition(
            ConditionType::CredentialsValid,
            false,
            Reason::CredentialsInvalid,
            message,
        ),
        None => condition(
            ConditionType::CredentialsValid,
            true,
            Reason::CredentialsAccepted,
            "AWS accepts the operator's credentials",
        ),
    }
}

/// That every member has the current spec, and of which it is not known.
fn current(findings: Findings<'_>, desired: &Desired) -> String {
    let entries = findings.ledger.entries().iter();
    let unknown = entries.filter(|entry| entry.phase == LaunchPhase::Launched && entry.revision.is_none());
    let names: Vec<_> = unknown
        .map(|entry| member_name(&desired.name, entry.ordinal))
        .collect();
    if names.is_empty() {
        return "every member has the current spec".to_owned();
    }
    format!(
        "every member has the current spec, but for those of which it is not known, for they were taken over or launched before it was recorded, and which stay as they are: {}; a replica whose instance is terminated comes back with the current spec",
        names.join(", ")
    )
}

/// The members' tags, where everything else of them is as the spec says.
fn tags(findings: Findings<'_>, desired: &Desired) -> DesiredCondition {
    let mistagged = findings.seen.mistagged.iter();
    let names: Vec<_> = mistagged
        .map(|ordinal| member_name(&desired.name, *ordinal))
        .collect();
    if names.is_empty() {
        return condition(
            ConditionType::UpToDate,
            true,
            Reason::MembersCurrent,
            current(findings, desired),
        );
    }
    let what = findings.evidence.tag_refusal().map_or_else(
        || "they are given one member at a time".to_owned(),
        |refusal| format!("EC2 refuses them ({refusal}); they are tried again every five minutes and when the spec changes"),
    );
    let message = format!(
        "these have other tags than the spec says: {}; {what}",
        names.join(", ")
    );
    condition(ConditionType::UpToDate, false, Reason::TagsOutdated, message)
}

pub(super) fn up_to_date(findings: Findings<'_>, (desired, turn): (&Desired, &Turn)) -> DesiredCondition {
    let outdated = rollout::outdated(desired, findings.ledger);
    let mut names: Vec<_> = outdated
        .iter()
        .map(|entry| member_name(&desired.name, entry.ordinal))
        .collect();
    if let Turn::Replace(ordinal) = turn {
        // It is on its way out already.
        let leaving = member_name(&desired.name, *ordinal);
        if !names.contains(&leaving) {
            names.push(leaving);
        }
    }
    if names.is_empty() {
        return tags(findings, desired);
    }
    let what = match turn {
        Turn::Waiting(Obstacle::TooFew) => {
            "with fewer than three members none can be replaced without a stop; set replicas to 3, and lower it again when they are replaced"
        }
        Turn::Waiting(Obstacle::Protected) => {
            "termination protection keeps them from being replaced; set aws.terminationProtection to false, and take it off the instances in EC2"
        }
        _ => "they are replaced one at a time, replicas first, as long as everything works",
    };
    let message = format!("these have an older spec: {}; {what}", names.join(", "));
    condition(ConditionType::UpToDate, false, Reason::MembersOutdated, message)
}

/// From how many members there are to be, and how many replicas acknowledge to the leader, if it answered.
pub(super) fn fault_tolerant(replicas: i32, acknowledging: Option<u32>) -> DesiredCondition {
    let say = |message: &str| {
        condition(
            ConditionType::FaultTolerant,
            false,
            Reason::TooFewMembers,
            message,
        )
    };
    // Without one of them half of the members still acknowledge.
    let enough = u32::try_from(replicas / 2).unwrap_or_default() + 1;
    let acknowledging = acknowledging.unwrap_or_default();
    match replicas {
        ..=1 => say(
            "one member: its loss is the loss of the only copy; three members survive the loss of any one",
        ),
        2 => say(
            "two members: the loss of one stops writes while durability is Lossless; three survive the loss of any one",
        ),
        _ if acknowledging < enough => condition(
            ConditionType::FaultTolerant,
            false,
            Reason::Forming,
            format!(
                "{acknowledging} replicas acknowledge, and the loss of any one member is survived with {enough}"
            ),
        ),
        _ => condition(
            ConditionType::FaultTolerant,
            true,
            Reason::Redundant,
            "the loss of any one member is survived",
        ),
    }
}

pub(super) fn backup(cluster: &MySQLCluster) -> Option<DesiredCondition> {
    let backup = cluster.spec.backup.as_ref()?;
    Some(if backup.enabled {
        condition(
            ConditionType::BackupReady,
            false,
            Reason::NotImplemented,
            "backups of members on EC2 are not implemented yet: none is taken",
        )
    } else {
        condition(
            ConditionType::BackupReady,
            false,
            Reason::NotRequested,
            "backup.enabled is false: none is taken",
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1, Some(0), "False", "TooFewMembers")]
    #[case(2, Some(1), "False", "TooFewMembers")]
    #[case(3, None, "False", "Forming")]
    #[case(3, Some(1), "False", "Forming")]
    #[case(3, Some(2), "True", "Redundant")]
    #[case(5, Some(2), "False", "Forming")]
    #[case(5, Some(3), "True", "Redundant")]
    fn the_loss_of_a_member_is_survived_by_replicas_that_acknowledge_not_by_those_that_are_wanted(
        #[case] replicas: i32,
        #[case] acknowledging: Option<u32>,
        #[case] status: &str,
        #[case] reason: &str,
    ) {
        let condition = fault_tolerant(replicas, acknowledging);
        assert_eq!((condition.status.as_str(), condition.reason), (status, reason));
    }
}
