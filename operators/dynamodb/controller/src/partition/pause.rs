//! Pauses before a request is tried again.

use std::time::Duration;

use rand::RngExt as _;

/// What pauses begin from.
pub(crate) const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Full jitter: anything up to a pause that doubles with every attempt, 5 s at most.
pub(crate) fn pause(attempt: u32) -> Duration {
    let longest = SHORTEST.saturating_mul(1 << attempt.min(7)).min(LONGEST);
    longest.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds() {
        for attempt in 0..40 {
            assert!(pause(attempt) <= LONGEST);
        }
    }
}
