//! Rounds: delete what is there, look whether anything is left, begin again if so.
//!
//! # Guarantees
//! - [`End::Empty`] is reported only after a strongly consistent read found nothing in the range, on the very table
//!   that the run began with.
//! - When a round ends, for whatever reason, no request is in flight.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use dynamodb_api::Reason;
use parking_lot::Mutex;
use reconcile::Class;
use tokio::task::JoinSet;

use super::{
    error::{Failure, Problem},
    frontier::{Frontier, Piece},
    pace::Pace,
    pause::{between_rounds, in_outage},
    pin::{missing_or_replaced, same_table, watch_table},
    range::SortRange,
    request::{End, Finished, Stage},
    run::{Run, Verdict, as_f64},
    segment::{Ended, Segment},
    slots::Slot,
    source::PageQuery,
    survey,
    teller::{Teller, while_reading},
};
use crate::sabotage;

/// Passes that may find the partition not empty before somebody must be writing to it.
const PASSES: u32 = 10;
/// How often the progress is told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);
/// How much, in WCU per second, all ranges of a run grow by first after a cut.
const RUN_STEP: f64 = 40.0;
/// Ranges in a row that turn out empty before dividing pauses: where keys are far from even, guesses come near by halves.
const MISSES: u32 = 16;
/// For how long, since the last one.
const MISSES_PAUSE: Duration = Duration::from_secs(1);

/// Deletes `range`, beginning with `pieces` of it, until it is empty.
pub(crate) async fn delete(
    run: &Arc<Run>,
    range: &SortRange,
    mut pieces: Vec<Piece>,
    planned: Option<u64>,
) -> Result<Finished, Failure> {
    let mut teller = Teller::new(planned);
    let mut passes = 0;
    loop {
        teller.begin_round(run);
        run.begin_round();
        let left = Sweep::new(run, &mut teller, pieces).guarded().await;
        run.settle_doubts(&left);
        if run.is_interrupted() {
            teller.tell(run, Stage::Deleting);
            return Ok(teller.interrupted(run));
        }
        let verdict = if let Some(verdict) = run.take_verdict() {
            Err(missing_or_replaced(run, verdict).await)
        } else {
            teller.tell(run, Stage::Verifying);
            while_reading(run, verify(run, range)).await
        };
        if run.is_interrupted() && !matches!(verdict, Ok(true)) {
            return Ok(teller.interrupted(run));
        }
        let throttled = matches!(&verdict, Err(Verdict::Passing(problem)) if problem.is_throttle());
        let outage = !throttled && matches!(verdict, Err(Verdict::Passing(_)));
        teller.trouble = match verdict {
            Ok(true) => {
                teller.tell(run, Stage::Verifying);
                return Ok(Finished {
                    end: End::Empty,
                    totals: run.totals(),
                    rounds: teller.round,
                });
            }
            Ok(false) => {
                passes += 1;
                Some("items are left, or appeared meanwhile".to_owned())
            }
            Err(Verdict::Final(failure)) => return Err(failure),
            Err(Verdict::Passing(problem)) => Some(problem.into_failure(&run.request.table).message),
        };
        teller.end_round(run, throttled);
        give_up(run, &teller, passes)?;
        teller.tell(run, Stage::Retrying);
        let pause = match teller.idle {
            idle if outage && idle > 0 => in_outage(idle),
            idle => between_rounds(idle.max(passes / 2)),
        };
        rest(run, pause).await;
        // What was found may lie in another table of the same name.
        if let Err(Verdict::Final(failure)) = same_table(run).await {
            return Err(failure);
        }
        pieces = if left.is_empty() {
            vec![Piece::unknown(range.clone())]
        } else {
            left
        };
    }
}

fn give_up(run: &Run, teller: &Teller, passes: u32) -> Result<(), Failure> {
    let (table, idle) = (&run.request.table, teller.idle);
    let trouble = teller.trouble.as_deref().unwrap_or_default();
    if passes >= PASSES {
        return Err(Failure::terminal(
            Reason::PartitionNotEmpty,
            format!(
                "after {PASSES} passes the partition of table '{table}' is still not empty: somebody writes to it; stop the writers, then create another DdbctlDpJob for what is left"
            ),
        ));
    }
    if idle > run.request.backoff_limit {
        return Err(Failure {
            class: Class::Terminal,
            reason: Reason::BackoffLimitExceeded,
            message: format!(
                "{idle} rounds in a row deleted nothing from table '{table}', `backoffLimit` is {}; the last one: {trouble}",
                run.request.backoff_limit
            ),
        });
    }
    Ok(())
}

/// Waits between rounds, for as long as the run is wanted.
async fn rest(run: &Run, pause: Duration) {
    tokio::select! {
        () = run.control.cancel.cancelled() => {}
        () = run.control.clock.sleep(pause) => {}
    }
}

