//! Runs the engine for a job, as a supervised task.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobStatus, KeySchema, KeySchemaElement, Reason, RunMode};
use parking_lot::Mutex;
use reconcile::{Class, Pass, clock::Clock, fence::Fence, task::TaskId};
use tokio::sync::watch;

use super::{
    JobTasks,
    follower::Follower,
    idle::{IdleRounds, Told},
    job::{self, Job},
    report,
    signer::Signer,
    step::{Measured, Output, TaskOutput},
};
use crate::{
    connection::Connector,
    metrics::JobMetrics,
    partition::{
        Control, Engine, Failure, Journal, Journals, Landmarks, Plan, Prepared, Progress, Request,
        Reservation, Totals, Tuning, budget::TableKey, table::KeyAttribute,
    },
    sabotage,
};

/// What all tasks of the operator share.
pub struct Runner {
    connector: Connector,
    engine: Engine,
    clock: Clock,
    metrics: Option<JobMetrics>,
    /// The live `maxWcuPerSecond` of each job, by UID.
    limits: Mutex<HashMap<String, watch::Sender<Option<u32>>>>,
    journals: Journals,
    /// Confirms, by UID, which reservation of a run with `limits` stands written.
    written: Mutex<HashMap<String, watch::Sender<u64>>>,
    /// Where the items of each job's partition lie, by UID.
    landmarks: Mutex<HashMap<String, Landmarks>>,
    /// What the credentials are called of each job's last task, by UID.
    signers: Mutex<HashMap<String, String>>,
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
            journals: Journals::default(),
            written: Mutex::default(),
            landmarks: Mutex::default(),
            signers: Mutex::default(),
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
        self.written.lock().remove(uid);
        self.landmarks.lock().remove(uid);
        self.signers.lock().remove(uid);
    }

    /// What the credentials were called when the job's last task was started.
    pub(super) fn signed_by(&self, uid: &str) -> Option<String> {
        self.signers.lock().get(uid).cloned()
    }

    /// What measuring the job's partition showed, for its deletion.
    pub(super) fn remember(&self, uid: &str, measured: &Measured) {
        let landmarks = measured.landmarks.clone();
        self.landmarks.lock().insert(uid.to_owned(), landmarks);
    }

    /// Reservation `number` of the job's run stands written.
    pub(super) fn confirm(&self, uid: &str, number: u64) {
        if let Some(written) = self.written.lock().get(uid) {
            written.send_if_modified(|before| std::mem::replace(before, number) != number);
        }
    }

    /// A journal for the run of a job with limits.
    fn journal(&self, uid: &str) -> (Journal, watch::Receiver<Reservation>) {
        let (journal, to_write, confirm) = self.journals.open();
        self.written.lock().insert(uid.to_owned(), confirm);
        (journal, to_write)
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
        self.signers.lock().insert(id.uid.clone(), signer.name.clone());
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
            reservation: status.allowance.as_ref().map(Reservation::from_status),
            table_id: status.table_id.clone(),
            plan: status.plan.as_ref().map(Plan::from_status),
            landmarks: self.landmarks.lock().get(&id.uid).cloned().unwrap_or_default(),
            looks_with: Some(looks_with(job, signer.name.clone())),
            shared_with: shared_with(job, status, signer.name),
            tuning: Tuning {
                // Who deletes is another task, and reads for itself.
                keep_keys: !measure,
                ..job.request.tuning
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
        let (metrics, connector, endpoint) =
            (self.metrics.clone(), self.connector.clone(), job.endpoint.clone());
        let journal = (job.has_limits() && !measure).then(|| self.journal(&id.uid));
        let (journal, to_write) = journal.unzip();
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
                journal,
                clock,
                fence: open(fence),
            };
            let follower = Follower {
                context: &context,
                metrics: metrics.as_ref(),
                idle,
                limit: request.backoff_limit,
                to_write,
                told: Told::default(),
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
    // All ways to AWS lead to the same tables.
    let endpoint = job.endpoint.url().filter(|_| !job.endpoint.is_aws());
    // A table of this id is this table, whoever asks and whatever it is called, by its name or by its ARN. Before it is
    // known nothing is written.
    let (credentials, table) = match &status.table_id {
        Some(id) => (String::new(), id.clone()),
        None => (signer, job.target.table_name.clone()),
    };
    TableKey {
        endpoint: endpoint.unwrap_or_default(),
        region: job.target.region.clone(),
        credentials,
        table,
    }
}

/// Jobs with equal keys send the same question about a table to the same server, and are the same to it.
fn looks_with(job: &Job, signer: String) -> TableKey {
    let region = job.target.region.clone();
    TableKey {
        endpoint: job.endpoint.url_in(&region),
        region,
        credentials: signer,
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
    // Until here only reads are under way, and what they would say is not wanted any more.
    let Some(prepared) = cancel
        .run_until_cancelled(engine.prepare(client, request, control))
        .await
    else {
        return Ok(TaskOutput::Interrupted);
    };
    let prepared = prepared?;
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
        landmarks: prepared.landmarks().clone(),
    })
}

