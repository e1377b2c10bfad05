//! Deleting one range: reading ahead of the writes, sending batches, sending again what was not processed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    error::{Kind, Problem},
    key::Key,
    ledger::{Entry, Ledger},
    pace::{Pace, Signal},
    range::SortRange,
    run::{Admission, Answer, Counters, Run, as_f64},
    slots::Slot,
    source::{Page, PageQuery},
};
use crate::sabotage;

/// Shortest and longest pause before refused keys are sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Pages after which a range makes way for a job that has none under work.
const TURN: u32 = 8;

/// A range, and where it can well be cut.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The sort keys to delete.
    pub(crate) range: SortRange,
    /// Keys inside, in order, with about as many items between any two.
    pub(crate) marks: VecDeque<Key>,
}

/// What others may know and change of a range under work.
#[derive(Debug)]
pub(crate) struct Frontier {
    piece: Piece,
    /// The last key read.
    cursor: Option<Key>,
    /// Everything was read.
    exhausted: bool,
    /// Keys on the last page: a short one means that the end is near.
    last_page: usize,
}

impl Frontier {
    pub(crate) fn new(piece: Piece) -> Self {
        Self {
            piece,
            cursor: None,
            exhausted: false,
            last_page: 0,
        }
    }

    /// How much there is to take, to compare: marks ahead.
    pub(crate) fn weight(&self) -> usize {
        if self.exhausted {
            0
        } else {
            1 + self.piece.marks.len()
        }
    }

    /// Gives away the upper half of what was not read yet. `cut` finds a key between two others when no mark is
    /// left; `ceiling` is the highest key known, for ranges that are open above.
    pub(crate) fn give_half(
        &mut self,
        ceiling: Option<&Key>,
        least: usize,
        cut: impl Fn(&Key, &Key) -> Option<Key>,
    ) -> Option<Piece> {
        // Nothing was seen of it yet, or what is left is not worth a request.
        if self.exhausted || self.cursor.is_none() || self.last_page < least {
            return None;
        }
        let cursor = self.cursor.as_ref()?;
        let at = match self.piece.marks.get(self.piece.marks.len() / 2) {
            Some(mark) if mark > cursor => mark.clone(),
            _ => cut(cursor, self.piece.range.high.key().or(ceiling)?)?,
        };
        let (lower, upper) = self.piece.range.split_at(&at)?;
        let keep = self.piece.marks.partition_point(|mark| *mark < at);
        let mut marks = self.piece.marks.split_off(keep);
        if marks.front() == Some(&at) {
            marks.pop_front();
        }
        self.piece.range = lower;
        Some(Piece { range: upper, marks })
    }
}

/// How work on a range ended.
pub(crate) enum Ended {
    /// Every key of it that was read is acknowledged, and it was read to its end.
    Done {
        /// Keys found.
        found: u64,
    },
    /// The rest of it, to be continued: another job's turn, or the round ends.
    Left(Piece),
}

/// One range under work.
pub(crate) struct Segment {
    run: Arc<Run>,
    frontier: Arc<Mutex<Frontier>>,
    pace: Arc<Mutex<Pace>>,
    ledger: Ledger,
    stop: CancellationToken,
    consistent: bool,
    /// Requests in a row that processed nothing.
    streak: u32,
    /// Nothing is sent before.
    hold_until: Duration,
    found: u64,
    pages: u32,
}

type Admitting = BoxFuture<'static, Option<Admission>>;
type Reading = BoxFuture<'static, Result<Page, Problem>>;
type Sending = BoxFuture<'static, (Admitted, Vec<Entry>, Result<Answer, Option<Problem>>)>;

/// What a batch reserved.
struct Admitted {
    reserved: f64,
}

impl Segment {
    pub(crate) fn new(run: Arc<Run>, frontier: Arc<Mutex<Frontier>>, consistent: bool, step: f64) -> Self {
        let (pace, stop) = (Arc::new(Mutex::new(Pace::new(step, run.now()))), run.stop_token());
        Self {
            run,
            frontier,
            pace,
            ledger: Ledger::default(),
            stop,
            consistent,
            streak: 0,
            hold_until: Duration::ZERO,
            found: 0,
            pages: 0,
        }
    }

