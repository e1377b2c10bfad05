//! What comes late: an instance that nobody expected any more, and the end of one that EC2 keeps.

use super::*;
use crate::identity::Identity;

#[test]
fn a_launch_that_counts_as_never_made_is_recorded_when_it_shows_after_all() {
    let never_made = |ordinal| entry(ordinal, LaunchPhase::Over, None);
    let seen = Seen {
        instances: vec![instance("i-9", "token-0"), instance("i-8", "token-1")],
        ..Seen::default()
    };
    let record = |ordinal, id: &str| Step::Record {
        ordinal,
        instance_id: id.into(),
    };
    let found = steps(1, vec![never_made(0), never_made(1)], &seen);
    assert_eq!(
        found,
        [record(0, "i-9"), record(1, "i-8")],
        "also of a member that is not wanted any more"
    );
    let ledger = Ledger::new(vec![never_made(0)]);
    assert_eq!(strays(&ledger, &seen).len(), 2, "nobody hides it until then");
}

#[test]
fn a_member_under_termination_protection_stays_and_one_that_ec2_keeps_is_asked_for_now_and_then() {
    let mut protected = desired(1);
    protected.template.termination_protection = true;
    let seen = Seen {
        spare: Some(1),
        ..seen("i-1", InstanceState::Running)
    };
    let launched = |phase| {
        Ledger::new(vec![
            entry(0, LaunchPhase::Launched, Some("i-0")),
            entry(1, phase, Some("i-1")),
        ])
    };
    let mut evidence = Evidence::default();
    let steps = |desired: &Desired, phase, evidence: &Evidence| {
        plan(desired, &launched(phase), &seen, evidence, at(10))
    };
    assert_eq!(steps(&protected, LaunchPhase::Launched, &evidence), []);
    assert_eq!(
        steps(&desired(1), LaunchPhase::Launched, &evidence),
        [Step::Retire { ordinal: 1 }]
    );
    let terminate = [Step::Terminate {
        ordinal: 1,
        instance_id: "i-1".into(),
    }];
    for wanted in [desired(1), desired(2)] {
        assert_eq!(steps(&wanted, LaunchPhase::Retiring, &evidence), terminate);
    }
    evidence.hold(1, Verdict::Unknown, "disableApiTermination".into(), at(9));
    for wanted in [desired(1), desired(2)] {
        assert_eq!(steps(&wanted, LaunchPhase::Retiring, &evidence), []);
    }
}

#[test]
fn a_member_whose_instance_counted_as_gone_and_shows_again_is_not_launched_beside_it() {
    let seen = Seen {
        instances: vec![instance("i-1", "token-0")],
        ..Seen::default()
    };
    let over = entry(0, LaunchPhase::Over, Some("i-1"));
    let record = Step::Record {
        ordinal: 0,
        instance_id: "i-1".into(),
    };
    assert_eq!(steps(1, vec![over.clone()], &seen), [record]);
    let mut ended = seen;
    ended.instances[0].state = InstanceState::Terminated;
    assert!(matches!(
        steps(1, vec![over], &ended).as_slice(),
        [Step::Launch { .. }]
    ));
}

#[test]
fn a_member_is_not_launched_beside_an_instance_of_a_launch_that_the_ledger_has_lost() {
    let identity = Identity {
        cluster_uid: "uid-0".into(),
        ordinal: 1,
        incarnation: 4,
    };
    let token = identity.token("subnet-12345678", "h");
    let shown = Instance {
        tags: identity.tags().into(),
        ..instance("i-4", &token)
    };
    let launched = |shown: Instance| {
        let seen = Seen {
            instances: vec![shown],
            ..Seen::default()
        };
        let steps = steps(3, Vec::new(), &seen);
        let ordinal = |step: &Step| match step {
            Step::Launch { ordinal, .. } => *ordinal,
            other => panic!("{other:?}"),
        };
        steps.iter().map(ordinal).collect::<Vec<_>>()
    };
    assert_eq!(launched(shown.clone()), [0, 2]);
    let copied = Instance {
        client_token: Some("somebody's".into()),
        ..shown.clone()
    };
    assert_eq!(launched(copied), [0, 1, 2], "tags alone can be copied");
    let ended = Instance {
        state: InstanceState::Terminated,
        ..shown
    };
    assert_eq!(launched(ended), [0, 1, 2]);
}
