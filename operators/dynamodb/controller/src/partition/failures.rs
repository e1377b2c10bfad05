//! Requests that fail one after the other, over all ranges of a run: when a round is given up.
//!
//! A run has many requests under way, and all of them fail when a server restarts or a connection breaks. That is over
//! in a moment, mostly, and no reason to leave ranges that are half done. So a round ends when requests have failed for
//! a while, and not a single one got through.

use std::time::Duration;

use parking_lot::Mutex;

/// Failures in a row that a round survives at least...
const FEWEST: u32 = 12;
/// ...and for how long it survives any number of them.
const LONG: Duration = Duration::from_secs(5);

/// Failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Option<Row>>);

#[derive(Clone, Copy, Debug)]
struct Row {
    count: u32,
    since: Duration,
}

impl Failures {
    /// Another request failed at `now`; whether that is enough.
    pub(crate) fn add(&self, now: Duration) -> bool {
        let mut current = self.0.lock();
        let row = current.get_or_insert(Row { count: 0, since: now });
        row.count = row.count.saturating_add(1);
        row.count >= FEWEST && now.saturating_sub(row.since) >= LONG
    }

    /// One got through, or a new round begins.
    pub(crate) fn end(&self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_failures_is_survived_and_a_lasting_row_is_not() {
        let failures = Failures::default();
        let at = |second| Duration::from_secs(second);
        assert!((0..100).all(|_| !failures.add(at(1))));
        assert!(!failures.add(at(5)));
        assert!(failures.add(at(6)));
        failures.end();
        assert!(!failures.add(at(7)), "a success begins anew");
        assert!((0..10).all(|_| !failures.add(at(20))), "few requests, long apart");
        assert!(failures.add(at(21)));
    }
}
