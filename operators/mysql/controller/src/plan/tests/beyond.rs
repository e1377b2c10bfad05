//! Members beyond the number of replicas that have not been told to go.

use super::*;

/// Member 0, and members 1 and 2 beyond it, which run but for the one that was seen otherwise.
fn beyond(other: (&str, Sighting), leader: Option<i32>, adopted: &[i32]) -> Vec<Step> {
    let entries = (0..3).map(|ordinal| {
        let id = format!("i-{ordinal}");
        let adopted = adopted.contains(&ordinal).then(|| "uid-0".to_owned());
        Launch {
            adopted_from: adopted,
            ..entry(ordinal, LaunchPhase::Launched, Some(&id))
        }
    });
    let running = Sighting::Seen {
        state: InstanceState::Running,
        reason: None,
    };
    let mut sightings: BTreeMap<_, _> = (0..3).map(|n| (format!("i-{n}"), running.clone())).collect();
    sightings.insert(other.0.to_owned(), other.1);
    let seen = Seen {
        sightings,
        leader,
        ..Seen::default()
    };
    steps(1, entries.collect(), &seen)
}

fn state(state: InstanceState) -> Sighting {
    Sighting::Seen { state, reason: None }
}

/// Whether it is the next to go or not, and although none may go yet.
#[rstest]
#[case("i-1", 1, None, &[0, 1, 2])]
#[case("i-2", 2, None, &[0, 1, 2])]
#[case("i-1", 1, Some(0), &[])]
#[case("i-2", 2, Some(2), &[])]
fn an_instance_that_has_ended_is_waited_for_no_more(
    #[case] id: &str,
    #[case] ordinal: i32,
    #[case] leader: Option<i32>,
    #[case] adopted: &[i32],
    #[values(state(InstanceState::Terminated), Sighting::Gone)] ended: Sighting,
) {
    let over = Step::Conclude {
        ordinal,
        failed: false,
    };
    assert_eq!(beyond((id, ended), leader, adopted), [over]);
}

#[rstest]
#[case::adopted(None, &[0, 1, 2], true)]
#[case::leads(Some(1), &[], true)]
#[case::another_leads(Some(0), &[0, 1, 2], false)]
#[case::new_beside_the_adopted(None, &[0], false)]
fn one_that_may_lead_is_kept_until_another_does(
    #[case] leader: Option<i32>,
    #[case] adopted: &[i32],
    #[case] is_kept: bool,
) {
    let instance_id = || "i-1".to_owned();
    for (sighting, step) in [
        (
            state(InstanceState::Stopped),
            Step::Start {
                ordinal: 1,
                instance_id: instance_id(),
            },
        ),
        (
            Sighting::Unmarked,
            Step::Mark {
                ordinal: 1,
                instance_id: instance_id(),
            },
        ),
    ] {
        let kept: Vec<_> = is_kept.then_some(step).into_iter().collect();
        assert_eq!(beyond(("i-1", sighting), leader, adopted), kept);
    }
}
