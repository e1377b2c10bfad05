//! What is wanted of the servers: by the spec, and by what the ledger knows of their instances.

use std::collections::BTreeSet;

use mysql_api::cluster::{LaunchPhase, Topology};

use super::Forming;
use crate::{
    cloud::Instances,
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
        Goal {
            replicas: self.group.replicas,
            durability: self.group.durability,
            successors: successors.unwrap_or_default(),
            adopted: adopted(ledger),
            absent: absent(ledger, members),
            resting: self.resting(members),
        }
    }

    /// The members whose servers were told lately to become copies.
    fn resting(&self, members: &[Member]) -> BTreeSet<i32> {
        let (evidence, now) = (self.evidence.lock(), self.pass.clock().now());
        let rests = |member: &&Member| {
            let server = member.address.as_ref();
            server.is_some_and(|server| evidence.rests(member.ordinal, &server.certificate, now))
        };
        members
            .iter()
            .filter(rests)
            .map(|member| member.ordinal)
            .collect()
    }
}

/// The members that another cluster has launched.
fn adopted(ledger: &Ledger) -> BTreeSet<i32> {
    let entries = ledger.entries().iter();
    let adopted = entries.filter(|entry| entry.phase != LaunchPhase::Over && entry.adopted_from.is_some());
    adopted.map(|entry| entry.ordinal).collect()
}

/// The members whose last launch is not proven over, and which are none of these.
fn absent(ledger: &Ledger, members: &[Member]) -> BTreeSet<i32> {
    let is_here = |ordinal| members.iter().any(|member| member.ordinal == ordinal);
    let entries = ledger.entries().iter();
    let absent = entries.filter(|entry| entry.phase != LaunchPhase::Over && !is_here(entry.ordinal));
    absent.map(|entry| entry.ordinal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::entry;

    #[test]
    fn who_is_not_proven_gone_and_cannot_be_asked_is_absent() {
        let member = |ordinal| Member {
            ordinal,
            name: String::new(),
            address: None,
            survey: None,
            trouble: None,
        };
        let ledger = Ledger::new(vec![
            entry(0, LaunchPhase::Launched, Some("i-0")),
            entry(1, LaunchPhase::Launched, Some("i-stopped")),
            entry(2, LaunchPhase::Over, Some("i-terminated")),
            entry(3, LaunchPhase::Retiring, Some("i-leaving")),
            entry(4, LaunchPhase::Launching, None),
        ]);
        assert_eq!(absent(&ledger, &[member(0)]), [1, 3, 4].into());
        assert_eq!(absent(&ledger, &[member(0), member(1)]), [3, 4].into());
    }
}
