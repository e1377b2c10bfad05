//! What a run may still delete: `limits.maxItems` and `limits.maxWcuTotal`, kept by what is in flight as well, and over
//! the end of the process.
//!
//! A key is *held* from the moment when it is reserved until DynamoDB acknowledges it, or until it is given up unsent.
//! What is held counts as spent.
//!
//! # Guarantees
//! - No more keys are ever under way or deleted than `maxItems` allows.
//! - A key whose answer was lost may be deleted or not. It stays held and counts once, however often it is sent and in
//!   whichever round, or run, it is read again: uncertainty neither exceeds the limit nor uses it up.
//! - With a [`Journal`] no key is sent before it stands written there as held; see [`super::reservation`].
//! - Write capacity is held as expected and corrected by what DynamoDB says. It is exceeded only by what batches
//!   in flight cost more than expected, and by the last item, whose cost nobody knows before.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use super::{
    ledger::Entry,
    request::{Request, Totals},
    reservation::{CHUNK, DOUBTFUL, Journal, KeyDigest, Reservation},
    run::milli,
};
use crate::sabotage;

/// Why some keys were not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// What is held may come back and leave room.
    Later,
    /// They are not written down yet; a reservation after this one will have them.
    Unwritten(u64),
    /// This limit is reached.
    Exhausted(&'static str),
}

/// The limits of one run; nothing if it has none.
#[derive(Debug)]
pub(super) struct Allowance(Option<Limited>);

#[derive(Debug)]
struct Limited {
    /// Names the partition, for the digests of its keys.
    salt: String,
    journal: Option<Journal>,
    state: Mutex<State>,
}

/// Capacity in thousandths of a unit.
#[derive(Debug, Default)]
struct State {
    max_items: Option<u64>,
    max_wcu: Option<u64>,
    /// Items that count as deleted for good.
    items: u64,
    /// Capacity that was consumed for good.
    wcu: u64,
    /// Capacity that what is held is expected to take.
    wcu_held: u64,
    held: HashMap<KeyDigest, Held>,
    /// Keys held that no range has in hand: doubtful ones, which may be read again, or are gone.
    idle: usize,
    /// The last reservation that was asked for.
    asked: u64,
    /// From when on the next may be, if one is wanted.
    turn: Option<Duration>,
    /// Keys that are in none yet.
    pending: usize,
}

#[derive(Debug)]
struct Held {
    wcu: u64,
    /// The first reservation that has it.
    number: u64,
    /// A request that has it may have been carried out.
    doubtful: bool,
    /// A range is going to send it, or has.
    in_hand: bool,
}

impl Allowance {
    /// What is left of the limits of `request` after its earlier runs.
    pub(super) fn new(request: &Request, journal: Option<Journal>) -> Self {
        let (max_items, max_wcu) = (request.max_items, request.max_wcu_total);
        if max_items.is_none() && max_wcu.is_none() {
            return Self(None);
        }
        let mut state = State {
            max_items,
            max_wcu: max_wcu.map(|max| max.saturating_mul(1000)),
            ..State::default()
        };
        state.carry_on(request);
        Self(Some(Limited {
            salt: format!("{}/{}", request.table, request.partition_value),
            journal,
            state: Mutex::new(state),
        }))
    }

    /// Keeps in `entries` those that may be sent now, each at `wcu_per_key`, and returns the others; what is kept in the
    /// end is never sent without having been granted here.
    pub(super) fn claim(&self, entries: &mut Vec<Entry>, wcu_per_key: f64) -> (Vec<Entry>, Option<Denial>) {
        let Some(limited) = &self.0 else {
            return (Vec::new(), None);
        };
        let journal = limited.journal.as_ref();
        let written = journal.map_or(u64::MAX, Journal::written);
        let mut state = limited.state.lock();
        let (mut refused, mut why) = (Vec::new(), None);
        for mut entry in std::mem::take(entries) {
            let digest = limited.digest(&mut entry);
            let denial = match state.hold(digest, milli(wcu_per_key).max(1), journal.is_some()) {
                Ok(number) if number <= written || sabotage::active(sabotage::SEND_BEFORE_RESERVING) => {
                    entries.push(entry);
                    continue;
                }
                Ok(_) => Denial::Unwritten(written),
                Err(denial) => denial,
            };
            refused.push(entry);
            if !matches!(why, Some(Denial::Unwritten(_))) {
                why = Some(denial);
            }
        }
        (refused, why)
    }

