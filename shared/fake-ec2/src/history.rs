//! Values that change in time, so that a lagging reader can be shown what was.

use std::time::Duration;

/// A point in time: what the clock's `elapsed` said.
pub type Moment = Duration;

/// A value with its past and its scheduled future.
#[derive(Clone, Debug)]
pub(crate) struct History<T> {
    entries: Vec<(Moment, T)>,
}

impl<T> History<T> {
    pub(crate) fn new(at: Moment, value: T) -> Self {
        Self {
            entries: vec![(at, value)],
        }
    }

    /// The value at a moment; before the first, the first.
    pub(crate) fn at(&self, moment: Moment) -> &T {
        let index = self.entries.partition_point(|(since, _)| *since <= moment);
        &self.entries[index.saturating_sub(1)].1
    }

    /// When the value of that moment began.
    pub(crate) fn since(&self, moment: Moment) -> Moment {
        let index = self.entries.partition_point(|(since, _)| *since <= moment);
        self.entries[index.saturating_sub(1)].0
    }

    /// Drops what is scheduled after `now`.
    pub(crate) fn cancel(&mut self, now: Moment) {
        let index = self.entries.partition_point(|(since, _)| *since <= now);
        self.entries.truncate(index.max(1));
    }

    /// The value changes at `at`, which is not before any other change.
    pub(crate) fn push(&mut self, at: Moment, value: T) {
        self.entries.push((at, value));
    }

    /// The first moment at which a value satisfies `holds`.
    pub(crate) fn first(&self, holds: impl Fn(&T) -> bool) -> Option<Moment> {
        self.entries
            .iter()
            .find(|(_, value)| holds(value))
            .map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_the_past_sees_the_past() {
        let second = Duration::from_secs;
        let mut history = History::new(second(10), "pending");
        history.push(second(30), "running");
        assert_eq!(*history.at(second(29)), "pending");
        assert_eq!(*history.at(second(30)), "running");
        history.cancel(second(20));
        history.push(second(20), "stopping");
        assert_eq!(*history.at(second(40)), "stopping");
        assert_eq!(history.since(second(40)), second(20));
    }
}
