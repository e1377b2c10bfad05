//! Replicas that are connected, and behind.

use super::{
    Standing::{Follows, Idle},
    *,
};

/// A formed cluster whose member 1 has only the first two of the leader's six transactions.
fn behind() -> Fleet {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.settle(3), None);
    fleet.servers.get_mut(&1).unwrap().executed = first(2);
    fleet
}

fn first(count: u32) -> GtidSet {
    format!("{}:1-{count}", uuid(0)).parse().unwrap()
}

fn told(fleet: &Fleet, goal: &Goal) -> (Standing, Option<(Reason, String)>) {
    let plan = plan(goal, fleet.topology.as_ref(), &fleet.members());
    assert!(plan.changes.is_empty(), "{plan:?}");
    (plan.standings[1].1, plan.lacking)
}

#[test]
fn a_replica_that_lacks_what_the_leader_had_some_time_ago_serves_nobody_until_it_has_it() {
    let mut fleet = behind();
    let lately = |count| Goal {
        led_lately: Some(first(count)),
        serving: [1, 2].into(),
        ..goal(3)
    };
    let (standing, lacking) = told(&fleet, &lately(3));
    let (reason, message) = lacking.unwrap();
    assert_eq!((standing, reason), (Standing::Idle, Reason::Forming));
    assert!(message.contains("c-1 is catching up"), "{message}");
    // Nobody has at once what is written.
    assert_eq!(told(&fleet, &lately(2)), (Standing::Follows, None));
    fleet.connect();
    assert_eq!(told(&fleet, &lately(6)), (Standing::Follows, None));
}

#[test]
fn where_nobody_knows_what_the_leader_had_those_that_serve_go_on_and_others_show_that_they_have_all() {
    let mut fleet = behind();
    let serving = |serving: &[i32]| Goal {
        serving: serving.iter().copied().collect(),
        ..goal(3)
    };
    assert_eq!(told(&fleet, &serving(&[1])), (Standing::Follows, None));
    assert_eq!(told(&fleet, &serving(&[2])).0, Standing::Idle);
    fleet.connect();
    assert_eq!(told(&fleet, &serving(&[])), (Standing::Follows, None));
}

#[test]
fn while_nobody_leads_a_replica_that_was_behind_begins_to_serve_only_with_all_that_the_others_have() {
    let serving = |serving: &[i32]| Goal {
        serving: serving.iter().copied().collect(),
        ..goal(3)
    };
    let standings = |fleet: &Fleet, goal: &Goal| {
        let plan = plan(goal, fleet.topology.as_ref(), &fleet.members());
        plan.standings[1..]
            .iter()
            .map(|(_, standing)| *standing)
            .collect::<Vec<_>>()
    };
    for is_lost in [false, true] {
        let mut fleet = behind();
        if is_lost {
            fleet.servers.insert(
                0,
                Survey {
                    uuid: OTHER.into(),
                    ..fresh(0)
                },
            );
        } else {
            fleet.silent.insert(0);
        }
        assert_eq!(
            standings(&fleet, &serving(&[2])),
            [Idle, Follows],
            "it shows the past"
        );
        assert_eq!(
            standings(&fleet, &serving(&[1, 2])),
            [Follows, Follows],
            "nobody who serves is doubted"
        );
        assert_eq!(standings(&fleet, &serving(&[])), [Idle, Follows]);
        fleet.servers.get_mut(&1).unwrap().executed = first(6);
        assert_eq!(standings(&fleet, &serving(&[2])), [Follows, Follows]);
        fleet
            .servers
            .get_mut(&2)
            .unwrap()
            .replication
            .as_mut()
            .unwrap()
            .applies = false;
        assert_eq!(standings(&fleet, &serving(&[1, 2])), [Follows, Idle]);
        fleet.silent.insert(2);
        assert_eq!(
            standings(&fleet, &serving(&[])),
            [Idle, Idle],
            "there is nobody to hold it against"
        );
    }
}

#[test]
fn while_nobody_leads_who_follows_another_than_the_leader_serves_nobody() {
    let mut fleet = behind();
    fleet.connect();
    fleet.silent.insert(0);
    fleet
        .servers
        .get_mut(&1)
        .unwrap()
        .replication
        .as_mut()
        .unwrap()
        .source = "10.0.2.4".into();
    let goal = Goal {
        serving: [1, 2].into(),
        led_at: Some("10.0.0.4".into()),
        ..goal(3)
    };
    let plan = plan(&goal, fleet.topology.as_ref(), &fleet.members());
    assert_eq!(plan.standings[1..], [(1, Standing::Idle), (2, Standing::Follows)]);
}
