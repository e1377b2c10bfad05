//! Members that come late, and a leader that goes by plan.

use super::*;

/// A cluster whose leader has this many transactions.
pub(super) fn busy(replicas: i32, transactions: u64) -> Fleet {
    let mut fleet = Fleet::new(replicas);
    assert_eq!(fleet.settle(replicas), None);
    let leader = fleet.servers.get_mut(&0).unwrap();
    leader.executed = format!("{}:1-{transactions}", uuid(0)).parse().unwrap();
    fleet.connect();
    fleet
}

pub(super) fn next(fleet: &Fleet, replicas: i32) -> Vec<(i32, Change)> {
    plan(&goal(replicas), fleet.topology.as_ref(), &fleet.members()).changes
}

pub(super) fn host_of_the_copy(changes: &[(i32, Change)]) -> Option<&str> {
    changes.iter().find_map(|(_, change)| match change {
        Change::Copy(donor) => Some(donor.host.as_str()),
        _ => None,
    })
}

#[test]
fn a_new_member_becomes_a_copy_of_a_replica_and_then_follows() {
    let mut fleet = busy(3, 10_000);
    fleet.servers.insert(1, fresh(1));
    fleet.connect();
    assert_eq!(host_of_the_copy(&next(&fleet, 3)), Some("10.0.2.4"));
    assert_eq!(fleet.settle(3), None);
    assert_eq!(fleet.servers[&1].executed, fleet.servers[&0].executed);
}

#[test]
fn without_a_replica_that_serves_the_leader_is_copied() {
    let mut fleet = busy(1, 10_000);
    fleet.servers.insert(1, fresh(1));
    assert_eq!(host_of_the_copy(&next(&fleet, 2)), Some("10.0.0.4"));
    assert_eq!(fleet.settle(2), None);
}

#[test]
fn one_copy_is_made_at_a_time() {
    let mut fleet = busy(4, 10_000);
    for ordinal in [2, 3] {
        fleet.servers.insert(ordinal, fresh(ordinal));
    }
    fleet.connect();
    let copies = |changes: &[(i32, Change)]| {
        changes
            .iter()
            .filter(|(_, change)| matches!(change, Change::Copy(_)))
            .count()
    };
    assert_eq!(copies(&next(&fleet, 4)), 1);
    fleet.servers.get_mut(&2).unwrap().copying = true;
    let during = next(&fleet, 4);
    assert_eq!(copies(&during), 0);
    assert!(
        during.iter().all(|(ordinal, _)| *ordinal != 2),
        "who becomes a copy is left alone: {during:?}"
    );
}

#[test]
fn of_another_series_nobody_becomes_a_copy() {
    let mut fleet = busy(2, 10_000);
    let newer = Survey {
        version: "9.8.0".into(),
        ..fresh(1)
    };
    fleet.servers.insert(1, newer);
    fleet.connect();
    assert_eq!(host_of_the_copy(&next(&fleet, 2)), None);
    assert_eq!(
        fleet.settle(2),
        None,
        "it repeats what the leader has in its logs"
    );
}

#[test]
fn a_purged_history_is_copied_however_short_it_is() {
    let mut fleet = busy(2, 7);
    let leader = fleet.servers.get_mut(&0).unwrap();
    leader.purged = leader.executed.clone();
    fleet.servers.insert(1, fresh(1));
    fleet.connect();
    assert_eq!(fleet.settle(2), None);
    assert_eq!(fleet.servers[&1].executed, fleet.servers[&0].executed);
}

#[test]
fn the_leader_gives_its_place_to_who_has_everything() {
    let mut fleet = busy(3, 50);
    fleet.successors = vec![1, 2];
    assert_eq!(fleet.pass(3), Some(Reason::HandingOver));
    assert!(fleet.servers[&0].super_read_only, "first it takes no more writes");
    assert_eq!(fleet.topology.as_ref().unwrap().primary, 0);
    // Member 1 lacks the last one.
    fleet.servers.get_mut(&1).unwrap().executed = format!("{}:1-49", uuid(0)).parse().unwrap();
    assert_eq!(fleet.settle(3), None);
    let expected = Topology {
        primary: 2,
        server_uuid: uuid(2),
    };
    assert_eq!(fleet.topology, Some(expected));
    assert!(!fleet.servers[&2].read_only && fleet.servers[&2].replication.is_none());
    for ordinal in [0, 1] {
        let server = &fleet.servers[&ordinal];
        assert_eq!(server.replication.as_ref().unwrap().source, "10.0.2.4");
        assert!(
            server.super_read_only && !server.acknowledgement.enabled,
            "{server:?}"
        );
    }
}

