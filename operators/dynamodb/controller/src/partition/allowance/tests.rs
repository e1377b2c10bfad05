use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::partition::{Journals, key::Key, ledger::Ledger, reservation::INTERVAL};

fn key(number: usize) -> Key {
    Key::S(format!("{number:06}").into())
}

fn listed(keys: impl Iterator<Item = usize>) -> Vec<Entry> {
    let mut ledger = Ledger::default();
    ledger.enter(keys.map(key).collect(), None);
    ledger.take(usize::MAX, Duration::ZERO)
}

fn entries(from: usize, to: usize) -> Vec<Entry> {
    listed(from..to)
}

fn request(max_items: Option<u64>, max_wcu_total: Option<u64>) -> Request {
    Request {
        max_items,
        max_wcu_total,
        ..Request::default()
    }
}

/// Limits, and the last thing that was claimed of them.
struct Bed {
    allowance: Allowance,
    now: Duration,
}

impl Bed {
    fn new(max_items: Option<u64>, max_wcu_total: Option<u64>) -> Self {
        Self::of(&request(max_items, max_wcu_total), None)
    }

    fn of(request: &Request, journal: Option<Journal>) -> Self {
        Self {
            allowance: Allowance::new(request, journal),
            now: Duration::ZERO,
        }
    }

    /// Claims, later than anything before; returns what was granted, what was not, and why.
    fn claim(&mut self, entries: Vec<Entry>, wcu: f64) -> (Vec<Entry>, Vec<Entry>, Option<Denial>) {
        self.now += INTERVAL;
        self.claim_now(entries, wcu)
    }

    fn claim_now(&mut self, mut entries: Vec<Entry>, wcu: f64) -> (Vec<Entry>, Vec<Entry>, Option<Denial>) {
        let (refused, why) = self.allowance.claim(&mut entries, wcu);
        let waits = why.is_some();
        self.allowance
            .look_ahead(std::iter::empty(), wcu, waits, self.now);
        (entries, refused, why)
    }

    /// How many are granted, and why no more.
    fn try_claim(&mut self, entries: Vec<Entry>, wcu: f64) -> (usize, Option<Denial>) {
        let (granted, _, why) = self.claim(entries, wcu);
        (granted.len(), why)
    }
}

#[test]
fn what_is_in_flight_counts_as_spent_until_it_is_given_up() {
    let mut bed = Bed::new(Some(30), None);
    let (mut first, ..) = bed.claim(entries(0, 25), 1.0);
    let (second, third, why) = bed.claim(entries(25, 50), 1.0);
    assert_eq!((first.len(), second.len(), why), (25, 5, Some(Denial::Later)));
    // Five come back, and are going to be sent again.
    let back = first.split_off(20);
    bed.allowance.spend(&first, 20.0);
    let (granted, third, why) = bed.claim(third, 1.0);
    assert_eq!((granted.len(), why), (0, Some(Denial::Later)));
    bed.allowance.abandon(back.into_iter());
    let (granted, third, _) = bed.claim(third, 1.0);
    assert_eq!(granted.len(), 5);
    bed.allowance.spend(&second, 5.0);
    bed.allowance.spend(&granted, 5.0);
    assert_eq!(
        bed.try_claim(third, 1.0),
        (0, Some(Denial::Exhausted("limits.maxItems")))
    );
}

#[test]
fn a_key_whose_answer_was_lost_counts_once_in_whichever_round() {
    let mut bed = Bed::new(Some(25), None);
    let (lost, ..) = bed.claim(entries(0, 25), 1.0);
    bed.allowance.doubt(&lost);
    let (lost, ..) = bed.claim(lost, 1.0);
    assert_eq!(lost.len(), 25, "sent again in the same round");
    let exhausted = (0, Some(Denial::Exhausted("limits.maxItems")));
    assert_eq!(
        bed.try_claim(entries(25, 26), 1.0),
        exhausted,
        "the first request may have deleted what the second handed back"
    );
    bed.allowance.abandon(lost.into_iter());
    assert_eq!(bed.try_claim(entries(25, 26), 1.0), exhausted);
    let (again, ..) = bed.claim(entries(0, 25), 1.0);
    assert_eq!(again.len(), 25, "read again in the next round");
    bed.allowance.spend(&again, 25.0);
    assert_eq!(bed.try_claim(entries(0, 25), 1.0), exhausted);
}

