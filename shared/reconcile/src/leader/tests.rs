//! The rules of the election as tables; the election itself is tested against a real API server.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use rstest::rstest;

use super::{
    config::{ConfigError, LeaderConfig, Timing, process_identity},
    decision::{Decision, Observation, decide},
    record::{claimed, is_held_by, released},
};
use crate::fence::BootTime;

const SECOND: Duration = Duration::from_secs(1);
const DEFAULT: Duration = Duration::from_secs(15);

fn held_by(holder: &str, seconds: Option<i32>) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: seconds,
        lease_transitions: Some(4),
        renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        ..LeaseSpec::default()
    }
}

#[rstest]
#[case::nothing_there(None, false, 0, Decision::Create)]
#[case::ours(Some(held_by("me", Some(15))), true, 0, Decision::Claim)]
#[case::released(Some(held_by("", Some(1))), true, 0, Decision::Claim)]
#[case::without_spec(None, true, 0, Decision::Claim)]
#[case::another_is_alive(Some(held_by("other", Some(15))), true, 14, Decision::Wait(at(15)))]
#[case::another_has_expired(Some(held_by("other", Some(15))), true, 15, Decision::Claim)]
#[case::the_records_own_duration_counts(Some(held_by("other", Some(60))), true, 59, Decision::Wait(at(60)))]
#[case::a_record_without_duration_is_respected(
    Some(held_by("other", None)),
    true,
    14,
    Decision::Wait(at(15))
)]
#[case::a_nonsensical_duration_protects_nobody(Some(held_by("other", Some(-1))), true, 0, Decision::Claim)]
#[case::deleted_but_its_holder_may_go_on(Some(held_by("other", Some(15))), false, 14, Decision::Wait(at(15)))]
#[case::deleted_and_expired(Some(held_by("other", Some(15))), false, 15, Decision::Create)]
#[case::ours_and_deleted(Some(held_by("me", Some(15))), false, 0, Decision::Create)]
fn a_candidate_decides(
    #[case] seen: Option<LeaseSpec>,
    #[case] exists: bool,
    #[case] seconds_later: u64,
    #[case] expected: Decision,
) {
    let mut observed = Observation::default();
    observed.see(seen.as_ref(), at(0));
    let now = at(seconds_later);
    assert_eq!(decide("me", exists, &observed, DEFAULT, now), expected);
}

/// A moment some seconds after an arbitrary one.
fn at(seconds: u64) -> BootTime {
    static ORIGIN: std::sync::OnceLock<BootTime> = std::sync::OnceLock::new();
    *ORIGIN.get_or_init(BootTime::now) + SECOND * u32::try_from(seconds).unwrap()
}

#[test]
fn only_a_change_of_the_record_restarts_the_wait() {
    let mut observed = Observation::default();
    let record = held_by("other", Some(15));
    observed.see(Some(&record), at(0));
    observed.see(Some(&record), at(10));
    observed.see(None, at(12));
    assert_eq!(decide("me", true, &observed, DEFAULT, at(15)), Decision::Claim);
    let renewed = LeaseSpec {
        renew_time: Some(MicroTime(Timestamp::now())),
        ..record
    };
    observed.see(Some(&renewed), at(14));
    assert_eq!(
        decide("me", true, &observed, DEFAULT, at(15)),
        Decision::Wait(at(29))
    );
}

#[test]
fn clocks_that_disagree_do_not_matter() {
    let mut observed = Observation::default();
    let future = Timestamp::now() + Duration::from_hours(1000);
    let record = LeaseSpec {
        renew_time: Some(MicroTime(future)),
        ..held_by("other", Some(15))
    };
    observed.see(Some(&record), at(0));
    assert_eq!(decide("me", true, &observed, DEFAULT, at(15)), Decision::Claim);
}

fn config() -> LeaderConfig {
    let mut config = LeaderConfig::new("operator", "system");
    config.labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "operator".to_owned())]);
    config
}

