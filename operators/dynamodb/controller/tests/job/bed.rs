//! A real API server, a real DynamoDB implementation behind a fault proxy, and the operator between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobSpec, DdbctlDpJobStatus};
use dynamodb_controller::{connection::RequestTimeout, policy::Policy};
use k8s_openapi::{
    api::events::v1::Event, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, CustomResourceExt as _, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use reconcile::{clock::Clock, conditions, manager::Options};
use serde_json::Value;
use testkit::{
    audit::Position,
    control_plane::{ControlPlane, TestNamespace},
    dynamodb::{
        Fill, KeyType, Server, Table,
        faults::{Faults, Hook},
    },
    fault::{
        FaultPlan,
        proxy::{self, Proxy},
    },
};
use tokio::sync::{OnceCell, watch};

use crate::operator::Operator;

pub const DEADLINE: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(20);
/// How much faster than real time operators and faults run, unless a test says otherwise.
pub const SPEED: u32 = 100;
/// The partition that jobs delete.
pub const VICTIM: u64 = 1;
/// A partition that they must not touch.
pub const BYSTANDER: u64 = 2;
/// How many items it has.
pub const BYSTANDERS: u64 = 30;

pub fn crd() -> CustomResourceDefinition {
    let mut crd = DdbctlDpJob::crd();
    reconcile::crd::tidy(&mut crd);
    crd
}

/// The control plane of this run, which knows the kind.
pub async fn plane() -> &'static ControlPlane {
    static APPLIED: OnceCell<()> = OnceCell::const_new();
    let plane = ControlPlane::shared().await.unwrap();
    APPLIED
        .get_or_init(async || plane.apply_crds(&[crd()]).await.unwrap())
        .await;
    plane
}

/// The implementations on which a promise has to hold. They are shared by the tests: each test has a table of its own.
pub async fn servers() -> Vec<Server> {
    static ALL: OnceCell<Vec<Server>> = OnceCell::const_new();
    ALL.get_or_init(async || Server::all().await.unwrap())
        .await
        .clone()
}

/// The default implementation alone, for promises that do not depend on it.
pub async fn server() -> Server {
    servers().await.remove(0)
}

/// A namespace, and a table whose two partitions hold items.
pub struct Bed {
    pub plane: &'static ControlPlane,
    pub namespace: TestNamespace,
    pub jobs: Api<DdbctlDpJob>,
    pub server: Server,
    pub table: Table,
    pub key_type: KeyType,
    pub faults: Faults,
    pub proxy: Proxy,
    /// The clock of the faults, and of operators unless a test says otherwise.
    pub clock: Clock,
    /// Where the API server's audit log ended before there was anything of this bed.
    pub begin: Position,
}

impl Bed {
    /// A bed on `server` with `items` items in the victim.
    pub async fn new(server: Server, items: u64) -> Self {
        Self::with(server, items, KeyType::S, |table| table).await
    }

    /// A bed whose table has a partition key of this type, and whatever else `adjust` adds.
    pub async fn with(
        server: Server,
        items: u64,
        key_type: KeyType,
        adjust: impl FnOnce(Table) -> Table,
    ) -> Self {
        let plan = FaultPlan::default();
        Self::planned(&plan, SPEED, server, items, (key_type, adjust)).await
    }

    /// A bed whose proxy follows `plan`, and whose faults run on a clock of this speed.
    pub async fn planned(
        plan: &FaultPlan,
        speed: u32,
        server: Server,
        items: u64,
        (key_type, adjust): (KeyType, impl FnOnce(Table) -> Table),
    ) -> Self {
        reconcile::cli::install_crypto_provider();
        let plane = plane().await;
        let begin = plane.audit().position().unwrap();
        let namespace = plane.namespace().await.unwrap();
        // A table of its own: servers are shared.
        let table = adjust(Table::new(namespace.name(), "pk", key_type).sorted_by("sk", KeyType::N));
        server.create_table(&table).await.unwrap();
        let clock = Clock::accelerated(speed);
        let faults = Faults::new(clock.clone());
        let proxy = Proxy::start(server.address(), faults.clone(), proxy::Options::new(plan)).unwrap();
        let bed = Self {
            plane,
            jobs: Api::namespaced(plane.client(), namespace.name()),
            namespace,
            server,
            table,
            key_type,
            faults,
            proxy,
            clock,
            begin,
        };
        bed.fill(VICTIM, 0..items).await;
        bed.fill(BYSTANDER, 0..BYSTANDERS).await;
        bed
    }

    pub async fn fill(&self, partition: u64, items: std::ops::Range<u64>) {
        let fill = Fill::new(self.key_type.value(partition), items);
        self.server.fill(&self.table, &fill).await.unwrap();
    }

    /// How many items a partition has, seen by another client.
    pub async fn count(&self, partition: u64) -> u64 {
        let value = self.key_type.value(partition);
        self.server.count_partition(&self.table, value).await.unwrap()
    }

    /// Items of the victim and of the bystander.
    pub async fn counts(&self) -> (u64, u64) {
        (self.count(VICTIM).await, self.count(BYSTANDER).await)
    }

    pub fn endpoint(&self) -> String {
        self.proxy.endpoint()
    }

    /// Starts an operator that may talk to the proxy.
    pub fn operator(&self) -> Operator {
        self.operator_with(|_, _| {})
    }

    pub fn operator_with(&self, adjust: impl FnOnce(&mut Options, &mut Policy)) -> Operator {
        let config = self.plane.config().clone();
        let namespaces = [self.namespace.name()];
        Operator::start(config, &namespaces, &self.endpoint(), |options, policy| {
            options.clock = self.clock.clone();
            // What a test holds back is not lost, however long the machine takes to see that it is held.
            policy.request_timeout = RequestTimeout(10 * DEADLINE);
            adjust(options, policy);
        })
    }

