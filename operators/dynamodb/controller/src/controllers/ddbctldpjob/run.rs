//! Runs the engine for a job, as a supervised task.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobStatus, KeySchema, KeySchemaElement, Reason, RunMode};
use parking_lot::Mutex;
use reconcile::{
    Class, Pass,
    clock::Clock,
    fence::Fence,
    task::{TaskContext, TaskId},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    JobTasks,
    idle::{self, IdleRounds, Told},
    job::{self, Job},
    report,
    signer::Signer,
    step::{Measured, Output, TaskOutput},
};
use crate::{
    connection::Connector,
    metrics::JobMetrics,
    partition::{
        Control, End, Engine, Failure, Plan, Prepared, Progress, Request, Totals, budget::TableKey,
        table::KeyAttribute,
    },
    sabotage,
};

/// How often a job with `limits` tells its progress: what is not in the status when the operator is killed does not count
/// against them.
const LIMITED_INTERVAL: Duration = Duration::from_secs(1);

/// What all tasks of the operator share.
pub struct Runner {
    connector: Connector,
    engine: Engine,
    clock: Clock,
    metrics: Option<JobMetrics>,
    /// The live `maxWcuPerSecond` of each job, by UID.
    limits: Mutex<HashMap<String, watch::Sender<Option<u32>>>>,
}

impl Runner {
    /// A runner that reaches DynamoDB by `connector`; its metrics are registered in `metrics`.
    pub fn new(connector: Connector, clock: Clock, metrics: &reconcile::metrics::Metrics) -> Self {
        let registered = JobMetrics::new(metrics.registry());
        if let Err(error) = &registered {
            tracing::warn!(%error, "The metrics of the deletions are not available");
        }
        Self {
            connector,
            engine: Engine::default(),
            clock,
            metrics: registered.ok(),
            limits: Mutex::default(),
        }
    }

    /// Sets the job's limit; a run that is under way follows within a second.
    pub(super) fn tune(&self, uid: &str, max_wcu: Option<u32>) {
        let mut limits = self.limits.lock();
        match limits.get(uid) {
            Some(limit) => {
                limit.send_if_modified(|current| std::mem::replace(current, max_wcu) != max_wcu);
            }
            None => {
                limits.insert(uid.to_owned(), watch::Sender::new(max_wcu));
            }
        }
    }

    /// The job has ended or is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.limits.lock().remove(uid);
    }

    pub(super) async fn own_identity(&self) -> Result<Signer, Failure> {
        let provider = self.connector.own_identity().await.ok_or_else(|| Failure {
            class: Class::Denied,
            reason: Reason::CredentialsMissing,
            message: "the operator has no AWS identity of its own; set `credentials.secretRef`, or give the operator's ServiceAccount a role".into(),
        })?;
        Ok(Signer::new("operator".into(), provider))
    }

    /// Starts the task of the job's phase, unless it runs already.
    pub(super) fn start(
        &self,
        tasks: &JobTasks,
        job: &Job,
        status: &DdbctlDpJobStatus,
        signer: Signer,
        pass: &Pass<DdbctlDpJob>,
    ) {
        let measure = status.plan.is_none();
        let id = TaskId {
            uid: pass.uid(),
            key: pass.key().clone(),
            spec_hash: hash(job, status),
        };
        let request = Request {
            mode: if measure {
                job.request.mode
            } else {
                RunMode::Delete
            },
            earlier: if sabotage::active(sabotage::FORGET_TOTALS) {
                Totals::default()
            } else {
                report::totals(status)
            },
            table_id: status.table_id.clone(),
            plan: status.plan.as_ref().map(Plan::from_status),
            shared_with: shared_with(job, status, signer.name),
            ..job.request.clone()
        };
        let client = self
            .connector
            .client(&job.endpoint, &job.target.region, signer.provider);
        let limit = self
            .limits
            .lock()
            .get(&id.uid)
            .map_or_else(|| watch::channel(job.max_wcu).1, watch::Sender::subscribe);
        let (engine, clock, fence) = (self.engine.clone(), self.clock.clone(), pass.fence().clone());
        let (metrics, connector, endpoint) =
            (self.metrics.clone(), self.connector.clone(), job.endpoint.clone());
        let idle = IdleRounds::new(report::idle_rounds(status), request.earlier.keys_acknowledged);
        tasks.start(&id, move |context| async move {
            let _counted = metrics.as_ref().map(JobMetrics::task);
            // Connections to forbidden addresses fail in any case: this is for the job to be told why.
            connector
                .check(&endpoint)
                .await
                .map_err(|error| job::invalid(&error))?;
            let (progress, seen) = watch::channel(Progress::default());
            let control = Control {
                cancel: context.cancel.child_token(),
                max_wcu: limit,
                progress,
                clock,
                fence: open(fence),
            };
            let follower = Follower {
                context: &context,
                metrics: metrics.as_ref(),
                idle,
                limit: request.backoff_limit,
                promptly: request.max_items.is_some() || request.max_wcu_total.is_some(),
                told_at: Duration::ZERO,
                table: request.table.clone(),
                cancel: control.cancel.clone(),
                last: Progress {
                    totals: request.earlier,
                    ..Progress::default()
                },
            };
            follower
                .follow(execute(&engine, &client, request, control, measure), seen)
                .await
        });
    }
}

