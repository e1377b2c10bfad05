//! `DdbctlDpJob`: from a partition value to a partition that is proven empty.
//!
//! # Expected flow
//! 1. The spec is parsed and checked against what administrators allow; the record of earlier runs is looked at.
//! 2. A task measures the partition. Nothing is deleted yet.
//! 3. Plan, table id and start time are written as intent: from here on the job "has begun".
//!    Before anything is deleted, the record is looked at again: what an operator that went has ended ends so.
//! 4. A task deletes; its progress wakes the job, which shows it in the status, every few seconds.
//! 5. The engine's strongly consistent read found nothing left: the run is recorded, then `Succeeded` becomes True. Any
//!    other end, after something was deleted, is recorded as well.
//!
//! # Guarantees
//! - `Succeeded=True` means that the partition was seen empty after the last deletion (or, for a dry run, that the plan
//!   is complete); it never turns back.
//! - No round begins on a table with another id than the recorded one; one that takes its place is noticed in seconds.
//! - What a replica sees of a job through its watch alone is never acted on: a watch may stand still while another
//!   replica ends the job, and who takes over then would begin it again. It is read live first.
//! - A crash at any point costs at most what was read since: deleted items are not read again, totals lag by the
//!   seconds since the last status write.
//! - `limits` are kept over crashes as well: what is about to be deleted is written down before.
//! - Deleting the object, suspending and cancelling await the requests in flight, and no back-off.

mod alarm;
mod ending;
mod error;
mod follower;
mod idle;
mod intent;
mod job;
mod live;
mod notice;
mod report;
mod rerun;
mod run;
mod signer;
pub mod step;

use std::{sync::Arc, time::Duration};

use dynamodb_api::DdbctlDpJob;
use reconcile::{
    Pass, Progress, Reconciler,
    error::ApiError,
    task::{TaskState, Tasks},
};

use self::{
    live::{Confirmed, is_live},
    report::News,
    step::{Ending, Output, Step},
};
use crate::{
    partition::Failure,
    policy::{self, Policy},
    sabotage,
};

pub use self::{
    error::JobError,
    idle::Told,
    job::{Job, invalid as refused},
    run::Runner,
};

/// How often progress is written to a status at most.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The tasks of the jobs.
pub type JobTasks = Tasks<Told, Output>;

/// Reconciles `DdbctlDpJob`s.
pub struct Jobs {
    policy: Policy,
    runner: Runner,
    tasks: JobTasks,
    confirmed: Confirmed,
}

impl Jobs {
    /// A reconciler that allows what `policy` allows. `tasks` must be supervised by its controller.
    pub fn new(policy: Policy, runner: Runner, tasks: JobTasks) -> Self {
        Self {
            policy,
            runner,
            tasks,
            confirmed: Confirmed::default(),
        }
    }

    /// Does what [`step::next`] says, until there is something to wait for. `refusal` is why nothing is begun or gone on
    /// with meanwhile.
    async fn advance(
        &self,
        job: &Job,
        refusal: Option<Failure>,
        object: &DdbctlDpJob,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        self.runner.tune(&pass.uid(), job.max_wcu);
        // Each turn changes what the next one sees; there are fewer than this many states.
        for _ in 0..8 {
            let status = pass.current().status.clone().unwrap_or_default();
            let task = self.tasks.state(&pass.uid());
            let hash = run::hash(job, &status);
            let respecified = self
                .tasks
                .spec_hash(&pass.uid())
                .is_some_and(|current| current != hash);
            match step::next(job, &status, task.as_ref(), pass.clock().now(), respecified) {
                Step::Leave => return Ok(self.leave(pass)),
                Step::Finish(ending) => return self.finish(job, &ending, pass).await,
                Step::Stop => {
                    self.tasks.stop(&pass.uid());
                    return self.watch(None, pass).await;
                }
                Step::Rest => {
                    self.show(&News::Resting, pass).await?;
                    self.tasks.clear(&pass.uid());
                    return Ok(Progress::Settled);
                }
                Step::Measure | Step::Resume | Step::Delete if let Some(refusal) = &refusal => {
                    self.show(&News::Failing(refusal), pass).await?;
                    return Err(refusal.clone().into());
                }
                // What was done is told; whoever comes next begins.
                Step::Measure | Step::Delete if self.tasks.is_draining() => {
                    self.show(&News::Accepted, pass).await?;
                    return Ok(Progress::Settled);
                }
                Step::Measure => return self.begin(job, object, pass).await,
                Step::Delete => {
                    // Deleting begins only for a job that is, at this moment, what the cache says it is.
                    if !is_live(object, pass).await? {
                        return Ok(Progress::waiting(AFTER_A_CHANGE));
                    }
                    return self.begin(job, object, pass).await;
                }
                Step::Record(measured) => {
                    intent::begin(&measured, pass).await?;
                    self.runner.remember(&pass.uid(), &measured);
                    pass.event(notice::planned(job, &measured)).await;
                    self.tasks.clear(&pass.uid());
                    if job.is_dry_run() {
                        return self.finish(job, &step::dry_run_done(), pass).await;
                    }
                }
                Step::Resume => {
                    intent::resume(&status, pass).await?;
                    self.show(&News::Accepted, pass).await?;
                }
                Step::Watch { deadline } => return self.watch(deadline, pass).await,
                Step::Retry(failure)
                    if signer::were_renewed(&failure, job, pass, &self.policy, &self.runner).await =>
                {
                    // What the task did is the status's to keep.
                    self.show(&News::Accepted, pass).await?;
                    self.tasks.clear(&pass.uid());
                }
                Step::Retry(failure) => {
                    self.show(&News::Failing(&failure), pass).await?;
                    self.tasks.clear(&pass.uid());
                    return Err(failure.into());
                }
            }
        }
        Ok(Progress::waiting(PROGRESS_INTERVAL))
    }

