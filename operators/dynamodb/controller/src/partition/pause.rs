//! Pauses before a request, or a round, is tried again.

use std::time::Duration;

use rand::RngExt as _;

/// What pauses begin from.
pub(crate) const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause before a round for which only the next look can say whether it is worth it.
const LONGEST_BETWEEN_ROUNDS: Duration = Duration::from_secs(30);
/// The pause after the first round in a row that an outage brought to nothing...
const OUTAGE: Duration = Duration::from_secs(10);
/// ...and the longest: what the Jobs of Kubernetes make of `backoffLimit`.
const LONGEST_OUTAGE: Duration = Duration::from_mins(6);

/// Full jitter: anything up to a pause that doubles with every attempt, 5 s at most.
pub(crate) fn pause(attempt: u32) -> Duration {
    doubled(SHORTEST, attempt, LONGEST).mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// Before a round after `attempt` that brought nothing, or found something left: full jitter.
pub(crate) fn between_rounds(attempt: u32) -> Duration {
    let longest = doubled(Duration::from_millis(250), attempt, LONGEST_BETWEEN_ROUNDS);
    longest.mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// Before a round after `idle` in a row that failed for a passing reason: 10 s, doubling up to 6 min, and a quarter more
/// at most. With the default `backoffLimit` a job outlives any outage of ten minutes.
pub(crate) fn in_outage(idle: u32) -> Duration {
    let least = doubled(OUTAGE, idle.saturating_sub(1), LONGEST_OUTAGE);
    least.mul_f64(rand::rng().random_range(1.0..=1.25))
}

/// `first`, doubled so many times, `most` at most.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(10)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_that_the_default_limit_allows_add_up_to_ten_minutes() {
        let total: Duration = (1..=6).map(in_outage).sum();
        assert!(
            total >= Duration::from_mins(10) && total < Duration::from_mins(14),
            "{total:?}"
        );
        assert!((0..2000).all(|idle| in_outage(idle) <= LONGEST_OUTAGE.mul_f64(1.25)));
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        for attempt in 0..40 {
            assert!(pause(attempt) <= LONGEST);
            assert!(between_rounds(attempt) <= LONGEST_BETWEEN_ROUNDS);
        }
    }
}
