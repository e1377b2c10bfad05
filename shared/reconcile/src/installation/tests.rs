//! Who respects whom, as tables; installations beside each other are tested against a real API server.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use rstest::rstest;

use super::{ACTING, sightings::Sightings, territory::Territory};
use crate::{fence::BootTime, leader::LeaderConfig};

const OWN: Duration = Duration::from_secs(10);
/// When the leases of these tables were renewed, as every clock shows it.
const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

fn serving(namespaces: &[&str], shard: &str) -> Territory {
    let namespaces: Vec<_> = namespaces.iter().map(|&name| name.to_owned()).collect();
    Territory::new(&namespaces, Some(shard))
}

#[rstest]
#[case::all_and_all(&[], "", &[], "", true)]
#[case::all_and_one(&[], "", &["a"], "", true)]
#[case::one_in_common(&["a", "b"], "", &["b", "c"], "", true)]
#[case::none_in_common(&["a", "b"], "", &["c"], "", false)]
#[case::a_name_within_a_name(&["team"], "", &["team-a"], "", false)]
#[case::two_parts(&[], "red", &[], "blue", false)]
#[case::one_part(&["a"], "red", &[], "red", true)]
#[case::a_part_and_all(&[], "red", &["a"], "", true)]
fn territories_overlap(
    #[case] one: &[&str],
    #[case] its_shard: &str,
    #[case] other: &[&str],
    #[case] others_shard: &str,
    #[case] expected: bool,
) {
    let (one, other) = (serving(one, its_shard), serving(other, others_shard));
    // What is read from a Lease is what was written into it.
    let read = Territory::of(&lease("x", Some(&other), "", 0)).unwrap();
    assert_eq!(read, other);
    assert_eq!((one.overlaps(&read), read.overlaps(&one)), (expected, expected));
}

/// A Lease of 15 seconds, renewed `renewals` times; `holder` acts.
fn lease(namespace: &str, territory: Option<&Territory>, holder: &str, renewals: i64) -> Lease {
    let mut annotations: BTreeMap<_, _> = territory.into_iter().flat_map(Territory::annotations).collect();
    annotations.insert(ACTING.to_owned(), holder.to_owned());
    Lease {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some("operator".to_owned()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewals).unwrap())),
            ..LeaseSpec::default()
        }),
    }
}

fn at(seconds: u64) -> BootTime {
    BootTime::default() + Duration::from_secs(seconds)
}

/// The election for the Lease `own/operator`.
fn own() -> LeaderConfig {
    let mut config = LeaderConfig::new("operator", "own");
    config.timing.lease_duration = OWN;
    config
}

fn sightings() -> Sightings {
    Sightings::new(Territory::default(), &own(), Vec::new())
}

/// Whether another is respected, after each list at its second.
fn respected(lists: &[(u64, Option<Lease>)]) -> Vec<bool> {
    let mut sightings = sightings();
    let mut after = |(second, list): &(u64, Option<Lease>)| {
        sightings.see(list.as_slice(), at(*second), EPOCH);
        sightings.acting(at(*second)).is_some()
    };
    lists.iter().map(&mut after).collect()
}

#[test]
fn who_acts_is_respected_until_it_has_not_for_a_lease() {
    let all = Territory::default();
    let one = |holder: &str, renewals| Some(lease("other", Some(&all), holder, renewals));
    let noted_by_another = one("a", 3).map(|mut lease| {
        lease.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
        lease
    });
    // As long as its Lease changes; an unchanged one is a sign of life up to its duration, then there is a pause.
    let crashed = [
        (0, one("a", 0)),
        (14, one("a", 0)),
        (28, one("a", 0)),
        (29, one("a", 0)),
    ];
    assert_eq!(respected(&crashed), [true, true, true, false]);
    let alive = [
        (0, one("a", 0)),
        (14, one("a", 1)),
        (28, one("a", 2)),
        (42, one("a", 3)),
    ];
    assert_eq!(respected(&alive), [true; 4]);
    // A hand-over between its replicas, and one that ended.
    let handed_over = [
        (0, one("a", 0)),
        (1, one("", 1)),
        (2, noted_by_another.clone()),
        (3, one("b", 4)),
    ];
    assert_eq!(respected(&handed_over), [true; 4]);
    let released = [
        (0, one("a", 0)),
        (1, one("", 1)),
        (14, one("", 1)),
        (15, one("", 1)),
    ];
    assert_eq!(respected(&released), [true, true, true, false]);
    // One that was not seen acting: free, waiting, silent about what it serves, ours.
    let silent = Some(lease("other", None, "a", 0));
    let ours = Some(lease("own", Some(&all), "a", 0));
    for nobody in [one("", 0), noted_by_another, silent, ours, None] {
        assert_eq!(respected(&[(0, nobody.clone())]), [false], "{nobody:?}");
    }
}

