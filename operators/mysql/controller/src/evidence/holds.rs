//! Attempts that failed, and how long the next one waits.

use std::time::Duration;

use jiff::Timestamp;

use super::{Evidence, PROPAGATION};
use crate::outcome::Verdict;

/// The longest wait between two attempts whose outcome is unknown.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// An attempt failed; the next one waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until when.
    pub until: Timestamp,
    /// What the last attempt meant.
    pub verdict: Verdict,
    /// What the cloud said.
    pub message: String,
    attempts: u32,
    /// Since when something that the launch names is not known to EC2.
    unknown_since: Option<Timestamp>,
}

impl Hold {
    /// Whether EC2 refused to terminate an instance because it is protected.
    pub fn is_protected(&self) -> bool {
        self.message.contains("disableApiTermination")
    }
}

impl Evidence {
    /// An attempt for a member failed. Returns what that means: what could be too young to be known counts as refused when it
    /// has not been known for longer than that takes.
    pub fn hold(&mut self, ordinal: i32, verdict: Verdict, message: String, now: Timestamp) -> Verdict {
        let last = self.holds.get(&ordinal);
        let unknown_since = last
            .and_then(|hold| hold.unknown_since)
            .or_else(|| (verdict == Verdict::Young).then_some(now));
        let is_old = unknown_since.is_some_and(|since| now.duration_since(since) >= PROPAGATION);
        let verdict = if verdict == Verdict::Young && is_old {
            Verdict::Refused
        } else {
            verdict
        };
        let attempts = last
            .filter(|hold| hold.verdict == verdict)
            .map_or(0, |hold| hold.attempts);
        let factor = 1u32 << attempts.min(10);
        let wait = match verdict {
            Verdict::Unknown
            | Verdict::Unlisted
            | Verdict::Throttled
            | Verdict::Young
            | Verdict::Unrecorded => (verdict.retry_after() * factor).min(LONGEST_WAIT),
            _ => verdict.retry_after(),
        };
        let until = now.checked_add(wait).unwrap_or(now);
        let hold = Hold {
            until,
            verdict,
            message,
            attempts: attempts + 1,
            unknown_since,
        };
        self.holds.insert(ordinal, hold);
        verdict
    }

    /// The last attempt for a member that failed, if none has succeeded since.
    pub fn held(&self, ordinal: i32) -> Option<&Hold> {
        self.holds.get(&ordinal)
    }

    /// Each member's last attempt that failed, if none has succeeded since.
    pub fn holds(&self) -> impl Iterator<Item = (i32, &Hold)> {
        self.holds.iter().map(|(ordinal, hold)| (*ordinal, hold))
    }

    /// Whether a member has to wait.
    pub fn is_held(&self, ordinal: i32, now: Timestamp) -> bool {
        self.held(ordinal).is_some_and(|hold| hold.until > now)
    }

    /// An attempt for a member succeeded.
    pub fn release(&mut self, ordinal: i32) {
        self.holds.remove(&ordinal);
    }

    /// The spec changed: what it was refused for may be right now.
    pub fn reconsider(&mut self) {
        self.holds
            .retain(|_, hold| hold.verdict == Verdict::Unknown || hold.verdict == Verdict::Throttled);
        for hold in self.holds.values_mut() {
            hold.unknown_since = None;
        }
        self.untagged = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts that all fail like this, each as soon as it may be made: how many seconds each was waited for after.
    fn waits(verdict: Verdict, attempts: usize) -> Vec<i64> {
        let mut evidence = Evidence::default();
        let mut now = Timestamp::from_second(1_000_000).unwrap();
        let attempt = |_| {
            evidence.hold(0, verdict, "no".into(), now);
            let until = evidence.held(0).unwrap().until;
            let wait = until.duration_since(now).as_secs();
            now = until;
            wait
        };
        (0..attempts).map(attempt).collect()
    }

    #[test]
    fn what_may_be_asked_again_at_any_time_is_asked_less_and_less_often() {
        let growing = [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300];
        assert_eq!(waits(Verdict::Unknown, 12), growing);
        let slower = [5, 10, 20, 40, 80, 160, 300, 300];
        assert_eq!(waits(Verdict::Throttled, 8), slower);
        assert_eq!(waits(Verdict::Unrecorded, 8), slower);
    }

    #[test]
    fn what_people_or_time_must_change_is_asked_for_steadily() {
        assert_eq!(waits(Verdict::NoCapacity, 3), [300; 3]);
        assert_eq!(waits(Verdict::Denied, 3), [300; 3]);
        assert_eq!(waits(Verdict::Quota, 3), [600; 3]);
        assert_eq!(waits(Verdict::Refused, 3), [1800; 3]);
    }

    #[test]
    fn what_may_be_too_young_to_be_known_is_asked_for_again_soon_and_refused_after_five_minutes() {
        assert_eq!(
            waits(Verdict::Young, 9),
            [5, 10, 20, 40, 80, 160, 1800, 1800, 1800]
        );
    }

    #[test]
    fn the_five_minutes_go_on_whatever_else_goes_wrong_and_begin_anew_with_another_spec() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut evidence = Evidence::default();
        let fail =
            |evidence: &mut Evidence, verdict, second| evidence.hold(0, verdict, "no".into(), at(second));
        assert_eq!(fail(&mut evidence, Verdict::Young, 0), Verdict::Young);
        assert_eq!(fail(&mut evidence, Verdict::Throttled, 200), Verdict::Throttled);
        assert_eq!(fail(&mut evidence, Verdict::Young, 299), Verdict::Young);
        assert_eq!(fail(&mut evidence, Verdict::Young, 300), Verdict::Refused);
        assert_eq!(fail(&mut evidence, Verdict::Throttled, 2100), Verdict::Throttled);
        assert_eq!(fail(&mut evidence, Verdict::Young, 2105), Verdict::Refused);
        evidence.reconsider();
        assert_eq!(fail(&mut evidence, Verdict::Young, 2106), Verdict::Young);
        fail(&mut evidence, Verdict::Unknown, 2110);
        evidence.reconsider();
        assert_eq!(fail(&mut evidence, Verdict::Young, 2407), Verdict::Young);
    }
}
