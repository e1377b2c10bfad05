//! A token bucket. Amounts are write capacity units (WCU), times are [`Duration`]s since any common origin.

use std::time::Duration;

/// How much a bucket may hold, in seconds of its rate.
const BURST_SECONDS: f64 = 0.25;

/// A token bucket that may go into debt: a taker is told how long to wait and takes its tokens at once, so that
/// takers are served in the order in which they asked.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Option<f64>,
    tokens: f64,
    last: Duration,
}

impl Bucket {
    /// A bucket that refills at `rate` per second; `None` means without limit.
    pub const fn new(rate: Option<f64>, now: Duration) -> Self {
        Self {
            rate,
            tokens: 0.0,
            last: now,
        }
    }

    /// Changes the rate; what was collected so far is kept.
    pub fn set_rate(&mut self, rate: Option<f64>, now: Duration) {
        self.refill(now);
        if self.rate.is_none() && rate.is_some() {
            self.tokens = 0.0;
        }
        self.rate = rate;
        self.clamp();
    }

    /// The rate per second.
    pub const fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// How long a taker has to wait now; zero if it may take.
    pub fn wait(&mut self, now: Duration) -> Duration {
        self.refill(now);
        match self.rate {
            Some(rate) if self.tokens < 0.0 => {
                // Never zero, however little is missing.
                Duration::from_secs_f64((-self.tokens / rate).clamp(1e-6, 3600.0))
            }
            _ => Duration::ZERO,
        }
    }

    /// Takes `amount` if there is no debt; else says how long to wait.
    pub fn try_take(&mut self, amount: f64, now: Duration) -> Result<(), Duration> {
        match self.wait(now) {
            Duration::ZERO => {
                self.take(amount);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Takes `amount`; a negative amount gives back.
    pub fn take(&mut self, amount: f64) {
        if self.rate.is_some() {
            self.tokens -= amount;
            self.clamp();
        }
    }

    fn refill(&mut self, now: Duration) {
        if let Some(rate) = self.rate {
            self.tokens += rate * now.saturating_sub(self.last).as_secs_f64();
        }
        self.last = self.last.max(now);
        self.clamp();
    }

    fn clamp(&mut self) {
        if let Some(rate) = self.rate {
            self.tokens = self.tokens.min(rate * BURST_SECONDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_bucket_lets_through_its_rate_and_no_more() {
        let mut bucket = Bucket::new(Some(100.0), Duration::ZERO);
        let (mut now, mut taken) = (Duration::ZERO, 0.0);
        while now < Duration::from_secs(10) {
            match bucket.wait(now) {
                Duration::ZERO => {
                    bucket.take(25.0);
                    taken += 25.0;
                }
                wait => now += wait,
            }
        }
        assert!((975.0..=1050.0).contains(&taken), "{taken}");
    }

    #[test]
    fn a_bucket_forgets_what_was_not_used() {
        let mut bucket = Bucket::new(Some(100.0), Duration::ZERO);
        assert_eq!(bucket.wait(Duration::from_secs(100)), Duration::ZERO);
        bucket.take(50.0);
        assert_eq!(
            bucket.wait(Duration::from_secs(100)),
            ms(250),
            "a quarter of a second was saved up, no more"
        );
    }

    #[test]
    fn a_new_rate_counts_from_now() {
        let mut bucket = Bucket::new(Some(1.0), Duration::ZERO);
        bucket.take(10.0);
        bucket.set_rate(Some(100.0), Duration::ZERO);
        assert_eq!(bucket.wait(Duration::ZERO), ms(100));
        bucket.set_rate(None, Duration::ZERO);
        assert_eq!(bucket.wait(Duration::ZERO), Duration::ZERO);
    }
}
