mod beyond;
mod late;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{desired::tests::desired, outcome::Verdict};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

pub(crate) fn entry(ordinal: i32, phase: LaunchPhase, id: Option<&str>) -> Launch {
    Launch {
        ordinal,
        incarnation: 1,
        token: format!("token-{ordinal}"),
        subnet_id: "subnet-12345678".into(),
        params_hash: "h".into(),
        decided_at: Time(at(0)),
        phase,
        revision: None,
        data: None,
        adopted_from: None,
        failures: 0,
        instance_id: id.map(str::to_owned),
    }
}

fn seen(id: &str, state: InstanceState) -> Seen {
    let sighting = Sighting::Seen { state, reason: None };
    Seen {
        sightings: BTreeMap::from([(id.to_owned(), sighting)]),
        ..Seen::default()
    }
}

fn instance(id: &str, token: &str) -> Instance {
    Instance {
        id: id.into(),
        state: InstanceState::Running,
        reason: None,
        tags: BTreeMap::new(),
        client_token: Some(token.into()),
        zone: None,
        private_ip: None,
        subnet: None,
        launched_at: None,
    }
}

fn steps(replicas: i32, entries: Vec<Launch>, seen: &Seen) -> Vec<Step> {
    plan(
        &desired(replicas),
        &Ledger::new(entries),
        seen,
        &Evidence::default(),
        at(10),
    )
}

#[test]
fn all_members_of_a_new_cluster_are_launched_together() {
    let steps = steps(3, Vec::new(), &Seen::default());
    let ordinals: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Step::Launch {
                ordinal,
                incarnation: 1,
                ..
            } => *ordinal,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ordinals, [0, 1, 2]);
}

#[test]
fn an_empty_listing_never_leads_to_a_launch() {
    for phase in [
        LaunchPhase::Launched,
        LaunchPhase::Launching,
        LaunchPhase::Retiring,
    ] {
        let id = (phase != LaunchPhase::Launching).then_some("i-1");
        for step in steps(1, vec![entry(0, phase, id)], &Seen::default()) {
            assert!(
                !matches!(step, Step::Launch { .. } | Step::Conclude { .. }),
                "{phase:?}: {step:?}"
            );
        }
    }
}

#[rstest]
#[case(InstanceState::Pending, None)]
#[case(InstanceState::Running, None)]
#[case(InstanceState::ShuttingDown, None)]
#[case(InstanceState::Stopping, None)]
#[case(InstanceState::Stopped, Some(Step::Start { ordinal: 0, instance_id: "i-1".into() }))]
#[case(InstanceState::Terminated, Some(Step::Conclude { ordinal: 0, failed: false }))]
fn each_state_of_a_wanted_member_has_its_step(#[case] state: InstanceState, #[case] expected: Option<Step>) {
    let entries = vec![entry(0, LaunchPhase::Launched, Some("i-1"))];
    assert_eq!(steps(1, entries, &seen("i-1", state)), Vec::from_iter(expected));
}

/// A volume that it cannot have, a key that is denied: it stops again at each start.
#[test]
fn an_instance_that_was_just_started_is_not_started_again_yet() {
    let ledger = Ledger::new(vec![entry(0, LaunchPhase::Launched, Some("i-1"))]);
    let mut evidence = Evidence::default();
    evidence.started("i-1", at(0));
    let stopped = seen("i-1", InstanceState::Stopped);
    let steps = |second| plan(&desired(1), &ledger, &stopped, &evidence, at(second)).len();
    assert_eq!((steps(1), steps(2)), (0, 1));
}

#[rstest]
#[case(InstanceState::Running, Some(Step::Terminate { ordinal: 0, instance_id: "i-1".into() }))]
#[case(InstanceState::Stopped, Some(Step::Terminate { ordinal: 0, instance_id: "i-1".into() }))]
#[case(InstanceState::ShuttingDown, None)]
#[case(InstanceState::Terminated, Some(Step::Conclude { ordinal: 0, failed: false }))]
fn each_state_of_a_leaving_member_has_its_step(#[case] state: InstanceState, #[case] expected: Option<Step>) {
    let entries = vec![entry(0, LaunchPhase::Retiring, Some("i-1"))];
    assert_eq!(steps(0, entries, &seen("i-1", state)), Vec::from_iter(expected));
}

