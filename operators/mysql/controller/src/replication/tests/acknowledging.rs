//! For how many replicas a commit waits, when members come and when they are lost.

use super::{
    succession::{busy, host_of_the_copy, next},
    *,
};

fn waits(fleet: &Fleet) -> u32 {
    fleet.servers[&0].acknowledgement.waited_for()
}

#[rstest]
#[case(1, 3, 1)]
#[case(1, 2, 1)]
#[case(3, 5, 2)]
#[case(1, 9, 4)]
fn a_primary_that_takes_writes_waits_for_new_replicas_only_when_they_follow(
    #[case] before: i32,
    #[case] after: i32,
    #[case] expected: u32,
) {
    let mut fleet = busy(before, 10_000);
    for ordinal in before..after {
        fleet.servers.insert(ordinal, fresh(ordinal));
    }
    for _ in 0..40 {
        assert!(!fleet.servers[&0].read_only, "writes go on");
        assert!(waits(&fleet) <= fleet.servers[&0].acknowledging, "commits hang");
        if fleet.pass(after).is_none() {
            break;
        }
    }
    assert_eq!(fleet.settle(after), None);
    assert_eq!(waits(&fleet), expected);
}

#[test]
fn lost_replicas_never_make_a_commit_wait_for_fewer() {
    for lost in [vec![1], vec![1, 2]] {
        let mut fleet = busy(3, 50);
        for ordinal in &lost {
            fleet.servers.remove(ordinal);
        }
        fleet.connect();
        for _ in 0..5 {
            fleet.pass(3);
            assert_eq!(waits(&fleet), 1, "without {lost:?}");
        }
    }
}

#[test]
fn a_replacement_of_the_only_replica_repeats_what_it_can_instead_of_waiting_for_commits_that_wait_for_it() {
    let mut fleet = busy(2, 10_000);
    fleet.servers.insert(1, fresh(1));
    fleet.connect();
    let next = next(&fleet, 2);
    assert_eq!(host_of_the_copy(&next), None);
    assert!(
        next.iter()
            .any(|(n, change)| *n == 1 && matches!(change, Change::Follow(_))),
        "{next:?}"
    );
    assert_eq!(waits(&fleet), 1, "nothing is let through");
    assert_eq!(fleet.settle(2), None);
    assert!(!fleet.servers[&0].read_only);
}

/// Two members whose only replica was lost, where the primary has purged what a new one would have to repeat.
fn starved(replicas: i32) -> Fleet {
    let mut fleet = busy(replicas, 10_000);
    let leader = fleet.servers.get_mut(&0).unwrap();
    leader.purged = format!("{}:1-9", uuid(0)).parse().unwrap();
    fleet.servers.insert(1, fresh(1));
    fleet.connect();
    fleet
}

#[test]
fn a_primary_that_can_only_be_copied_takes_no_more_writes_until_it_is() {
    let mut fleet = starved(2);
    assert_eq!(fleet.pass(2), Some(Reason::Forming));
    assert!(
        fleet.servers[&0].super_read_only,
        "nothing is added that would exist once"
    );
    assert_eq!(waits(&fleet), 0, "what hung is let through");
    fleet.pass(2);
    assert!(fleet.servers[&0].super_read_only);
    assert_eq!(fleet.settle(2), None);
    assert_eq!(waits(&fleet), 1);
    assert!(!fleet.servers[&0].read_only);
    assert_eq!(fleet.servers[&1].executed, fleet.servers[&0].executed);
}

#[test]
fn nothing_is_let_through_while_a_replica_may_come_back() {
    let mut fleet = starved(3);
    fleet.silent.insert(2);
    fleet.connect();
    for _ in 0..5 {
        assert_eq!(fleet.pass(3), Some(Reason::Forming));
        assert_eq!((waits(&fleet), fleet.servers[&0].read_only), (1, false));
    }
    fleet.silent.clear();
    fleet.connect();
    assert_eq!(fleet.settle(3), None);
}

/// Its instance was stopped, so that nobody can ask it; what it acknowledged is on its volume.
#[test]
fn nothing_is_let_through_while_a_replica_is_only_stopped() {
    let mut fleet = starved(3);
    fleet.stopped.insert(2);
    fleet.connect();
    for _ in 0..5 {
        assert_eq!(fleet.pass(3), Some(Reason::Forming));
        assert_eq!((waits(&fleet), fleet.servers[&0].read_only), (1, false));
    }
    // Proven gone, it is waited for no longer.
    fleet.servers.remove(&2);
    fleet.stopped.clear();
    fleet.connect();
    fleet.pass(3);
    assert_eq!((waits(&fleet), fleet.servers[&0].read_only), (0, true));
}

#[rstest]
#[case(Durability::Lossless, true)]
#[case(Durability::Available, false)]
fn what_is_acknowledged_is_on_disk_where_nothing_may_be_lost(
    #[case] durability: Durability,
    #[case] expected: bool,
) {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    // As an operator leaves it that did not know of it.
    fleet.servers.get_mut(&2).unwrap().syncs = false;
    let goal = Goal {
        durability,
        ..goal(3)
    };
    let changes = plan(&goal, fleet.topology.as_ref(), &fleet.members()).changes;
    assert_eq!(changes.contains(&(2, Change::Sync)), expected, "{changes:?}");
    assert!(changes.iter().all(|(ordinal, _)| *ordinal != 1));
}
