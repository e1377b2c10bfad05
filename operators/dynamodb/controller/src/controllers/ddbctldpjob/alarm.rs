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
    tasks.abandon(&name(uid));
}

/// The name of the task, which no object has.
fn name(uid: &str) -> String {
    format!("{uid}/deadline")
}

#[cfg(test)]
mod tests {
    use reconcile::{clock::Clock, key::ObjectKey, task::Tasks};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_that_is_gone_leaves_no_alarm_behind() {
        let tasks: JobTasks = Tasks::new(Clock::system(), Duration::from_secs(5));
        let id = TaskId {
            uid: name("uid"),
            key: ObjectKey::new("ns", "x"),
            spec_hash: 1,
        };
        tasks.start(&id, |context| async move {
            context.cancel.cancelled().await;
            Ok(TaskOutput::Interrupted)
        });
        clear(&tasks, "uid");
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            tasks.state(&id.uid).is_none(),
            "its end is kept for nobody to look at"
        );
    }
}