    /// Reserves keys that are going to be claimed, as far as there is room, and asks for what is reserved to be written
    /// if that is worth a write: at once if somebody `waits` for it.
    pub(super) fn look_ahead<'a>(
        &self,
        entries: impl Iterator<Item = &'a mut Entry>,
        wcu_per_key: f64,
        waits: bool,
        now: Duration,
    ) {
        let Some((limited, journal)) = self
            .0
            .as_ref()
            .and_then(|limited| Some((limited, limited.journal.as_ref()?)))
        else {
            return;
        };
        let mut state = limited.state.lock();
        for entry in entries {
            let digest = limited.digest(entry);
            if state.hold(digest, milli(wcu_per_key).max(1), true).is_err() {
                break;
            }
        }
        state.publish(journal, now, waits);
    }

    /// Waits until a reservation after number `seen` is written, or another may be asked for.
    pub(super) async fn written_after(&self, seen: u64) {
        match self.0.as_ref().and_then(|limited| limited.journal.as_ref()) {
            Some(journal) => journal.written_after(seen).await,
            None => std::future::pending().await,
        }
    }

    /// DynamoDB has answered: these keys are deleted, which took so much capacity. Those that it handed back stay held.
    pub(super) fn spend(&self, acknowledged: &[Entry], wcu: f64) {
        let Some(limited) = &self.0 else { return };
        let mut state = limited.state.lock();
        state.wcu += milli(wcu);
        for digest in digests(acknowledged) {
            if state.release(digest).is_some() {
                state.items += 1;
            }
        }
    }

    /// Nobody knows whether these keys were deleted. What it would have taken counts as consumed.
    pub(super) fn doubt(&self, entries: &[Entry]) {
        let Some(limited) = &self.0 else { return };
        let state = &mut *limited.state.lock();
        for digest in digests(entries) {
            if let Some(held) = state.held.get_mut(&digest) {
                held.doubtful = true;
                let wcu = std::mem::take(&mut held.wcu);
                state.wcu += wcu;
                state.wcu_held -= wcu;
            }
        }
    }

    /// These keys are given up for this round; those that are doubtful stay held, for they may be read again.
    pub(super) fn abandon(&self, entries: impl Iterator<Item = Entry>) {
        let Some(limited) = &self.0 else { return };
        let state = &mut *limited.state.lock();
        for digest in entries.filter_map(|entry| entry.digest) {
            match state.held.get_mut(&digest) {
                Some(held) if held.doubtful => {
                    state.idle += usize::from(std::mem::take(&mut held.in_hand));
                }
                _ => drop(state.release(digest)),
            }
        }
        state.bound_doubts(DOUBTFUL);
    }

    /// The whole range was read to its end, and what was found is deleted: doubtful keys that were not found are gone.
    pub(super) fn swept(&self) {
        if let Some(limited) = &self.0 {
            limited.state.lock().bound_doubts(0);
        }
    }

    /// The run is over: writes down what nobody has in hand any more.
    pub(super) fn close(&self) {
        if let Some((limited, journal)) = self
            .0
            .as_ref()
            .and_then(|limited| Some((limited, limited.journal.as_ref()?)))
        {
            let mut state = limited.state.lock();
            if state.asked > 0 {
                state.asked += 1;
                journal.ask(state.reservation());
            }
        }
    }
}

impl Limited {
    fn digest(&self, entry: &mut Entry) -> KeyDigest {
        *entry
            .digest
            .get_or_insert_with(|| KeyDigest::of(&self.salt, &entry.key))
    }
}

impl State {
    /// Goes on from where earlier runs of the job stopped, or broke off.
    fn carry_on(&mut self, request: &Request) {
        let Totals {
            keys_acknowledged,
            wcu_milli,
            ..
        } = request.earlier;
        let Some(reservation) = &request.reservation else {
            // It had no limits until now.
            (self.items, self.wcu) = (keys_acknowledged, wcu_milli);
            return;
        };
        (self.items, self.wcu) = (reservation.items, reservation.wcu_milli);
        if sabotage::active(sabotage::FORGET_RESERVED_KEYS) {
            return;
        }
        let count = reservation.keys.len() as u64;
        for (index, digest) in (0..count).zip(&reservation.keys) {
            // What does not divide goes to the first ones.
            let rest = u64::from(index < reservation.reserved_milli % count);
            let held = Held {
                wcu: reservation.reserved_milli / count + rest,
                number: 0,
                doubtful: true,
                in_hand: false,
            };
            self.wcu_held += held.wcu;
            self.held.insert(*digest, held);
        }
        self.idle = self.held.len();
        self.bound_doubts(DOUBTFUL);
    }

