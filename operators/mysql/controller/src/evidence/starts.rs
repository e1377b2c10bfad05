//! When stopped instances were started last: one that stops again at each start is started less and less often.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Evidence;

/// How long after the first start the next one is made; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest time between two starts.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// An instance that stops later than this after its start has run, and begins anew.
const RAN: SignedDuration = SignedDuration::from_mins(10);

/// The starts of one instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starts {
    attempts: u32,
    last: Timestamp,
}

impl Starts {
    fn rests_until(self) -> Timestamp {
        let wait = (FIRST_WAIT * (1 << self.attempts.saturating_sub(1).min(10))).min(LONGEST_WAIT);
        self.last.checked_add(wait).unwrap_or(self.last)
    }
}

impl Evidence {
    /// An instance was started.
    pub fn started(&mut self, id: &str, now: Timestamp) {
        let before = self
            .starts
            .get(id)
            .filter(|starts| now.duration_since(starts.last) < RAN);
        let attempts = before.map_or(0, |starts| starts.attempts) + 1;
        self.starts.insert(id.to_owned(), Starts { attempts, last: now });
    }

    /// Whether an instance was started so lately that it is not started again yet.
    pub fn is_just_started(&self, id: &str, now: Timestamp) -> bool {
        self.starts
            .get(id)
            .is_some_and(|starts| now < starts.rests_until())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_stops_again_at_each_start_is_started_less_and_less_often() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut evidence = Evidence::default();
        let mut last = 0;
        let mut waits = Vec::new();
        for second in 0..1200 {
            if !evidence.is_just_started("i-1", at(second)) {
                evidence.started("i-1", at(second));
                waits.push(second - last);
                last = second;
            }
        }
        assert_eq!(waits, [0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!evidence.is_just_started("i-2", at(last)), "another one");
        // It has run for long since.
        evidence.started("i-1", at(last + 600));
        assert!(!evidence.is_just_started("i-1", at(last + 602)));
    }
}
