//! What is reported while EC2 does not show a cluster's instances: MySQL as it is now, instances as they were shown last.

use jiff::{SignedDuration, Timestamp};
use mysql_api::{ConditionType, MySQLClusterStatus, cluster::Phase};
use reconcile::conditions::{ConditionStatus, DesiredCondition};

use super::{Findings, condition, fault_tolerant, members, put, replicating, serving};
use crate::{
    cloud::CloudError,
    controllers::mysqlcluster::Formed,
    desired::Group,
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
        let what =
            "MySQL is looked after on them as they were then, and nothing is launched, replaced or removed";
        let unknown = self.unknown(ConditionType::Provisioned, what);
        let reason = self.verdict.reason();
        let credentials = condition(ConditionType::CredentialsValid, false, reason, &self.message);
        [unknown]
            .into_iter()
            .chain(denied.then_some(credentials))
            .collect()
    }

    fn unknown(&self, type_: ConditionType, what: &str) -> DesiredCondition {
        let message = format!(
            "EC2 has not shown the instances since {} ({}): {what}",
            self.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            self.message
        );
        condition(type_, ConditionStatus::Unknown, self.verdict.reason(), message)
    }
}

/// The status of a cluster that is wanted and whose instances are not shown.
///
/// Of a spec that is new nothing was compared with the instances: that is said at once. And the summary becomes no better
/// than it was when they were shown last: members that were on their way then are not known to have come.
pub fn unsighted(
    findings: Findings<'_>,
    group: &Group,
    formed: &Formed,
    (outage, now): (&Outage, Timestamp),
) -> MySQLClusterStatus {
    let mut status = members(findings, now);
    let is_new = status.observed_generation != findings.cluster.metadata.generation;
    serving(&mut status, group, formed);
    let ready = replicating(formed);
    let serves = ready.status == ConditionStatus::True;
    let were_running = matches!(status.phase, Some(Phase::Provisioned | Phase::Running));
    if were_running {
        status.phase = Some(if serves {
            Phase::Running
        } else {
            Phase::Provisioned
        });
    }
    let ready = (were_running || !serves).then_some(ready);
    let what = "what the spec says now is compared with them when it shows them again";
    let untried = is_new.then(|| outage.unknown(ConditionType::UpToDate, what));
    let parts = [fault_tolerant(group.replicas, formed.acknowledging)];
    let parts = parts.into_iter().chain(ready).chain(untried);
    put(
        &mut status,
        parts.chain(outage.conditions(now)),
        findings.cluster,
        now,
    );
    status
}

#[cfg(test)]
mod tests {
    use mysql_api::{MySQLCluster, Reason, cluster::LaunchPhase};
    use reconcile::conditions;

    use super::*;
    use crate::{
        desired::tests::{desired, spec},
        evidence::Evidence,
        ledger::Ledger,
        plan::{Seen, tests::entry},
    };

    fn outage(code: &str) -> Outage {
        let error = CloudError {
            action: "DescribeInstances",
            code: Some(code.into()),
            declined: false,
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

    /// What is reported at the beginning of an outage of a cluster of this spec that was reported so before.
    fn report(generation: i64, before: MySQLClusterStatus) -> MySQLClusterStatus {
        let mut cluster = MySQLCluster::new("c", spec(3));
        cluster.metadata.generation = Some(generation);
        cluster.status = Some(before);
        let ledger = Ledger::new(vec![entry(0, LaunchPhase::Launched, Some("i-0"))]);
        let findings = Findings {
            cluster: &cluster,
            ledger: &ledger,
            seen: &Seen::default(),
            evidence: &Evidence::default(),
        };
        let now = Timestamp::from_second(1).unwrap();
        let outage = outage("InternalError");
        unsighted(findings, &desired(3).group(), &Formed::default(), (&outage, now))
    }

    fn reported(phase: Phase, provisioned: bool, reason: Reason) -> MySQLClusterStatus {
        let mut status = MySQLClusterStatus {
            phase: Some(phase),
            observed_generation: Some(1),
            ..MySQLClusterStatus::default()
        };
        let up_to_date = condition(ConditionType::UpToDate, true, Reason::MembersCurrent, "");
        let parts = [ConditionType::Ready, ConditionType::Provisioned]
            .map(|type_| condition(type_, provisioned, reason, ""));
        for part in parts.into_iter().chain([up_to_date]) {
            let _ = conditions::set(&mut status.conditions, part, Some(1), Timestamp::UNIX_EPOCH);
        }
        status
    }

    fn found(status: &MySQLClusterStatus, type_: &str) -> (String, String) {
        let found = conditions::find(&status.conditions, type_).unwrap();
        (found.status.clone(), found.reason.clone())
    }

    fn pair(status: &str, reason: &str) -> (String, String) {
        (status.to_owned(), reason.to_owned())
    }

    #[test]
    fn of_a_new_spec_it_is_said_at_once_that_it_was_compared_with_nothing() {
        let before = || reported(Phase::Running, true, Reason::InstancesRunning);
        let same = report(1, before());
        assert_eq!(found(&same, "UpToDate"), pair("True", "MembersCurrent"));
        let new = report(2, before());
        assert_eq!(found(&new, "UpToDate"), pair("Unknown", "AWSAPIError"));
        assert_eq!(new.observed_generation, Some(2));
        assert_eq!(
            found(&new, "Ready"),
            pair("True", "Replicating"),
            "those that were there serve"
        );
        let later = report(2, new);
        assert_eq!(found(&later, "UpToDate"), pair("Unknown", "AWSAPIError"));
    }

    #[test]
    fn members_that_were_on_their_way_are_not_taken_to_have_come() {
        let before = reported(Phase::Pending, false, Reason::Launching);
        let after = report(1, before);
        assert_eq!(after.phase, Some(Phase::Pending));
        assert_eq!(found(&after, "Ready"), pair("False", "Launching"));
    }
}
