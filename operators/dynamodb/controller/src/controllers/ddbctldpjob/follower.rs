//! Follows a run and tells its job how far it is.

use std::{sync::Arc, time::Duration};

use reconcile::task::TaskContext;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    idle::{self, IdleRounds, Told},
    step::{Output, TaskOutput},
};
use crate::{
    metrics::JobMetrics,
    partition::{End, Failure, Progress, Reservation, Totals},
};

/// How often a job with `limits`, whose reservations wake it far more often, is told how far it is.
const LIMITED_INTERVAL: Duration = Duration::from_secs(1);

/// Drives a run and passes its progress on to the job: at once when the stage changes, else at the tasks' pace. What a
/// run with limits wants to be written down is passed on at once.
pub(super) struct Follower<'a> {
    pub(super) context: &'a TaskContext<Told>,
    pub(super) metrics: Option<&'a JobMetrics>,
    pub(super) idle: IdleRounds,
    /// `backoffLimit`.
    pub(super) limit: u32,
    /// What is to be written down, for a job with `limits`.
    pub(super) to_write: Option<watch::Receiver<Reservation>>,
    pub(super) table: String,
    /// Ends the run.
    pub(super) cancel: CancellationToken,
    /// How far the run is.
    pub(super) last: Progress,
    /// What the job knows.
    pub(super) told: Told,
    /// Since when, on the clock of the task.
    pub(super) told_at: Duration,
}

impl Follower<'_> {
    pub(super) async fn follow(
        mut self,
        run: impl Future<Output = Output>,
        mut seen: watch::Receiver<Progress>,
    ) -> Output {
        tokio::pin!(run);
        let mut failure = None;
        let mut to_write = self.to_write.clone();
        loop {
            tokio::select! {
                biased;
                output = &mut run => {
                    let progress = seen.borrow().clone();
                    self.told.reservation = to_write.as_ref().and_then(wanted);
                    self.told_at = Duration::ZERO;
                    self.pass_on(progress);
                    return match (output, failure) {
                        // What it had in flight is accounted for; it ended because it was told to.
                        (Ok(TaskOutput::Deleted(End::Interrupted) | TaskOutput::Interrupted), Some(failure)) => {
                            Err(failure)
                        }
                        (output, _) => output,
                    };
                }
                Ok(()) = seen.changed() => {
                    let progress = seen.borrow_and_update().clone();
                    if let Some(exceeded) = self.pass_on(progress) {
                        self.cancel.cancel();
                        failure.get_or_insert(exceeded);
                    }
                }
                () = changed(&mut to_write) => {
                    self.told.reservation = to_write.as_ref().and_then(wanted);
                    self.context.report_now(self.told.clone());
                }
            }
        }
    }

    /// Tells the job. Returns why the run must end if rounds without a deletion are too many by now.
    fn pass_on(&mut self, progress: Progress) -> Option<Failure> {
        if let Some(metrics) = self.metrics.filter(|_| progress.totals != Totals::default()) {
            metrics.advance(&self.last.totals, &progress.totals);
        }
        let idle_rounds = self.idle.see(&progress);
        let turned = progress.stage != self.last.stage;
        let now = self.context.clock.elapsed();
        let due = self.told_at.is_zero() || now.saturating_sub(self.told_at) >= LIMITED_INTERVAL;
        if turned || due || self.to_write.is_none() {
            self.told_at = now;
            self.told.run = progress.clone();
            self.told.idle_rounds = idle_rounds;
        }
        if turned {
            self.context.report_now(self.told.clone());
        } else {
            self.context.report(self.told.clone());
        }
        self.last = progress;
        idle::exceeded(idle_rounds, self.limit, &self.table, self.last.trouble.as_deref())
    }
}

/// What is to be written down, if anything is.
fn wanted(to_write: &watch::Receiver<Reservation>) -> Option<Arc<Reservation>> {
    let reservation = to_write.borrow();
    (reservation.number > 0).then(|| Arc::new(reservation.clone()))
}

/// Returns when there is something new to be written down.
async fn changed(to_write: &mut Option<watch::Receiver<Reservation>>) {
    if let Some(to_write) = to_write
        && to_write.changed().await.is_ok()
    {
        to_write.mark_unchanged();
        return;
    }
    std::future::pending::<()>().await;
}
