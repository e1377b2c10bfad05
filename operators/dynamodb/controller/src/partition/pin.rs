//! Since when it is known that the table is still the one that the run began with.
//!
//! DynamoDB deletes by the table's name, and has no precondition on which table of that name it is. So the table is
//! looked at again and again, and nothing is sent on a look that is too old, whatever the reason: the looks fail, or
//! hang, or this process stood still, or the whole host did.

use std::{sync::Arc, time::Duration};

use dynamodb_api::Reason;
use parking_lot::Mutex;
use reconcile::fence::BootTime;
use tokio::time::Instant;

use super::{
    error::{Kind, Problem},
    run::{Run, Verdict},
    table::confirm,
};
use crate::sabotage;

/// How often the table is looked at while items are deleted from it.
const INTERVAL: Duration = Duration::from_secs(2);

/// The oldest look on which anything is sent.
const LONGEST: Duration = Duration::from_secs(5);
/// After so long without a look the round is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A look that takes longer is taken to hang.
const LOOK: Duration = Duration::from_secs(2);

/// A moment of real time, which no clock of a test hurries: it says how old an answer of another machine is, and nobody
/// waits for it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// The time of the runtime, which may be virtual. Stands still while the host is suspended.
    instant: Instant,
    /// These two differ by how long the host was suspended: the first goes on then.
    boot: BootTime,
    steady: std::time::Instant,
}

impl Moment {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            boot: BootTime::now(),
            steady: std::time::Instant::now(),
        }
    }

    /// What has passed since, and what the host has slept through.
    fn age(self) -> Duration {
        let awake = self.steady.elapsed();
        let asleep = BootTime::now().saturating_since(self.boot).saturating_sub(awake);
        self.instant.elapsed() + asleep
    }
}

/// When the table was last seen. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pin(Arc<Mutex<Moment>>);

impl Pin {
    /// The table was seen just now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Moment::now())))
    }

    /// The table was seen by a look that began at `began`.
    fn confirm(&self, began: Moment) {
        let mut seen = self.0.lock();
        if began.instant > seen.instant || began.boot > seen.boot {
            *seen = began;
        }
    }

    /// Whether the table may be another one by now: nothing may be sent.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.lock().age() > LONGEST && !sabotage::active(sabotage::FORGET_TABLE_ID_PIN)
    }

    /// Whether looking again has failed for so long that the round should end.
    fn is_lost(&self) -> bool {
        self.0.lock().age() > PATIENCE
    }
}

/// Whether the table is the one that the run began with, and usable.
pub(crate) async fn same_table(run: &Run) -> Result<(), Verdict> {
    let began = Moment::now();
    let (client, table) = (run.source.client(), &run.request.table);
    let confirmed = confirm(client, table, &run.source.table().id);
    let confirmed = tokio::time::timeout(LOOK, confirmed).await;
    confirmed.unwrap_or_else(|_| Err(Verdict::Passing(passing(format!("no answer within {LOOK:?}")))))?;
    run.pin.confirm(began);
    Ok(())
}

/// What ended a round, seen closer: while a table is dropped and made again, requests find none.
pub(crate) async fn missing_or_replaced(run: &Run, verdict: Verdict) -> Verdict {
    match &verdict {
        Verdict::Final(failure) if failure.reason == Reason::TableNotFound => match same_table(run).await {
            Err(closer) => closer,
            // The same table is there all the same: another round will show.
            Ok(()) => Verdict::Passing(passing(failure.message.clone())),
        },
        _ => verdict,
    }
}

/// Looks at the table again and again; returns when the round has been ended for what was seen.
pub(crate) async fn watch_table(run: &Run) {
    // Somebody may have thought for long between the plan and the deletion.
    if !run.pin.is_stale() {
        run.control.clock.sleep(INTERVAL).await;
    }
    loop {
        match same_table(run).await {
            Err(Verdict::Passing(_)) if !run.pin.is_lost() => {}
            Err(verdict) => return run.end_round(verdict),
            Ok(()) => {}
        }
        run.control.clock.sleep(INTERVAL).await;
    }
}

fn passing(message: String) -> Problem {
    Problem {
        kind: Kind::Transient,
        operation: "DescribeTable",
        code: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_suspended_has_seen_nothing_meanwhile() {
        let pin = Pin::new();
        assert!(!pin.is_stale());
        // What a suspension looks like: one clock has moved, here since the machine was booted, the other has not.
        pin.0.lock().boot = BootTime::default();
        assert!(pin.is_stale() && pin.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_too_old_after_seconds_and_an_older_one_does_not_take_its_place() {
        let early = Moment::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let pin = Pin::new();
        pin.confirm(early);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!pin.is_stale(), "the later look counts");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(pin.is_stale() && !pin.is_lost());
    }
}
