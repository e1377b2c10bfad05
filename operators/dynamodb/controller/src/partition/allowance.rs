//! What a run may still delete: `limits.maxItems` and `limits.maxWcuTotal`, kept by what is in flight as well.
//!
//! # Guarantees
//! - No more keys are ever under way or deleted than `maxItems` allows: a key is claimed before it is sent, and only
//!   what DynamoDB handed back or refused gives its claim back.
//! - A key whose answer was lost may be deleted or not. It stays claimed and is claimed once, however often it is
//!   sent and in whichever round it is read again: uncertainty neither exceeds the limit nor uses it up.
//! - Write capacity is claimed as expected and corrected by what DynamoDB says. It is exceeded only by what batches
//!   in flight cost more than expected, and by the last item, whose cost nobody knows before.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::{
    key::Key,
    ledger::Entry,
    request::{Request, Totals},
    run::{as_f64, milli},
};

/// How far a key counts against `maxItems`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Claim {
    /// Not at all: it was not sent, or came back untouched.
    #[default]
    None,
    /// It is in flight.
    Sent,
    /// It was sent and may be deleted; nobody knows.
    Doubtful,
}

/// What became of a wish to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// So many of the keys, from the first on, may be sent; at least one.
    Keys(usize),
    /// None now; what is in flight may come back and leave room.
    Later,
    /// None any more: this limit is reached.
    Exhausted(&'static str),
}

/// The limits of one run.
#[derive(Debug)]
pub(super) struct Allowance(Mutex<State>);

#[derive(Debug)]
struct State {
    items: Option<Items>,
    wcu: Option<Wcu>,
}

#[derive(Debug)]
struct Items {
    left: u64,
    in_flight: u64,
    /// Doubtful keys of rounds that were given up, which are going to be read again unless they are gone.
    doubtful: HashSet<Key>,
}

/// In thousandths of a unit.
#[derive(Debug)]
struct Wcu {
    left: u64,
    in_flight: u64,
}

impl Allowance {
    /// What is left of the limits of `request` after its earlier runs.
    pub(super) fn new(request: &Request) -> Self {
        let Totals {
            keys_acknowledged,
            wcu_milli,
            ..
        } = request.earlier;
        let items = request.max_items.map(|max| Items {
            left: max.saturating_sub(keys_acknowledged),
            in_flight: 0,
            doubtful: HashSet::new(),
        });
        let wcu = request.max_wcu_total.map(|max| Wcu {
            left: max.saturating_mul(1000).saturating_sub(wcu_milli),
            in_flight: 0,
        });
        Self(Mutex::new(State { items, wcu }))
    }

    /// Claims as many of `entries` as the limits allow, from the first on, each at `wcu_per_key`.
    pub(super) fn claim(&self, entries: &mut [Entry], wcu_per_key: f64) -> Granted {
        let mut state = self.0.lock();
        let affordable = match state.wcu.as_ref().map(|wcu| wcu.affordable(wcu_per_key)) {
            Some(0) if state.wcu.as_ref().is_some_and(|wcu| wcu.in_flight > 0) => return Granted::Later,
            Some(0) => return Granted::Exhausted("limits.maxWcuTotal"),
            Some(keys) => keys,
            None => usize::MAX,
        };
        let wanted = entries.len().min(affordable);
        let granted = match &mut state.items {
            Some(items) => items.claim(&mut entries[..wanted]),
            None => wanted,
        };
        if granted == 0 && wanted > 0 {
            return match &state.items {
                Some(items) if items.in_flight > 0 => Granted::Later,
                _ => Granted::Exhausted("limits.maxItems"),
            };
        }
        if let Some(wcu) = &mut state.wcu {
            wcu.take(milli(as_f64(granted) * wcu_per_key));
        }
        Granted::Keys(granted)
    }

    /// A batch claimed at `reserved` WCU came to its end and used `consumed`.
    pub(super) fn settle(&self, reserved: f64, consumed: f64) {
        if let Some(wcu) = &mut self.0.lock().wcu {
            wcu.settle(milli(reserved), milli(consumed));
        }
    }

    /// These keys are deleted.
    pub(super) fn spend(&self, entries: &[Entry]) {
        if let Some(items) = &mut self.0.lock().items {
            items.in_flight -= count(entries, Claim::Sent);
        }
    }

    /// These keys were not processed: DynamoDB said so, or they were not sent. Doubtful ones stay so, since an
    /// earlier request may have reached them.
    pub(super) fn release(&self, entries: &mut [Entry]) {
        if let Some(items) = &mut self.0.lock().items {
            let back = count(entries, Claim::Sent);
            items.in_flight -= back;
            items.left += back;
        }
        for entry in entries.iter_mut().filter(|entry| entry.claim == Claim::Sent) {
            entry.claim = Claim::None;
        }
    }

    /// Nobody knows whether these keys were deleted.
    pub(super) fn doubt(&self, entries: &mut [Entry]) {
        if let Some(items) = &mut self.0.lock().items {
            items.in_flight -= count(entries, Claim::Sent);
            for entry in entries {
                entry.claim = Claim::Doubtful;
            }
        }
    }

    /// These keys are given up for this round; those that are doubtful may be read again.
    pub(super) fn remember(&self, abandoned: impl Iterator<Item = Entry>) {
        if let Some(items) = &mut self.0.lock().items {
            let doubtful = abandoned.filter(|entry| entry.claim == Claim::Doubtful);
            items.doubtful.extend(doubtful.map(|entry| entry.key));
        }
    }
}

impl Items {
    fn claim(&mut self, entries: &mut [Entry]) -> usize {
        for (index, entry) in entries.iter_mut().enumerate() {
            if entry.claim == Claim::Doubtful {
                continue;
            }
            if self.doubtful.remove(&entry.key) {
                entry.claim = Claim::Doubtful;
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else {
                return index;
            };
            (self.left, entry.claim) = (left, Claim::Sent);
            self.in_flight += 1;
        }
        entries.len()
    }
}

impl Wcu {
    /// How many keys what is left pays for. The last unit pays for one item of whatever size, or a limit that is
    /// just right would never be used up; but not while others might bring back more.
    fn affordable(&self, wcu_per_key: f64) -> usize {
        let keys = self.left / milli(wcu_per_key).max(1);
        if keys == 0 && self.left > 0 && self.in_flight == 0 {
            return 1;
        }
        usize::try_from(keys).unwrap_or(usize::MAX)
    }

    fn take(&mut self, wcu: u64) {
        self.left = self.left.saturating_sub(wcu);
        self.in_flight += wcu;
    }

    fn settle(&mut self, reserved: u64, consumed: u64) {
        self.in_flight = self.in_flight.saturating_sub(reserved);
        self.left = (self.left + reserved).saturating_sub(consumed);
    }
}

fn count(entries: &[Entry], claim: Claim) -> u64 {
    u64::try_from(entries.iter().filter(|entry| entry.claim == claim).count()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
