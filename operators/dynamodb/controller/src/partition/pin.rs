//! Since when it is known that the table is still the one that the run began with.
//!
//! DynamoDB deletes by the table's name, and has no precondition on which table of that name it is. So the table is
//! looked at again and again, and nothing is sent on a look that is too old, whatever the reason: the looks fail, or
//! hang, or this process stood still.

use std::time::Duration;

use dynamodb_api::Reason;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    error::{Kind, Problem},
    run::{Run, Verdict},
    table::confirm,
};

/// How often the table is looked at while items are deleted from it.
const INTERVAL: Duration = Duration::from_secs(2);

/// The oldest look on which anything is sent.
const LONGEST: Duration = Duration::from_secs(5);
/// After so long without a look the round is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A look that takes longer is taken to hang.
const LOOK: Duration = Duration::from_secs(2);

/// When the table was last seen. Ages are real time, which no clock of a test hurries: they say how old an answer of
/// another machine is, and nobody waits for them.
#[derive(Debug)]
pub(crate) struct Pin(Mutex<Instant>);

impl Pin {
    /// The table was seen just now.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// The table was seen by a look that began at `began`.
    fn confirm(&self, began: Instant) {
        let mut seen = self.0.lock();
        *seen = (*seen).max(began);
    }

    /// Whether the table may be another one by now: nothing may be sent.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.lock().elapsed() > LONGEST
    }

    /// Whether looking again has failed for so long that the round should end.
    fn is_lost(&self) -> bool {
        self.0.lock().elapsed() > PATIENCE
    }
}

/// Whether the table is the one that the run began with, and usable.
pub(crate) async fn same_table(run: &Run) -> Result<(), Verdict> {
    let began = Instant::now();
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