/// Whether nothing is left in the range of the table that the run began with.
async fn verify(run: &Run, range: &SortRange) -> Result<bool, Verdict> {
    if sabotage::active(sabotage::SKIP_VERIFY) {
        return Ok(true);
    }
    let passing = |problem: Problem| {
        if problem.is_passing() {
            Verdict::Passing(problem)
        } else {
            Verdict::Final(problem.into_failure(&run.request.table))
        }
    };
    let mut query = PageQuery {
        consistent: !sabotage::active(sabotage::EVENTUAL_VERIFY),
        // A bound that is itself left out may be the first to be read.
        limit: Some(2),
        ..PageQuery::of(range.clone())
    };
    loop {
        let page = survey::read(run, &query).await.map_err(passing)?;
        if !page.keys.is_empty() {
            return Ok(false);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    same_table(run).await.map(|()| true)
}

/// What is under work: how far it is, and how fast it may go.
type Active = (Arc<Mutex<Frontier>>, Arc<Mutex<Pace>>);

/// One pass over the range, by several workers.
struct Sweep<'a> {
    run: &'a Arc<Run>,
    teller: &'a mut Teller,
    queue: VecDeque<Piece>,
    active: HashMap<u64, Active>,
    workers: JoinSet<(u64, Ended)>,
    most: usize,
    next_id: u64,
    misses: u32,
    /// When the last range turned out empty.
    missed: Duration,
}

impl<'a> Sweep<'a> {
    fn new(run: &'a Arc<Run>, teller: &'a mut Teller, pieces: Vec<Piece>) -> Self {
        let most = usize::try_from(survey::segments(run, u64::MAX)).unwrap_or(1);
        Self {
            run,
            teller,
            queue: pieces.into(),
            active: HashMap::new(),
            workers: JoinSet::new(),
            most,
            next_id: 0,
            misses: 0,
            missed: Duration::ZERO,
        }
    }

    /// Sweeps while the table is watched; returns what is left undone.
    async fn guarded(self) -> Vec<Piece> {
        let guard = watch_table(self.run);
        let sweep = self.sweep();
        tokio::pin!(guard, sweep);
        tokio::select! {
            left = &mut sweep => left,
            () = &mut guard => sweep.await,
        }
    }

    async fn sweep(mut self) -> Vec<Piece> {
        let stop = self.run.stop_token();
        let mut left = Vec::new();
        loop {
            if stop.is_cancelled() {
                left.extend(self.queue.drain(..));
            } else {
                self.employ().await;
            }
            self.teller.tell(self.run, Stage::Deleting);
            if self.workers.is_empty() {
                left.extend(self.queue.drain(..));
                return left;
            }
            tokio::select! {
                Some(joined) = self.workers.join_next() => left.extend(self.take_back(joined, stop.is_cancelled())),
                () = self.run.control.clock.sleep(TELL_INTERVAL) => {}
            }
        }
    }

    /// Gives work to as many workers as there are slots and pieces for.
    async fn employ(&mut self) {
        let stop = self.run.stop_token();
        while self.active.len() < self.most {
            let Some(piece) = self.queue.pop_front().or_else(|| self.divide()) else {
                return;
            };
            let slot = if self.active.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => None,
                    slot = self.run.slots.acquire() => slot,
                }
            } else {
                self.run.slots.spare()
            };
            match slot {
                Some(slot) => self.begin(piece, slot),
                None => return self.queue.push_front(piece),
            }
        }
    }

    fn begin(&mut self, piece: Piece, slot: Slot) {
        let id = self.next_id;
        self.next_id += 1;
        let frontier = Arc::new(Mutex::new(Frontier::new(piece)));
        // A second pass has little to find, and must not overlook it.
        let consistent = self.teller.round > 1;
        let step = RUN_STEP / as_f64(1 + self.active.len() + self.queue.len());
        let segment = Segment::new(Arc::clone(self.run), Arc::clone(&frontier), consistent, step);
        self.active.insert(id, (frontier, segment.pace()));
        self.workers.spawn(async move { (id, segment.work(slot).await) });
    }

    /// Half of what the busiest worker has ahead.
    fn divide(&mut self) -> Option<Piece> {
        if self.misses >= MISSES {
            if self.run.now().saturating_sub(self.missed) < MISSES_PAUSE {
                return None;
            }
            self.misses = 0;
        }
        let alphabet = self.run.alphabet.lock();
        let mut active: Vec<_> = self.active.values().collect();
        active.sort_by_cached_key(|(frontier, _)| std::cmp::Reverse(frontier.lock().weight()));
        active.into_iter().find_map(|(frontier, pace)| {
            let cut = |low: &_, high: &_| alphabet.between(low, high, 1, 2);
            let mut piece = frontier.lock().give_half(alphabet.highest(), cut)?;
            piece.rate = pace.lock().halve(self.run.now());
            Some(piece)
        })
    }

    /// Takes note of how a worker ended; what it left is done later in the round, or in the next.
    fn take_back(
        &mut self,
        joined: Result<(u64, Ended), tokio::task::JoinError>,
        stopping: bool,
    ) -> Option<Piece> {
        let (id, ended) = match joined {
            Ok(result) => result,
            Err(error) => {
                self.run.end_round(Verdict::Final(Failure {
                    class: Class::Transient,
                    reason: Reason::Retrying,
                    message: format!("a worker broke off: {error}"),
                }));
                return None;
            }
        };
        self.active.remove(&id);
        match ended {
            Ended::Done { found, rate } => {
                let (now, part) = (self.run.now(), rate / as_f64(self.active.len().max(1)));
                for (_, pace) in self.active.values() {
                    pace.lock().inherit(part, now);
                }
                if found == 0 {
                    (self.misses, self.missed) = (self.misses + 1, now);
                } else {
                    self.misses = 0;
                }
                None
            }
            Ended::Left(piece) if stopping => Some(piece),
            Ended::Left(piece) => {
                self.queue.push_back(piece);
                None
            }
        }
    }
}
