//! How a run fares at the moment: what it deletes per second, and what refuses its requests.

use std::time::Duration;

use parking_lot::Mutex;

use super::{
    bottleneck::{Bottleneck, Capacity},
    meter::Meter,
};

/// For how long a throttle counts as present.
const MEMORY: Duration = Duration::from_secs(10);

/// The present state of a run, to which all its ranges contribute. Times count from any common origin.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    refused: Option<Duration>,
    writes_refused: Option<Duration>,
    bottleneck: Option<Bottleneck>,
    items: Meter,
    wcu: Meter,
}

/// What a [`Pulse`] shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beat {
    /// Whether requests were refused lately for lack of capacity.
    pub(crate) throttled: bool,
    /// By what, if DynamoDB said so.
    pub(crate) bottleneck: Option<Bottleneck>,
    /// Items deleted per second.
    pub(crate) items: f64,
    /// WCU consumed per second.
    pub(crate) wcu: f64,
}

impl Pulse {
    pub(crate) fn new(now: Duration) -> Self {
        Self(Mutex::new(State {
            refused: None,
            writes_refused: None,
            bottleneck: None,
            items: Meter::new(now),
            wcu: Meter::new(now),
        }))
    }

    /// A request that needs `capacity` was refused, in part or whole.
    pub(crate) fn refuse(&self, capacity: Capacity, bottleneck: Option<&Bottleneck>, now: Duration) {
        let mut state = self.0.lock();
        state.refused = Some(now);
        if capacity == Capacity::Write {
            state.writes_refused = Some(now);
        }
        if let Some(bottleneck) = bottleneck {
            state.bottleneck = Some(bottleneck.clone());
        }
    }

    /// So many items were deleted.
    pub(crate) fn deleted(&self, items: f64, wcu: f64, now: Duration) {
        let mut state = self.0.lock();
        state.items.add(items, now);
        state.wcu.add(wcu, now);
    }

    /// Whether writes were refused lately: refused reads say nothing about how fast to write.
    pub(crate) fn refuses_writes(&self, now: Duration) -> bool {
        is_recent(self.0.lock().writes_refused, now)
    }

    pub(crate) fn beat(&self, now: Duration) -> Beat {
        let mut state = self.0.lock();
        let throttled = is_recent(state.refused, now);
        if !throttled {
            state.bottleneck = None;
        }
        Beat {
            throttled,
            bottleneck: state.bottleneck.clone(),
            items: state.items.rate(now),
            wcu: state.wcu.rate(now),
        }
    }
}

fn is_recent(at: Option<Duration>, now: Duration) -> bool {
    at.is_some_and(|at| now.saturating_sub(at) < MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_refused_read_is_shown_and_slows_no_write_down() {
        let pulse = Pulse::new(Duration::ZERO);
        let by = Bottleneck::Table(Capacity::Read);
        pulse.refuse(Capacity::Read, Some(&by), secs(1));
        assert!(!pulse.refuses_writes(secs(2)));
        let beat = pulse.beat(secs(2));
        assert_eq!((beat.throttled, beat.bottleneck), (true, Some(by)));
        pulse.refuse(Capacity::Write, None, secs(3));
        assert!(pulse.refuses_writes(secs(4)));
    }

    #[test]
    fn a_throttle_is_forgotten_with_its_bottleneck() {
        let pulse = Pulse::new(Duration::ZERO);
        pulse.refuse(Capacity::Write, Some(&Bottleneck::Account), secs(1));
        assert!(pulse.beat(secs(10)).throttled);
        assert_eq!(pulse.beat(secs(12)).bottleneck, None);
        pulse.refuse(Capacity::Write, None, secs(13));
        assert_eq!(
            pulse.beat(secs(14)).bottleneck,
            None,
            "the old one is not known to be the cause again"
        );
    }
}
