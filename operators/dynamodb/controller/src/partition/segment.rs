//! Deleting one range: reading ahead of the writes, sending batches, sending again what was not processed.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    admission::{Admission, Used},
    allowance::Denial,
    bottleneck::Capacity,
    budget::Refusal,
    error::{Kind, Problem},
    frontier::{Frontier, Piece},
    key::Key,
    ledger::{Entry, Ledger},
    pace::{Pace, START, Signal},
    pause::{SHORTEST, pause},
    run::{Answer, BATCH, Counters, Run, as_f64},
    slots::Slot,
    source::{Page, PageQuery},
};
use crate::sabotage;

/// What a page is worth, in WCU: half a second's work of a physical partition. What is read cannot be given away any
/// more, and an idle worker could not help with it.
const PAGE_WCU: f64 = 500.0;
/// The least that a page holds, in keys.
const LEAST_PAGE: usize = 2 * BATCH;
/// Refusals in a row after which the pause for lack of capacity grows no more (0.8 s): the rate falls as well, and
/// whoever sleeps longer lets capacity lie idle.
const REFUSED: u32 = 4;
/// Pages after which a range reads no more when a job waits that has none under work...
const TURN: u32 = 8;
/// ...or time, whichever is over first: what is read it deletes first.
const READING_TURN: Duration = Duration::from_secs(2);
/// Time after which a range makes way with keys unsent, if its own pace, or throttling, has kept it from sending them.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// How work on a range ended.
pub(crate) enum Ended {
    /// Every key of it that was read is acknowledged, and it was read to its end.
    Done {
        /// Keys found.
        found: u64,
        /// WCU per second that were granted lately.
        rate: f64,
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
    /// Ready when what was to be sent may be written down.
    unwritten: Option<BoxFuture<'static, ()>>,
    found: u64,
    pages: u32,
    /// When the work began.
    begun: Duration,
}

type Admitting = BoxFuture<'static, Option<Admission>>;
type Reading = BoxFuture<'static, Result<Page, Problem>>;
type Sending = BoxFuture<'static, (Admission, Vec<Entry>, Result<Answer, Option<Problem>>)>;

impl Segment {
    pub(crate) fn new(run: Arc<Run>, frontier: Arc<Mutex<Frontier>>, consistent: bool, step: f64) -> Self {
        let rate = frontier.lock().piece.rate;
        let now = run.now();
        let begin = rate.or_else(|| run.pulse.refuses_writes(now).then_some(START));
        let pace = Pace::of_range(step, begin, now);
        let (pace, stop) = (Arc::new(Mutex::new(pace)), run.stop_token());
        Self {
            run,
            frontier,
            pace,
            ledger: Ledger::default(),
            stop,
            consistent,
            streak: 0,
            hold_until: Duration::ZERO,
            unwritten: None,
            found: 0,
            pages: 0,
            begun: now,
        }
    }

    /// The pace, which others may quicken.
    pub(crate) fn pace(&self) -> Arc<Mutex<Pace>> {
        Arc::clone(&self.pace)
    }

    /// Works until the range is done or must be left. Requests in flight are awaited in either case.
    pub(crate) async fn work(mut self, _slot: Slot) -> Ended {
        let mut in_flight: FuturesUnordered<Sending> = FuturesUnordered::new();
        let mut reading: Option<Reading> = self.read_on(None);
        let mut admitting: Option<Admitting> = None;
        let turn = self.end_of_turn();
        tokio::pin!(turn);
        while !self.stop.is_cancelled() {
            if reading.is_none() && in_flight.is_empty() && self.ledger.is_settled() {
                break;
            }
            if admitting.is_none() && self.unwritten.is_none() {
                admitting = self
                    .ledger
                    .next_due()
                    .map(|due| self.admission(due.max(self.hold_until)));
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                () = &mut turn => break,
                Some((admission, entries, answer)) = in_flight.next(), if !in_flight.is_empty() => {
                    self.settle(admission, entries, answer);
                }
                Some(page) = pending(&mut reading) => {
                    reading = None;
                    admitting = None; // Fresh keys need not wait for those that were handed back.
                    let retry = self.turn_page(page);
                    if self.has_room() {
                        reading = self.read_on(retry);
                    }
                }
                Some(()) = pending(&mut self.unwritten) => self.unwritten = None,
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
            while let Some((admission, entries, answer)) = in_flight.next().await {
                self.settle(admission, entries, answer);
            }
        }
        self.finish()
    }

    /// Returns when another job is to have the slot, however much is unsent.
    fn end_of_turn(&self) -> BoxFuture<'static, ()> {
        let (run, end) = (Arc::clone(&self.run), self.begun + LONGEST_TURN);
        Box::pin(async move {
            run.control.clock.sleep_until(end).await;
            run.slots.wanted().await;
        })
    }

    /// Waits for the time to send, then for capacity.
    fn admission(&self, send_at: Duration) -> Admitting {
        let (run, pace, stop) = (Arc::clone(&self.run), Arc::clone(&self.pace), self.stop.clone());
        Box::pin(async move {
            run.control.clock.sleep_until(send_at).await;
            Admission::wait(run, pace, &stop).await
        })
    }

    /// Has what is going to be sent written down.
    fn look_ahead(&mut self, waits: bool) {
        let (run, unsent) = (&self.run, self.ledger.unsent());
        run.allowance
            .look_ahead(unsent, run.wcu_per_key(), waits, run.now());
    }

    /// Whether to read on: the next page is fetched while the last one is written.
    fn has_room(&self) -> bool {
        let page = self.page_keys();
        let had_its_turn = self.pages >= TURN || self.run.now().saturating_sub(self.begun) >= READING_TURN;
        let makes_way = had_its_turn && self.run.slots.is_contended();
        !makes_way
            && !self.frontier.lock().exhausted
            && self.ledger.fresh() <= page / 2
            && self.ledger.backlog() <= page * 2
    }