#[test]
fn a_launch_is_repeated_until_its_instance_is_known() {
    let entries = vec![entry(0, LaunchPhase::Launching, None)];
    assert_eq!(
        steps(1, entries.clone(), &Seen::default()),
        [Step::Replay { ordinal: 0 }]
    );
    let seen = Seen {
        instances: vec![instance("i-9", "token-0")],
        ..Seen::default()
    };
    assert_eq!(
        steps(1, entries, &seen),
        [Step::Record {
            ordinal: 0,
            instance_id: "i-9".into()
        }]
    );
}

#[test]
fn a_member_that_went_comes_back_with_a_higher_incarnation() {
    let steps = steps(
        1,
        vec![entry(0, LaunchPhase::Over, Some("i-1"))],
        &Seen::default(),
    );
    assert!(
        matches!(steps.as_slice(), [Step::Launch { incarnation: 2, .. }]),
        "{steps:?}"
    );
}

#[test]
fn members_leave_one_at_a_time_from_the_highest_number() {
    let entries: Vec<_> = (0..5)
        .map(|ordinal| entry(ordinal, LaunchPhase::Launched, Some(&format!("i-{ordinal}"))))
        .collect();
    let spare = |ordinal| Seen {
        spare: Some(ordinal),
        ..Seen::default()
    };
    assert_eq!(
        steps(3, entries.clone(), &spare(4)),
        [Step::Retire { ordinal: 4 }]
    );
    for other in [Seen::default(), spare(3)] {
        assert_eq!(
            steps(3, entries.clone(), &other),
            [],
            "it may hold what no other has"
        );
    }
    let mut entries = entries;
    entries[4].phase = LaunchPhase::Retiring;
    let waiting = steps(3, entries.clone(), &seen("i-4", InstanceState::ShuttingDown));
    assert_eq!(waiting, []);
    entries[4].phase = LaunchPhase::Over;
    assert_eq!(steps(3, entries, &spare(3)), [Step::Retire { ordinal: 3 }]);
}

#[test]
fn a_member_that_keeps_failing_rests() {
    let mut failed = entry(0, LaunchPhase::Over, Some("i-1"));
    failed.failures = MOST_FAILURES;
    assert_eq!(steps(1, vec![failed.clone()], &Seen::default()), []);
    let later = plan(
        &desired(1),
        &Ledger::new(vec![failed]),
        &Seen::default(),
        &Evidence::default(),
        at(1801),
    );
    assert!(matches!(
        later.as_slice(),
        [Step::Launch {
            incarnation: 2,
            failures: 3,
            ..
        }]
    ));
}

#[test]
fn a_member_waits_while_it_is_held_and_no_longer() {
    let mut evidence = Evidence::default();
    evidence.hold(0, Verdict::Quota, "quota".into(), at(0));
    let ledger = Ledger::new(vec![entry(0, LaunchPhase::Launching, None)]);
    let at_time = |second| plan(&desired(1), &ledger, &Seen::default(), &evidence, at(second));
    assert_eq!(at_time(599), []);
    assert_eq!(at_time(600), [Step::Replay { ordinal: 0 }]);
}

#[test]
fn with_every_subnet_exhausted_nothing_is_launched() {
    let mut evidence = Evidence::default();
    evidence.exhaust("t3.micro", "subnet-12345678", at(0));
    let at_time = |second| {
        plan(
            &desired(1),
            &Ledger::default(),
            &Seen::default(),
            &evidence,
            at(second),
        )
    };
    assert_eq!(at_time(10), []);
    assert_eq!(at_time(181).len(), 1);
}

#[test]
fn an_unresolved_launch_is_looked_for_before_a_deletion_ends() {
    let ledger = Ledger::new(vec![entry(0, LaunchPhase::Launching, None)]);
    let at_time = |second| {
        wind_up(
            &ledger,
            &Seen::default(),
            &Evidence::default(),
            at(100),
            at(second),
        )
    };
    assert_eq!(at_time(110), [Step::Search { ordinal: 0 }]);
    assert_eq!(
        at_time(401),
        [Step::Conclude {
            ordinal: 0,
            failed: false
        }]
    );
}

