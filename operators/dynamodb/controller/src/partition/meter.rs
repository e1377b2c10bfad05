//! A rate measured as it goes. Times are [`Duration`]s since any common origin.

use std::time::Duration;

/// Window over which deliveries are averaged.
const WINDOW: Duration = Duration::from_millis(500);

/// A rate measured over the last half second or so. When nothing comes any more it falls with the time that passes.
#[derive(Clone, Debug)]
pub struct Meter {
    rate: f64,
    since: Duration,
    collected: f64,
    /// What the window before this one collected.
    before: f64,
}

impl Meter {
    /// A meter that has seen nothing.
    pub const fn new(now: Duration) -> Self {
        Self {
            rate: 0.0,
            since: now,
            collected: 0.0,
            before: 0.0,
        }
    }

    /// Counts `amount`. Nothing is nothing: it does not keep a rate alive.
    pub fn add(&mut self, amount: f64, now: Duration) {
        self.roll(now);
        self.collected += amount;
    }

    /// The rate per second.
    pub fn rate(&mut self, now: Duration) -> f64 {
        self.roll(now);
        let elapsed = now.saturating_sub(self.since).as_secs_f64();
        if self.collected > 0.0 {
            // The running window only counts once it says something, unless there is nothing else.
            return match (self.rate > 0.0, elapsed * 2.0 < WINDOW.as_secs_f64()) {
                (true, true) => self.rate,
                (true, false) => f64::midpoint(self.rate, self.collected / elapsed),
                (false, _) => self.collected / elapsed.max(WINDOW.as_secs_f64() / 4.0),
            };
        }
        // Had the stream gone on as it was, as much as before would have come within as much time.
        if elapsed > WINDOW.as_secs_f64() {
            self.rate.min(self.before / elapsed)
        } else {
            self.rate
        }
    }

    /// Closes the window. One in which nothing was counted stays open: a slow stream is no stopped one.
    fn roll(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= WINDOW && self.collected > 0.0 {
            let measured = self.collected / elapsed.as_secs_f64();
            let fresh = self.rate == 0.0 || elapsed > WINDOW * 4;
            self.rate = if fresh {
                measured
            } else {
                f64::midpoint(self.rate, measured)
            };
            (self.since, self.before, self.collected) = (now, self.collected, 0.0);
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
    fn a_stream_is_measured_whether_it_is_fast_or_slow() {
        for (every, amount) in [(10, 5.0), (100, 25.0), (1600, 100.0), (9000, 25.0)] {
            let mut meter = Meter::new(Duration::ZERO);
            let expected = amount * 1000.0 / f64::from(every);
            for number in 1..=40u32 {
                let now = ms(u64::from(number * every));
                meter.add(amount, now);
                if number >= 20 {
                    let rate = meter.rate(now);
                    assert!(
                        (rate / expected - 1.0).abs() < 0.3,
                        "{rate} instead of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_rate_falls_when_nothing_comes_any_more() {
        let mut meter = Meter::new(Duration::ZERO);
        for tick in 1..=20 {
            meter.add(100.0, ms(100 * tick));
        }
        let before = meter.rate(ms(2000));
        assert!((900.0..1100.0).contains(&before), "{before}");
        // Everything is refused: nothing is counted, again and again.
        for tick in 21..=40 {
            meter.add(0.0, ms(100 * tick));
        }
        let after = meter.rate(ms(4000));
        assert!(after < before / 3.0, "{after} two seconds later");
        assert!(meter.rate(ms(60_000)) < before / 50.0);
    }
}