#[test]
fn a_leader_that_keeps_its_place_after_all_takes_writes_again() {
    let mut fleet = busy(3, 50);
    fleet.successors = vec![1, 2];
    fleet.pass(3);
    assert!(fleet.servers[&0].read_only);
    fleet.successors.clear();
    assert_eq!(fleet.settle(3), None);
    assert!(!fleet.servers[&0].read_only);
}

#[test]
fn nobody_gives_up_its_place_while_a_replica_is_missing() {
    let mut fleet = busy(3, 50);
    fleet.silent.insert(2);
    fleet.connect();
    fleet.successors = vec![1];
    fleet.pass(3);
    assert!(!fleet.servers[&0].read_only);
    assert_eq!(fleet.topology.unwrap().primary, 0);
}

#[test]
fn an_unrecorded_leader_is_known_by_who_follows_it() {
    let mut fleet = busy(3, 50);
    let before = fleet.topology.take();
    assert_eq!(fleet.settle(3), None);
    assert_eq!(fleet.topology, before);
    // One that follows somebody else makes it doubtful.
    fleet.topology = None;
    fleet
        .servers
        .get_mut(&2)
        .unwrap()
        .replication
        .as_mut()
        .unwrap()
        .source = "10.0.1.4".into();
    assert_eq!(fleet.settle(3), Some(Reason::Ambiguous));
    assert_eq!(fleet.topology, None);
}

/// Adopted: one of three members is lost, and one more is wanted than there were.
#[test]
fn new_members_without_data_leave_no_doubt_about_who_leads_those_that_were_adopted() {
    for silent in [false, true] {
        let mut fleet = busy(3, 50);
        let before = fleet.topology.take();
        fleet.adopted = [0, 1].into();
        for ordinal in [2, 3] {
            fleet.servers.insert(ordinal, fresh(ordinal));
            if silent {
                fleet.silent.insert(ordinal);
            }
        }
        fleet.connect();
        fleet.pass(4);
        assert_eq!(fleet.topology, before, "new members are silent: {silent}");
        fleet.silent.clear();
        assert_eq!(fleet.settle(4), None);
    }
}

/// Those that followed the one that is lost do not follow each other, and a new one in its place does not lead.
#[test]
fn of_adopted_members_whose_primary_is_lost_none_leads() {
    let mut fleet = busy(3, 50);
    fleet.topology = None;
    fleet.adopted = [1, 2].into();
    fleet.servers.insert(0, fresh(0));
    assert_eq!(fleet.pass(3), Some(Reason::Ambiguous));
    assert_eq!(fleet.topology, None);
    fleet.adopted = [0, 1, 2].into();
    fleet.silent.insert(1);
    assert_eq!(
        fleet.pass(3),
        Some(Reason::Forming),
        "who was adopted is waited for"
    );
}

/// A replica has received so many transactions of the primary, has not applied the last of them, and was restarted.
fn leave_unapplied(fleet: &mut Fleet, ordinal: i32, transactions: u64) {
    fleet.restart(ordinal);
    let server = fleet.servers.get_mut(&ordinal).unwrap();
    let replication = server.replication.as_mut().unwrap();
    replication.received = format!("{}:1-{transactions}", uuid(0)).parse().unwrap();
}

/// The primary is gone with its data, and another server stands in its place.
fn lose_the_primary(fleet: &mut Fleet) {
    let empty = Survey {
        uuid: OTHER.into(),
        ..fresh(0)
    };
    fleet.servers.insert(0, empty);
    fleet.connect();
}

fn said(fleet: &Fleet) -> String {
    let plan = plan(&goal(3), fleet.topology.as_ref(), &fleet.members());
    plan.lacking.unwrap().1
}

#[test]
fn while_the_primary_is_lost_replicas_apply_what_they_have_received() {
    let mut fleet = busy(3, 50);
    leave_unapplied(&mut fleet, 2, 60);
    lose_the_primary(&mut fleet);
    assert_eq!(fleet.pass(3), Some(Reason::PrimaryLost));
    assert_eq!(fleet.servers[&2].executed.count(), 60);
    assert_eq!(next(&fleet, 3), [], "and nothing else is done");
}