#[test]
fn an_instance_with_our_tags_and_no_entry_is_a_stray() {
    let ledger = Ledger::new(vec![entry(0, LaunchPhase::Launched, Some("i-1"))]);
    let seen = Seen {
        instances: vec![instance("i-1", "token-0"), instance("i-2", "copied")],
        ..Seen::default()
    };
    let found: Vec<_> = strays(&ledger, &seen)
        .into_iter()
        .map(|instance| instance.id.as_str())
        .collect();
    assert_eq!(found, ["i-2"]);
}

#[test]
fn tags_are_changed_one_member_at_a_time_and_not_while_ec2_refuses_it() {
    let entries: Vec<_> = (0..4)
        .map(|n| entry(n, LaunchPhase::Launched, Some(&format!("i-{n}"))))
        .collect();
    let ledger = Ledger::new(entries);
    let running = Sighting::Seen {
        state: InstanceState::Running,
        reason: None,
    };
    let mut seen = Seen {
        sightings: (0..4).map(|n| (format!("i-{n}"), running.clone())).collect(),
        mistagged: BTreeSet::from([1, 2]),
        ..Seen::default()
    };
    let mut evidence = Evidence::default();
    let steps =
        |seen: &Seen, evidence: &Evidence, second| plan(&desired(4), &ledger, seen, evidence, at(second));
    let tag = |ordinal: i32| Step::Tag {
        ordinal,
        instance_id: format!("i-{ordinal}"),
    };
    assert_eq!(steps(&seen, &evidence, 10), [tag(1)]);
    seen.mistagged.remove(&1);
    assert_eq!(steps(&seen, &evidence, 10), [tag(2)]);
    evidence.refuse_tags("denied".into(), at(10));
    assert_eq!(steps(&seen, &evidence, 309), []);
    assert_eq!(steps(&seen, &evidence, 310), [tag(2)]);
}

fn any_state() -> impl Strategy<Value = InstanceState> {
    prop_oneof![
        Just(InstanceState::Pending),
        Just(InstanceState::Running),
        Just(InstanceState::ShuttingDown),
        Just(InstanceState::Terminated),
        Just(InstanceState::Stopping),
        Just(InstanceState::Stopped),
    ]
}

fn any_entry(ordinal: i32) -> impl Strategy<Value = Launch> {
    let phases = prop_oneof![
        Just(LaunchPhase::Launching),
        Just(LaunchPhase::Launched),
        Just(LaunchPhase::Retiring),
        Just(LaunchPhase::Over),
    ];
    phases.prop_map(move |phase| {
        let id = format!("i-{ordinal}");
        entry(ordinal, phase, (phase != LaunchPhase::Launching).then_some(&id))
    })
}

proptest! {
    #[test]
    fn a_member_is_launched_only_when_its_last_launch_is_over(
        entries in (0..6i32).prop_flat_map(|n| (0..n).map(any_entry).collect::<Vec<_>>()),
        states in prop::collection::vec(prop::option::of(any_state()), 6),
        replicas in 0..7,
    ) {
        let sightings = states.iter().enumerate().filter_map(|(ordinal, state)| {
            Some((format!("i-{ordinal}"), Sighting::Seen { state: (*state)?, reason: None }))
        });
        let seen = Seen { sightings: sightings.collect(), ..Seen::default() };
        let ledger = Ledger::new(entries);
        let steps = plan(&desired(replicas), &ledger, &seen, &Evidence::default(), at(10));
        for step in &steps {
            if let Step::Launch { ordinal, incarnation, .. } = step {
                prop_assert!(ledger.get(*ordinal).is_none_or(|last| last.phase == LaunchPhase::Over));
                prop_assert_eq!(*incarnation, ledger.get(*ordinal).map_or(1, |last| last.incarnation + 1));
                prop_assert!(*ordinal < replicas);
            }
        }
        let leaving = steps.iter().filter(|step| matches!(step, Step::Retire { .. })).count();
        prop_assert!(leaving <= 1);
    }

    #[test]
    fn a_converged_world_has_an_empty_plan(replicas in 1..=9) {
        let entries = (0..replicas).map(|n| entry(n, LaunchPhase::Launched, Some(&format!("i-{n}")))).collect();
        let running = Sighting::Seen { state: InstanceState::Running, reason: None };
        let seen = Seen {
            sightings: (0..replicas).map(|n| (format!("i-{n}"), running.clone())).collect(),
            ..Seen::default()
        };
        prop_assert_eq!(steps(replicas, entries, &seen), []);
    }
}
