//! One injected clock for wall time, monotonic time and sleeping.
//!
//! Everything in the framework that waits (requeue, backoff, resync, polls, rate limits) asks a [`Clock`], so that
//! a test runs the same code with time sped up. tokio's paused clock cannot do that: it stands still while a real
//! socket is being waited for.
//!
//! # Guarantees
//! - [`Clock::elapsed`] and all waits are monotonic: a step of the host's wall clock does not shorten or lengthen them.
//! - [`Clock::now`] of the real clock is the host's wall clock, whatever has happened to it since the process began: a
//!   correction, or a suspension of the host, during which the monotonic time stands still. What people write down as
//!   a moment (a deadline, a schedule) is compared with it.
//! - [`Clock::steady`] is never stepped: what is remembered between two looks, to conclude something from the time between
//!   them, is measured with it.
//! - [`Clock::now`] of a clock that is sped up is [`Clock::steady`], but for [`Clock::step`].
//! - Clones share their origin: two clones asked at the same moment answer the same.
//!
//! # Caveats
//! Timeouts of network requests are real time on purpose: an accelerated clock does not make a server faster.
//! Leader election does not use this clock (see [`crate::leader`]): its deadlines must count a suspended host.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Wall time, monotonic time and sleep, real or sped up by a factor.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The host's wall clock when this one began.
    wall_origin: Timestamp,
    /// By how many seconds somebody has set the wall clock of a clock that is independent of the host's.
    steps: Option<Arc<AtomicI64>>,
    origin: Instant,
    speed: u32,
}

/// The time given to [`Clock::timeout`] passed before the future completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {0:?}")]
pub struct TimedOut(pub Duration);

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The real clock.
    pub fn system() -> Self {
        Self {
            wall_origin: Timestamp::now(),
            steps: None,
            origin: Instant::now(),
            speed: 1,
        }
    }

    /// A clock that runs `speed` times as fast as the real one, starting from the current wall time, which it never
    /// asks again: also with a `speed` of 1, and so in virtual time. A `speed` of 0 counts as 1.
    pub fn accelerated(speed: u32) -> Self {
        Self {
            wall_origin: Timestamp::now(),
            steps: Some(Arc::default()),
            origin: Instant::now(),
            speed: speed.max(1),
        }
    }

    /// How many times faster than real time this clock runs.
    pub fn speed(&self) -> u32 {
        self.speed
    }

    /// Time since this clock was made: monotonic, in the clock's own (sped up) seconds.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed().saturating_mul(self.speed)
    }

    /// Wall time: the host's, or, for a clock that is sped up, [`Clock::steady`] and what [`Clock::step`] has added.
    pub fn now(&self) -> Timestamp {
        let Some(steps) = &self.steps else {
            return Timestamp::now();
        };
        let stepped = SignedDuration::from_secs(steps.load(Ordering::Relaxed));
        self.steady().checked_add(stepped).unwrap_or(Timestamp::MAX)
    }

    /// [`Clock::elapsed`] as a moment: the wall time when this clock was made, and what has passed since. It may be off from
    /// [`Clock::now`] by as much as that was set, or the host suspended, in the meantime.
    pub fn steady(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        self.wall_origin.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    /// Sets the wall clock of a clock that is sped up, as somebody may set the host's. The real clock is the host's business.
    pub fn step(&self, by: SignedDuration) {
        if let Some(steps) = &self.steps {
            steps.fetch_add(by.as_secs(), Ordering::Relaxed);
        }
    }

    /// Sleeps for `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / self.speed).await;
    }

    /// Sleeps until [`Clock::elapsed`] is at least `instant`; returns at once if it already is.
    pub async fn sleep_until(&self, instant: Duration) {
        self.sleep(instant.saturating_sub(self.elapsed())).await;
    }

    /// Runs `future` for at most `limit` of this clock's time; at the limit the future is dropped.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, TimedOut> {
        tokio::time::timeout(limit / self.speed, future)
            .await
            .map_err(|_| TimedOut(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_accelerated_clock_sleeps_its_own_seconds() {
        let clock = Clock::accelerated(100);
        let real = Instant::now();
        clock.sleep(Duration::from_secs(100)).await;
        assert_eq!(real.elapsed(), Duration::from_secs(1));
        assert_eq!(clock.elapsed(), Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_real_clock_tells_the_hosts_wall_time_however_much_monotonic_time_has_passed() {
        let clock = Clock::system();
        clock.sleep(Duration::from_hours(24)).await;
        assert_eq!(clock.elapsed(), Duration::from_hours(24));
        let off = clock.now().duration_since(Timestamp::now()).abs();
        assert!(off < SignedDuration::from_hours(1), "{off:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_is_none_of_the_steady_one() {
        let clock = Clock::accelerated(1);
        let (wall, steady) = (clock.now(), clock.steady());
        clock.clone().step(SignedDuration::from_mins(10));
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(clock.now().duration_since(wall), SignedDuration::from_secs(601));
        assert_eq!(
            clock.steady().duration_since(steady),
            SignedDuration::from_secs(1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn wall_and_monotonic_time_advance_together() {
        let clock = Clock::accelerated(10);
        let (wall, mono) = (clock.now(), clock.elapsed());
        clock.sleep_until(mono + Duration::from_secs(50)).await;
        assert_eq!(clock.now().duration_since(wall), SignedDuration::from_secs(50));
        assert!(
            clock
                .timeout(Duration::from_secs(1), std::future::pending::<()>())
                .await
                .is_err()
        );
    }
}