#[test]
fn a_lease_that_is_gone_is_missed_and_one_that_serves_other_namespaces_by_now_is_not() {
    let all = Territory::default();
    let mut sightings = sightings();
    sightings.see(&[lease("other", Some(&all), "a", 0)], at(0), EPOCH);
    sightings.see(&[], at(14), EPOCH);
    assert!(sightings.acting(at(14)).is_some() && sightings.at_work().is_none());
    sightings.see(&[], at(15), EPOCH);
    assert!(sightings.acting(at(15)).is_none());

    let mut sightings = Sightings::new(serving(&["a"], ""), &own(), Vec::new());
    sightings.see(
        &[lease("other", Some(&serving(&["a", "b"], "")), "a", 0)],
        at(0),
        EPOCH,
    );
    assert!(sightings.acting(at(0)).is_some());
    sightings.see(
        &[lease("other", Some(&serving(&["b"], "")), "a", 1)],
        at(1),
        EPOCH,
    );
    assert!(sightings.acting(at(1)).is_none());
}

#[test]
fn only_a_lease_that_changes_proves_that_somebody_is_at_work() {
    let all = Territory::default();
    let mut sightings = sightings();
    sightings.see(&[lease("other", Some(&all), "a", 0)], at(0), EPOCH);
    assert!(!sightings.at_work().unwrap().is_proven);
    sightings.see(&[lease("other", Some(&all), "a", 1)], at(1), EPOCH);
    assert!(sightings.at_work().unwrap().is_proven);
    sightings.see(&[lease("other", Some(&all), "a", 1)], at(16), EPOCH);
    assert!(sightings.at_work().is_none());
}

#[test]
fn a_lease_counts_where_it_is_trusted_and_nowhere_else() {
    let all = Territory::default();
    let of = |namespace: &str, trusted: &[&str]| {
        let trusted = trusted.iter().map(|&name| name.to_owned()).collect();
        let mut sightings = Sightings::new(Territory::default(), &own(), trusted);
        sightings.see(&[lease(namespace, Some(&all), "a", 0)], at(0), EPOCH);
        sightings.acting(at(0)).is_some()
    };
    assert!(of("tenant", &[]));
    assert!(of("operators", &["operators", "more"]));
    assert!(!of("tenant", &["operators", "more"]));
}

#[test]
fn a_lease_that_nobody_has_renewed_for_hours_is_waited_for_a_little_and_one_that_changes_is_respected() {
    let all = Territory::default();
    let hours = |hours: i64| Timestamp::from_second(3600 * hours).unwrap();
    let until = |time: Timestamp, alive: bool| {
        let mut sightings = sightings();
        let respected = (0_u8..40).take_while(|&second| {
            let renewals = if alive { i64::from(second) / 4 } else { 0 };
            let lease = lease("other", Some(&all), "a", renewals);
            sightings.see(&[lease], at(second.into()), time);
            sightings.acting(at(second.into())).is_some()
        });
        respected.count()
    };
    assert_eq!(until(hours(1), false), 29);
    // A clock that is behind, and one that is ahead.
    assert_eq!(until(hours(-3), false), 29);
    assert_eq!(until(hours(3), false), 15);
    assert_eq!(until(hours(3), true), 40);
}
