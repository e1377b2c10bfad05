//! What is reported: status as a pure function of what was observed.
//!
//! No clock, counter or request id is in a message: a status that differs on every pass would wake its own controller
//! for ever.

mod parts;
mod refused;
mod unsighted;

use jiff::Timestamp;
use mysql_api::{
    ConditionType, MySQLCluster, MySQLClusterStatus, Reason,
    cluster::{ABANDON, Binding, Endpoints, Launch, LaunchPhase, Member, Phase, Role},
};
use reconcile::conditions::{self, ConditionStatus, DesiredCondition};

use self::parts::{backup, credentials, fault_tolerant, provisioned, up_to_date};
pub use self::{
    refused::refused,
    unsighted::{Outage, unsighted},
};
use crate::{
    controllers::mysqlcluster::Formed,
    desired::{Desired, Group},
    endpoints::{Side, binding_name},
    evidence::{Evidence, Sighting},
    identity::member_name,
    ledger::Ledger,
    plan::Seen,
    replication::Standing,
    rollout::Turn,
};

/// Everything that a report speaks of.
#[derive(Clone, Copy)]
pub struct Findings<'a> {
    /// The object.
    pub cluster: &'a MySQLCluster,
    /// The ledger after the pass.
    pub ledger: &'a Ledger,
    /// What was seen.
    pub seen: &'a Seen,
    /// What is remembered.
    pub evidence: &'a Evidence,
}

/// One condition.
fn condition(
    type_: ConditionType,
    status: impl Into<ConditionStatus>,
    reason: Reason,
    message: impl Into<String>,
) -> DesiredCondition {
    DesiredCondition::new(type_.as_str(), status, reason.as_str(), message)
}

/// The status of a cluster that is wanted.
pub fn wanted(
    findings: Findings<'_>,
    (desired, turn): (&Desired, &Turn),
    formed: &Formed,
    now: Timestamp,
) -> MySQLClusterStatus {
    let mut status = members(findings, now);
    serving(&mut status, &desired.group(), formed);
    let running = status
        .members
        .iter()
        .filter(|member| member.state.as_deref() == Some("running"))
        .count();
    let provisioned = provisioned(findings, desired, running);
    status.phase = Some(match (provisioned.status, provisioned.reason) {
        (ConditionStatus::True, _) => Phase::Provisioned,
        (
            _,
            "Pending"
            | "Launching"
            | "WaitingForInstances"
            | "Replacing"
            | "ScalingDown"
            | "TerminationProtected",
        ) => Phase::Pending,
        _ => Phase::ProvisioningFailed,
    });
    status.region = Some(desired.region.clone());
    let ready = ready(&provisioned, formed);
    if ready.status == ConditionStatus::True {
        status.phase = Some(Phase::Running);
    }
    let parts = [
        ready,
        provisioned,
        credentials(findings, desired.replicas),
        up_to_date(findings, (desired, turn)),
        fault_tolerant(desired.replicas, formed.acknowledging),
    ];
    put(
        &mut status,
        parts.into_iter().chain(backup(findings.cluster)),
        findings.cluster,
        now,
    );
    status
}

