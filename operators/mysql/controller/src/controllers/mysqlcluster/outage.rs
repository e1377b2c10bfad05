//! Passes while EC2 does not show a cluster's instances: MySQL on them is looked after as they were shown last.
//!
//! # Guarantees
//! - Nothing is launched, terminated, started, tagged, replaced or removed, and no other member takes the leader's place.
//! - What a server does is asked of itself, and it is known by its certificate: another machine at its address is not taken
//!   for it. So clients are told of what answers now, on instances as they were known last.

use std::time::Duration;

use mysql_api::cluster::{LaunchPhase, Member};
use parking_lot::Mutex;
use reconcile::{Pass, Progress};

use super::{
    CHANGED_AGAIN, ClusterError, Clusters, LACKING_AGAIN, MySQLCluster, expect, forming::Forming, story,
};
use crate::{
    authority::Authority,
    cloud::{CloudError, Instance, InstanceState, Instances},
    desired::Desired,
    evidence::{Evidence, Sighting},
    ledger::Ledger,
    outcome::verdict,
    plan::Seen,
    report::{self, Findings, Outage},
    server::Servers,
};

/// How soon EC2 is asked again where MySQL lacks nothing.
const AGAIN: Duration = Duration::from_secs(30);

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// One pass without a sight of the instances. Where none was ever seen, there is nothing to look after.
    pub(super) async fn go_on(
        &self,
        pass: &Pass<MySQLCluster>,
        (desired, authority): (&Desired, &Authority),
        (ledger, evidence): (&Ledger, &Mutex<Evidence>),
        error: CloudError,
    ) -> Result<Progress, ClusterError> {
        let before = pass.current();
        let members = before.status.as_ref().map_or(&[][..], |status| &status.members);
        let seen = shown_last(members, ledger);
        if seen.sightings.is_empty() {
            self.prevented(pass, verdict(&error).reason(), &error.to_string())
                .await?;
            return Err(error.into());
        }
        let now = pass.clock().now();
        let outage = Outage::new(&error, evidence.lock().sighted_last(now));
        let forming = Forming {
            pass,
            operator: &self.operator,
            servers: &self.servers,
            desired,
            authority,
            evidence,
            sighted: false,
            refusals: Mutex::default(),
        };
        let formed = forming.run(ledger, &seen).await?;
        let status = {
            let (cluster, evidence) = (pass.current(), evidence.lock());
            let findings = Findings {
                cluster: &cluster,
                ledger,
                seen: &seen,
                evidence: &evidence,
            };
            report::unsighted(findings, desired, &formed, (&outage, pass.clock().now()))
        };
        pass.write_status(&status).await?;
        story::tell(pass, story::turns(before.status.as_ref(), &status)).await;
        let soon = match &formed.lacking {
            _ if formed.changed => CHANGED_AGAIN,
            Some(_) => LACKING_AGAIN,
            None => AGAIN,
        };
        expect(pass, evidence, soon);
        Err(ClusterError::OutOfSight { error, again: soon })
    }
}

/// The instances of the ledger as the members were reported last.
fn shown_last(members: &[Member], ledger: &Ledger) -> Seen {
    let mut seen = Seen::default();
    for member in members {
        let launched = |phase| phase == LaunchPhase::Launched;
        let entry = ledger.get(member.ordinal).filter(|entry| launched(entry.phase));
        let Some(id) = entry.and_then(|entry| entry.instance_id.as_ref()) else {
            continue;
        };
        if member.instance_id.as_ref() != Some(id) {
            continue;
        }
        let state = member.state.as_deref().and_then(InstanceState::parse);
        let sighting = state.map_or(Sighting::Missing, |state| Sighting::Seen { state, reason: None });
        seen.sightings.insert(id.clone(), sighting);
        let instance = Instance {
            id: id.clone(),
            // One that listings did not show was taken for what it was before.
            state: state.unwrap_or(InstanceState::Running),
            reason: None,
            tags: std::collections::BTreeMap::new(),
            client_token: None,
            zone: member.zone.clone(),
            private_ip: member.private_ip.clone(),
            subnet: None,
            launched_at: None,
        };
        seen.unlisted.push(instance);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::entry;

    fn member(ordinal: i32, id: &str, state: &str) -> Member {
        Member {
            ordinal,
            instance_id: Some(id.into()),
            state: Some(state.into()),
            private_ip: Some("10.0.0.4".into()),
            ..Member::default()
        }
    }

    #[test]
    fn members_are_known_as_they_were_reported_and_only_those_that_the_ledger_still_has() {
        let ledger = Ledger::new(vec![
            entry(0, LaunchPhase::Launched, Some("i-0")),
            entry(1, LaunchPhase::Launched, Some("i-1")),
            entry(2, LaunchPhase::Launched, Some("i-newer")),
            entry(3, LaunchPhase::Retiring, Some("i-3")),
        ]);
        let reported = [
            member(0, "i-0", "running"),
            member(1, "i-1", "stopped"),
            member(2, "i-older", "running"),
            member(3, "i-3", "running"),
        ];
        let seen = shown_last(&reported, &ledger);
        let state = |id: &str| seen.instance(id).map(|instance| instance.state);
        assert_eq!(state("i-0"), Some(InstanceState::Running));
        assert_eq!(state("i-1"), Some(InstanceState::Stopped));
        assert_eq!(
            (state("i-older"), state("i-newer"), state("i-3")),
            (None, None, None)
        );
    }
}
