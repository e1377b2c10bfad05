//! What all ranges of a run share: totals, limits, the right to send, and the requests themselves.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, ReturnConsumedCapacity, WriteRequest};
use dynamodb_api::Reason;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Common,
    allowance::{Allowance, Denial},
    bottleneck::Capacity,
    budget::Share,
    departure::Departure,
    error::{Failure, Kind, Problem, classify},
    failures::Failures,
    frontier::Piece,
    interpolation::Alphabet,
    key::Key,
    ledger::Entry,
    lookout::Lookout,
    pin::Pin,
    pulse::Pulse,
    request::{Control, Request, Totals},
    reservation::INTERVAL,
    slots::Slots,
    source::Source,
};
use crate::sabotage;

/// Keys in one request: DynamoDB's limit.
pub(crate) const BATCH: usize = 25;

/// The state of one run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) source: Source,
    pub(crate) request: Request,
    pub(crate) control: Control,
    pub(crate) share: Share,
    pub(crate) slots: Slots,
    pub(crate) lookout: Arc<Lookout>,
    pub(crate) totals: Counters,
    /// Items that measuring has counted.
    pub(crate) counted: AtomicU64,
    pub(crate) alphabet: Mutex<Alphabet>,
    pub(super) allowance: Allowance,
    in_flight: Arc<Semaphore>,
    /// Cancelled when this round must end: by the caller, the fence, or a problem.
    pub(crate) stop: Mutex<CancellationToken>,
    verdict: Mutex<Option<Verdict>>,
    fenced: AtomicBool,
    failures: Failures,
    /// Mean WCU of one deletion, in thousandths, as answers showed it.
    item_wcu_milli: AtomicU64,
    pub(crate) pulse: Pulse,
    /// Since when the table is known to be the right one.
    pub(crate) pin: Pin,
}

/// Why a round ended early.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Another round may help.
    Passing(Problem),
    /// No other round can help.
    Final(Failure),
}

/// Totals that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) keys_read: AtomicU64,
    pub(crate) keys_acknowledged: AtomicU64,
    pub(crate) unprocessed_retries: AtomicU64,
    pub(crate) throttles: AtomicU64,
    pub(crate) rcu_milli: AtomicU64,
    pub(crate) wcu_milli: AtomicU64,
}

/// What a batch came back with.
pub(crate) struct Answer {
    pub(crate) acknowledged: Vec<Entry>,
    pub(crate) unprocessed: Vec<Entry>,
    pub(crate) wcu: f64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            keys_read: get(&self.keys_read),
            keys_acknowledged: get(&self.keys_acknowledged),
            unprocessed_retries: get(&self.unprocessed_retries),
            throttles: get(&self.throttles),
            rcu_milli: get(&self.rcu_milli),
            wcu_milli: get(&self.wcu_milli),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(u64::try_from(amount).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn add_capacity(counter: &AtomicU64, units: f64) {
        counter.fetch_add(milli(units), Ordering::Relaxed);
    }
}

/// Capacity units in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the type's range"
)]
pub(crate) fn milli(units: f64) -> u64 {
    (units * 1000.0).round().clamp(0.0, 1e15) as u64
}

impl Run {
    pub(crate) fn new(source: Source, request: Request, control: Control, common: Common, pin: Pin) -> Self {
        let now = control.clock.elapsed();
        let allowance = Allowance::new(&request, control.journal.clone());
        Self {
            source,
            in_flight: Arc::new(Semaphore::new(request.tuning.max_in_flight.max(1))),
            stop: Mutex::new(control.cancel.child_token()),
            request,
            control,
            share: common.share,
            slots: common.slots,
            lookout: common.lookout,
            totals: Counters::default(),
            counted: AtomicU64::default(),
            alphabet: Mutex::default(),
            allowance,
            verdict: Mutex::new(None),
            fenced: AtomicBool::new(false),
            failures: Failures::default(),
            item_wcu_milli: AtomicU64::new(1000),
            pulse: Pulse::new(now),
            pin,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.control.clock.elapsed()
    }

    /// What was done, earlier runs included.
    pub(crate) fn totals(&self) -> Totals {
        self.request.earlier + self.totals.snapshot()
    }

    /// The token that ends the present round.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.lock().clone()
    }

