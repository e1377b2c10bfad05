//! The right to send one batch: write capacity, reserved at the moment of asking, and a place among the requests in
//! flight.
//!
//! # Guarantees
//! - Nobody is admitted on capacity that another was admitted on: asking and reserving are one step.
//! - What was reserved and not used is given back, also when an admission is dropped unused. What may have been used
//!   (the answer was lost) is not.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{
    budget::Refusal,
    pace::{Pace, Signal},
    run::{BATCH, Run, as_f64},
};

/// No wait lasts longer than this without looking again: limits may have changed, or the table was seen again.
const RECHECK: Duration = Duration::from_millis(250);
/// A batch is worth at most so many seconds of its range's rate: one that is worth more would leave the range silent
/// for longer, and nobody would learn meanwhile that more is granted.
const PACED_SECONDS: f64 = 0.5;

/// The right to send one batch.
#[derive(Debug)]
pub(crate) struct Admission {
    run: Arc<Run>,
    pace: Arc<Mutex<Pace>>,
    permit: Option<OwnedSemaphorePermit>,
    keys: usize,
    wcu_per_key: f64,
    reserved: f64,
}

/// How a batch ended, as far as capacity is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Used {
    /// DynamoDB answered and used so many WCU.
    Answered(f64, Signal),
    /// Throttled whole.
    Refused(Refusal),
    /// It may have been carried out or not.
    Unknown,
    /// It was not sent, or refused for another reason than capacity.
    Nothing,
}

impl Admission {
    /// Waits until a batch of this pace may be sent: a table that is known and capacity first, then a place among the requests in flight.
    /// `None` when the round ends meanwhile.
    pub(crate) async fn wait(
        run: Arc<Run>,
        pace: Arc<Mutex<Pace>>,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let mut admission = loop {
            match Self::attempt(&run, &pace) {
                Ok(admission) => break admission,
                Err(wait) => tokio::select! {
                    () = stop.cancelled() => return None,
                    () = run.control.clock.sleep(wait.min(RECHECK)) => {}
                },
            }
        };
        let permit = tokio::select! {
            () = stop.cancelled() => return None,
            permit = run.place() => permit?,
        };
        admission.permit = Some(permit);
        Some(admission)
    }

    fn attempt(run: &Arc<Run>, pace: &Arc<Mutex<Pace>>) -> Result<Self, Duration> {
        if !run.knows_the_table() {
            return Err(RECHECK);
        }
        let (now, limit, wcu_per_key) = (run.now(), run.wcu_limit(), run.wcu_per_key());
        let mut own = pace.lock();
        let wait = own.wait(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        let paced = own.rate().map(|rate| rate * PACED_SECONDS);
        let worth = [limit.map(f64::from), paced].into_iter().flatten();
        let keys = batch_size(worth.fold(f64::INFINITY, f64::min), wcu_per_key);
        let reserved = as_f64(keys) * wcu_per_key;
        run.share.try_reserve(limit, reserved, now)?;
        own.reserve(reserved);
        drop(own);
        Ok(Self {
            run: Arc::clone(run),
            pace: Arc::clone(pace),
            permit: None,
            keys,
            wcu_per_key,
            reserved,
        })
    }

    /// Keys that may be sent at most.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    /// WCU per key, as expected.
    pub(crate) fn wcu_per_key(&self) -> f64 {
        self.wcu_per_key
    }

    /// Only so many keys are going to be sent; what they do not need is given back.
    pub(crate) fn narrow(&mut self, keys: usize) {
        let needed = as_f64(keys) * self.wcu_per_key;
        self.give_back(self.reserved - needed);
        (self.keys, self.reserved) = (keys, needed);
    }

    /// Accounts for how the batch ended.
    pub(crate) fn settle(mut self, used: Used, now: Duration) {
        let reserved = std::mem::take(&mut self.reserved);
        let share = &self.run.share;
        match used {
            Used::Answered(consumed, signal) => {
                // Keys that are handed back come without a reason.
                let refusal = (signal != Signal::Clean).then_some(Refusal::Unnamed);
                let excused = share.settle(reserved, consumed, refusal, now);
                let signal = if excused { Signal::Excused } else { signal };
                self.pace.lock().settle(reserved, consumed, signal, now);
            }
            Used::Refused(refusal) => {
                let excused = share.settle(reserved, 0.0, Some(refusal), now);
                let signal = if excused { Signal::Excused } else { Signal::Refused };
                self.pace.lock().settle(reserved, 0.0, signal, now);
            }
            Used::Unknown => {}
            Used::Nothing => self.give_back(reserved),
        }
    }

    fn give_back(&self, wcu: f64) {
        self.pace.lock().reserve(-wcu);
        self.run.share.give_back(wcu);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.give_back(self.reserved);
    }
}

/// Keys for one batch that may cost this much.
fn batch_size(worth: f64, wcu_per_key: f64) -> usize {
    (1..BATCH)
        .find(|keys| as_f64(*keys + 1) * wcu_per_key > worth)
        .unwrap_or(BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_makes_small_batches() {
        assert_eq!(batch_size(f64::INFINITY, 1.0), 25);
        assert_eq!(batch_size(1000.0, 1.0), 25);
        assert_eq!(batch_size(10.0, 1.0), 10);
        assert_eq!(batch_size(1.0, 1.0), 1);
        assert_eq!(batch_size(1.0, 400.0), 1);
    }
}
