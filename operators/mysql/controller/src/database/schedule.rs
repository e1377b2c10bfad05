//! When scheduled backups are due.
//!
//! # Guarantees
//! - Times are UTC. Each server's backups start later than the schedule says by as much every time, which follows from
//!   its UID: servers with one schedule do not start at once.
//! - What was missed while nobody looked is caught up once, not once for each time.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use sha2::{Digest as _, Sha256};

/// A schedule that was understood.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    later: SignedDuration,
}

/// A schedule that was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no schedule: {why}; give the five fields of cron, such as \"0 2 * * *\"")]
pub struct ScheduleError {
    /// What was written.
    text: String,
    /// Why.
    why: String,
}

impl Schedule {
    /// Reads the five fields of cron, for the server with this UID, whose backups start up to `jitter` later.
    pub fn parse(text: &str, jitter: Duration, uid: &str) -> Result<Self, ScheduleError> {
        let refused = |why: String| ScheduleError {
            text: text.to_owned(),
            why,
        };
        let fields = text.split_whitespace().count();
        if fields != 5 {
            return Err(refused(format!("it has {fields} fields")));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| refused(error.to_string()))?;
        let schedule = Self {
            cron,
            later: later(jitter, uid),
        };
        // `0 0 30 2 *` can be read, and never comes.
        match schedule.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(refused("it never comes".to_owned())),
        }
    }

    /// The last time of the schedule after `after` whose backup should have started by `now`.
    pub fn due(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let now = now.checked_sub(self.later).ok()?;
        let last = self.cron.find_previous_occurrence(&utc(now), true).ok()?;
        Some(last.timestamp()).filter(|last| *last > after)
    }

    /// When the next backup starts after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let base = now.checked_sub(self.later).unwrap_or(now);
        let next = self.cron.find_next_occurrence(&utc(base), false).ok()?;
        next.timestamp().checked_add(self.later).ok()
    }
}

fn utc(at: Timestamp) -> Zoned {
    at.to_zoned(TimeZone::UTC)
}

fn later(jitter: Duration, uid: &str) -> SignedDuration {
    let digest = Sha256::digest(uid.as_bytes());
    let draw = digest
        .iter()
        .take(4)
        .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let seconds = draw % (jitter.as_secs() + 1);
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn nightly(jitter: u64) -> Schedule {
        Schedule::parse("0 2 * * *", Duration::from_secs(jitter), "uid-1").unwrap()
    }

    #[test]
    fn each_time_is_due_once_and_what_was_missed_is_caught_up_once() {
        let nightly = nightly(0);
        let created = at("2026-03-01T12:00:00Z");
        assert_eq!(nightly.due(created, at("2026-03-02T01:59:59Z")), None);
        let first = at("2026-03-02T02:00:00Z");
        assert_eq!(nightly.due(created, first), Some(first));
        assert_eq!(nightly.due(first, at("2026-03-02T14:00:00Z")), None);
        // Nobody looked for a week.
        let late = at("2026-03-09T11:00:00Z");
        assert_eq!(nightly.due(first, late), Some(at("2026-03-09T02:00:00Z")));
        assert_eq!(nightly.due(at("2026-03-09T02:00:00Z"), late), None);
        assert_eq!(nightly.next(late), Some(at("2026-03-10T02:00:00Z")));
    }

    #[test]
    fn servers_with_one_schedule_start_at_different_times_each_at_its_own() {
        let starts: std::collections::BTreeSet<_> = (0..50)
            .map(|n| {
                let uid = format!("uid-{n}");
                let schedule = Schedule::parse("0 2 * * *", Duration::from_secs(300), &uid).unwrap();
                let start = schedule.next(at("2026-03-01T12:00:00Z")).unwrap();
                assert!(start >= at("2026-03-02T02:00:00Z") && start <= at("2026-03-02T02:05:00Z"));
                assert_eq!(
                    schedule.next(start),
                    start.checked_add(SignedDuration::from_hours(24)).ok()
                );
                let due = schedule.due(at("2026-03-01T12:00:00Z"), start);
                assert_eq!(due, Some(at("2026-03-02T02:00:00Z")), "due when it starts");
                start
            })
            .collect();
        assert!(starts.len() > 30, "{}", starts.len());
    }

    #[rstest]
    #[case("")]
    #[case("daily")]
    #[case("0 2 * *")]
    #[case("0 0 2 * * *")]
    #[case("60 2 * * *")]
    #[case("0 0 30 2 *")]
    fn what_is_no_schedule_is_refused(#[case] text: &str) {
        let refused = Schedule::parse(text, Duration::ZERO, "u").unwrap_err();
        assert!(refused.to_string().contains("five fields"), "{refused}");
    }
}
