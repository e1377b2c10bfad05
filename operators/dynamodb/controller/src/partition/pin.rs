//! Since when it is known that the table is still the one that the run began with.
//!
//! DynamoDB deletes by the table's name, and has no precondition on which table of that name it is. So the table is
//! looked at again and again, and nothing is sent on a look that is too old, whatever the reason: the looks fail, or
//! hang, or this process stood still, or the whole host did. Runs that see the same table in the same way share their
//! looks ([`super::lookout`]); each judges for itself what they show, and how old it is.

use std::{sync::Arc, time::Duration};

use dynamodb_api::Reason;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;

use super::{
    lookout::{Look, Outcome, unseen},
    moment::Moment,
    run::{Run, Verdict},
    table,
};
use crate::sabotage;

/// How often the table is looked at while items are deleted from it.
const INTERVAL: Duration = Duration::from_secs(2);

/// The oldest look on which anything is sent: longer than from the beginning of one look to the end of the next, if neither
/// takes more than a second and a half.
const LONGEST: Duration = Duration::from_secs(5);
/// After so long without a look the round is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// When the table was last seen. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pin(Arc<Mutex<Moment>>);

impl Pin {
    /// The table was seen by a look that began at `began`.
    pub(crate) fn new(began: Moment) -> Self {
        Self(Arc::new(Mutex::new(began)))
    }

    /// The table was seen by a look that began at `began`.
    fn confirm(&self, began: Moment) {
        let mut seen = self.0.lock();
        if began.is_after(*seen) {
            *seen = began;
        }
    }

    /// Whether the table was last seen by a look that began before `began`.
    fn is_older(&self, began: Moment) -> bool {
        began.is_after(*self.0.lock())
    }

    fn age(&self) -> Duration {
        self.0.lock().age()
    }

    /// Whether the table may be another one by now: nothing may be sent.
    pub(crate) fn is_stale(&self) -> bool {
        self.age() > LONGEST && !sabotage::active(sabotage::FORGET_TABLE_ID_PIN)
    }

    /// Whether looking again has failed for so long that the round should end.
    fn is_lost(&self) -> bool {
        self.age() > PATIENCE
    }
}

/// Whether the table is the one that the run began with, and usable, by a look that begins from now on.
pub(crate) async fn same_table(run: &Run) -> Result<(), Verdict> {
    let look = run.lookout.look(|| sight(run)).await;
    judge(run, look)
}

fn sight(run: &Run) -> BoxFuture<'static, Outcome> {
    let (client, name) = (run.source.client().clone(), run.request.table.clone());
    async move { table::sight(&client, &name).await }.boxed()
}

/// What a look means for this run.
fn judge(run: &Run, look: Look) -> Result<(), Verdict> {
    let name = &run.request.table;
    let seen = look.outcome.map_err(|problem| {
        if problem.is_passing() {
            Verdict::Passing(problem)
        } else {
            Verdict::Final(problem.into_failure(name))
        }
    })?;
    seen.confirm(name, &run.source.table().id)
        .map_err(Verdict::Final)?;
    run.pin.confirm(look.began);
    Ok(())
}

/// What ended a round, seen closer: while a table is dropped and made again, requests find none.
pub(crate) async fn missing_or_replaced(run: &Run, verdict: Verdict) -> Verdict {
    match &verdict {
        Verdict::Final(failure) if failure.reason == Reason::TableNotFound => match same_table(run).await {
            Err(closer) => closer,
            // The same table is there all the same: another round will show.
            Ok(()) => Verdict::Passing(unseen(failure.message.clone())),
        },
        _ => verdict,
    }
}

/// Looks at the table again and again; returns when the round has been ended for what was seen. All runs that share
/// their looks do so at the same time, since each waits until the last look is an interval ago.
pub(crate) async fn watch_table(run: &Run) {
    let clock = &run.control.clock;
    // Somebody may have thought for long between the plan and the deletion.
    let mut ago = run.pin.age();
    loop {
        let ago_here = ago.saturating_mul(clock.speed());
        clock.sleep(INTERVAL.saturating_sub(ago_here)).await;
        let look = run.lookout.glance(INTERVAL / clock.speed(), || sight(run)).await;
        ago = look.ended.age();
        // A look that began before may have been at a table which this run never knew.
        if !run.pin.is_older(look.began) {
            continue;
        }
        match judge(run, look) {
            Err(Verdict::Passing(_)) if !run.pin.is_lost() => {}
            Err(verdict) => return run.end_round(verdict),
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_suspended_has_seen_nothing_meanwhile() {
        let began = Moment::now();
        assert!(!Pin::new(began).is_stale());
        let pin = Pin::new(began.suspended_since());
        assert!(pin.is_stale() && pin.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_too_old_after_seconds_and_an_older_one_does_not_take_its_place() {
        let early = Moment::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let pin = Pin::new(Moment::now());
        pin.confirm(early);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!pin.is_stale(), "the later look counts");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(pin.is_stale() && !pin.is_lost());
    }
}