/// The status of a cluster whose spec cannot be carried out, or whose cloud cannot be looked at.
pub fn prevented(
    cluster: &MySQLCluster,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> MySQLClusterStatus {
    let mut status = without_intent(cluster);
    let launched = !status.members.is_empty();
    if !launched {
        status.phase = Some(Phase::ProvisioningFailed);
    }
    let spec_is_wrong = matches!(
        reason,
        Reason::SpecInvalid
            | Reason::OptionsInvalid
            | Reason::BackendUnavailable
            | Reason::AdoptionImpossible
    );
    let mut parts = vec![condition(ConditionType::Ready, false, reason, message)];
    if spec_is_wrong || !launched {
        parts.push(condition(ConditionType::Provisioned, false, reason, message));
    }
    if reason == Reason::CredentialsInvalid {
        parts.push(condition(ConditionType::CredentialsValid, false, reason, message));
    }
    put(&mut status, parts, cluster, now);
    status
}

/// The status of a cluster that is being deleted.
pub fn ending(findings: Findings<'_>, now: Timestamp) -> MySQLClusterStatus {
    let mut status = members(findings, now);
    status.phase = Some(Phase::Terminating);
    status.region.clone_from(
        &findings
            .cluster
            .status
            .as_ref()
            .and_then(|status| status.region.clone()),
    );
    let blocked = (0..=8).find_map(|ordinal| findings.evidence.held(ordinal));
    let unresolved = findings
        .ledger
        .entries()
        .iter()
        .any(|entry| entry.phase == LaunchPhase::Launching);
    let ready = condition(
        ConditionType::Ready,
        false,
        Reason::Terminating,
        "instances are being terminated",
    );
    let deletion = match blocked {
        Some(hold) if hold.is_protected() => condition(
            ConditionType::DeletionBlocked,
            true,
            Reason::TerminationProtected,
            format!(
                "{}; take the protection off in EC2, the deletion then goes on by itself",
                hold.message
            ),
        ),
        Some(hold) => obstructed(findings.cluster, hold.verdict.reason(), &hold.message),
        None if let Some(why) = findings.evidence.account_doubt() => {
            obstructed(findings.cluster, Reason::CredentialsInvalid, why)
        }
        None if unresolved => condition(
            ConditionType::DeletionBlocked,
            false,
            Reason::LaunchUnresolved,
            "a launch whose outcome is unknown is being looked for, for up to five minutes",
        ),
        None => condition(
            ConditionType::DeletionBlocked,
            false,
            Reason::Terminating,
            "nothing blocks the deletion",
        ),
    };
    put(&mut status, [ready, deletion], findings.cluster, now);
    status
}

/// The status of a cluster that is being deleted whose members are gone, and of which EC2 shows these still.
pub fn lingering(cluster: &MySQLCluster, mut ids: Vec<String>, now: Timestamp) -> MySQLClusterStatus {
    let mut status = without_intent(cluster);
    status.phase = Some(Phase::Terminating);
    ids.sort();
    let message = format!(
        "the instances are terminated; waiting until EC2 does not show these any more: {}",
        ids.join(", ")
    );
    let parts = [ConditionType::Ready, ConditionType::DeletionBlocked]
        .map(|type_| condition(type_, false, Reason::Terminating, &message));
    put(&mut status, parts, cluster, now);
    status
}

/// The status of a cluster that is being deleted while its cloud cannot be asked.
pub fn unending(cluster: &MySQLCluster, reason: Reason, message: &str, now: Timestamp) -> MySQLClusterStatus {
    let mut status = without_intent(cluster);
    status.phase = Some(Phase::Terminating);
    let ready = condition(
        ConditionType::Ready,
        false,
        Reason::Terminating,
        "the deletion has begun",
    );
    put(
        &mut status,
        [ready, obstructed(cluster, reason, message)],
        cluster,
        now,
    );
    status
}

/// What keeps a deletion from going on, and how to end it all the same.
fn obstructed(cluster: &MySQLCluster, reason: Reason, message: &str) -> DesiredCondition {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let message = format!(
        "{message}; it is tried again. To end the deletion all the same and leave what is left to EC2, annotate the object with {ABANDON}={uid}"
    );
    condition(ConditionType::DeletionBlocked, true, reason, message)
}

/// What members do, and where clients find them.
fn serving(status: &mut MySQLClusterStatus, group: &Group, formed: &Formed) {
    for member in &mut status.members {
        if let Some(certificate) = formed.certificates.get(&member.ordinal) {
            member.certificate = Some(certificate.clone());
        }
        member.role = match formed.standings.get(&member.ordinal) {
            _ if formed.kept == Some(member.ordinal) => Some(Role::Primary),
            Some(Standing::Leads) => Some(Role::Primary),
            Some(Standing::Follows) => Some(Role::Replica),
            Some(Standing::Idle) | None => None,
        };
    }
    let leader = status
        .members
        .iter()
        .find(|member| member.role == Some(Role::Primary));
    status.primary = leader.map(|member| member.name.clone());
    let serving = status
        .members
        .iter()
        .filter(|member| member.role.is_some() && formed.kept != Some(member.ordinal))
        .count();
    status.replicas_ready = i32::try_from(serving).ok();
    status.ready = Some(format!("{serving}/{}", group.replicas));
    if formed.bound {
        let (name, namespace) = (&group.name, &group.namespace);
        status.endpoints = Some(Endpoints {
            read_endpoint: Some(Side::Readers.endpoint(name, namespace)),
            write_endpoint: Some(Side::Writer.endpoint(name, namespace)),
        });
        status.binding = Some(Binding {
            name: binding_name(name),
        });
    }
}

/// The summary: instances first, then what runs on them.
fn ready(provisioned: &DesiredCondition, formed: &Formed) -> DesiredCondition {
    if provisioned.status != ConditionStatus::True {
        return DesiredCondition {
            type_: ConditionType::Ready.as_str(),
            ..provisioned.clone()
        };
    }
    replicating(formed)
}

/// The summary of what runs on the instances.
fn replicating(formed: &Formed) -> DesiredCondition {
    match &formed.lacking {
        Some((reason, message)) => condition(ConditionType::Ready, false, *reason, message),
        None => condition(
            ConditionType::Ready,
            true,
            Reason::Replicating,
            "the primary takes writes and every replica follows it",
        ),
    }
}

/// The status of a cluster that a person paused: what was observed last.
pub fn paused(cluster: &MySQLCluster, now: Timestamp) -> MySQLClusterStatus {
    let mut status = without_intent(cluster);
    let condition = condition(
        ConditionType::Paused,
        true,
        Reason::Paused,
        "spec.paused is true: nothing is launched, changed or healed until it is false; a deletion goes on",
    );
    let _ = conditions::set(
        &mut status.conditions,
        condition,
        cluster.metadata.generation,
        now,
    );
    status
}

fn put(
    status: &mut MySQLClusterStatus,
    parts: impl IntoIterator<Item = DesiredCondition>,
    cluster: &MySQLCluster,
    now: Timestamp,
) {
    let generation = cluster.metadata.generation;
    status.observed_generation = generation;
    conditions::remove(&mut status.conditions, ConditionType::Paused.as_str());
    for part in parts {
        let _ = conditions::set(&mut status.conditions, part, generation, now);
    }
}

/// What was reported last, less the intent.
fn without_intent(cluster: &MySQLCluster) -> MySQLClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    status.launches = Vec::new();
    status.topology = None;
    status
}

