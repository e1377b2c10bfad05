//! A real API server, a real DynamoDB implementation, and the operator between them.

use std::time::Duration;

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobSpec, DdbctlDpJobStatus};
use dynamodb_controller::{manager, policy::Policy};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, CustomResourceExt as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use reconcile::{
    clock::Clock,
    conditions,
    manager::{ManagerError, Options},
};
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    dynamodb::{Fill, KeyType, Server, Table},
};
use tokio_util::sync::CancellationToken;

pub const DEADLINE: Duration = Duration::from_secs(60);
/// The partition that jobs delete.
pub const VICTIM: u64 = 1;
/// A partition that they must not touch.
pub const BYSTANDER: u64 = 2;

pub fn crd() -> CustomResourceDefinition {
    let mut crd = DdbctlDpJob::crd();
    reconcile::crd::tidy(&mut crd);
    crd
}

/// An operator in this process, for one namespace.
pub struct Operator {
    pub metrics: reconcile::metrics::Metrics,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), ManagerError>>,
}

impl Operator {
    /// Starts one with clocks sped up; `adjust` changes its options.
    pub fn start(
        config: kube::Config,
        namespace: &str,
        endpoints: &str,
        adjust: impl FnOnce(&mut Options, &mut Policy),
    ) -> Self {
        let mut options = Options::new(manager::NAME);
        options.namespaces = vec![namespace.to_owned()];
        options.clock = Clock::accelerated(20);
        let mut policy = Policy {
            endpoints: endpoints.parse().unwrap(),
            ..Policy::default()
        };
        adjust(&mut options, &mut policy);
        let manager = manager::assemble(options, config, policy, 10);
        let (metrics, shutdown) = (manager.metrics().clone(), CancellationToken::new());
        let running = tokio::spawn(manager.run(shutdown.clone()));
        Self {
            metrics,
            shutdown,
            running,
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// A namespace, and a table whose two partitions hold items.
pub struct Bed {
    pub plane: &'static ControlPlane,
    pub namespace: TestNamespace,
    pub jobs: Api<DdbctlDpJob>,
    pub server: Server,
    pub table: Table,
}

impl Bed {
    /// A bed on `server` with `items` items in the victim and 30 in the bystander.
    pub async fn new(server: Server, items: u64) -> Self {
        reconcile::cli::install_crypto_provider();
        let plane = ControlPlane::shared().await.unwrap();
        plane.apply_crds(&[crd()]).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let jobs = Api::namespaced(plane.client(), namespace.name());
        // A table of its own: servers may be shared.
        let table = Table::new(namespace.name(), "pk", KeyType::S).sorted_by("sk", KeyType::N);
        server.create_table(&table).await.unwrap();
        let bed = Self {
            plane,
            namespace,
            jobs,
            server,
            table,
        };
        bed.fill(VICTIM, items).await;
        bed.fill(BYSTANDER, 30).await;
        bed
    }

    pub async fn fill(&self, partition: u64, items: u64) {
        self.server
            .fill(&self.table, &Fill::new(KeyType::S.value(partition), 0..items))
            .await
            .unwrap();
    }

    pub async fn count(&self, partition: u64) -> u64 {
        self.server
            .count_partition(&self.table, KeyType::S.value(partition))
            .await
            .unwrap()
    }

    /// Starts an operator that may talk to `endpoint`.
    pub fn operator(&self, endpoint: &str) -> Operator {
        Operator::start(
            self.plane.config().clone(),
            self.namespace.name(),
            endpoint,
            |_, _| {},
        )
    }

    /// The spec of a job that deletes the victim through `endpoint`.
    pub fn spec(&self, endpoint: &str) -> DdbctlDpJobSpec {
        let value = KeyType::S.value(VICTIM);
        DdbctlDpJobSpec {
            table_name: Some(self.table.name().to_owned()),
            partition_value: value.as_s().ok().cloned(),
            endpoint_url: Some(endpoint.to_owned()),
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

    pub async fn patch(&self, name: &str, patch: serde_json::Value) {
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
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let current = self.status(name).await;
            let summary = conditions::find(&current.conditions, "Succeeded");
            if summary.is_some_and(|c| (c.status.as_str(), c.reason.as_str()) == (status, reason)) {
                return current;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name} is not {status}/{reason}: {summary:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the job is gone.
    pub async fn until_gone(&self, name: &str) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while let Some(job) = self.jobs.get_opt(name).await.unwrap() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name} is still there: {:?}",
                job.finalizers()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
