//! What is reported of a cluster that was formed and whose spec cannot be carried out: the refusal, and MySQL as it is.

use jiff::Timestamp;
use mysql_api::{ConditionType, MySQLClusterStatus};

use super::{Findings, condition, fault_tolerant, members, put, serving};
use crate::{
    controllers::mysqlcluster::Formed,
    desired::{Group, SpecError},
};

/// The status of a cluster whose spec cannot be carried out, while its members are looked after as they are.
pub fn refused(
    findings: Findings<'_>,
    (group, formed): (&Group, &Formed),
    error: &SpecError,
    now: Timestamp,
) -> MySQLClusterStatus {
    let mut status = members(findings, now);
    serving(&mut status, group, formed);
    let lacking = formed.lacking.as_ref();
    let lacking = lacking.map_or_else(String::new, |(_, what)| format!("; {what}"));
    let message = format!(
        "{}; until the spec is corrected the members are looked after as they are, and nothing is launched, replaced or removed{lacking}",
        error.message
    );
    let parts = [ConditionType::Ready, ConditionType::Provisioned]
        .map(|type_| condition(type_, false, error.reason, &message));
    let tolerant = fault_tolerant(group.replicas, formed.acknowledging);
    put(
        &mut status,
        parts.into_iter().chain([tolerant]),
        findings.cluster,
        now,
    );
    status
}
