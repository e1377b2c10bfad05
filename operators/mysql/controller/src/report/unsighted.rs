//! What is reported while EC2 does not show a cluster's instances: MySQL as it is now, instances as they were shown last.

use jiff::{SignedDuration, Timestamp};
use mysql_api::{ConditionType, MySQLClusterStatus, cluster::Phase};
use reconcile::conditions::{ConditionStatus, DesiredCondition};

use super::{Findings, condition, fault_tolerant, members, put, replicating, serving};
use crate::{
    cloud::CloudError,
    controllers::mysqlcluster::Formed,
    desired::Desired,
    outcome::{Verdict, verdict},
};

/// A look may fail now and then: it is said when the last one that did not is older than this.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// EC2 does not show the instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it showed them last.
    pub since: Timestamp,
    verdict: Verdict,
    message: String,
}

impl Outage {
    /// It answered like this, and showed them last at that moment.
    pub fn new(error: &CloudError, since: Timestamp) -> Self {
        Self {
            since,
            verdict: verdict(error),
            message: error.to_string(),
        }
    }

    /// What is said of it at `now`, if anything is.
    fn conditions(&self, now: Timestamp) -> Vec<DesiredCondition> {
        let denied = self.verdict == Verdict::Denied;
        if !denied && now.duration_since(self.since) < PATIENCE {
            return Vec::new();
        }
        let reason = self.verdict.reason();
        let message = format!(
            "EC2 has not shown the instances since {} ({}): MySQL is looked after on them as they were then, and nothing is launched, replaced or removed",
            self.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            self.message
        );
        let unknown = condition(
            ConditionType::Provisioned,
            ConditionStatus::Unknown,
            reason,
            message,
        );
        let credentials = condition(ConditionType::CredentialsValid, false, reason, &self.message);
        [unknown]
            .into_iter()
            .chain(denied.then_some(credentials))
            .collect()
    }
}

/// The status of a cluster that is wanted and whose instances are not shown.
pub fn unsighted(
    findings: Findings<'_>,
    desired: &Desired,
    formed: &Formed,
    (outage, now): (&Outage, Timestamp),
) -> MySQLClusterStatus {
    let mut status = members(findings, now);
    serving(&mut status, desired, formed);
    let ready = replicating(formed);
    status.phase = match (ready.status, status.phase) {
        (ConditionStatus::True, _) => Some(Phase::Running),
        (_, Some(Phase::Running)) => Some(Phase::Provisioned),
        (_, phase) => phase,
    };
    let parts = [ready, fault_tolerant(desired.replicas, formed.acknowledging)];
    let parts = parts.into_iter().chain(outage.conditions(now));
    put(&mut status, parts, findings.cluster, now);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(code: &str) -> Outage {
        let error = CloudError {
            action: "DescribeInstances",
            code: Some(code.into()),
            message: "no".into(),
        };
        Outage::new(&error, Timestamp::UNIX_EPOCH)
    }

    fn said(outage: &Outage, after: i64) -> Vec<(&'static str, ConditionStatus, &'static str)> {
        let now = Timestamp::from_second(after).unwrap();
        let all = outage.conditions(now).into_iter();
        all.map(|one| (one.type_, one.status, one.reason)).collect()
    }

    #[test]
    fn a_look_that_fails_once_is_no_outage_and_one_that_is_denied_is_said_at_once() {
        let unknown = |reason| ("Provisioned", ConditionStatus::Unknown, reason);
        assert_eq!(said(&outage("InternalError"), 119), []);
        assert_eq!(said(&outage("InternalError"), 120), [unknown("AWSAPIError")]);
        let denied = ("CredentialsValid", ConditionStatus::False, "CredentialsInvalid");
        assert_eq!(
            said(&outage("UnauthorizedOperation"), 0),
            [unknown("CredentialsInvalid"), denied]
        );
    }

    #[test]
    fn how_old_the_last_sight_is_is_said_without_a_clock_that_goes_on() {
        let say = |after| outage("InternalError").conditions(Timestamp::from_second(after).unwrap());
        assert!(
            say(200)[0].message.contains("since 1970-01-01T00:00:00Z"),
            "{:?}",
            say(200)
        );
        assert_eq!(say(200)[0].message, say(2000)[0].message);
    }
}