#[cfg(test)]
mod tests {
    use dynamodb_api::DdbctlDpJobSpec;

    use super::*;

    fn at(endpoint: &str, table: &str) -> Job {
        let spec = DdbctlDpJobSpec {
            table_name: Some(table.into()),
            partition_value: Some("tenant".into()),
            endpoint_url: (!endpoint.is_empty()).then(|| endpoint.into()),
            ..DdbctlDpJobSpec::default()
        };
        Job::parse(&DdbctlDpJob::new("x", spec)).unwrap()
    }

    #[test]
    fn jobs_share_their_looks_at_a_table_only_if_all_see_it_in_the_same_way() {
        let key = |endpoint: &str, table: &str, signer: &str| looks_with(&at(endpoint, table), signer.into());
        let plain = key("", "Orders", "operator");
        assert_eq!(plain, key("", "Orders", "operator"));
        // Another account has another table of this name.
        assert_ne!(plain, key("", "Orders", "secret/1/2"));
        assert_ne!(plain, key("", "Items", "operator"));
        assert_ne!(plain, key("http://dynamodb.local:8000", "Orders", "operator"));
    }

    #[test]
    fn jobs_on_one_table_share_its_capacity_whatever_credentials_they_have() {
        let job = |table: &str| at("", table);
        let of = |id: &str| DdbctlDpJobStatus {
            table_id: Some(id.into()),
            ..DdbctlDpJobStatus::default()
        };
        let key = |table: &str, id: &str, signer: &str| shared_with(&job(table), &of(id), signer.into());
        assert_eq!(key("Orders", "1", "team-a/aws"), key("Orders", "1", "team-b/aws"));
        // Another account's table of the same name has another id.
        assert_ne!(key("Orders", "1", "team-a/aws"), key("Orders", "2", "team-a/aws"));
        // Before the id is known, name and credentials are all there is.
        let early = |table: &str| shared_with(&job(table), &DdbctlDpJobStatus::default(), "operator".into());
        assert_ne!(early("Orders"), early("Items"));
        // A table has a name, an ARN, and a region's endpoint that may be spelled out.
        let plain = key("Orders", "1", "operator");
        let arn = "arn:aws:dynamodb:us-east-1:123456789012:table/Orders";
        assert_eq!(plain, key(arn, "1", "operator"));
        let spelled_out = at("https://dynamodb.us-east-1.amazonaws.com", "Orders");
        assert_eq!(plain, shared_with(&spelled_out, &of("1"), "operator".into()));
        let elsewhere = at("http://dynamodb.local:8000", "Orders");
        assert_ne!(plain, shared_with(&elsewhere, &of("1"), "operator".into()));
    }
}
