//! Moments whose age counts, whatever the host or a clock of a test did since.

use std::time::Duration;

use reconcile::fence::BootTime;
use tokio::time::Instant;

/// A moment of real time, which no clock of a test hurries: it says how old an answer of another machine is, and nobody
/// waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The time of the runtime, which may be virtual. Stands still while the host is suspended.
    instant: Instant,
    /// These two differ by how long the host was suspended: the first goes on then.
    boot: BootTime,
    steady: std::time::Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            instant: Instant::now(),
            boot: BootTime::now(),
            steady: std::time::Instant::now(),
        }
    }

    /// What has passed since, and what the host has slept through.
    pub(crate) fn age(self) -> Duration {
        let awake = self.steady.elapsed();
        let asleep = BootTime::now().saturating_since(self.boot).saturating_sub(awake);
        self.instant.elapsed() + asleep
    }

    pub(crate) fn is_after(self, other: Self) -> bool {
        self.instant > other.instant || self.boot > other.boot
    }

    /// What a suspension looks like: one clock has moved, here since the machine was booted, the other has not.
    #[cfg(test)]
    pub(crate) fn suspended_since(self) -> Self {
        Self {
            boot: BootTime::default(),
            ..self
        }
    }
}
