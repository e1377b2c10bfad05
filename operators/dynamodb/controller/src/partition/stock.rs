//! Keys that are known when the deletion begins: whoever measured a partition has read them, and they need not be read
//! again.
//!
//! # Guarantees
//! - A stock has every key that was read between the beginning of its range and its own end, in order. None of them
//!   gets lost when a range is divided.
//! - All stocks of a process hold at most [`BYTES`] of keys. Who finds no room keeps nothing, and reads again later.
//!
//! # Caveats
//! Like every page, a stock tells what was there when it was read. What is written later is found by the look at the end.

use std::{collections::VecDeque, mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::{key::Key, range::SortRange, run::BATCH, slots::Slots, source::Page};

/// What all stocks of a process may hold: some 100,000 keys of a usual length.
pub(super) const BYTES: usize = 8 << 20;
/// What a key takes beside its own bytes.
const OVERHEAD: usize = mem::size_of::<Key>() + 16;
/// What a key is expected to take before it is read.
const EXPECTED: usize = OVERHEAD + 40;

/// Room for keys; given back when the last stock that uses it is gone. Clones are the same room.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Mutex<OwnedSemaphorePermit>>);

/// What is known of a range, from its beginning on.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    keys: VecDeque<Key>,
    /// Up to where; `None` for the end of the partition.
    end: Option<Key>,
    rooms: Vec<Room>,
}

impl Room {
    /// Room for so many keys of a usual length, unless others have taken it.
    pub(crate) fn of(slots: &Slots, keys: usize) -> Option<Self> {
        let permit = slots.room(keys * EXPECTED)?;
        Some(Self(Arc::new(Mutex::new(permit))))
    }

    /// Makes the room as large as these keys need; `false` if there is not so much.
    fn fits(&self, keys: &[Key]) -> bool {
        let needed: usize = keys.iter().map(|key| OVERHEAD + key.size()).sum();
        let mut permit = self.0.lock();
        if let Some(spare) = permit.num_permits().checked_sub(needed) {
            drop(permit.split(spare));
            return true;
        }
        let missing = u32::try_from(needed - permit.num_permits()).unwrap_or(u32::MAX);
        let more = Arc::clone(permit.semaphore()).try_acquire_many_owned(missing);
        more.map(|more| permit.merge(more)).is_ok()
    }
}

impl Stock {
    /// These keys, which are all there are up to `end`; `None` if they need more room than was taken for them.
    pub(crate) fn new(keys: Vec<Key>, end: Option<Key>, room: Room) -> Option<Self> {
        room.fits(&keys).then(|| Self {
            keys: keys.into(),
            end,
            rooms: vec![room],
        })
    }

    /// Adds what is known of the range that follows.
    pub(super) fn append(&mut self, next: Self) {
        self.keys.extend(next.keys);
        self.end = next.end;
        self.rooms.extend(next.rooms);
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The last of the first `count` keys.
    pub(super) fn key(&self, count: usize) -> Option<&Key> {
        count.checked_sub(1).and_then(|index| self.keys.get(index))
    }

    /// Where to divide a range that begins with what is known: behind all of that, or, if nothing else belongs to the
    /// range, in its middle, between full batches. `None` if there is too little to share.
    pub(super) fn division(&self, range: &SortRange) -> Option<&Key> {
        match &self.end {
            Some(end) if range.split_at(end).is_some() => Some(end),
            _ => self.key(self.keys.len() / 2 / BATCH * BATCH),
        }
    }

    /// Takes away what lies above `at`; `None` if nothing is known of that.
    pub(super) fn split_off(&mut self, at: &Key) -> Option<Self> {
        if self.end.as_ref().is_some_and(|end| end <= at) {
            return None;
        }
        let below = self.keys.partition_point(|key| key <= at);
        Some(Self {
            keys: self.keys.split_off(below),
            end: self.end.replace(at.clone()),
            rooms: self.rooms.clone(),
        })
    }

    /// The next page, of up to `most` keys, and what is left behind it.
    pub(super) fn draw(mut self, most: usize) -> (Page, Option<Self>) {
        let rest = self.keys.split_off(most.min(self.keys.len()));
        let keys: Vec<Key> = mem::replace(&mut self.keys, rest).into();
        let next = if self.keys.is_empty() {
            self.end.clone()
        } else {
            keys.last().cloned()
        };
        let page = Page {
            count: keys.len() as u64,
            keys,
            next,
            rcu: 0.0,
        };
        let left = (!self.keys.is_empty()).then_some(self);
        (page, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::S(format!("{number:03}").into())
    }

    fn stock(slots: &Slots, from: usize, to: usize, end: Option<usize>) -> Stock {
        let room = Room::of(slots, to - from).unwrap();
        Stock::new((from..to).map(key).collect(), end.map(key), room).unwrap()
    }

    #[test]
    fn a_stock_is_drawn_to_its_end_in_order() {
        let mut stock = stock(&Slots::default(), 0, 60, Some(75));
        assert_eq!(stock.key(25), Some(&key(24)));
        let mut drawn = Vec::new();
        for next in [24, 49, 75] {
            let (page, left) = stock.clone().draw(25);
            assert_eq!(page.next, Some(key(next)), "where the reader goes on");
            drawn.extend(page.keys);
            match left {
                Some(left) => stock = left,
                None => assert_eq!(next, 75),
            }
        }
        assert_eq!(drawn, (0..60).map(key).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_divided_and_put_together_again_is_the_same() {
        let slots = Slots::default();
        let mut lower = stock(&slots, 0, 60, None);
        let upper = lower.split_off(&key(40)).unwrap();
        assert_eq!((lower.len(), upper.len()), (41, 19));
        assert_eq!(lower.clone().draw(100).0.next, Some(key(40)));
        assert!(
            lower.clone().split_off(&key(40)).is_none(),
            "nothing is known above"
        );
        lower.append(upper);
        let (page, left) = lower.draw(100);
        assert_eq!(page.keys, (0..60).map(key).collect::<Vec<_>>());
        assert!(page.next.is_none() && left.is_none());
    }

    #[test]
    fn a_range_is_divided_behind_what_is_known_or_between_full_batches() {
        let slots = Slots::default();
        let part = stock(&slots, 0, 60, Some(75));
        assert_eq!(part.division(&SortRange::ALL), Some(&key(75)));
        let all = stock(&slots, 0, 60, None);
        assert_eq!(all.division(&SortRange::ALL), Some(&key(24)));
        let little = stock(&slots, 0, 49, None);
        assert_eq!(little.division(&SortRange::ALL), None);
    }

    #[test]
    fn room_is_bounded_and_given_back_with_the_last_of_its_keys() {
        let slots = Slots::default();
        let all = BYTES / EXPECTED;
        assert!(Room::of(&slots, all + 1).is_none());
        let mut lower = stock(&slots, 0, 60, None);
        let upper = lower.split_off(&key(40)).unwrap();
        assert!(Room::of(&slots, all).is_none());
        drop(lower);
        assert!(Room::of(&slots, all).is_none(), "a part is still there");
        drop(upper);
        let long = || vec![Key::S("x".repeat(1000).into())];
        let most = Room::of(&slots, all - 1).unwrap();
        assert!(Stock::new(long(), None, Room::of(&slots, 1).unwrap()).is_none());
        drop(most);
        assert!(Stock::new(long(), None, Room::of(&slots, 1).unwrap()).is_some());
        assert!(Room::of(&slots, all).is_some());
    }
}