    /// The spec can never work. A task that runs for an earlier spec is stopped first.
    async fn refuse(
        &self,
        failure: Failure,
        job: Option<&Job>,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        if step::has_ended(&pass.current().status.clone().unwrap_or_default()) {
            return Ok(self.leave(pass));
        }
        if self.tasks.stop(&pass.uid()) {
            return Ok(Progress::waiting(PROGRESS_INTERVAL));
        }
        let ending = Ending::from(failure);
        if let Some(job) = job {
            return self.finish(job, &ending, pass).await;
        }
        self.show(&News::Ended(&ending), pass).await?;
        Ok(self.leave(pass))
    }

    /// Begins the job's phase, unless the record says that the job has ended.
    async fn begin(
        &self,
        job: &Job,
        object: &DdbctlDpJob,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        if let Some(ending) = ending::before(job, object, pass).await? {
            return self.finish(job, &ending, pass).await;
        }
        self.start(job, pass).await?;
        self.watch(job.deadline, pass).await
    }

    /// Starts the task of the job's phase: measuring before the plan is recorded, deleting after.
    async fn start(&self, job: &Job, pass: &Pass<DdbctlDpJob>) -> Result<(), JobError> {
        let credentials = match signer::of(job, pass, &self.policy, &self.runner).await {
            Ok(credentials) => credentials,
            Err(JobError::Run(failure)) => {
                self.show(&News::Failing(&failure), pass).await?;
                return Err(failure.into());
            }
            Err(error) => return Err(error),
        };
        if self.tasks.state(&pass.uid()).is_some() {
            // What the task before did is the status's to keep: the new one counts from there.
            self.show(&News::Accepted, pass).await?;
            self.tasks.clear(&pass.uid());
        }
        if !job.has_limits() {
            intent::drop_allowance(pass).await?;
        }
        let status = pass.current().status.clone().unwrap_or_default();
        self.runner.start(&self.tasks, job, &status, credentials, pass);
        Ok(())
    }

    /// Shows what the task does, and looks again when it wakes the job or the deadline comes.
    async fn watch(
        &self,
        deadline: Option<Duration>,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        match self.tasks.state(&pass.uid()) {
            Some(TaskState::Running(told)) => self.show(&News::Working(&told.run), pass).await?,
            Some(TaskState::Stopping(_)) => self.show(&News::Stopping, pass).await?,
            // It ended meanwhile; its end has woken the job.
            Some(TaskState::Finished(..)) | None => {}
        }
        Ok(deadline.map_or(Progress::Settled, Progress::waiting))
    }

    fn leave(&self, pass: &Pass<DdbctlDpJob>) -> Progress {
        self.tasks.stop(&pass.uid());
        self.tasks.clear(&pass.uid());
        self.forget(&pass.uid());
        Progress::Settled
    }

