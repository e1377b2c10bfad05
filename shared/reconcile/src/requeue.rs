//! When a failed object is tried again.
//!
//! Exponential backoff per object with full jitter: the n-th failure in a row waits a time drawn uniformly from
//! (0, min(base · 2ⁿ, cap)]. Full jitter spreads objects that failed together (an API server restart, an expired
//! token) over the whole interval instead of letting them return together.
//!
//! # Guarantees
//! - A success or the object's disappearance forgets its failures; memory is bounded by the objects that fail now.
//! - A delay that the other side asked for (`Retry-After`) is never undercut.
//!
//! # Example
//! ```
//! use std::time::Duration;
//!
//! use reconcile::requeue::{Backoff, RequeuePolicy};
//!
//! let backoff = Backoff::new(RequeuePolicy::default());
//! assert!(backoff.next(&"default/first", None) <= Duration::from_secs(1));
//! assert!(backoff.next(&"default/first", Some(Duration::from_secs(30))) >= Duration::from_secs(30));
//! assert_eq!(backoff.failures(&"default/first"), 2);
//! backoff.forget(&"default/first");
//! assert_eq!(backoff.failures(&"default/first"), 0);
//! ```

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use rand::RngExt as _;

/// Base and cap of the backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequeuePolicy {
    /// Nominal delay after the first failure. Default 1 s.
    pub base: Duration,
    /// Nominal delay that is never exceeded; also the pace at which denied requests are retried. Default 5 min.
    pub cap: Duration,
}

impl Default for RequeuePolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_mins(5),
        }
    }
}

impl RequeuePolicy {
    /// Nominal delay after `failures` failures in a row before this one: base · 2^failures, at most the cap.
    pub fn nominal(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// Failure counts of all objects of a controller.
#[derive(Debug)]
pub struct Backoff<K> {
    policy: RequeuePolicy,
    failures: Mutex<HashMap<K, u32>>,
}

impl<K: Eq + Hash + Clone> Backoff<K> {
    /// No failures yet.
    pub fn new(policy: RequeuePolicy) -> Self {
        Self {
            policy,
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a failure of `key` and draws the delay before its next attempt, at least `retry_after`.
    pub fn next(&self, key: &K, retry_after: Option<Duration>) -> Duration {
        let failures = {
            let mut all = self.failures.lock();
            let count = all.entry(key.clone()).or_insert(0);
            let before = *count;
            *count = count.saturating_add(1);
            before
        };
        full_jitter(self.policy.nominal(failures)).max(retry_after.unwrap_or_default())
    }

    /// The delay for a denied request: near the cap from the first failure on, since a person has to act.
    pub fn denied(&self) -> Duration {
        self.policy.cap / 2 + full_jitter(self.policy.cap / 2)
    }

    /// The delay after a lost race: short, and not counted as a failure.
    pub fn conflict(&self) -> Duration {
        full_jitter(self.policy.base)
    }

    /// Forgets the failures of `key`: it succeeded, or is gone.
    pub fn forget(&self, key: &K) {
        self.failures.lock().remove(key);
    }

    /// How often `key` failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.failures.lock().get(key).copied().unwrap_or(0)
    }
}

/// A duration drawn uniformly from (0, `nominal`]; zero only for a nominal of zero.
pub fn full_jitter(nominal: Duration) -> Duration {
    let nanos = u64::try_from(nominal.as_nanos()).unwrap_or(u64::MAX);
    match nanos {
        0 => Duration::ZERO,
        _ => Duration::from_nanos(rand::rng().random_range(1..=nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nominal_delays_double_from_one_second_to_five_minutes() {
        let policy = RequeuePolicy::default();
        let seconds: Vec<u64> = (0..11).map(|n| policy.nominal(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(policy.nominal(u32::MAX).as_secs(), 300);
    }

    #[test]
    fn the_actual_delay_is_spread_over_the_whole_interval() {
        let draws: Vec<_> = (0..2000)
            .map(|_| full_jitter(Duration::from_secs(8)).as_secs_f64())
            .collect();
        assert!(draws.iter().all(|d| *d > 0.0 && *d <= 8.0));
        let mean = draws.iter().sum::<f64>() / 2000.0;
        assert!((3.6..4.4).contains(&mean), "mean {mean}");
        assert!(draws.iter().any(|d| *d < 0.4) && draws.iter().any(|d| *d > 7.6));
    }

    #[test]
    fn success_forgets_and_retry_after_is_a_floor() {
        let backoff = Backoff::new(RequeuePolicy::default());
        for _ in 0..20 {
            assert!(backoff.next(&"a", None) <= Duration::from_secs(300));
        }
        assert_eq!((backoff.failures(&"a"), backoff.failures(&"b")), (20, 0));
        backoff.forget(&"a");
        assert!(backoff.next(&"a", None) <= Duration::from_secs(1));
        assert!(backoff.next(&"a", Some(Duration::from_secs(40))) >= Duration::from_secs(40));
    }
}
