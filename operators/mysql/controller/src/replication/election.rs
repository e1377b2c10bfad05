//! Who leads where nobody is recorded to. Pure.

use mysql_api::{Reason, cluster::Topology};

use super::{Goal, Member, Plan};

/// The first leader: member 0, once every member is there and none has any data. Where members were adopted only they can
/// have any, and the others are not waited for.
pub(super) fn first(goal: &Goal, members: &[Member]) -> Plan {
    let awaited: Vec<i32> = if goal.adopted.is_empty() {
        (0..goal.replicas).collect()
    } else {
        goal.adopted.iter().copied().collect()
    };
    let silent: Vec<_> = awaited
        .into_iter()
        .filter_map(
            |ordinal| match members.iter().find(|member| member.ordinal == ordinal) {
                Some(member) if member.survey.is_some() => None,
                Some(member) => Some(format!(
                    "{} ({})",
                    member.name,
                    member.trouble.as_deref().unwrap_or("not asked yet")
                )),
                None => Some(format!("member {ordinal}")),
            },
        )
        .collect();
    if !silent.is_empty() {
        let message = format!("waiting for MySQL on {}", silent.join(", "));
        return Plan::waiting(goal, members, Reason::Forming, message);
    }
    let full: Vec<_> = members
        .iter()
        .filter(|member| {
            member
                .survey
                .as_ref()
                .is_some_and(|survey| !survey.executed.is_empty())
        })
        .map(|member| member.name.as_str())
        .collect();
    if !full.is_empty() {
        if let Some(leader) = followed(members, !goal.adopted.is_empty()) {
            return elected(goal, members, leader);
        }
        let message = format!(
            "no primary is recorded, and these members have data: {}; delete and create the cluster anew, or record status.topology by hand",
            full.join(", ")
        );
        return Plan::waiting(goal, members, Reason::Ambiguous, message);
    }
    match members.iter().find(|member| member.ordinal == 0) {
        Some(zero) => elected(goal, members, zero),
        None => Plan::waiting(goal, members, Reason::Forming, "member 0 is missing".into()),
    }
}

/// This member is to be recorded as the leader.
fn elected(goal: &Goal, members: &[Member], leader: &Member) -> Plan {
    let mut plan = Plan::waiting(
        goal,
        members,
        Reason::Forming,
        "the primary is being chosen".into(),
    );
    plan.elect = leader.survey.as_ref().map(|survey| Topology {
        primary: leader.ordinal,
        server_uuid: survey.uuid.clone(),
    });
    plan
}

/// The member that all others follow, while it follows nobody and lacks nothing that they have: it led when nobody
/// recorded it. Beside members that were `adopted` one without data that follows nobody is new, and says nothing about that.
fn followed(members: &[Member], adopted: bool) -> Option<&Member> {
    let leads = |head: &&Member| {
        let (Some(address), Some(survey)) = (&head.address, &head.survey) else {
            return false;
        };
        let is_new = |member: &Member| {
            let theirs = member.survey.as_ref();
            let is_bare =
                theirs.is_none_or(|theirs| theirs.executed.is_empty() && theirs.replication.is_none());
            adopted && is_bare
        };
        let mut others = members
            .iter()
            .filter(|member| member.ordinal != head.ordinal && !is_new(member));
        survey.replication.is_none()
            && others.all(|member| {
                member.survey.as_ref().is_some_and(|theirs| {
                    let source = theirs.replication.as_ref().map(|replication| &replication.source);
                    source == Some(&address.host) && theirs.executed.is_within(&survey.executed)
                })
            })
    };
    members.iter().find(leads)
}
