//! What to do next for a job: a pure function of what was asked, what is recorded, and what the task says.

use std::time::Duration;

use dynamodb_api::{ConditionType, DdbctlDpJobStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use reconcile::{
    Class,
    conditions::{self, ConditionStatus},
    task::{Ended, TaskState},
};

use super::{idle::Told, job::Job};
use crate::partition::{End, Failure, Landmarks};

/// What a task of a job returns.
pub type Output = Result<TaskOutput, Failure>;

/// What a task of a job returns when it did not fail.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskOutput {
    /// The measuring task: what it found.
    Measured(Box<Measured>),
    /// The deleting task: how it ended.
    Deleted(End),
    /// The task was told to stop before it deleted anything.
    Interrupted,
}

/// What is recorded, as intent, before anything is deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// DynamoDB's id of the table: another table of the name is refused from now on.
    pub table_id: String,
    /// The table's keys.
    pub key_schema: dynamodb_api::KeySchema,
    /// What the deletion is going to take.
    pub plan: dynamodb_api::DeletionPlan,
    /// Where the items lie. Not recorded: it only makes the deletion faster that this process begins.
    pub landmarks: Landmarks,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The job has ended; nothing is done any more.
    Leave,
    /// It ends now, successfully or not.
    Finish(Ending),
    /// Its task must stop first; its end wakes the job.
    Stop,
    /// At rest on request.
    Rest,
    /// Check the record of earlier runs, then measure the partition.
    Measure,
    /// Record the plan, then go on.
    Record(Box<Measured>),
    /// Record that the clock of the deadline starts again, then go on.
    Resume,
    /// Delete.
    Delete,
    /// The task works; look at it when it wakes us, or when the deadline comes.
    Watch {
        /// Time left until the deadline.
        deadline: Option<Duration>,
    },
    /// The task failed for a passing reason, or for one that a person must mend: report it and try again.
    Retry(Failure),
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Whether it did what it was for.
    pub succeeded: bool,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Ending {
    /// It did what it was for.
    pub fn success(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            succeeded: true,
            reason,
            message: message.into(),
        }
    }

    /// It did not.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            succeeded: false,
            reason,
            message: message.into(),
        }
    }
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::failure(failure.reason, failure.message)
    }
}

/// Whether the status says that the job has ended.
pub fn has_ended(status: &DdbctlDpJobStatus) -> bool {
    let summary = conditions::find(&status.conditions, ConditionType::Succeeded.as_str());
    summary.is_some_and(|c| c.status != ConditionStatus::Unknown.as_str())
}

/// When the deadline's clock began to run: at the recorded start, or, before there is one, when the job was first seen
/// working. A suspension ends both.
fn started(status: &DdbctlDpJobStatus) -> Option<Timestamp> {
    let working = || {
        let suspended = conditions::find(&status.conditions, ConditionType::Suspended.as_str())?;
        (suspended.status == ConditionStatus::False.as_str()).then_some(suspended.last_transition_time.0)
    };
    status.start_time.as_ref().map(|start| start.0).or_else(working)
}

/// What is left of the job's deadline at `now`; nothing if it has none, or its clock does not run.
pub(super) fn remaining(job: &Job, status: &DdbctlDpJobStatus, now: Timestamp) -> Option<Duration> {
    let (limit, start) = job.deadline.zip(started(status))?;
    let elapsed = now.duration_since(start).max(SignedDuration::ZERO);
    Some(limit.saturating_sub(elapsed.unsigned_abs()))
}

/// How the job ends by what its task returned, if that ends it.
pub(super) fn ending(job: &Job, ended: &Ended<Output>) -> Option<Ending> {
    match after(job, ended)? {
        Step::Finish(ending) => Some(ending),
        _ => None,
    }
}