#[test]
fn capacity_in_flight_counts_as_spent_and_is_corrected_by_the_answer() {
    let mut bed = Bed::new(None, Some(100));
    let (first, ..) = bed.claim(entries(0, 25), 3.0);
    let (second, ..) = bed.claim(entries(25, 50), 3.0);
    assert_eq!((first.len(), second.len()), (25, 8));
    let (granted, third, why) = bed.claim(entries(50, 75), 3.0);
    assert_eq!(
        (granted.len(), why),
        (0, Some(Denial::Later)),
        "one unit is left, and the others may have cost less"
    );
    bed.allowance.spend(&first, 25.0);
    bed.allowance.spend(&second, 24.0);
    let (granted, ..) = bed.claim(third, 3.0);
    assert_eq!(granted.len(), 17);
    bed.allowance.spend(&granted, 51.0);
    let exhausted = Some(Denial::Exhausted("limits.maxWcuTotal"));
    assert_eq!(bed.try_claim(entries(80, 81), 3.0), (0, exhausted));
}

#[test]
fn the_last_unit_pays_for_one_item_of_whatever_size() {
    let mut bed = Bed::new(None, Some(1));
    let (granted, rest, _) = bed.claim(entries(0, 25), 4.0);
    assert_eq!(granted.len(), 1);
    bed.allowance.spend(&granted, 4.0);
    let exhausted = Some(Denial::Exhausted("limits.maxWcuTotal"));
    assert_eq!(bed.try_claim(rest, 4.0), (0, exhausted));
}

#[test]
fn the_capacity_of_a_request_without_an_answer_counts_as_consumed() {
    let mut bed = Bed::new(None, Some(60));
    let (lost, ..) = bed.claim(entries(0, 25), 1.0);
    bed.allowance.doubt(&lost);
    let (again, ..) = bed.claim(lost, 1.0);
    assert_eq!(again.len(), 25);
    bed.allowance.spend(&again, 25.0);
    assert_eq!(bed.try_claim(entries(25, 50), 1.0).0, 10);
}

/// A journal, what is to be written in it, and how it is confirmed.
type Book = (Journal, watch::Receiver<Reservation>, watch::Sender<u64>);

#[test]
fn no_key_is_sent_before_it_stands_written() {
    let (journal, wanted, confirm): Book = Journals::default().open();
    let mut bed = Bed::of(&request(Some(100), Some(100)), Some(journal));
    let (granted, first, why) = bed.claim(entries(0, 25), 1.0);
    assert_eq!((granted.len(), why), (0, Some(Denial::Unwritten(0))));
    let asked = wanted.borrow().clone();
    assert_eq!((asked.number, asked.keys.len(), asked.items), (1, 25, 0));
    assert_eq!((asked.wcu_milli, asked.reserved_milli), (0, 25_000));
    assert_eq!(bed.try_claim(first.clone(), 1.0).0, 0, "not confirmed yet");
    let (_, second, why) = bed.claim(entries(25, 30), 1.0);
    assert_eq!(why, Some(Denial::Unwritten(0)));
    assert_eq!(wanted.borrow().number, 1, "one at a time");
    confirm.send_replace(1);
    let (granted, ..) = bed.claim(first, 1.0);
    assert_eq!(granted.len(), 25);
    bed.allowance.spend(&granted, 30.0);
    assert_eq!(bed.try_claim(second, 1.0).0, 0);
    let asked = wanted.borrow().clone();
    assert_eq!((asked.number, asked.keys.len(), asked.items), (2, 5, 25));
    assert_eq!((asked.wcu_milli, asked.reserved_milli), (30_000, 5000));
}

