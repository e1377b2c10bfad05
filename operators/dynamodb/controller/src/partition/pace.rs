//! How fast to write: token buckets, and a rate that follows what DynamoDB grants.
//!
//! Units are write capacity units (WCU) as `f64`, times are [`Duration`]s since any common origin: nothing here reads
//! a clock or waits, so that a simulation runs the same code in virtual time.
//!
//! [`Pace`] begins without a limit: what bounds it then is the number of requests in flight. The first throttle
//! sets the rate; from there it grows while requests pass cleanly, ever faster the longer they do, and is cut when
//! they do not, but never below what is being delivered: a rate just above capacity keeps a partition saturated
//! at the price of a few refused keys, whereas one below wastes it.

use std::time::Duration;

/// Two cuts are never closer together than this: one burst of refusals is one signal.
const CUT_INTERVAL: Duration = Duration::from_millis(250);
/// Growth happens once per this interval without refusals.
const GROW_INTERVAL: Duration = Duration::from_millis(250);
/// By what part of itself the rate grows first after a cut.
const GROWTH: f64 = 0.02;
/// The rate is never cut below this.
const FLOOR: f64 = 10.0;
/// How much a bucket may hold, in seconds of its rate.
const BURST_SECONDS: f64 = 0.25;
/// Window over which deliveries are averaged.
const WINDOW: Duration = Duration::from_millis(500);
/// How long a window without deliveries may become.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);

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
            Some(rate) if self.tokens < 0.0 => Duration::from_secs_f64((-self.tokens / rate).min(3600.0)),
            _ => Duration::ZERO,
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

/// A rate measured over the last half second or so.
#[derive(Clone, Debug)]
pub struct Meter {
    rate: f64,
    since: Duration,
    collected: f64,
}

impl Meter {
    /// A meter that has seen nothing.
    pub const fn new(now: Duration) -> Self {
        Self {
            rate: 0.0,
            since: now,
            collected: 0.0,
        }
    }

    /// Counts `amount`.
    pub fn add(&mut self, amount: f64, now: Duration) {
        self.roll(now);
        self.collected += amount;
    }

    /// The rate per second.
    pub fn rate(&mut self, now: Duration) -> f64 {
        self.roll(now);
        let elapsed = now.saturating_sub(self.since).as_secs_f64();
        // The running window only counts once it says something.
        if self.collected == 0.0 || elapsed * 2.0 < WINDOW.as_secs_f64() {
            return self.rate;
        }
        f64::midpoint(self.rate, self.collected / elapsed)
    }

    /// Closes the window. One in which nothing was counted stays open longer: a slow stream is no stopped one.
    fn roll(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= WINDOW && (self.collected > 0.0 || elapsed >= LONGEST_WINDOW) {
            let measured = self.collected / elapsed.as_secs_f64();
            let fresh = self.rate == 0.0 || elapsed > WINDOW * 4;
            self.rate = if fresh {
                measured
            } else {
                f64::midpoint(self.rate, measured)
            };
            (self.since, self.collected) = (now, 0.0);
        }
    }
}

/// What the answer to a batch says about the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Everything was processed.
    Clean,
    /// Some keys came back unprocessed.
    Partial,
    /// The whole batch was refused.
    Refused,
}

/// The rate of one stream of writes.
#[derive(Clone, Debug)]
pub struct Pace {
    bucket: Bucket,
    delivered: Meter,
    step: f64,
    clean_intervals: i32,
    last_cut: Option<Duration>,
    last_growth: Duration,
}

impl Pace {
    /// A pace without limit. `step` is by how much, in WCU per second, it grows first after a cut.
    pub const fn new(step: f64, now: Duration) -> Self {
        Self {
            bucket: Bucket::new(None, now),
            delivered: Meter::new(now),
            step,
            clean_intervals: 0,
            last_cut: None,
            last_growth: now,
        }
    }

    /// How long to wait before the next batch.
    pub fn wait(&mut self, now: Duration) -> Duration {
        self.bucket.wait(now)
    }

    /// Takes the tokens of a batch that is about to be sent.
    pub fn reserve(&mut self, wcu: f64) {
        self.bucket.take(wcu);
    }

    /// WCU per second that are allowed; `None` before the first throttle.
    pub const fn rate(&self) -> Option<f64> {
        self.bucket.rate()
    }

    /// WCU per second that were delivered lately.
    pub fn delivered(&mut self, now: Duration) -> f64 {
        self.delivered.rate(now)
    }

