//! Deadlines that come while a job waits for another attempt.
//!
//! The framework draws how long it waits after a failure; that may be minutes longer than what is left of
//! `activeDeadlineSeconds`. So a task beside the job's own does nothing but end in time, which wakes the job.

use std::time::Duration;

use dynamodb_api::DdbctlDpJob;
use reconcile::{Pass, task::TaskId};

use super::{JobTasks, step::TaskOutput};

/// Wakes the job of this pass in `left` at the latest. Setting it again for the same moment changes nothing.
pub(super) fn set(tasks: &JobTasks, pass: &Pass<DdbctlDpJob>, left: Duration) {
    let rings = pass.clock().now() + left;
    let id = TaskId {
        uid: name(&pass.uid()),
        key: pass.key().clone(),
        // To the second: the moment is counted anew in each pass.
        spec_hash: rings.as_second().unsigned_abs(),
    };
    tasks.clear(&id.uid);
    tasks.start(&id, move |context| async move {
        tokio::select! {
            () = context.cancel.cancelled() => {}
            () = context.clock.sleep(left) => {}
        }
        Ok(TaskOutput::Interrupted)
    });
}

/// There is nothing to be woken for any more.
pub(super) fn clear(tasks: &JobTasks, uid: &str) {
    let name = name(uid);
    tasks.stop(&name);
    tasks.clear(&name);
}

/// The name of the task, which no object has.
fn name(uid: &str) -> String {
    format!("{uid}/deadline")
}