fn members(findings: Findings<'_>, _: Timestamp) -> MySQLClusterStatus {
    let name = findings.cluster.metadata.name.as_deref().unwrap_or_default();
    let existing = findings
        .ledger
        .entries()
        .iter()
        .filter(|entry| entry.phase != LaunchPhase::Over);
    let last = findings
        .cluster
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.members);
    let members: Vec<Member> = existing
        .map(|entry| member(name, entry, findings.seen, last))
        .collect();
    let mut status = without_intent(findings.cluster);
    status.replicas = i32::try_from(members.len()).ok();
    status.aws_instance_ids = members
        .iter()
        .filter_map(|member| member.instance_id.clone())
        .collect();
    status.members = members;
    status.selector = Some(format!("mysql.alx.ke/cluster={name}").chars().take(253).collect());
    status
}

/// One member. What was pinned for its instance stays pinned, and where it was is said while it is not shown.
fn member(cluster: &str, entry: &Launch, seen: &Seen, last: &[Member]) -> Member {
    let id = entry.instance_id.as_deref();
    let shown = id.and_then(|id| seen.instance(id));
    let mut last = last.iter();
    let last = last.find(|member| id.is_some() && member.instance_id.as_deref() == id);
    let state = id.map(|id| match seen.sightings.get(id) {
        Some(Sighting::Seen { state, .. }) => state.as_str(),
        Some(Sighting::Gone) => "terminated",
        Some(Sighting::Missing | Sighting::Unmarked) | None => "unknown",
    });
    Member {
        name: member_name(cluster, entry.ordinal),
        ordinal: entry.ordinal,
        incarnation: entry.incarnation,
        instance_id: entry.instance_id.clone(),
        zone: shown
            .and_then(|instance| instance.zone.clone())
            .or_else(|| seen.zones.get(&entry.subnet_id).cloned()),
        state: state.map(str::to_owned),
        // An instance keeps its address as long as it exists.
        private_ip: match shown {
            Some(instance) => instance.private_ip.clone(),
            None => last.and_then(|member| member.private_ip.clone()),
        },
        role: None,
        certificate: last.and_then(|member| member.certificate.clone()),
    }
}