#[test]
fn a_new_lease_begins_without_transitions() {
    let (config, now) = (config(), Timestamp::now());
    let lease = claimed(None, &config, now);
    assert_eq!(lease.metadata.name.as_deref(), Some("operator"));
    assert_eq!(lease.metadata.labels, Some(config.labels.clone()));
    let spec = lease.spec.clone().unwrap();
    assert_eq!(spec.lease_transitions, Some(0));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert_eq!(
        (spec.acquire_time, spec.renew_time),
        (Some(MicroTime(now)), Some(MicroTime(now)))
    );
    assert!(is_held_by(&lease, &config.identity));
}

#[test]
fn renewing_moves_only_the_renew_time_and_taking_over_counts() {
    let (config, first) = (config(), Timestamp::UNIX_EPOCH);
    let mut found = Lease {
        spec: Some(held_by("other", Some(60))),
        ..Lease::default()
    };
    found.metadata.resource_version = Some("42".to_owned());
    found.metadata.labels = Some(BTreeMap::from([("theirs".to_owned(), "stays".to_owned())]));

    let taken = claimed(Some(&found), &config, first);
    assert_eq!(
        taken.metadata.resource_version.as_deref(),
        Some("42"),
        "the claim must conflict with any other"
    );
    assert_eq!(taken.metadata.labels.as_ref().map(BTreeMap::len), Some(2));
    let spec = taken.spec.clone().unwrap();
    assert_eq!(
        (spec.lease_transitions, spec.lease_duration_seconds),
        (Some(5), Some(15))
    );
    assert_eq!(spec.acquire_time, Some(MicroTime(first)));

    let later = first + Duration::from_secs(2);
    let renewed = claimed(Some(&taken), &config, later).spec.unwrap();
    assert_eq!(
        renewed,
        LeaseSpec {
            renew_time: Some(MicroTime(later)),
            ..spec
        }
    );
}

#[test]
fn a_released_lease_is_free_at_once_and_keeps_its_count() {
    let (config, now) = (config(), Timestamp::now());
    let held = claimed(None, &config, now);
    let spec = released(&held, now).spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(""));
    assert_eq!(spec.lease_duration_seconds, Some(1));
    assert_eq!(spec.lease_transitions, Some(0));
    let mut observed = Observation::default();
    observed.see(Some(&spec), at(0));
    assert_eq!(decide("next", true, &observed, DEFAULT, at(0)), Decision::Claim);
}

#[rstest]
#[case(Timing::DEFAULT)]
#[case(Timing::FAST)]
#[case(Timing::TOLERANT)]
fn the_presets_work(#[case] timing: Timing) {
    assert_eq!(timing.validate(), Ok(()));
    assert!(timing.call_limit() * 2 <= timing.renew_deadline);
}

#[rstest]
#[case::lease_of_half_seconds(2_500, 1_500, 500, "whole seconds")]
#[case::lease_of_less_than_a_second(0, 0, 0, "whole seconds")]
#[case::renew_as_long_as_the_lease(3_000, 3_000, 500, "longer than the renew deadline")]
#[case::retry_too_close_to_renew(15_000, 10_000, 9_000, "1.2 times the retry period")]
#[case::no_retry(15_000, 10_000, 0, "must not be 0")]
fn timings_that_cannot_work_are_refused(
    #[case] lease: u64,
    #[case] renew: u64,
    #[case] retry: u64,
    #[case] message: &str,
) {
    let timing = Timing {
        lease_duration: Duration::from_millis(lease),
        renew_deadline: Duration::from_millis(renew),
        retry_period: Duration::from_millis(retry),
    };
    let error = timing.validate().unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn nameless_elections_are_refused() {
    let nameless = LeaderConfig::new("", "system");
    assert_eq!(nameless.validate(), Err(ConfigError::Empty("lease")));
}

#[test]
fn identities_are_unique_per_process_start() {
    let (first, second) = (process_identity(), process_identity());
    assert_ne!(first, second);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(first.starts_with(&format!("{host}_")), "{first}");
}
