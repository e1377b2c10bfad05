//! Passes while EC2 does not show a cluster's instances, or its spec cannot be carried out: MySQL on them is looked after as
//! they were shown last.
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
    CHANGED_AGAIN, ClusterError, Clusters, Formed, LACKING_AGAIN, MySQLCluster, expect, forming::Forming,
    ledger, story, topology,
};
use crate::{
    authority::Authority,
    cloud::{CloudError, Instance, InstanceState, Instances},
    desired::{Desired, Group, Owner, SpecError},
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
        let seen = shown_last(&before, ledger);
        if seen.sightings.is_empty() {
            self.prevented(pass, verdict(&error).reason(), &error.to_string())
                .await?;
            return Err(error.into());
        }
        let now = pass.clock().now();
        let outage = Outage::new(&error, evidence.lock().sighted_last(now));
        let (group, known) = (desired.group(), (ledger, evidence));
        let formed = self.tend(pass, (&group, authority), known, &seen).await?;
        let status = {
            let (cluster, evidence) = (pass.current(), evidence.lock());
            let findings = Findings {
                cluster: &cluster,
                ledger,
                seen: &seen,
                evidence: &evidence,
            };
            report::unsighted(findings, &group, &formed, (&outage, pass.clock().now()))
        };
        pass.write_status(&status).await?;
        story::tell(pass, story::turns(before.status.as_ref(), &status)).await;
        let again = again(&formed);
        expect(pass, evidence, again);
        Err(ClusterError::OutOfSight { error, again })
    }

    /// One pass with a spec that cannot be carried out. A cluster that was formed is looked after all the same, as it is.
    pub(super) async fn refuse(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
        error: &SpecError,
    ) -> Result<Progress, ClusterError> {
        let region = cluster.status.as_ref().and_then(|status| status.region.clone());
        let Some(region) = region.filter(|_| topology(cluster).is_some()) else {
            self.prevented(pass, error.reason, &error.message).await?;
            return Ok(Progress::Settled);
        };
        let (uid, evidence) = (pass.uid(), self.evidence(&pass.uid()));
        self.lookout.leave(&uid);
        let authority = self.authority(pass).await?;
        let owner = Owner {
            namespace: &pass.key().namespace,
            name: &pass.key().name,
            uid: &uid,
        };
        let (before, ledger) = (pass.current(), ledger(cluster));
        let replicas = cluster.spec.replicas.min(places(&ledger));
        let group = Group::new(owner, &region, (replicas, cluster.spec.durability));
        evidence.lock().begin(pass.is_caused(), pass.clock().steady());
        let seen = shown_last(&before, &ledger);
        let known = (&ledger, &*evidence);
        let formed = self.tend(pass, (&group, &authority), known, &seen).await?;
        let status = {
            let (cluster, evidence) = (pass.current(), evidence.lock());
            let findings = Findings {
                cluster: &cluster,
                ledger: &ledger,
                seen: &seen,
                evidence: &evidence,
            };
            report::refused(findings, (&group, &formed), error, pass.clock().now())
        };
        pass.write_status(&status).await?;
        story::tell(pass, story::turns(before.status.as_ref(), &status)).await;
        let again = again(&formed);
        expect(pass, &evidence, again);
        Ok(Progress::waiting(again))
    }

    /// Looks after the servers on these instances, and changes nothing about the instances.
    async fn tend(
        &self,
        pass: &Pass<MySQLCluster>,
        (group, authority): (&Group, &Authority),
        (ledger, evidence): (&Ledger, &Mutex<Evidence>),
        seen: &Seen,
    ) -> Result<Formed, ClusterError> {
        let forming = Forming {
            pass,
            operator: &self.operator,
            servers: &self.servers,
            group,
            desired: None,
            authority,
            evidence,
            refusals: Mutex::default(),
        };
        forming.run(ledger, seen).await
    }
}

fn again(formed: &Formed) -> Duration {
    match &formed.lacking {
        _ if formed.changed => CHANGED_AGAIN,
        Some(_) => LACKING_AGAIN,
        None => AGAIN,
    }
}

/// How many members there were ever launches for. A spec that is refused may ask for more.
fn places(ledger: &Ledger) -> i32 {
    let last = ledger.entries().last();
    last.map_or(0, |entry| entry.ordinal + 1)
}

/// The instances of the ledger as the members were reported last.
fn shown_last(cluster: &MySQLCluster, ledger: &Ledger) -> Seen {
    let members = cluster.status.as_ref().map_or(&[][..], |status| &status.members);
    as_reported(members, ledger)
}

fn as_reported(members: &[Member], ledger: &Ledger) -> Seen {
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
        let seen = as_reported(&reported, &ledger);
        let state = |id: &str| seen.instance(id).map(|instance| instance.state);
        assert_eq!(state("i-0"), Some(InstanceState::Running));
        assert_eq!(state("i-1"), Some(InstanceState::Stopped));
        assert_eq!(
            (state("i-older"), state("i-newer"), state("i-3")),
            (None, None, None)
        );
    }
}
