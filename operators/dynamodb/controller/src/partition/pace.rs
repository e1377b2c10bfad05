//! How fast to write: a rate that follows what DynamoDB grants.
//!
//! Units are write capacity units (WCU) as `f64`, times are [`Duration`]s since any common origin: nothing here reads
//! a clock or waits, so that a simulation runs the same code in virtual time.
//!
//! [`Pace`] begins without a limit: what bounds it then is the number of requests in flight. The first throttle
//! sets the rate; from there it grows while requests pass cleanly, ever faster the longer they do, and is cut when
//! they do not, but never much below what is being delivered: a rate about capacity keeps a partition saturated at
//! the price of some refused keys, whereas one far below wastes it.

use std::time::Duration;

use super::{bucket::Bucket, meter::Meter};

/// Two cuts are never closer together than this: one burst of refusals is one signal.
const CUT_INTERVAL: Duration = Duration::from_millis(250);
/// Growth happens once per this interval without refusals.
const GROW_INTERVAL: Duration = Duration::from_millis(250);
/// By what part of itself the rate grows first after a cut.
const GROWTH: f64 = 0.02;
/// The rate is never cut below this.
const FLOOR: f64 = 2.0;
/// Nor below this part of what is being delivered: somewhat less than all, so that capacity is saved up for a moment
/// and the next refusal is some way off.
const KEEP: f64 = 0.95;
/// What a range begins with, in WCU per second, once throttling is known: half of what a physical partition grants.
/// Too much costs refused requests for a moment, too little would cost time.
pub const START: f64 = 500.0;

/// What the answer to a batch says about the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Everything was processed.
    Clean,
    /// Some keys came back unprocessed.
    Partial,
    /// The whole batch was refused.
    Refused,
    /// Refused, in part or whole, because others take more than their share: no reason to be slower.
    Excused,
}

/// The rate of one stream of writes.
#[derive(Clone, Debug)]
pub struct Pace {
    bucket: Bucket,
    delivered: Meter,
    step: f64,
    /// The rate after the first throttle; what was delivered until then without.
    start: Option<f64>,
    clean_intervals: i32,
    last_cut: Option<Duration>,
    last_growth: Duration,
}

impl Pace {
    /// The pace of one range of sort keys, which a single physical partition may hold. It begins at `rate`; without
    /// one there is no limit until the first throttle, and [`START`] after it.
    pub const fn of_range(step: f64, rate: Option<f64>, now: Duration) -> Self {
        let mut pace = Self::new(step, now);
        pace.start = Some(START);
        pace.bucket = Bucket::new(rate, now);
        pace
    }

    /// A pace without limit. `step` is by how much, in WCU per second, it grows first after a cut.
    pub const fn new(step: f64, now: Duration) -> Self {
        Self {
            bucket: Bucket::new(None, now),
            delivered: Meter::new(now),
            step,
            start: None,
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

    /// Gives half of the rate to a part of the range that another works on; `None` without a rate.
    pub fn halve(&mut self, now: Duration) -> Option<f64> {
        let half = (self.bucket.rate()? / 2.0).max(FLOOR);
        self.bucket.set_rate(Some(half), now);
        Some(half)
    }

    /// Takes over the rate of a neighbour that is done: what it was granted is free now, if it came from the same
    /// physical partition; else it is soon refused.
    pub fn inherit(&mut self, wcu: f64, now: Duration) {
        if let Some(rate) = self.bucket.rate() {
            self.bucket.set_rate(Some(rate + wcu), now);
        }
    }

    /// Learns from an answer: `reserved` is what was taken, `consumed` what DynamoDB says was used.
    pub fn settle(&mut self, reserved: f64, consumed: f64, signal: Signal, now: Duration) {
        // Refused keys keep their tokens: sending them was a use of the rate, whatever DynamoDB charges.
        if signal == Signal::Clean {
            self.bucket.take(consumed - reserved);
        }
        self.delivered.add(consumed, now);
        match signal {
            // Who has less than its share is to get there by asking.
            Signal::Clean | Signal::Excused => self.grow(now),
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
        let rate = match self.bucket.rate() {
            Some(rate) => (rate * factor).max(delivered * KEEP).max(FLOOR),
            None => self.start.unwrap_or_else(|| delivered.max(self.step * 4.0)),
        };
        self.bucket.set_rate(Some(rate), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
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
            .map(|_| Pace::of_range(40.0 / streams as f64, None, Duration::ZERO))
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