    /// Writes the status, if it differs, and tells of transitions.
    async fn show(&self, news: &News<'_>, pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
        let object = pass.current();
        let before = object.status.clone().unwrap_or_default();
        let told = told(self.tasks.state(&pass.uid()));
        intent::reserve(told.as_ref(), &self.runner, pass).await?;
        let target = job::target(&object.spec);
        let mut after = report::status(
            &before,
            told.as_ref(),
            news,
            object.metadata.generation,
            pass.clock().now(),
        );
        after.target = target.or(after.target);
        if pass.write_status(&after).await? {
            for notice in notice::of(&before, &after) {
                pass.event(notice).await;
            }
        }
        Ok(())
    }
}

/// When a job is looked at again that has changed under a pass.
const AFTER_A_CHANGE: Duration = Duration::from_millis(100);

/// What a task has told so far.
fn told(task: Option<TaskState<Told, Output>>) -> Option<Told> {
    match task? {
        TaskState::Running(told) | TaskState::Stopping(told) | TaskState::Finished(told, _) => Some(told),
    }
}

/// Whether the job's plan stands: deleting may have begun under other flags of the operator, and is not ended by them.
fn has_begun(pass: &Pass<DdbctlDpJob>) -> bool {
    let object = pass.current();
    object.status.as_ref().is_some_and(|status| status.plan.is_some())
}

impl Reconciler for Jobs {
    type Kind = DdbctlDpJob;
    type Error = JobError;
    const NAME: &'static str = "ddbctldpjob";
    const FINALIZER: Option<&'static str> = Some("dynamoctl.dp.operators.sanjivmadhavan.io/finalizer");
    const INTENT_FIELDS: &'static [&'static str] = intent::FIELDS;

    async fn apply(&self, object: Arc<DdbctlDpJob>, pass: &Pass<DdbctlDpJob>) -> Result<Progress, JobError> {
        if !self.confirmed.holds(&object, pass).await? {
            return Ok(Progress::waiting(AFTER_A_CHANGE));
        }
        let job = match Job::parse(&object) {
            Ok(job) => job,
            Err(failure) => return self.refuse(failure, None, pass).await,
        };
        let mut refusal = self.policy.admit(&job, pass.key()).err();
        if !has_begun(pass)
            && let Some(failure) = refusal.take()
        {
            return self.refuse(policy::for_good(failure), Some(&job), pass).await;
        }
        let refusal = refusal.as_ref().map(policy::for_now);
        let outcome = self.advance(&job, refusal, &object, pass).await;
        if outcome.is_err() {
            // However long the wait for another attempt is, the deadline is kept. Once it has passed there is none to keep:
            // what fails then is the end itself.
            let status = pass.current().status.clone().unwrap_or_default();
            let left = step::remaining(&job, &status, pass.clock().now());
            if let Some(left) = left.filter(|left| !left.is_zero()) {
                alarm::set(&self.tasks, pass, left);
            }
        }
        outcome
    }

    /// Awaits the requests in flight, and tells what was done, since the status goes with the object. A task that came
    /// to its end unseen ends the job as ever, with its record: the object may be created again.
    async fn cleanup(
        &self,
        object: Arc<DdbctlDpJob>,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        self.tasks.stop(&pass.uid());
        let task = self.tasks.state(&pass.uid());
        if matches!(task, Some(TaskState::Running(_) | TaskState::Stopping(_)))
            && !sabotage::active(sabotage::RELEASE_IN_MID_RUN)
        {
            return Ok(Progress::waiting(PROGRESS_INTERVAL));
        }
        let status = pass.current().status.clone().unwrap_or_default();
        if step::has_ended(&status) {
            return Ok(self.leave(pass));
        }
        let Ok(job) = Job::parse(&object) else {
            return Ok(self.leave(pass));
        };
        if let Some(TaskState::Finished(_, ended)) = &task
            && let Some(ending) = step::ending(&job, ended)
        {
            return self.finish(&job, &ending, pass).await;
        }
        if status.plan.is_some() {
            // If the finalizer does not go this time, the task is not there the next: then the status has them.
            self.show(&News::Stopping, pass).await?;
            let totals = report::totals_now(&status, told(task).as_ref());
            pass.event(notice::deleted_in_mid_run(&totals)).await;
        }
        Ok(self.leave(pass))
    }

    fn forget(&self, uid: &str) {
        alarm::clear(&self.tasks, uid);
        self.runner.forget(uid);
        self.confirmed.forget(uid);
    }
}
