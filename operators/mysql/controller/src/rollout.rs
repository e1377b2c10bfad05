//! Replaces members that have an older spec, one at a time. Pure.
//!
//! # Guarantees
//! - A member is replaced only because of what the spec says, never because of how it behaves.
//! - Nobody is replaced unless everything works: every member is there, the leader takes writes, every replica follows
//!   and has caught up, and there are as many that without one of them commits are still acknowledged. But for a replica that an
//!   older spec was tried on in vain, on which nothing is: it is what does not work.
//! - Of a cluster that was never formed, and has no data, members are replaced whatever is amiss: that is how a spec that
//!   no server can be started with is put right.
//! - Replicas go first. The leader goes as a replica, after another member that has the current spec took its place.

use std::collections::BTreeSet;

use mysql_api::{
    MySQLCluster,
    cluster::{Launch, LaunchPhase},
};

use crate::{controllers::mysqlcluster::Formed, desired::Desired, ledger::Ledger, replication::Standing};

/// The fewest members among which one can be replaced: commits wait for half of them.
pub const FEWEST: i32 = 3;

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Every member has the current spec.
    Current,
    /// This member is replaced.
    Replace(i32),
    /// Some have an older spec, and nothing is done about it now.
    Waiting(Obstacle),
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Not everything works, or another member is being replaced, or takes over.
    Unsettled,
    /// Too few members.
    TooFew,
    /// EC2 would not terminate them.
    Protected,
}

/// The members that have an older spec. Of one that was adopted, or launched by an operator that did not record it, the
/// spec is not known, and it is none of them.
pub fn outdated<'a>(desired: &Desired, ledger: &'a Ledger) -> Vec<&'a Launch> {
    let current = desired.revision();
    let older = |entry: &&Launch| {
        let known = entry.revision.as_ref();
        entry.phase == LaunchPhase::Launched && known.is_some_and(|known| *known != current)
    };
    ledger.entries().iter().filter(older).collect()
}

/// What is next. `leader` is none of a cluster that was never formed. `healthy` is whether everything works, at this
/// moment; without a leader, whether no server has any data.
pub fn turn(desired: &Desired, ledger: &Ledger, leader: Option<i32>, healthy: bool) -> Turn {
    let wanted = |entry: &&Launch| entry.ordinal < desired.replicas;
    let mut outdated = outdated(desired, ledger);
    outdated.retain(wanted);
    if outdated.is_empty() {
        return Turn::Current;
    }
    if leader.is_some() && desired.replicas < FEWEST {
        return Turn::Waiting(Obstacle::TooFew);
    }
    if desired.template.termination_protection {
        return Turn::Waiting(Obstacle::Protected);
    }
    let replica = outdated.iter().rev().find(|entry| Some(entry.ordinal) != leader);
    match replica {
        Some(entry) if healthy && is_settled(desired, ledger) => Turn::Replace(entry.ordinal),
        _ => Turn::Waiting(Obstacle::Unsettled),
    }
}

/// Whether every member is launched, and nobody else.
fn is_settled(desired: &Desired, ledger: &Ledger) -> bool {
    ledger.entries().iter().all(|entry| match entry.phase {
        LaunchPhase::Launched => entry.ordinal < desired.replicas,
        LaunchPhase::Over => entry.ordinal >= desired.replicas,
        LaunchPhase::Launching | LaunchPhase::Retiring => false,
    })
}

/// As [`turn`], but for replicas that an older spec was tried on in vain: what nothing is on is no loss, and everything works
/// again only without it. `bare` are the members on whose servers nothing is.
pub fn turn_of(
    (desired, ledger): (&Desired, &Ledger),
    leader: Option<i32>,
    (healthy, bare): (bool, &BTreeSet<i32>),
) -> Turn {
    let turn = turn(desired, ledger, leader, healthy);
    let may = match turn {
        Turn::Waiting(Obstacle::Unsettled) => true,
        // Others are too few to do without one for a while, and nobody does with this one.
        Turn::Waiting(Obstacle::TooFew) => !desired.template.termination_protection,
        _ => false,
    };
    if leader.is_none() || !may || !is_settled(desired, ledger) {
        return turn;
    }
    let outdated = outdated(desired, ledger);
    let in_vain = outdated
        .iter()
        .rev()
        .find(|entry| Some(entry.ordinal) != leader && bare.contains(&entry.ordinal));
    in_vain.map_or(turn, |entry| Turn::Replace(entry.ordinal))
}