    /// Begins a round: forgets what ended the last one.
    pub(crate) fn begin_round(&self) {
        *self.stop.lock() = self.control.cancel.child_token();
        *self.verdict.lock() = None;
        self.failures.end();
    }

    /// Ends the round; the first verdict stands, except that a final one replaces a passing one.
    pub(crate) fn end_round(&self, verdict: Verdict) {
        let mut standing = self.verdict.lock();
        if !matches!(*standing, Some(Verdict::Final(_))) {
            *standing = Some(verdict);
        }
        drop(standing);
        self.stop.lock().cancel();
    }

    /// After a round that was ended by nothing, and left nothing, doubtful keys are either deleted or gone.
    pub(crate) fn settle_doubts(&self, left: &[Piece]) {
        if left.is_empty() && !self.stop.lock().is_cancelled() {
            self.allowance.swept();
        }
    }

    pub(crate) fn take_verdict(&self) -> Option<Verdict> {
        self.verdict.lock().take()
    }

    /// Whether the caller, or the fence, wants the run to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.fenced.load(Ordering::Relaxed) || self.control.cancel.is_cancelled()
    }

    /// Judges a failed request: whether to try it again (`true`), or whether the round ends.
    pub(crate) fn survives(&self, problem: &Problem) -> bool {
        if self.note_throttle(problem) {
            return true;
        }
        if problem.is_passing() {
            let enough = self.failures.add(self.now());
            if enough {
                self.end_round(Verdict::Passing(problem.clone()));
            }
            return !enough;
        }
        self.end_round(Verdict::Final(problem.clone().into_failure(&self.request.table)));
        false
    }

    pub(crate) fn note_success(&self) {
        self.failures.end();
    }

    /// Counts and shows a request that was refused for lack of capacity; `false` if `problem` is another one.
    pub(crate) fn note_throttle(&self, problem: &Problem) -> bool {
        let Kind::Throttled(bottleneck) = &problem.kind else {
            return false;
        };
        let capacity = match problem.operation {
            "BatchWriteItem" => Capacity::Write,
            _ => Capacity::Read,
        };
        Counters::add(&self.totals.throttles, 1);
        self.pulse.refuse(capacity, bottleneck.as_ref(), self.now());
        true
    }

    /// A place among the requests in flight. `None` cannot happen as long as the run exists.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).acquire_owned().await.ok()
    }

    /// WCU that deleting an item takes, as answers showed it.
    pub(crate) fn wcu_per_key(&self) -> f64 {
        thousandths(self.item_wcu_milli.load(Ordering::Relaxed))
    }

    /// Takes what the plan knows about the items for true until answers show more.
    pub(crate) fn expect_wcu_per_key(&self, milli: u64) {
        self.item_wcu_milli.store(milli.max(1), Ordering::Relaxed);
    }

    /// The job's limit of WCU per second as it is now.
    pub(crate) fn wcu_limit(&self) -> Option<u32> {
        if sabotage::active(sabotage::IGNORE_BUDGET) {
            return None;
        }
        *self.control.max_wcu.borrow()
    }

    /// Keeps of `entries` what the limits of the job allow to be sent now, and returns the others. With none left, and
    /// nothing under way that might come back, the round ends for good.
    pub(super) fn claim(&self, entries: &mut Vec<Entry>, wcu_per_key: f64) -> (Vec<Entry>, Option<Denial>) {
        let (refused, why) = self.allowance.claim(entries, wcu_per_key);
        if let Some(Denial::Exhausted(limit)) = why
            && entries.is_empty()
        {
            self.end_round(Verdict::Final(Failure::terminal(
                Reason::LimitExceeded,
                format!("the deletion stopped at `{limit}` with items left in the partition; raise the limit in another DdbctlDpJob to go on"),
            )));
        }
        (refused, why)
    }

    /// Returns when what is reserved after number `seen` is written, or may be asked for.
    pub(crate) async fn until_written(&self, seen: u64) {
        tokio::select! {
            () = self.allowance.written_after(seen) => {}
            () = self.control.clock.sleep(INTERVAL) => {}
        }
    }

    /// Whether the table was seen recently enough to write to it.
    pub(crate) fn knows_the_table(&self) -> bool {
        !self.pin.is_stale()
    }

    /// Sends one batch. The fence and the pin are asked immediately before, and once more as the bytes leave; `Err(None)`
    /// means that nothing was sent.
    pub(crate) async fn send(&self, entries: Vec<Entry>) -> (Vec<Entry>, Result<Answer, Option<Problem>>) {
        if self.is_fenced() || !self.knows_the_table() {
            return (entries, Err(self.withheld()));
        }
        let table = &self.source.table().name;
        let request = self
            .source
            .client()
            .batch_write_item()
            .request_items(
                table,
                entries
                    .iter()
                    .filter_map(|entry| self.deletion(&entry.key))
                    .collect(),
            )
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let departure = Departure::new(Arc::clone(&self.control.fence), self.pin.clone());
        let output = match request.customize().interceptor(departure.clone()).send().await {
            Ok(output) => output,
            Err(_) if departure.refused() => return (entries, Err(self.withheld())),
            Err(error) => return (entries, Err(Some(classify("BatchWriteItem", &error)))),
        };
        let wcu = output
            .consumed_capacity()
            .iter()
            .filter_map(aws_sdk_dynamodb::types::ConsumedCapacity::capacity_units)
            .sum::<f64>();
        let unprocessed = output
            .unprocessed_items()
            .and_then(|tables| tables.values().next())
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(|write| write.delete_request())
            .filter_map(|delete| self.source.read_key(delete.key()))
            .collect::<Vec<Key>>();
        let (unprocessed, acknowledged): (Vec<_>, Vec<_>) = if unprocessed.is_empty() {
            (Vec::new(), entries)
        } else {
            entries
                .into_iter()
                .partition(|entry| unprocessed.contains(&entry.key))
        };
        (
            Vec::new(),
            Ok(Answer {
                acknowledged,
                unprocessed,
                wcu,
            }),
        )
    }

    fn is_fenced(&self) -> bool {
        !(self.control.fence)() && !sabotage::active(sabotage::IGNORE_FENCE)
    }

    /// Nothing was sent, and there is no problem to tell. If that is because the lease is lost, the round ends; a table
    /// that was not seen for a while is being looked at.
    fn withheld(&self) -> Option<Problem> {
        if self.is_fenced() {
            self.fenced.store(true, Ordering::Relaxed);
            self.stop.lock().cancel();
        }
        None
    }

    fn deletion(&self, key: &Key) -> Option<WriteRequest> {
        let primary: HashMap<String, AttributeValue> = self.source.primary_key(key);
        let delete = DeleteRequest::builder().set_key(Some(primary)).build().ok()?;
        Some(WriteRequest::builder().delete_request(delete).build())
    }

    /// Adds what an answer says to totals and rates.
    pub(crate) fn record(&self, answer: &Answer) {
        let acknowledged = answer.acknowledged.len();
        Counters::add(&self.totals.keys_acknowledged, acknowledged);
        Counters::add(&self.totals.unprocessed_retries, answer.unprocessed.len());
        Counters::add_capacity(&self.totals.wcu_milli, answer.wcu);
        self.pulse.deleted(as_f64(acknowledged), answer.wcu, self.now());
        if acknowledged > 0 && answer.wcu > 0.0 {
            let seen = milli(answer.wcu / as_f64(acknowledged)).max(1);
            let before = self.item_wcu_milli.load(Ordering::Relaxed);
            self.item_wcu_milli
                .store((before * 7 + seen) / 8, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of keys are far below 2^52")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "capacity of one item is far below 2^52"
)]
fn thousandths(milli: u64) -> f64 {
    (milli.max(1) as f64) / 1000.0
}

#[cfg(test)]
mod tests;
