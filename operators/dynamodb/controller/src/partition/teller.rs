//! Telling how far a run is.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    request::{End, Finished, Progress, Stage},
    run::{Run, milli},
};

/// How often a run tells how it fares while it only reads.
const READING_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the progress, and counts the rounds.
pub(super) struct Teller {
    planned: Option<u64>,
    pub(super) round: u32,
    /// Rounds in a row that deleted nothing.
    pub(super) idle: u32,
    /// Keys acknowledged when the round began.
    before: u64,
    pub(super) trouble: Option<String>,
}

impl Teller {
    pub(super) fn new(planned: Option<u64>) -> Self {
        Self {
            planned,
            round: 0,
            idle: 0,
            before: 0,
            trouble: None,
        }
    }

    pub(super) fn interrupted(&self, run: &Run) -> Finished {
        Finished {
            end: End::Interrupted,
            totals: run.totals(),
            rounds: self.round,
        }
    }

    pub(super) fn begin_round(&mut self, run: &Run) {
        self.round += 1;
        self.before = run.totals.snapshot().keys_acknowledged;
    }

    /// A round in which DynamoDB was too busy to answer says nothing about whether the next one is worth it.
    pub(super) fn end_round(&mut self, run: &Run, throttled: bool) {
        let idle = self.idle(run);
        self.idle = if self.is_busy(run) || throttled {
            idle
        } else {
            idle + 1
        };
    }

    fn is_busy(&self, run: &Run) -> bool {
        run.totals.snapshot().keys_acknowledged > self.before
    }

    /// A deletion ends the row at once.
    fn idle(&self, run: &Run) -> u32 {
        if self.is_busy(run) { 0 } else { self.idle }
    }

    pub(super) fn tell(&self, run: &Run, stage: Stage) {
        let beat = run.pulse.beat(run.now());
        let progress = Progress {
            stage,
            round: self.round,
            idle_rounds: self.idle(run),
            totals: run.totals(),
            counted_items: None,
            planned_items: self.planned,
            items_per_second: milli(beat.items) / 1000,
            wcu_per_second: milli(beat.wcu) / 1000,
            throttled: beat.throttled,
            bottleneck: beat.bottleneck,
            trouble: self.trouble.clone(),
        };
        run.control.progress.send_if_modified(|told| {
            let changed = *told != progress;
            *told = progress;
            changed
        });
    }
}

/// Drives `reads`, which may take long, and tells meanwhile, and when they are over, what they took and what refuses
/// them. What was consumed counts also if they come to nothing.
pub(super) async fn while_reading<T>(run: &Run, reads: impl Future<Output = T>) -> T {
    tokio::pin!(reads);
    loop {
        tokio::select! {
            biased;
            result = &mut reads => {
                tell_reading(run);
                return result;
            }
            () = run.control.clock.sleep(READING_INTERVAL) => tell_reading(run),
        }
    }
}

fn tell_reading(run: &Run) {
    let (beat, totals) = (run.pulse.beat(run.now()), run.totals());
    let counted = run.counted.load(Ordering::Relaxed);
    run.control.progress.send_if_modified(|told| {
        let before = told.clone();
        told.totals = totals;
        (told.throttled, told.bottleneck) = (beat.throttled, beat.bottleneck);
        told.counted_items = (told.stage == Stage::Planning && counted > 0).then_some(counted);
        *told != before
    });
}