/// The members on whose servers no data are: those that show none and get none, and those whose present instances have never
/// shown a certificate, so that nobody has told their servers anything. None while no leader takes writes, for then each may matter.
pub fn bare(cluster: &MySQLCluster, ledger: &Ledger, formed: &Formed) -> BTreeSet<i32> {
    if !formed
        .standings
        .values()
        .any(|standing| *standing == Standing::Leads)
    {
        return BTreeSet::new();
    }
    let reported = cluster.status.iter().flat_map(|status| &status.members);
    let bare = reported.filter(|member| {
        let entry = ledger.get(member.ordinal);
        let id = entry.and_then(|entry| entry.instance_id.as_ref());
        let is_known = member.certificate.is_some() || formed.certificates.contains_key(&member.ordinal);
        let is_bare = !is_known || formed.empty.contains(&member.ordinal);
        id.is_some() && id == member.instance_id.as_ref() && is_bare
    });
    bare.map(|member| member.ordinal).collect()
}

/// The members of which one may take the leader's place, if the leader is to give it up: it has an older spec and
/// nobody else has, or it is to be removed.
pub fn successors(desired: &Desired, ledger: &Ledger, leader: i32) -> Vec<i32> {
    let outdated = outdated(desired, ledger);
    let leaves = leader >= desired.replicas;
    let last = outdated.iter().any(|entry| entry.ordinal == leader)
        && outdated
            .iter()
            .filter(|entry| entry.ordinal < desired.replicas)
            .count()
            == 1
        && desired.replicas >= FEWEST
        && !desired.template.termination_protection;
    if !leaves && !last {
        return Vec::new();
    }
    let fit = |entry: &&Launch| {
        entry.phase == LaunchPhase::Launched && entry.ordinal < desired.replicas && entry.ordinal != leader
    };
    ledger
        .entries()
        .iter()
        .filter(fit)
        .map(|entry| entry.ordinal)
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{desired::tests::desired, plan::tests::entry};

    /// Three members, of which these are outdated.
    fn ledger(desired: &Desired, older: &[i32]) -> Ledger {
        let launches = (0..desired.replicas).map(|ordinal| {
            let mut launch = entry(ordinal, LaunchPhase::Launched, Some("i-1"));
            let is_older = older.contains(&ordinal);
            launch.revision = Some(if is_older {
                "older".into()
            } else {
                desired.revision()
            });
            launch
        });
        Ledger::new(launches.collect())
    }

    #[rstest]
    #[case(&[], Turn::Current)]
    #[case(&[0, 1, 2], Turn::Replace(2))]
    #[case(&[0, 1], Turn::Replace(1))]
    #[case(&[0], Turn::Waiting(Obstacle::Unsettled))]
    fn replicas_go_first_from_the_highest_number(#[case] older: &[i32], #[case] expected: Turn) {
        let desired = desired(3);
        assert_eq!(turn(&desired, &ledger(&desired, older), Some(0), true), expected);
    }

    #[rstest]
    #[case(&[2], &[2], Turn::Replace(2))]
    // The bad spec was rolled back, or corrected.
    #[case(&[0, 1, 2], &[2], Turn::Replace(2))]
    #[case(&[0, 1, 2], &[1], Turn::Replace(1))]
    #[case(&[2], &[1], Turn::Waiting(Obstacle::Unsettled))]
    #[case(&[2], &[], Turn::Waiting(Obstacle::Unsettled))]
    #[case(&[0], &[0], Turn::Waiting(Obstacle::Unsettled))]
    fn a_replica_that_an_older_spec_was_tried_on_in_vain_does_not_wait_until_it_works(
        #[case] older: &[i32],
        #[case] bare: &[i32],
        #[case] expected: Turn,
    ) {
        let desired = desired(3);
        let (ledger, bare) = (ledger(&desired, older), bare.iter().copied().collect());
        let known = (&desired, &ledger);
        assert_eq!(turn_of(known, Some(0), (false, &bare)), expected);
    }

    #[test]
    fn nor_does_one_of_two_wait_for_a_third() {
        let mut two = desired(2);
        let (bare, none) = (BTreeSet::from([1]), BTreeSet::new());
        let older = ledger(&two, &[1]);
        let turn = |two: &Desired, bare| turn_of((two, &older), Some(0), (false, bare));
        assert_eq!(turn(&two, &bare), Turn::Replace(1));
        let expected = Turn::Waiting(Obstacle::TooFew);
        assert_eq!(turn(&two, &none), expected);
        two.template.termination_protection = true;
        assert_eq!(turn(&two, &bare), expected);
    }

    #[test]
    fn nobody_is_replaced_while_anything_is_amiss() {
        let desired = desired(3);
        let waiting = Turn::Waiting(Obstacle::Unsettled);
        assert_eq!(turn(&desired, &ledger(&desired, &[1]), Some(0), false), waiting);
        assert_eq!(turn(&desired, &ledger(&desired, &[1]), None, false), waiting);
        for phase in [LaunchPhase::Launching, LaunchPhase::Retiring, LaunchPhase::Over] {
            let mut entries = ledger(&desired, &[1, 2]).entries().to_vec();
            entries[2].phase = phase;
            assert_eq!(
                turn(&desired, &Ledger::new(entries), Some(0), true),
                waiting,
                "{phase:?}"
            );
        }
    }

    #[test]
    fn what_was_never_formed_is_replaced_member_by_member_however_few_there_are() {
        for replicas in 1..=3 {
            let desired = desired(replicas);
            let all: Vec<_> = (0..replicas).collect();
            let next = turn(&desired, &ledger(&desired, &all), None, true);
            assert_eq!(next, Turn::Replace(replicas - 1));
        }
        let mut protected = desired(1);
        protected.template.termination_protection = true;
        let expected = Turn::Waiting(Obstacle::Protected);
        assert_eq!(turn(&protected, &ledger(&protected, &[0]), None, true), expected);
    }

    #[test]
    fn too_few_or_protected_members_are_left_as_they_are() {
        let mut two = desired(2);
        let expected = Turn::Waiting(Obstacle::TooFew);
        assert_eq!(turn(&two, &ledger(&two, &[1]), Some(0), true), expected);
        two.replicas = 3;
        two.template.termination_protection = true;
        let expected = Turn::Waiting(Obstacle::Protected);
        assert_eq!(turn(&two, &ledger(&two, &[1]), Some(0), true), expected);
    }

    #[test]
    fn a_member_of_unknown_origin_is_not_replaced() {
        let desired = desired(3);
        let mut entries = ledger(&desired, &[]).entries().to_vec();
        entries[1].revision = None;
        assert_eq!(
            turn(&desired, &Ledger::new(entries), Some(0), true),
            Turn::Current
        );
    }

    #[rstest]
    #[case(3, &[0, 1], 0, &[])]
    #[case(3, &[0], 0, &[1, 2])]
    #[case(3, &[1], 0, &[])]
    #[case(2, &[0], 0, &[])]
    fn the_leader_gives_up_its_place_last(
        #[case] replicas: i32,
        #[case] older: &[i32],
        #[case] leader: i32,
        #[case] expected: &[i32],
    ) {
        let desired = desired(replicas);
        assert_eq!(successors(&desired, &ledger(&desired, older), leader), expected);
    }

    #[test]
    fn a_leader_that_is_to_be_removed_gives_up_its_place() {
        let mut desired = desired(3);
        let ledger = ledger(&desired, &[]);
        desired.replicas = 1;
        assert_eq!(successors(&desired, &ledger, 2), [0]);
        assert_eq!(successors(&desired, &ledger, 0), [0; 0]);
    }
}
