//! Replicas that are connected, and behind.

use super::*;

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
