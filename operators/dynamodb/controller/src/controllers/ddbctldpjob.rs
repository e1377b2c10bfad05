//! `DdbctlDpJob`: from a partition value to a partition that is proven empty.
//!
//! # Expected flow
//! 1. The spec is parsed and checked against what administrators allow; the record of earlier runs is looked at.
//! 2. A task measures the partition. Nothing is deleted yet.
//! 3. Plan, table id and start time are written as intent: from here on the job "has begun".
//! 4. A task deletes; its progress wakes the job, which shows it in the status, every few seconds.
//! 5. The engine's strongly consistent read found nothing left: the run is recorded, then `Succeeded` becomes True.
//!
//! # Guarantees
//! - `Succeeded=True` means that the partition was seen empty after the last deletion (or, for a dry run, that the plan
//!   is complete); it never turns back.
//! - No round begins on a table with another id than the recorded one; one that takes its place is noticed in seconds.
//! - A crash at any point costs at most what was read since: deleted items are not read again, totals lag by the
//!   seconds since the last status write.
//! - Deleting the object, suspending and cancelling await the requests in flight.

mod idle;
mod job;
mod notice;
mod report;
mod rerun;
mod run;
pub mod step;

use std::{sync::Arc, time::Duration};

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobStatus, Reason};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::Api;
use reconcile::{
    Class, Pass, Progress, ReconcileError, Reconciler,
    error::ApiError,
    task::{TaskState, Tasks},
};
use serde_json::json;

use self::{
    report::News,
    rerun::Records,
    step::{Ending, Measured, Output, Step},
};
use crate::{
    credentials::{self, Source},
    partition::Failure,
    policy::Policy,
    sabotage,
};

pub use self::{
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
}

/// A pass that did not get through.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A Kubernetes request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The task failed for a reason that may pass, or that a person must mend.
    #[error(transparent)]
    Run(#[from] Failure),
}

impl ReconcileError for JobError {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) => error.class(),
            Self::Run(failure) => failure.class,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::Run(failure) => failure.reason.as_str(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            Self::Run(_) => None,
        }
    }
}

impl Jobs {
    /// A reconciler that allows what `policy` allows. `tasks` must be supervised by its controller.
    pub fn new(policy: Policy, runner: Runner, tasks: JobTasks) -> Self {
        Self {
            policy,
            runner,
            tasks,
        }
    }