    /// Keys to read at once.
    fn page_keys(&self) -> usize {
        let most = self.run.request.tuning.page_keys;
        let wcu_per_key = self.run.wcu_per_key();
        (LEAST_PAGE..most)
            .find(|keys| as_f64(*keys) * wcu_per_key >= PAGE_WCU)
            .unwrap_or(most)
    }

    /// Begins to read the next page, after a pause if the last attempt failed; or draws one from what is known.
    fn read_on(&mut self, pause: Option<Duration>) -> Option<Reading> {
        let most = self.page_keys();
        let mut frontier = self.frontier.lock();
        while let Some((page, end)) = frontier.draw(most) {
            drop(frontier);
            let found = !page.keys.is_empty();
            self.enter(page, end);
            if found {
                return None;
            }
            frontier = self.frontier.lock();
        }
        if frontier.exhausted {
            return None;
        }
        let query = PageQuery {
            after: frontier.cursor.clone(),
            limit: Some(most),
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
        // Otherwise its keys are going to be written: whether the server works shows then.
        if page.keys.is_empty() {
            self.run.note_success();
        }
        Counters::add_capacity(&self.run.totals.rcu_milli, page.rcu);
        let end = self.frontier.lock().turn(&mut page);
        self.enter(page, end);
        None
    }

    /// Enters the keys of a page into the books; `last` is where it ends, if there is more behind it.
    fn enter(&mut self, page: Page, last: Option<Key>) {
        self.pages += 1;
        if let (Some(first), Some(last)) = (page.keys.first(), page.keys.last()) {
            let mut alphabet = self.run.alphabet.lock();
            alphabet.learn(first);
            alphabet.learn(last);
        }
        Counters::add(&self.run.totals.keys_read, page.keys.len());
        self.found += u64::try_from(page.keys.len()).unwrap_or(0);
        self.ledger.enter(page.keys, last);
        self.look_ahead(false);
    }

    fn next_batch(&mut self, mut admission: Admission) -> Option<Sending> {
        let now = self.run.now();
        let mut entries = self.ledger.take(admission.keys(), now);
        let (refused, why) = self.run.claim(&mut entries, admission.wcu_per_key());
        if let Some(Denial::Unwritten(seen)) = why {
            self.ledger.give_back(refused, now);
            self.look_ahead(true);
            let run = Arc::clone(&self.run);
            self.unwritten = Some(Box::pin(async move { run.until_written(seen).await }));
        } else if why.is_some() {
            // What is in flight may leave room for them.
            self.ledger.give_back(refused, now + SHORTEST);
            if entries.is_empty() {
                self.hold_until = now + SHORTEST;
            }
        }
        if entries.is_empty() {
            return None;
        }
        admission.narrow(entries.len());
        let run = Arc::clone(&self.run);
        Some(Box::pin(async move {
            let (entries, answer) = run.send(entries).await;
            (admission, entries, answer)
        }))
    }

    fn settle(&mut self, admission: Admission, entries: Vec<Entry>, answer: Result<Answer, Option<Problem>>) {
        let now = self.run.now();
        let problem = match answer {
            Ok(answer) => return self.settle_answer(admission, answer, now),
            Err(problem) => problem,
        };
        let doubt = problem.as_ref().is_some_and(Problem::leaves_doubt);
        if doubt {
            self.run.allowance.doubt(&entries);
        }
        let Some(problem) = problem else {
            admission.settle(Used::Nothing, now);
            return self.ledger.give_back(entries, now);
        };
        self.streak = self.streak.saturating_add(1);
        let _ = self.run.survives(&problem);
        let used = match &problem.kind {
            Kind::Throttled(bottleneck) => Used::Refused(Refusal::by(bottleneck.as_ref())),
            _ if doubt => Used::Unknown,
            _ => Used::Nothing,
        };
        let throttled = matches!(used, Used::Refused(_));
        admission.settle(used, now);
        let longest = if throttled { REFUSED } else { u32::MAX };
        self.hold_until = now + pause(self.streak.min(longest));
        self.ledger.give_back(entries, self.hold_until);
    }

    fn settle_answer(&mut self, admission: Admission, mut answer: Answer, now: Duration) {
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
        let consumed = if answer.wcu > 0.0 {
            answer.wcu
        } else {
            as_f64(answer.acknowledged.len()) * admission.wcu_per_key()
        };
        self.run.allowance.spend(&answer.acknowledged, consumed);
        admission.settle(Used::Answered(consumed, signal), now);
        self.ledger.acknowledge(&answer.acknowledged);
        if signal == Signal::Clean {
            self.streak = 0;
            return;
        }
        self.run.pulse.refuse(Capacity::Write, None, now);
        self.streak = if signal == Signal::Refused {
            self.streak.saturating_add(1)
        } else {
            0
        };
        let again = now + pause(self.streak.min(REFUSED));
        if signal == Signal::Refused {
            self.hold_until = again;
        }
        self.ledger.give_back(answer.unprocessed, again);
    }

    fn finish(mut self) -> Ended {
        let mut frontier = self.frontier.lock();
        let settled = self.ledger.is_settled();
        if frontier.exhausted && settled {
            let rate = self.pace.lock().delivered(self.run.now());
            return Ended::Done {
                found: self.found,
                rate,
            };
        }
        self.run.allowance.abandon(self.ledger.abandon());
        let stock = frontier.close().filter(|_| settled);
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
            rate: self.pace.lock().rate(),
            // What was drawn and not deleted is read again, and everything behind it.
            stock,
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
