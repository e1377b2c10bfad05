//! What is wanted of the servers: by the spec, and by what the ledger knows of their instances.

use std::collections::BTreeSet;

use jiff::Timestamp;
use mysql_api::cluster::{LaunchPhase, Role, Topology};

use super::Forming;
use crate::{
    cloud::Instances,
    evidence::Evidence,
    gtid::GtidSet,
    ledger::Ledger,
    replication::{Goal, Member},
    rollout,
    server::Servers,
};

impl<I: Instances, S: Servers> Forming<'_, I, S> {
    pub(super) fn goal(&self, topology: Option<&Topology>, ledger: &Ledger, members: &[Member]) -> Goal {
        let successors = self
            .desired
            .zip(topology)
            .map(|(desired, topology)| rollout::successors(desired, ledger, topology.primary));
        // Before the literal, whose lock would be held to its end.
        let resting = resting(&mut self.evidence.lock(), members, self.pass.clock().steady());
        Goal {
            replicas: self.group.replicas,
            durability: self.group.durability,
            successors: successors.unwrap_or_default(),
            adopted: adopted(ledger),
            absent: absent(ledger, members),
            resting,
            led_lately: self.led_lately(topology, members),
            serving: self.serving(members),
            led_at: self.led_at(topology),
        }
    }

    /// Where the leader is, as clients were told last: an instance that has come in its place is elsewhere.
    fn led_at(&self, topology: Option<&Topology>) -> Option<String> {
        let primary = topology?.primary;
        let current = self.pass.current();
        let mut told = current.status.iter().flat_map(|status| &status.members);
        let leader = told.find(|told| told.ordinal == primary && told.role == Some(Role::Primary))?;
        leader.private_ip.clone()
    }

    /// What the leader had a while ago.
    fn led_lately(&self, topology: Option<&Topology>, members: &[Member]) -> Option<GtidSet> {
        let primary = topology?.primary;
        let leader = members.iter().find(|member| member.ordinal == primary)?;
        let executed = &leader.survey.as_ref()?.executed;
        self.evidence
            .lock()
            .led_lately(executed, self.pass.clock().steady())
    }

    /// The members that were told as replicas last, on the servers that they have now.
    fn serving(&self, members: &[Member]) -> BTreeSet<i32> {
        let current = self.pass.current();
        let told = current.status.iter().flat_map(|status| &status.members);
        let replicas: BTreeSet<_> = told
            .filter(|told| told.role == Some(Role::Replica))
            .filter_map(|told| Some((told.ordinal, told.certificate.as_deref()?)))
            .collect();
        let serving = members.iter().filter(|member| {
            let address = member.address.as_ref();
            address.is_some_and(|address| replicas.contains(&(member.ordinal, address.certificate.as_str())))
        });
        serving.map(|member| member.ordinal).collect()
    }
}

/// The members whose servers have tried lately to become copies. One that tries still rests when it has ended.
fn resting(evidence: &mut Evidence, members: &[Member], now: Timestamp) -> BTreeSet<i32> {
    let mut resting = BTreeSet::new();
    for member in members {
        let Some(server) = &member.address else {
            continue;
        };
        if member.survey.as_ref().is_some_and(|survey| survey.copying) {
            evidence.copying(member.ordinal, &server.certificate, now);
        }
        if evidence.rests(member.ordinal, &server.certificate, now) {
            resting.insert(member.ordinal);
        }
    }
    resting
}

/// The members that another cluster has launched.
fn adopted(ledger: &Ledger) -> BTreeSet<i32> {
    let entries = ledger.entries().iter();
    let adopted = entries.filter(|entry| entry.phase != LaunchPhase::Over && entry.adopted_from.is_some());
    adopted.map(|entry| entry.ordinal).collect()
}

/// The members whose instance is not proven gone, and which are none of these. Of a launch that has no instance, as far as is
/// known, nobody has ever been a member: it holds nothing.
fn absent(ledger: &Ledger, members: &[Member]) -> BTreeSet<i32> {
    let is_here = |ordinal| members.iter().any(|member| member.ordinal == ordinal);
    let entries = ledger.entries().iter();
    let absent = entries.filter(|entry| {
        entry.phase != LaunchPhase::Over && entry.instance_id.is_some() && !is_here(entry.ordinal)
    });
    absent.map(|entry| entry.ordinal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::tests::entry,
        server::{Address, Survey},
    };

    fn member(ordinal: i32) -> Member {
        Member {
            ordinal,
            name: String::new(),
            address: None,
            survey: None,
            trouble: None,
        }
    }

    #[test]
    fn who_is_not_proven_gone_and_cannot_be_asked_is_absent() {
        let ledger = Ledger::new(vec![
            entry(0, LaunchPhase::Launched, Some("i-0")),
            entry(1, LaunchPhase::Launched, Some("i-stopped")),
            entry(2, LaunchPhase::Over, Some("i-terminated")),
            entry(3, LaunchPhase::Retiring, Some("i-leaving")),
            // Denied, or not answered yet.
            entry(4, LaunchPhase::Launching, None),
        ]);
        assert_eq!(absent(&ledger, &[member(0)]), [1, 3].into());
        assert_eq!(absent(&ledger, &[member(0), member(1)]), [3].into());
    }

    #[test]
    fn a_server_rests_from_the_moment_when_it_is_seen_to_try_no_more() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let trying = |copying| Member {
            address: Some(Address {
                host: "10.0.0.4".into(),
                name: "m".into(),
                certificate: "PEM".into(),
            }),
            survey: Some(Survey {
                copying,
                ..Survey::fresh("u")
            }),
            ..member(1)
        };
        let mut evidence = Evidence::default();
        let mut rests = |copying, second| !resting(&mut evidence, &[trying(copying)], at(second)).is_empty();
        assert!(!rests(false, 0), "it has not been told to try");
        evidence.copies(1, "PEM", at(0));
        let mut rests = |copying, second| !resting(&mut evidence, &[trying(copying)], at(second)).is_empty();
        assert!(rests(true, 1800), "the first attempt takes half an hour");
        assert!(rests(false, 1859) && !rests(false, 1860));
    }
}