/// Decides the next step. `respecified` says that the task was started with other settings than the spec has now.
pub fn next(
    job: &Job,
    status: &DdbctlDpJobStatus,
    task: Option<&TaskState<Told, Output>>,
    now: Timestamp,
    respecified: bool,
) -> Step {
    if has_ended(status) {
        return Step::Leave;
    }
    let begun = status.plan.is_some();
    let expired = !begun && job.not_after.is_some_and(|limit| now > limit);
    let runs = matches!(task, Some(TaskState::Running(_) | TaskState::Stopping(_)));
    let mut failed = None;
    if let Some(TaskState::Finished(_, ended)) = task {
        match after(job, ended) {
            // What would be tried again is not, if that is no longer wanted.
            Some(Step::Retry(failure)) => failed = Some(failure),
            // A plan is no reason to begin late.
            Some(Step::Record(_)) if expired => {}
            // It failed by settings that were changed meanwhile; if they were not the cause, the next one fails as well.
            Some(Step::Finish(ending)) if respecified && !ending.succeeded => {}
            // What a task has achieved counts, whatever was asked meanwhile.
            Some(step) => return step,
            None => {}
        }
    }
    let end = |ending: Ending| if runs { Step::Stop } else { Step::Finish(ending) };
    if job.cancel {
        return end(Ending::failure(
            Reason::Cancelled,
            "cancelled by `spec.cancel`; what was deleted stays deleted",
        ));
    }
    if expired {
        return end(Ending::failure(
            Reason::Expired,
            "`notAfter` had passed before the job began; nothing was deleted. Create another DdbctlDpJob if it is still wanted",
        ));
    }
    if job.suspend {
        return if runs { Step::Stop } else { Step::Rest };
    }
    if begun && conditions::is_true(&status.conditions, ConditionType::Suspended.as_str()) {
        return Step::Resume;
    }
    let remaining = remaining(job, status, now);
    if remaining.is_some_and(|left| left.is_zero()) {
        return end(Ending::failure(
            Reason::DeadlineExceeded,
            format!(
                "`activeDeadlineSeconds` passed before the {} was empty; what was deleted stays deleted",
                job.extent()
            ),
        ));
    }
    // Other settings may do what these did not: no reason to wait.
    if let Some(failure) = failed.filter(|_| !respecified) {
        return Step::Retry(failure);
    }
    match (runs, begun) {
        // What it was started with is no longer what is asked for.
        (true, _) if respecified => Step::Stop,
        (true, _) => Step::Watch { deadline: remaining },
        (false, false) => Step::Measure,
        (false, true) => Step::Delete,
    }
}

/// What follows from the end of a task; nothing if it was interrupted.
fn after(job: &Job, ended: &Ended<Output>) -> Option<Step> {
    let output = match ended {
        Ended::Returned(output) => output.as_ref().clone(),
        Ended::Panicked(message) => Err(Failure {
            class: Class::Transient,
            reason: Reason::Retrying,
            message: format!("the deletion stopped on an internal error ({message}); it is tried again"),
        }),
    };
    match output {
        Ok(TaskOutput::Measured(measured)) => Some(Step::Record(measured)),
        Ok(TaskOutput::Deleted(End::Empty)) => Some(Step::Finish(empty(job))),
        Ok(TaskOutput::Deleted(End::Planned)) => Some(Step::Finish(dry_run_done())),
        Ok(TaskOutput::Deleted(End::Interrupted) | TaskOutput::Interrupted) => None,
        Err(failure) if failure.class == Class::Terminal => Some(Step::Finish(failure.into())),
        Err(failure) => Some(Step::Retry(failure)),
    }
}

fn empty(job: &Job) -> Ending {
    Ending::success(
        Reason::PartitionEmpty,
        format!(
            "a strongly consistent read found nothing left in the {} of table {}",
            job.extent(),
            job.target.table_name
        ),
    )
}

/// The end of a job that was recorded with this reason.
pub(super) fn recorded(job: &Job, reason: Reason) -> Ending {
    if reason == Reason::PartitionEmpty {
        return empty(job);
    }
    Ending::failure(
        reason,
        "the job ended so, and the operator that ended it went before it could tell more; what was deleted stays deleted",
    )
}

/// The end of a dry run.
pub fn dry_run_done() -> Ending {
    Ending::success(
        Reason::DryRunCompleted,
        "the plan stands in `status.plan`; nothing was deleted",
    )
}

#[cfg(test)]
mod tests;
