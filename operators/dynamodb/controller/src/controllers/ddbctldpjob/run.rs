//! Runs the engine for a job, as a supervised task.

use std::{collections::HashMap, sync::Arc};

use aws_credential_types::provider::SharedCredentialsProvider;
use dynamodb_api::{DdbctlDpJob, DdbctlDpJobStatus, KeySchema, KeySchemaElement, Reason, RunMode};
use parking_lot::Mutex;
use reconcile::{
    Class, Pass,
    clock::Clock,
    fence::Fence,
    task::{TaskContext, TaskId},
};
use tokio::sync::watch;

use super::{
    JobTasks,
    job::Job,
    report,
    step::{Measured, Output, TaskOutput},
};
use crate::{
    connection::Connector,
    metrics::JobMetrics,
    partition::{
        Control, Engine, Failure, Plan, Prepared, Progress, Request, Totals, budget::TableKey,
        table::KeyAttribute,
    },
    sabotage,
};

/// Credentials, and a name for them that reveals nothing: jobs with equal names share a table's capacity.
pub(super) struct Signer {
    name: String,
    provider: SharedCredentialsProvider,
}

impl Signer {
    pub(super) fn new(name: String, provider: SharedCredentialsProvider) -> Self {
        Self { name, provider }
    }
}

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
    /// A runner whose metrics are registered in `metrics`.
    pub fn new(clock: Clock, metrics: &reconcile::metrics::Metrics) -> Self {
        let registered = JobMetrics::new(metrics.registry());
        if let Err(error) = &registered {
            tracing::warn!(%error, "The metrics of the deletions are not available");
        }
        Self {
            connector: Connector::new(),
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
            mode: if measure { RunMode::DryRun } else { RunMode::Delete },
            earlier: if sabotage::active(sabotage::FORGET_TOTALS) {
                Totals::default()
            } else {
                report::totals(status)
            },
            table_id: status.table_id.clone(),
            plan: status.plan.as_ref().map(Plan::from_status),
            shared_with: TableKey {
                endpoint: job.target.endpoint.clone().unwrap_or_default(),
                region: job.target.region.clone(),
                credentials: signer.name,
                table: job.target.table_name.clone(),
            },
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
        let metrics = self.metrics.clone();
        tasks.start(&id, move |context| async move {
            let _counted = metrics.as_ref().map(JobMetrics::task);
            let earlier = request.earlier;
            let (progress, seen) = watch::channel(Progress::default());
            let control = Control {
                cancel: context.cancel.clone(),
                max_wcu: limit,
                progress,
                clock,
                fence: open(fence),
            };
            let run = execute(&engine, &client, request, control);
            follow(run, seen, &context, metrics.as_ref(), earlier).await
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

fn open(fence: Fence) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || fence.check().is_ok())
}

async fn execute(
    engine: &Engine,
    client: &aws_sdk_dynamodb::Client,
    request: Request,
    control: Control,
) -> Output {
    let (measure, cancel) = (request.mode == RunMode::DryRun, control.cancel.clone());
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

/// Drives `run` and passes its progress on to the job: at once when the stage changes, else at the tasks' pace.
async fn follow(
    run: impl Future<Output = Output>,
    mut seen: watch::Receiver<Progress>,
    context: &TaskContext<Progress>,
    metrics: Option<&JobMetrics>,
    earlier: Totals,
) -> Output {
    tokio::pin!(run);
    let mut last = Progress {
        totals: earlier,
        ..Progress::default()
    };
    let mut pass_on = |progress: Progress| {
        if let Some(metrics) = metrics.filter(|_| progress.totals != Totals::default()) {
            metrics.advance(&last.totals, &progress.totals);
        }
        if progress.stage == last.stage {
            context.report(progress.clone());
        } else {
            context.report_now(progress.clone());
        }
        last = progress;
    };
    loop {
        tokio::select! {
            output = &mut run => {
                let progress = seen.borrow().clone();
                pass_on(progress);
                return output;
            }
            Ok(()) = seen.changed() => {
                let progress = seen.borrow_and_update().clone();
                pass_on(progress);
            }
        }
    }
}