#[test]
fn a_primary_that_does_not_answer_is_not_left_and_what_it_sent_is_applied() {
    let mut fleet = busy(3, 50);
    fleet.silent.insert(0);
    leave_unapplied(&mut fleet, 2, 60);
    assert_eq!(next(&fleet, 3), [(2, Change::Apply)]);
    let broken = fleet.servers.get_mut(&2).unwrap().replication.as_mut().unwrap();
    broken.error = "applying fails with MySQL error 1062".into();
    assert_eq!(next(&fleet, 3), []);
}

#[test]
fn who_is_recorded_by_hand_leads_when_it_has_applied_what_it_received() {
    let mut fleet = busy(3, 50);
    lose_the_primary(&mut fleet);
    leave_unapplied(&mut fleet, 1, 60);
    fleet.record(1);
    assert_eq!(fleet.pass(3), Some(Reason::HandingOver));
    assert!(fleet.servers[&1].replication.is_some(), "it does not lead yet");
    assert_eq!(fleet.settle(3), None);
    for server in fleet.servers.values() {
        assert_eq!(server.executed.count(), 60, "{server:?}");
    }
    assert!(!fleet.servers[&1].read_only);
}

#[test]
fn who_lacks_what_another_replica_has_received_does_not_lead() {
    let mut fleet = busy(3, 50);
    lose_the_primary(&mut fleet);
    leave_unapplied(&mut fleet, 2, 60);
    fleet.record(1);
    assert_eq!(fleet.settle(3), Some(Reason::HandingOver));
    assert!(said(&fleet).contains("c-2 has transactions that it does not have"));
    assert!(fleet.servers.values().all(|server| server.read_only));
    assert_eq!(fleet.servers[&2].executed.count(), 60, "it has applied them");
    fleet.record(2);
    assert_eq!(fleet.settle(3), None);
    assert_eq!(fleet.servers[&1].executed.count(), 60);
}

#[test]
fn what_cannot_be_applied_is_not_thrown_away_before_somebody_says_so() {
    let mut fleet = busy(3, 50);
    lose_the_primary(&mut fleet);
    leave_unapplied(&mut fleet, 2, 60);
    let broken = fleet.servers.get_mut(&2).unwrap().replication.as_mut().unwrap();
    broken.error = "applying fails with MySQL error 1062".into();
    fleet.record(1);
    assert_eq!(fleet.settle(3), Some(Reason::HandingOver));
    let said = said(&fleet);
    assert!(
        said.contains("1062") && said.contains("terminate its instance"),
        "{said}"
    );
    // Its instance is terminated.
    fleet.servers.insert(2, fresh(2));
    assert_eq!(fleet.settle(3), None);
    assert!(!fleet.servers[&1].read_only);
}

/// With its last transactions, also if the one that is recorded has to be told to receive them.
#[rstest]
fn a_primary_that_serves_gives_its_place_to_who_is_recorded_by_hand(#[values(false, true)] rebooted: bool) {
    let mut fleet = busy(3, 50);
    if rebooted {
        fleet.restart(1);
    }
    let before = fleet.servers.get_mut(&0).unwrap();
    before.executed = format!("{}:1-70", uuid(0)).parse().unwrap();
    fleet.record(1);
    assert_eq!(fleet.pass(3), Some(Reason::HandingOver));
    assert!(fleet.servers[&0].super_read_only, "first it takes no more writes");
    assert!(fleet.servers[&1].replication.is_some());
    assert_eq!(fleet.settle(3), None);
    assert!(fleet.servers.values().all(|server| server.executed.count() == 70));
    assert_eq!(fleet.servers[&0].replication.as_ref().unwrap().source, "10.0.1.4");
}

/// It was silent when another one began to lead.
#[test]
fn a_replica_applies_what_it_received_from_another_before_it_follows_the_primary() {
    let mut fleet = busy(3, 50);
    lose_the_primary(&mut fleet);
    fleet.silent.insert(2);
    fleet.record(1);
    fleet.settle(3);
    leave_unapplied(&mut fleet, 2, 60);
    fleet.silent.clear();
    assert_eq!(
        fleet.settle(3),
        Some(Reason::Diverged),
        "what only it has is not thrown away"
    );
    assert_eq!(fleet.servers[&2].executed.count(), 60);
}