    /// Does what [`step::next`] says, until there is something to wait for.
    async fn advance(&self, object: &DdbctlDpJob, pass: &Pass<DdbctlDpJob>) -> Result<Progress, JobError> {
        let job = match Job::parse(object).and_then(|job| self.policy.admit(&job, pass.key()).map(|()| job)) {
            Ok(job) => job,
            Err(failure) => return self.refuse(failure, pass).await,
        };
        self.runner.tune(&pass.uid(), job.max_wcu);
        // Each turn changes what the next one sees; there are fewer than this many states.
        for _ in 0..8 {
            let status = pass.current().status.clone().unwrap_or_default();
            let task = self.tasks.state(&pass.uid());
            let hash = run::hash(&job, &status);
            let respecified = self
                .tasks
                .spec_hash(&pass.uid())
                .is_some_and(|current| current != hash);
            match step::next(&job, &status, task.as_ref(), pass.clock().now(), respecified) {
                Step::Leave => return Ok(self.leave(pass)),
                Step::Finish(ending) => return self.finish(&job, &ending, pass).await,
                Step::Stop => {
                    self.tasks.stop(&pass.uid());
                    return self.watch(None, pass).await;
                }
                Step::Rest => {
                    self.show(&News::Resting, pass).await?;
                    self.tasks.clear(&pass.uid());
                    return Ok(Progress::Settled);
                }
                Step::Measure => {
                    if let Some(ending) = self.already_ran(&job, object, pass).await? {
                        return self.finish(&job, &ending, pass).await;
                    }
                    self.start(&job, pass).await?;
                    return self.watch(job.deadline, pass).await;
                }
                Step::Delete => {
                    // Deleting begins only for a job that is, at this moment, what the cache says it is.
                    let live = pass.live().await?;
                    if live.spec != object.spec || live.metadata.deletion_timestamp.is_some() {
                        return Ok(Progress::waiting(Duration::from_millis(100)));
                    }
                    self.start(&job, pass).await?;
                    return self.watch(job.deadline, pass).await;
                }
                Step::Record(measured) => {
                    self.begin(&measured, pass).await?;
                    self.tasks.clear(&pass.uid());
                    if job.is_dry_run() {
                        return self.finish(&job, &step::dry_run_done(), pass).await;
                    }
                }
                Step::Resume => {
                    self.resume(&status, pass).await?;
                }
                Step::Watch { deadline } => return self.watch(deadline, pass).await,
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
    async fn refuse(&self, failure: Failure, pass: &Pass<DdbctlDpJob>) -> Result<Progress, JobError> {
        if step::has_ended(&pass.current().status.clone().unwrap_or_default()) {
            return Ok(self.leave(pass));
        }
        if self.tasks.stop(&pass.uid()) {
            return Ok(Progress::waiting(PROGRESS_INTERVAL));
        }
        let ending = Ending::from(failure);
        self.show(&News::Ended(&ending), pass).await?;
        Ok(self.leave(pass))
    }

    async fn already_ran(
        &self,
        job: &Job,
        object: &DdbctlDpJob,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Option<Ending>, ApiError> {
        if job.is_dry_run() || sabotage::active(sabotage::IGNORE_RERUN_RECORD) {
            return Ok(None);
        }
        let found = records(job, pass).find().await?;
        Ok(found.filter(|record| record.forbids(object)).map(|record| {
            let message = format!(
                "a job of this name and target already emptied the partition, before this object was created again; nothing was deleted. If it is to run again, annotate it with {}=true, or delete ConfigMap {}, and create it anew",
                rerun::ALLOW_RERUN, record.config_map
            );
            Ending::failure(Reason::AlreadyRan, message)
        }))
    }

    /// Starts the task of the job's phase: measuring before the plan is recorded, deleting after.
    async fn start(&self, job: &Job, pass: &Pass<DdbctlDpJob>) -> Result<(), JobError> {
        let credentials = match self.credentials(job, pass).await {
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
        let status = pass.current().status.clone().unwrap_or_default();
        self.runner.start(&self.tasks, job, &status, credentials, pass);
        Ok(())
    }

    async fn credentials(&self, job: &Job, pass: &Pass<DdbctlDpJob>) -> Result<run::Signer, JobError> {
        let namespace = &pass.key().namespace;
        let denied = |error: credentials::CredentialsError| Failure {
            class: Class::Denied,
            reason: Reason::CredentialsMissing,
            message: error.to_string(),
        };
        let source = credentials::source(
            &job.endpoint,
            job.secret.is_some(),
            namespace,
            &self.policy.identity,
        )
        .map_err(denied)?;
        let name = job.secret.as_deref().unwrap_or_default();
        Ok(match source {
            Source::Placeholder => run::Signer::new("placeholder".into(), credentials::placeholder()),
            Source::Operator => self.runner.own_identity().await?,
            Source::Secret => {
                let secrets: Api<Secret> = Api::namespaced(pass.client().clone(), namespace);
                let secret = secrets
                    .get_opt(name)
                    .await
                    .map_err(|e| ApiError::new(format!("read Secret {namespace}/{name}"), e))?;
                let missing = || credentials::CredentialsError::SecretMissing {
                    namespace: namespace.to_string(),
                    name: name.to_owned(),
                };
                let data = secret
                    .ok_or_else(missing)
                    .map_err(denied)?
                    .data
                    .unwrap_or_default();
                let provider = credentials::from_secret(name, &data).map_err(denied)?;
                run::Signer::new(format!("{namespace}/{name}"), provider)
            }
        })
    }

    /// Records, before anything is deleted, what is going to be deleted from what.
    async fn begin(&self, measured: &Measured, pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
        let now = pass.clock().now();
        pass.write_intent(&json!({
            "tableId": (!sabotage::active(sabotage::INTENT_WITHOUT_TABLE_ID)).then_some(&measured.table_id),
            "keySchema": measured.key_schema,
            "plan": measured.plan,
            "startTime": Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)),
        }))
        .await?;
        pass.event(notice::planned(measured)).await;
        Ok(())
    }

    async fn resume(&self, status: &DdbctlDpJobStatus, pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
        let now = pass.clock().now();
        pass.write_intent(&json!({
            "tableId": status.table_id,
            "keySchema": status.key_schema,
            "plan": status.plan,
            "startTime": Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)),
        }))
        .await?;
        self.show(&News::Accepted, pass).await
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

    async fn finish(
        &self,
        job: &Job,
        ending: &Ending,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        // First the record: a job whose success is known must not run again, whatever happens between the two.
        let emptied = ending.reason == Reason::PartitionEmpty;
        let late = sabotage::active(sabotage::RECORD_AFTER_SUCCESS);
        if emptied && !late {
            records(job, pass).write(&pass.uid()).await?;
        }
        self.show(&News::Ended(ending), pass).await?;
        if emptied && late {
            records(job, pass).write(&pass.uid()).await?;
        }
        Ok(self.leave(pass))
    }

    fn leave(&self, pass: &Pass<DdbctlDpJob>) -> Progress {
        self.tasks.stop(&pass.uid());
        self.tasks.clear(&pass.uid());
        self.runner.forget(&pass.uid());
        Progress::Settled
    }

    /// Writes the status, if it differs, and tells of transitions.
    async fn show(&self, news: &News<'_>, pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
        let object = pass.current();
        let before = object.status.clone().unwrap_or_default();
        let told = match self.tasks.state(&pass.uid()) {
            Some(TaskState::Running(told) | TaskState::Stopping(told) | TaskState::Finished(told, _)) => {
                Some(told)
            }
            None => None,
        };
        let target = Job::parse(&object).ok().map(|job| job.target);
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

/// The record of a run of this job.
fn records<'a>(job: &Job, pass: &'a Pass<DdbctlDpJob>) -> Records<'a> {
    let identity = job.identity();
    let identity: Vec<_> = identity.iter().map(String::as_str).collect();
    Records::new(pass.client(), pass.key(), &identity)
}

impl Reconciler for Jobs {
    type Kind = DdbctlDpJob;
    type Error = JobError;
    const NAME: &'static str = "ddbctldpjob";
    const FINALIZER: Option<&'static str> = Some("dynamoctl.dp.operators.sanjivmadhavan.io/finalizer");
    const INTENT_FIELDS: &'static [&'static str] = &["tableId", "keySchema", "plan", "startTime"];

    async fn apply(&self, object: Arc<DdbctlDpJob>, pass: &Pass<DdbctlDpJob>) -> Result<Progress, JobError> {
        self.advance(&object, pass).await
    }

    /// Awaits the requests in flight, and tells what was done: the status goes with the object.
    async fn cleanup(&self, _: Arc<DdbctlDpJob>, pass: &Pass<DdbctlDpJob>) -> Result<Progress, JobError> {
        self.tasks.stop(&pass.uid());
        match self.tasks.state(&pass.uid()) {
            Some(TaskState::Running(_) | TaskState::Stopping(_))
                if !sabotage::active(sabotage::RELEASE_IN_MID_RUN) =>
            {
                return Ok(Progress::waiting(PROGRESS_INTERVAL));
            }
            Some(TaskState::Finished(told, _)) => pass.event(notice::deleted_in_mid_run(&told.run)).await,
            _ => {}
        }
        Ok(self.leave(pass))
    }

    fn forget(&self, uid: &str) {
        self.runner.forget(uid);
    }
}
