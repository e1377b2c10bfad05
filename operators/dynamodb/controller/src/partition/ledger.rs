//! The books of one range: which keys were read, sent, acknowledged or handed back.
//!
//! # Guarantees
//! - A key that was read is either acknowledged or still in the books: [`Ledger::is_settled`] means that none is
//!   left.
//! - [`Ledger::low_water`] is a key such that everything read at or below it is acknowledged. It is what a range may
//!   be continued from; the reader's own cursor runs ahead of the writes and may not.

use std::{collections::VecDeque, time::Duration};

use super::{key::Key, reservation::KeyDigest};

/// A key under way, with the page that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The page's running number.
    page: u64,
    /// The key.
    pub key: Key,
    /// How the job's limits know it, once they were asked.
    pub digest: Option<KeyDigest>,
}

#[derive(Debug)]
struct PageState {
    last: Option<Key>,
    outstanding: usize,
}

/// The books of one range.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Pages not yet fully acknowledged, and those behind them, in order.
    pages: VecDeque<PageState>,
    first_page: u64,
    low_water: Option<Key>,
    fresh: VecDeque<Entry>,
    /// Keys handed back, each with the time before which it is not sent again.
    returned: VecDeque<(Duration, Entry)>,
    in_flight: usize,
}

impl Ledger {
    /// Enters a page in reading order. `last` is where the page ends: the key to continue behind, if there is more.
    pub(super) fn enter(&mut self, keys: Vec<Key>, last: Option<Key>) {
        let page = self.first_page + self.pages.len() as u64;
        let last = last.or_else(|| keys.last().cloned());
        self.pages.push_back(PageState {
            last,
            outstanding: keys.len(),
        });
        let digest = None;
        self.fresh
            .extend(keys.into_iter().map(|key| Entry { page, key, digest }));
        self.advance();
    }

    /// Takes up to `max` keys to send: first those handed back whose time has come, then fresh ones.
    pub(super) fn take(&mut self, max: usize, now: Duration) -> Vec<Entry> {
        let mut taken = Vec::with_capacity(max.min(self.returned.len() + self.fresh.len()));
        let mut waiting = VecDeque::new();
        while let Some((not_before, entry)) = self.returned.pop_front() {
            if taken.len() < max && not_before <= now {
                taken.push(entry);
            } else {
                waiting.push_back((not_before, entry));
            }
        }
        self.returned = waiting;
        while taken.len() < max
            && let Some(entry) = self.fresh.pop_front()
        {
            taken.push(entry);
        }
        self.in_flight += taken.len();
        taken
    }

    /// Writes off keys whose deletion was acknowledged.
    pub(super) fn acknowledge(&mut self, entries: &[Entry]) {
        self.in_flight -= entries.len();
        for entry in entries {
            let index = usize::try_from(entry.page - self.first_page).unwrap_or(usize::MAX);
            if let Some(page) = self.pages.get_mut(index) {
                page.outstanding -= 1;
            }
        }
        self.advance();
    }

    /// Takes back keys that were not processed; they are not sent again before `not_before`.
    pub(super) fn give_back(&mut self, entries: Vec<Entry>, not_before: Duration) {
        self.in_flight -= entries.len();
        self.returned
            .extend(entries.into_iter().map(|entry| (not_before, entry)));
    }

    /// Keys that wait to be sent.
    pub(super) fn backlog(&self) -> usize {
        self.fresh.len() + self.returned.len()
    }

    /// Fresh keys that wait to be sent.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// All keys that wait to be sent, those first that were handed back.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = &mut Entry> {
        let returned = self.returned.iter_mut().map(|(_, entry)| entry);
        returned.chain(self.fresh.iter_mut())
    }

    /// Gives up what is not in flight; the range will be read again from the low-water mark.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Entry> {
        let returned = self.returned.drain(..).map(|(_, entry)| entry);
        returned.chain(self.fresh.drain(..))
    }

    /// When the next key can be sent: now for fresh ones, later for those handed back; `None` without any.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if !self.fresh.is_empty() {
            return Some(Duration::ZERO);
        }
        self.returned.iter().map(|(not_before, _)| *not_before).min()
    }

    /// Whether every key that was entered is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.backlog() == 0
    }

    /// The end of the longest run of pages that are acknowledged whole.
    pub(super) fn low_water(&self) -> Option<&Key> {
        self.low_water.as_ref()
    }

    fn advance(&mut self) {
        while let Some(page) = self.pages.pop_front_if(|page| page.outstanding == 0) {
            self.first_page += 1;
            if page.last.is_some() {
                self.low_water = page.last;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: usize) -> Key {
        Key::S(format!("{number:06}").into())
    }

    fn page(from: usize, to: usize) -> Vec<Key> {
        (from..to).map(key).collect()
    }

    #[test]
    fn the_low_water_mark_never_passes_a_key_that_is_not_acknowledged() {
        let mut ledger = Ledger::default();
        ledger.enter(page(0, 30), Some(key(29)));
        ledger.enter(page(30, 60), Some(key(59)));
        let (first, second, third) = (
            ledger.take(25, Duration::ZERO),
            ledger.take(25, Duration::ZERO),
            ledger.take(25, Duration::ZERO),
        );
        ledger.acknowledge(&third);
        ledger.acknowledge(&second);
        assert_eq!(ledger.low_water(), None, "the first batch is still out");
        ledger.give_back(first, Duration::from_secs(1));
        assert!(!ledger.is_settled());
        assert!(ledger.take(25, Duration::ZERO).is_empty(), "not before its time");
        assert_eq!(ledger.next_due(), Some(Duration::from_secs(1)));
        let again = ledger.take(25, Duration::from_secs(1));
        ledger.acknowledge(&again);
        assert_eq!(ledger.low_water(), Some(&key(59)));
        assert!(ledger.is_settled());
    }

    #[test]
    fn an_empty_page_moves_the_mark() {
        let mut ledger = Ledger::default();
        ledger.enter(Vec::new(), Some(key(7)));
        assert_eq!(ledger.low_water(), Some(&key(7)));
        assert!(ledger.is_settled());
    }

    proptest! {
        #[test]
        fn no_key_is_ever_lost(pages in proptest::collection::vec(0usize..40, 1..8), verdicts in proptest::collection::vec((any::<bool>(), 0usize..26), 1..200)) {
            let mut ledger = Ledger::default();
            let (mut total, mut acknowledged, mut now) = (0, std::collections::BTreeSet::new(), Duration::ZERO);
            for size in pages {
                total += size;
                ledger.enter(page(total - size, total), total.checked_sub(1).map(key));
            }
            let mut verdicts = verdicts.into_iter().cycle();
            for _ in 0..10_000 {
                if ledger.is_settled() { break }
                let mut batch = ledger.take(25, now);
                let (refused, unprocessed) = verdicts.next().unwrap();
                // Something is processed now and then, or it would go on for ever.
                let back = if refused && now.as_secs() % 3 != 0 { batch.len() } else { unprocessed.min(batch.len().saturating_sub(1)) };
                let returned = batch.split_off(batch.len() - back);
                acknowledged.extend(batch.iter().map(|entry| entry.key.clone()));
                ledger.acknowledge(&batch);
                ledger.give_back(returned, now);
                if let Some(mark) = ledger.low_water() {
                    let below = (0..total).map(key).filter(|key| key <= mark);
                    prop_assert!(below.into_iter().all(|key| acknowledged.contains(&key)));
                }
                now += Duration::from_secs(1);
            }
            prop_assert!(ledger.is_settled());
            prop_assert_eq!(acknowledged.len(), total);
        }
    }
}