#[test]
fn many_runs_write_no_more_often_than_one_and_take_turns() {
    let journals = Journals::default();
    let mut runs: Vec<_> = (0..20)
        .map(|_| {
            let (journal, wanted, confirm) = journals.open();
            let bed = Bed::of(&request(Some(1_000_000), None), Some(journal));
            (bed, wanted, confirm)
        })
        .collect();
    // A minute, looked at 50 times a second.
    for tick in 0..3000 {
        for (bed, wanted, confirm) in &mut runs {
            bed.now = tick * INTERVAL / 5;
            bed.claim_now(entries(tick as usize, tick as usize + 1), 1.0);
            confirm.send_replace(wanted.borrow().number);
        }
    }
    let written: Vec<_> = runs.iter().map(|(_, wanted, _)| wanted.borrow().number).collect();
    assert!((590..=601).contains(&written.iter().sum::<u64>()), "{written:?}");
    assert!(written.iter().all(|&count| count >= 29), "{written:?}");
}

#[test]
fn what_is_reserved_at_once_is_bounded_and_so_is_what_stays_in_doubt() {
    let (journal, wanted, confirm): Book = Journals::default().open();
    let mut bed = Bed::of(&request(Some(1_000_000), None), Some(journal.clone()));
    let mut all = entries(0, 2 * CHUNK);
    bed.allowance.look_ahead(all.iter_mut(), 1.0, false, INTERVAL);
    assert_eq!(wanted.borrow().keys.len(), CHUNK);
    confirm.send_replace(1);
    let (granted, ..) = bed.claim(all, 1.0);
    assert_eq!(granted.len(), CHUNK);
    // Run after run breaks off, and nothing is ever read again.
    let mut last = wanted.borrow().clone();
    for life in 1..6 {
        let request = Request {
            reservation: Some(last.clone()),
            ..request(Some(1_000_000), None)
        };
        let (journal, wanted, _confirm): Book = Journals::default().open();
        let mut bed = Bed::of(&request, Some(journal));
        let from = life * CHUNK;
        bed.try_claim(entries(from, from + CHUNK), 1.0);
        last = wanted.borrow().clone();
        assert!(last.keys.len() <= CHUNK + DOUBTFUL, "{}", last.keys.len());
        let counted = last.items + last.keys.len() as u64;
        assert_eq!(counted, ((life + 1) * CHUNK) as u64, "all of them count");
    }
}

#[test]
fn a_run_that_comes_to_its_end_leaves_only_doubts_behind() {
    let (journal, wanted, confirm): Book = Journals::default().open();
    let mut bed = Bed::of(&request(Some(100), None), Some(journal));
    let (_, all, _) = bed.claim(entries(0, 20), 1.0);
    confirm.send_replace(1);
    let (mut granted, ..) = bed.claim(all, 1.0);
    let (lost, unsent) = (granted.split_off(15), granted.split_off(10));
    bed.allowance.spend(&granted, 10.0);
    bed.allowance.doubt(&lost);
    bed.allowance.abandon(lost.into_iter().chain(unsent));
    bed.allowance.close();
    let last = wanted.borrow().clone();
    assert_eq!((last.items, last.keys.len()), (10, 5));
    // A round that read everything did not find them.
    bed.allowance.swept();
    bed.allowance.close();
    let last = wanted.borrow().clone();
    assert_eq!((last.items, last.keys.len()), (15, 0));
}

/// A job over the lives of its operators: what is deleted, and what stands written.
struct Story {
    limit: u64,
    items: usize,
    deleted: HashSet<usize>,
    written: Option<Reservation>,
}

/// One life: keys that wait, batches in flight, and the journal.
struct Life {
    bed: Bed,
    wanted: watch::Receiver<Reservation>,
    confirm: watch::Sender<u64>,
    waiting: Vec<Entry>,
    in_flight: VecDeque<Vec<Entry>>,
}

impl Story {
    fn begin(&self) -> Life {
        let request = Request {
            reservation: self.written.clone(),
            ..request(Some(self.limit), None)
        };
        let (journal, wanted, confirm): Book = Journals::default().open();
        Life {
            bed: Bed::of(&request, Some(journal)),
            wanted,
            confirm,
            waiting: self.remaining(),
            in_flight: VecDeque::new(),
        }
    }