    /// Learns from an answer: `reserved` is what was taken, `consumed` what DynamoDB says was used.
    pub fn settle(&mut self, reserved: f64, consumed: f64, signal: Signal, now: Duration) {
        // Refused keys keep their tokens: sending them was a use of the rate, whatever DynamoDB charges.
        if signal == Signal::Clean {
            self.bucket.take(consumed - reserved);
        }
        self.delivered.add(consumed, now);
        match signal {
            Signal::Clean => self.grow(now),
            Signal::Partial => self.cut(0.85, now),
            Signal::Refused => self.cut(0.7, now),
        }
    }

    fn grow(&mut self, now: Duration) {
        let Some(rate) = self.bucket.rate() else { return };
        if now.saturating_sub(self.last_growth) < GROW_INTERVAL {
            return;
        }
        self.last_growth = now;
        let step = (self.step + rate * GROWTH) * 2f64.powi(self.clean_intervals.min(6));
        self.clean_intervals += 1;
        // What is not used cannot be known to be granted.
        let useful = self.delivered.rate(now) * 2.0 + self.step + FLOOR;
        self.bucket
            .set_rate(Some((rate + step).min(useful.max(rate))), now);
    }

    fn cut(&mut self, factor: f64, now: Duration) {
        self.clean_intervals = 0;
        self.last_growth = now;
        if self
            .last_cut
            .is_some_and(|last| now.saturating_sub(last) < CUT_INTERVAL)
        {
            return;
        }
        self.last_cut = Some(now);
        let delivered = self.delivered.rate(now);
        let rate = self
            .bucket
            .rate()
            .unwrap_or_else(|| delivered.max(self.step * 4.0));
        self.bucket
            .set_rate(Some((rate * factor).max(delivered).max(FLOOR)), now);
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

    #[test]
    fn one_burst_of_refusals_is_one_cut() {
        let mut pace = Pace::new(10.0, Duration::ZERO);
        for tick in 1..=10 {
            pace.settle(100.0, 100.0, Signal::Clean, ms(100 * tick));
        }
        pace.settle(25.0, 0.0, Signal::Refused, ms(1000));
        let rate = pace.rate();
        assert!(rate.is_some());
        for after in 1..20 {
            pace.settle(25.0, 0.0, Signal::Refused, ms(1000 + after));
        }
        assert_eq!(pace.rate(), rate);
        // Nothing is delivered any more, so nothing holds the rate up.
        pace.settle(25.0, 1.0, Signal::Refused, ms(5000));
        assert!(pace.rate() < rate, "{:?} after {rate:?}", pace.rate());
    }

    /// A physical partition: `rate` WCU per second, refusing what exceeds it, and `streams` paces writing to it with
    /// 10 ms latency. Returns the share of the capacity used and the share of keys refused.
    fn simulate(streams: usize, rate: f64, seconds: u64) -> (f64, f64) {
        let mut paces: Vec<Pace> = (0..streams)
            .map(|_| Pace::new(40.0 / streams as f64, Duration::ZERO))
            .collect();
        let mut free = vec![Duration::ZERO; streams];
        let (mut capacity, mut used, mut sent) = (rate, 0.0, 0.0);
        let mut before = Duration::ZERO;
        for tick in 0..seconds * 1000 {
            let now = ms(tick);
            capacity = (capacity + rate * now.checked_sub(before).unwrap().as_secs_f64()).min(rate);
            before = now;
            for (pace, free) in paces.iter_mut().zip(&mut free) {
                if now < *free || pace.wait(now) > Duration::ZERO {
                    continue;
                }
                pace.reserve(25.0);
                let granted = capacity.clamp(0.0, 25.0).floor();
                capacity -= granted;
                // The first seconds are spent on finding the rate.
                if tick >= 5000 {
                    sent += 25.0;
                    used += granted;
                }
                *free = now + ms(10);
                let signal = match granted {
                    25.0 => Signal::Clean,
                    0.0 => Signal::Refused,
                    _ => Signal::Partial,
                };
                pace.settle(25.0, granted, signal, now + ms(10));
            }
        }
        (used / (rate * (seconds - 5) as f64), (sent - used) / sent)
    }

    #[test]
    fn a_partition_is_kept_saturated_with_few_refusals() {
        for streams in [1, 2, 4, 8] {
            let (used, refused) = simulate(streams, 1000.0, 30);
            println!(
                "{streams} streams: {:.1} % of the capacity, {:.1} % refused",
                used * 100.0,
                refused * 100.0
            );
            assert!(used > 0.93, "{streams} streams use {used}");
            assert!(refused < 0.20, "{streams} streams are refused {refused}");
        }
    }
}