    /// Works until the range is done or must be left. Requests in flight are awaited in either case.
    pub(crate) async fn work(mut self, _slot: Slot) -> Ended {
        let mut in_flight: FuturesUnordered<Sending> = FuturesUnordered::new();
        let mut reading: Option<Reading> = self.read_on(None);
        let mut admitting: Option<Admitting> = None;
        while !self.stop.is_cancelled() {
            if reading.is_none() && in_flight.is_empty() && self.ledger.is_settled() {
                break;
            }
            if admitting.is_none() {
                admitting = self
                    .ledger
                    .next_due()
                    .map(|due| self.admission(due.max(self.hold_until)));
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                Some((admitted, entries, answer)) = in_flight.next(), if !in_flight.is_empty() => {
                    self.settle(&admitted, entries, answer);
                }
                Some(page) = pending(&mut reading) => {
                    reading = None;
                    // Fresh keys need not wait for those that were handed back.
                    admitting = None;
                    let retry = self.turn_page(page);
                    if self.has_room() {
                        reading = self.read_on(retry);
                    }
                }
                Some(admission) = pending(&mut admitting) => {
                    admitting = None;
                    in_flight.extend(admission.and_then(|admission| self.next_batch(admission)));
                }
            }
            if reading.is_none() && self.has_room() {
                reading = self.read_on(None);
            }
        }
        drop((reading, admitting));
        if !sabotage::active(sabotage::ABANDON_IN_FLIGHT) {
            while let Some((admitted, entries, answer)) = in_flight.next().await {
                self.settle(&admitted, entries, answer);
            }
        }
        self.finish()
    }

    /// Waits for the time to send, then for capacity.
    fn admission(&self, send_at: Duration) -> Admitting {
        let (run, pace, stop) = (Arc::clone(&self.run), Arc::clone(&self.pace), self.stop.clone());
        Box::pin(async move {
            run.control.clock.sleep_until(send_at).await;
            run.admit(&pace, &stop).await
        })
    }

    /// Pages held: up to four batches' worth beyond one page, so that reading overlaps writing.
    fn has_room(&self) -> bool {
        let page = self.run.request.tuning.page_keys;
        let turn_is_over = self.pages >= TURN && self.run.slots.is_contended();
        !turn_is_over && !self.frontier.lock().exhausted && self.ledger.fresh() <= page
    }

    /// Begins to read the next page, after a pause if the last attempt failed.
    fn read_on(&self, pause: Option<Duration>) -> Option<Reading> {
        let frontier = self.frontier.lock();
        if frontier.exhausted {
            return None;
        }
        let query = PageQuery {
            after: frontier.cursor.clone(),
            limit: Some(self.run.request.tuning.page_keys),
            consistent: self.consistent,
            ..PageQuery::of(frontier.piece.range.clone())
        };
        let run = Arc::clone(&self.run);
        Some(Box::pin(async move {
            if let Some(pause) = pause {
                run.control.clock.sleep(pause).await;
            }
            run.source.page(&query).await
        }))
    }

    /// Enters a page; returns how long to pause before trying again if there was none.
    fn turn_page(&mut self, page: Result<Page, Problem>) -> Option<Duration> {
        let mut page = match page {
            Ok(page) => page,
            Err(problem) => {
                self.streak = self.streak.saturating_add(1);
                return self.run.survives(&problem).then(|| pause(self.streak));
            }
        };
        self.run.note_success();
        self.pages += 1;
        Counters::add_capacity(&self.run.totals.rcu_milli, page.rcu);
        let mut frontier = self.frontier.lock();
        // The upper part may have been given away since the page was asked for.
        if !sabotage::active(sabotage::IGNORE_RANGE) {
            page.keys.retain(|key| !frontier.piece.range.is_below(key));
        }
        frontier.last_page = page.keys.len();
        let end = frontier.piece.range.high.key();
        frontier.exhausted = page
            .next
            .as_ref()
            .is_none_or(|next| end.is_some_and(|end| next >= end));
        if let Some(next) = page.next.clone().filter(|_| !frontier.exhausted) {
            while frontier.piece.marks.front().is_some_and(|mark| *mark <= next) {
                frontier.piece.marks.pop_front();
            }
            frontier.cursor = Some(next);
        }
        let last = frontier.cursor.clone().filter(|_| !frontier.exhausted);
        drop(frontier);
        if let (Some(first), Some(last)) = (page.keys.first(), page.keys.last()) {
            let mut alphabet = self.run.alphabet.lock();
            alphabet.learn(first);
            alphabet.learn(last);
        }
        Counters::add(&self.run.totals.keys_read, page.keys.len());
        self.found += u64::try_from(page.keys.len()).unwrap_or(0);
        self.ledger.enter(page.keys, last);
        None
    }