    /// The spec of a job that deletes the victim through the proxy.
    pub fn spec(&self) -> DdbctlDpJobSpec {
        DdbctlDpJobSpec {
            table_name: Some(self.table.name().to_owned()),
            partition_value: Some(written(self.key_type, VICTIM)),
            endpoint_url: Some(self.endpoint()),
            backoff_limit: 6,
            ..DdbctlDpJobSpec::default()
        }
    }

    pub async fn create(&self, name: &str, spec: DdbctlDpJobSpec) -> DdbctlDpJob {
        self.jobs
            .create(&PostParams::default(), &DdbctlDpJob::new(name, spec))
            .await
            .unwrap()
    }

    pub async fn patch(&self, name: &str, patch: Value) {
        self.jobs
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.jobs.delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn status(&self, name: &str) -> DdbctlDpJobStatus {
        self.jobs.get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the job's `Succeeded` has this status and reason, and returns the job's status.
    pub async fn until(&self, name: &str, status: &str, reason: &str) -> DdbctlDpJobStatus {
        self.until_condition(name, "Succeeded", status, reason).await
    }

    /// Waits until a condition of the job has this status and reason, and returns the job's status. How a job ended
    /// never changes: if it ended otherwise, there is nothing to wait for.
    pub async fn until_condition(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> DdbctlDpJobStatus {
        let what = format!("{name} is not {type_}={status}/{reason}");
        let of = |current: &DdbctlDpJobStatus, type_| {
            let found = conditions::find(&current.conditions, type_);
            found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
        };
        eventually(&what, async || {
            let current = self.status(name).await;
            let found = of(&current, type_);
            if found
                .as_ref()
                .is_some_and(|(s, r, _)| (s, r) == (&status.to_owned(), &reason.to_owned()))
            {
                return Ok(current);
            }
            let ending = of(&current, "Succeeded").filter(|(status, ..)| status != "Unknown");
            assert!(ending.is_none(), "{what}: it ended as {ending:?}");
            Err(format!("{found:?}"))
        })
        .await
    }

    /// Waits until the job has failed, and returns its reason.
    pub async fn until_failed(&self, name: &str) -> String {
        eventually(&format!("{name} has not failed"), async || {
            let status = self.status(name).await;
            let found = conditions::find(&status.conditions, "Succeeded").cloned();
            match found {
                Some(summary) if summary.status == "False" => Ok(summary.reason),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until the job is gone.
    pub async fn until_gone(&self, name: &str) {
        eventually(&format!("{name} is still there"), async || {
            match self.jobs.get_opt(name).await.unwrap() {
                None => Ok(()),
                Some(job) => Err(format!("{:?}", job.finalizers())),
            }
        })
        .await;
    }

    /// Waits for an event about the job, and returns its note.
    pub async fn until_event(&self, name: &str, reason: &str) -> Event {
        let events: Api<Event> = Api::namespaced(self.plane.client(), self.namespace.name());
        eventually(&format!("no event {reason} about {name}"), async || {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            let about = |event: &Event| {
                event
                    .regarding
                    .as_ref()
                    .is_some_and(|r| r.name.as_deref() == Some(name))
            };
            let (mut found, others): (Vec<_>, Vec<_>) = all
                .into_iter()
                .filter(about)
                .partition(|event| event.reason.as_deref() == Some(reason));
            let seen: Vec<_> = others.into_iter().map(|event| event.reason).collect();
            found.pop().ok_or_else(|| format!("{seen:?}"))
        })
        .await
    }
}

/// Looks until `look` finds what it looks for; at the deadline it fails with what was seen last.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(tokio::time::Instant::now() < deadline, "{what}: {seen}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A key value as a job's author writes it.
pub fn written(key_type: KeyType, number: u64) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match key_type.value(number) {
        aws_sdk_dynamodb::types::AttributeValue::B(bytes) => STANDARD.encode(bytes),
        value => value.as_s().or_else(|_| value.as_n()).unwrap().clone(),
    }
}

/// The message of a job's summary.
pub fn message(status: &DdbctlDpJobStatus) -> &str {
    conditions::find(&status.conditions, "Succeeded").map_or("", |summary| summary.message.as_str())
}

/// Keys that a job says were acknowledged.
pub fn acknowledged(status: &DdbctlDpJobStatus) -> u64 {
    let progress = status.progress.clone().unwrap_or_default();
    progress.keys_acknowledged.try_into().unwrap()
}

/// Holds every deletion that DynamoDB has carried out, unanswered, from a number of deleted keys on.
pub struct Gate {
    held: Arc<AtomicU64>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Closes once `keys` keys are deleted.
    pub fn after(faults: &Faults, keys: u64) -> Self {
        let gate = Self {
            held: Arc::default(),
            open: watch::Sender::new(false),
        };
        // A hook is used up by the key that reaches it: one for each that may be in flight, several times over.
        faults.set(|settings| settings.hooks = (0..2000).map(|n| (keys + n, gate.hook())).collect());
        gate
    }

    fn hook(&self) -> Hook {
        let (held, open) = (self.held.clone(), self.open.subscribe());
        Arc::new(move || {
            let (held, mut open) = (held.clone(), open.clone());
            Box::pin(async move {
                held.fetch_add(1, Ordering::SeqCst);
                // An error means that the gate is gone.
                drop(open.wait_for(|open| *open).await);
            })
        })
    }

    /// Waits until requests are held.
    pub async fn until_held(&self) {
        eventually("no request is held", async || {
            let held = self.held.load(Ordering::SeqCst);
            if held > 0 { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;
    }

    /// Lets all of them be answered, and all that follow.
    pub fn open(self) {
        self.open.send_replace(true);
    }
}