    /// Takes a key in hand; returns the reservation that has it.
    fn hold(&mut self, digest: KeyDigest, wcu: u64, journalled: bool) -> Result<u64, Denial> {
        let next = self.asked + 1;
        if let Some(held) = self.held.get(&digest) {
            let (number, paid) = (held.number, held.wcu > 0 || self.max_wcu.is_none());
            if !paid {
                self.afford(wcu)?;
            }
            let Some(held) = self.held.get_mut(&digest) else {
                return Ok(number);
            };
            self.idle -= usize::from(!std::mem::replace(&mut held.in_hand, true));
            if !paid {
                // It is sent a second time.
                self.pending += usize::from(held.number < next);
                (held.wcu, held.number) = (wcu, next);
                self.wcu_held += wcu;
            }
            return Ok(held.number);
        }
        if self
            .max_items
            .is_some_and(|max| self.items + self.held.len() as u64 >= max)
        {
            let may_come_back = |held: &Held| held.in_hand && !held.doubtful;
            return Err(self.denial("limits.maxItems", may_come_back));
        }
        self.afford(wcu)?;
        if journalled && self.held.len() - self.idle >= CHUNK {
            return Err(Denial::Later);
        }
        self.held.insert(
            digest,
            Held {
                wcu,
                number: next,
                doubtful: false,
                in_hand: true,
            },
        );
        self.wcu_held += wcu;
        self.pending += 1;
        Ok(next)
    }

    /// Whether there is capacity for one more key. The last unit pays for one item of whatever size, or a limit that is
    /// just right would never be used up; but not while others might bring back more.
    fn afford(&self, wcu: u64) -> Result<(), Denial> {
        let Some(max) = self.max_wcu else { return Ok(()) };
        let left = max.saturating_sub(self.wcu + self.wcu_held);
        if left >= wcu {
            return Ok(());
        }
        match self.denial("limits.maxWcuTotal", |held| held.in_hand && held.wcu > 0) {
            Denial::Exhausted(_) if left > 0 => Ok(()),
            denial => Err(denial),
        }
    }

    fn denial(&self, limit: &'static str, may_come_back: impl Fn(&Held) -> bool) -> Denial {
        if self.held.values().any(may_come_back) {
            Denial::Later
        } else {
            Denial::Exhausted(limit)
        }
    }

    /// Lets go of a key.
    fn release(&mut self, digest: KeyDigest) -> Option<Held> {
        let held = self.held.remove(&digest)?;
        self.wcu_held -= held.wcu;
        self.pending -= usize::from(held.number > self.asked);
        self.idle -= usize::from(!held.in_hand);
        Some(held)
    }

    /// Counts doubtful keys in nobody's hand as deleted until there are at most `most`.
    fn bound_doubts(&mut self, most: usize) {
        let idle = self.held.iter().filter(|(_, held)| !held.in_hand);
        let surplus = self.idle.saturating_sub(most);
        for digest in idle.map(|(digest, _)| *digest).take(surplus).collect::<Vec<_>>() {
            if let Some(held) = self.release(digest) {
                self.items += 1;
                self.wcu += held.wcu;
            }
        }
    }

    /// Asks for another reservation if it is time: if somebody waits for one, or soon will.
    fn publish(&mut self, journal: &Journal, now: Duration, waits: bool) {
        let idle = self.asked <= journal.written();
        if self.pending == 0 || !idle || !(waits || self.pending >= CHUNK / 2) {
            return;
        }
        if now < *self.turn.get_or_insert_with(|| journal.turn(now)) {
            return;
        }
        self.turn = None;
        self.asked += 1;
        self.pending = 0;
        journal.ask(self.reservation());
    }

    fn reservation(&self) -> Reservation {
        let mut keys: Vec<_> = self.held.keys().copied().collect();
        keys.sort_unstable();
        Reservation {
            number: self.asked,
            items: self.items,
            wcu_milli: self.wcu,
            reserved_milli: self.wcu_held,
            keys,
        }
    }
}

fn digests(entries: &[Entry]) -> impl Iterator<Item = KeyDigest> {
    entries.iter().filter_map(|entry| entry.digest)
}

#[cfg(test)]
mod tests;