    fn next_batch(&mut self, admission: Admission) -> Option<Sending> {
        let entries = self.ledger.take(admission.keys, self.run.now());
        if entries.is_empty() {
            return None;
        }
        if !self.run.within_limits(entries.len()) {
            let now = self.run.now();
            self.ledger.give_back(entries, now);
            return None;
        }
        let reserved = as_f64(entries.len()) * admission.wcu_per_key;
        self.pace.lock().reserve(reserved);
        self.run.share.reserve(reserved);
        let run = Arc::clone(&self.run);
        Some(Box::pin(async move {
            let (entries, answer) = run.send(entries).await;
            drop(admission);
            (Admitted { reserved }, entries, answer)
        }))
    }

    fn settle(&mut self, admitted: &Admitted, entries: Vec<Entry>, answer: Result<Answer, Option<Problem>>) {
        let now = self.run.now();
        match answer {
            Ok(answer) => self.settle_answer(admitted.reserved, answer, now),
            Err(None) => self.ledger.give_back(entries, now),
            Err(Some(problem)) => {
                self.streak = self.streak.saturating_add(1);
                let _ = self.run.survives(&problem);
                if let Kind::Throttled(bottleneck) = &problem.kind {
                    Counters::add(&self.run.totals.throttles, 1);
                    let table_wide = bottleneck.as_ref().is_some_and(super::Bottleneck::is_table_wide);
                    self.pace
                        .lock()
                        .settle(admitted.reserved, 0.0, Signal::Refused, now);
                    self.run.share.settle(admitted.reserved, 0.0, table_wide, now);
                } else {
                    self.run.share.settle(admitted.reserved, 0.0, false, now);
                }
                self.hold_until = now + pause(self.streak);
                self.ledger.give_back(entries, self.hold_until);
            }
        }
    }

    fn settle_answer(&mut self, reserved: f64, mut answer: Answer, now: Duration) {
        self.run.note_success();
        self.run.record(&answer);
        if sabotage::active(sabotage::DROP_UNPROCESSED_KEYS) {
            let dropped = std::mem::take(&mut answer.unprocessed);
            answer.acknowledged.extend(dropped);
        }
        let signal = match (answer.acknowledged.is_empty(), answer.unprocessed.is_empty()) {
            (_, true) => Signal::Clean,
            (false, false) => Signal::Partial,
            (true, false) => Signal::Refused,
        };
        // A server that tells no capacity is taken to have used what was expected.
        let share = as_f64(answer.acknowledged.len())
            / as_f64((answer.acknowledged.len() + answer.unprocessed.len()).max(1));
        let consumed = if answer.wcu > 0.0 {
            answer.wcu
        } else {
            reserved * share
        };
        self.pace.lock().settle(reserved, consumed, signal, now);
        self.run.share.settle(reserved, consumed, false, now);
        self.ledger.acknowledge(&answer.acknowledged);
        if signal == Signal::Clean {
            self.streak = 0;
            return;
        }
        self.run.note_throttle(None);
        self.streak = if signal == Signal::Refused {
            self.streak.saturating_add(1)
        } else {
            0
        };
        let again = now + pause(self.streak);
        if signal == Signal::Refused {
            self.hold_until = again;
        }
        self.ledger.give_back(answer.unprocessed, again);
    }

    fn finish(mut self) -> Ended {
        let frontier = self.frontier.lock();
        if frontier.exhausted && self.ledger.is_settled() {
            return Ended::Done { found: self.found };
        }
        self.ledger.abandon();
        let ahead = frontier
            .cursor
            .as_ref()
            .filter(|_| sabotage::active(sabotage::FOLLOW_CURSOR));
        let rest = ahead.or_else(|| self.ledger.low_water()).map_or_else(
            || frontier.piece.range.clone(),
            |mark| frontier.piece.range.above(mark),
        );
        Ended::Left(Piece {
            range: rest,
            marks: frontier.piece.marks.clone(),
        })
    }
}

/// Polls a future that may be absent: `None`, at once, if it is.
async fn pending<T>(future: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

/// Full jitter: anything up to a pause that doubles with every attempt.
pub(crate) fn pause(attempt: u32) -> Duration {
    let longest = PAUSE.0.saturating_mul(1 << attempt.min(7)).min(PAUSE.1);
    longest.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests;