/// Identifies the task that the job needs now: its phase, and the settings that it depends on.
pub(super) fn hash(job: &Job, status: &DdbctlDpJobStatus) -> u64 {
    job.run_hash(if status.plan.is_none() {
        "measure"
    } else {
        "delete"
    })
}

/// Jobs with equal keys share a table's capacity.
fn shared_with(job: &Job, status: &DdbctlDpJobStatus, signer: String) -> TableKey {
    TableKey {
        endpoint: job.target.endpoint.clone().unwrap_or_default(),
        region: job.target.region.clone(),
        // A table of this id is this table, whoever asks. Before it is known nothing is written.
        credentials: status.table_id.clone().unwrap_or(signer),
        table: job.target.table_name.clone(),
    }
}

fn open(fence: Fence) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || fence.check().is_ok())
}

async fn execute(
    engine: &Engine,
    client: &aws_sdk_dynamodb::Client,
    request: Request,
    control: Control,
    measure: bool,
) -> Output {
    let cancel = control.cancel.clone();
    let prepared = engine.prepare(client, request, control).await?;
    if !measure {
        return prepared
            .execute()
            .await
            .map(|finished| TaskOutput::Deleted(finished.end));
    }
    // A survey that was cut short knows too little to be recorded.
    let measured = measured(&prepared).filter(|_| !cancel.is_cancelled());
    Ok(measured.map_or(TaskOutput::Interrupted, |measured| {
        TaskOutput::Measured(Box::new(measured))
    }))
}

fn measured(prepared: &Prepared) -> Option<Measured> {
    let (table, plan) = (prepared.table(), prepared.plan()?);
    let element = |key: &KeyAttribute| KeySchemaElement {
        name: key.name.clone(),
        kind: key.kind,
    };
    Some(Measured {
        table_id: table.id.clone(),
        key_schema: KeySchema {
            partition_key: element(&table.partition_key),
            sort_key: table.sort_key.as_ref().map(element),
        },
        plan: plan.to_status(table),
    })
}

/// Drives a run and passes its progress on to the job: at once when the stage changes, else at the tasks' pace.
struct Follower<'a> {
    context: &'a TaskContext<Told>,
    metrics: Option<&'a JobMetrics>,
    idle: IdleRounds,
    /// `backoffLimit`.
    limit: u32,
    /// Whether the job has `limits`.
    promptly: bool,
    /// When it was told last, on the clock of the task.
    told_at: Duration,
    table: String,
    /// Ends the run.
    cancel: CancellationToken,
    last: Progress,
}

impl Follower<'_> {
    async fn follow(
        mut self,
        run: impl Future<Output = Output>,
        mut seen: watch::Receiver<Progress>,
    ) -> Output {
        tokio::pin!(run);
        let mut failure = None;
        loop {
            tokio::select! {
                output = &mut run => {
                    let progress = seen.borrow().clone();
                    self.pass_on(progress);
                    return match (output, failure) {
                        // What it had in flight is accounted for; it ended because it was told to.
                        (Ok(TaskOutput::Deleted(End::Interrupted)), Some(failure)) => Err(failure),
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
            }
        }
    }

    /// Tells the job. Returns why the run must end if rounds without a deletion are too many by now.
    fn pass_on(&mut self, progress: Progress) -> Option<Failure> {
        if let Some(metrics) = self.metrics.filter(|_| progress.totals != Totals::default()) {
            metrics.advance(&self.last.totals, &progress.totals);
        }
        let idle_rounds = self.idle.see(&progress);
        let told = Told {
            run: progress.clone(),
            idle_rounds,
        };
        let now = self.context.clock.elapsed();
        let due = self.promptly && now.saturating_sub(self.told_at) >= LIMITED_INTERVAL;
        if due || progress.stage != self.last.stage {
            self.told_at = now;
            self.context.report_now(told);
        } else {
            self.context.report(told);
        }
        self.last = progress;
        idle::exceeded(idle_rounds, self.limit, &self.table, self.last.trouble.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use dynamodb_api::DdbctlDpJobSpec;

    use super::*;

    #[test]
    fn jobs_on_one_table_share_its_capacity_whatever_credentials_they_have() {
        let job = |table: &str| {
            let spec = DdbctlDpJobSpec {
                table_name: Some(table.into()),
                partition_value: Some("tenant".into()),
                ..DdbctlDpJobSpec::default()
            };
            Job::parse(&DdbctlDpJob::new("x", spec)).unwrap()
        };
        let of = |id: &str| DdbctlDpJobStatus {
            table_id: Some(id.into()),
            ..DdbctlDpJobStatus::default()
        };
        let key = |table: &str, id: &str, signer: &str| shared_with(&job(table), &of(id), signer.into());
        assert_eq!(key("Orders", "1", "team-a/aws"), key("Orders", "1", "team-b/aws"));
        // Another account's table of the same name has another id.
        assert_ne!(key("Orders", "1", "team-a/aws"), key("Orders", "2", "team-a/aws"));
        assert_ne!(key("Orders", "1", "operator"), key("Items", "1", "operator"));
    }
}