    fn remaining(&self) -> Vec<Entry> {
        listed((0..self.items).filter(|number| !self.deleted.contains(number)))
    }

    fn delete(&mut self, entries: &[Entry]) {
        let number = |entry: &Entry| (0..self.items).find(|n| key(*n) == entry.key);
        let numbers: Vec<_> = entries.iter().filter_map(number).collect();
        self.deleted.extend(numbers);
    }

    /// The journal's writer comes by: it may have written, and its word may have been lost.
    fn write(&mut self, life: &Life, heard: bool) {
        let wanted = life.wanted.borrow().clone();
        if wanted.number > 0 {
            let number = wanted.number;
            self.written = Some(wanted);
            if heard {
                life.confirm.send_replace(number);
            }
        }
    }
}

impl Life {
    fn send(&mut self, size: usize) {
        let rest = self.waiting.split_off(self.waiting.len().min(size));
        let batch = std::mem::replace(&mut self.waiting, rest);
        let (granted, refused, _) = self.bed.claim(batch, 1.0);
        self.waiting.extend(refused);
        if !granted.is_empty() {
            self.in_flight.push_back(granted);
        }
    }

    /// The rest of the batch is read again in another round.
    fn abandon(&mut self, batch: Vec<Entry>, story: &Story) {
        let there =
            |entry: &Entry| (0..story.items).any(|n| key(n) == entry.key && !story.deleted.contains(&n));
        let keys: Vec<_> = batch
            .iter()
            .filter(|entry| there(entry))
            .map(|e| e.key.clone())
            .collect();
        self.bed.allowance.abandon(batch.into_iter());
        let mut ledger = Ledger::default();
        ledger.enter(keys, None);
        self.waiting.extend(ledger.take(usize::MAX, Duration::ZERO));
    }
}

proptest! {
    /// Batches in flight side by side end in every way there is, the server deletes what it wants of what it loses, the
    /// operator dies at any moment, with any of its writes done or not; and the limit holds at each of them. In the end
    /// nothing is lost of it either.
    #[test]
    fn the_limit_holds_whatever_happens_and_is_used_up(
        limit in 0u64..120,
        fates in proptest::collection::vec((0u8..7, 0usize..26, any::<bool>(), any::<bool>()), 1..80),
    ) {
        let mut story = Story { limit, items: 100, deleted: HashSet::new(), written: None };
        let mut life = story.begin();
        for (fate, part, applied, heard) in fates {
            life.send(25);
            if part % 3 > 0 { story.write(&life, heard); }
            if fate == 5 {
                let in_flight: Vec<_> = life.in_flight.drain(..).collect();
                for batch in in_flight {
                    let part = part.min(batch.len());
                    if applied { story.delete(&batch[..part]); }
                }
                if heard { story.write(&life, false); }
                life = story.begin();
            } else if let Some(mut batch) = life.in_flight.pop_front_if(|_| fate != 6) {
                let back = batch.split_off(part.min(batch.len()));
                match fate {
                    0 => { batch.extend(back); life.waiting.extend(batch); }
                    1 | 2 => {
                        batch.extend(back);
                        if applied { story.delete(&batch); }
                        life.bed.allowance.doubt(&batch);
                        if fate == 1 { life.waiting.extend(batch) } else { life.abandon(batch, &story) }
                    }
                    _ => {
                        story.delete(&batch);
                        life.bed.allowance.spend(&batch, 1.0);
                        life.waiting.extend(back);
                    }
                }
            }
            prop_assert!(story.deleted.len() as u64 <= limit, "{} of {limit}", story.deleted.len());
        }
        // What is in flight comes back, and nothing is in the way any more.
        for batch in std::mem::take(&mut life.in_flight) {
            life.waiting.extend(batch);
        }
        for _ in 0..40 {
            let count = life.waiting.len();
            life.send(count);
            story.write(&life, true);
            for batch in std::mem::take(&mut life.in_flight) {
                story.delete(&batch);
                life.bed.allowance.spend(&batch, 1.0);
            }
        }
        prop_assert_eq!(story.deleted.len() as u64, limit.min(100));
    }
}
