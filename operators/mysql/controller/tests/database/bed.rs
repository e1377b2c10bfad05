//! An operator in this process, an API server with its controllers, and nodes that are played.

use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::{batch::v1::Job, core::v1::PersistentVolumeClaim, storage::v1::StorageClass};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use mysql_api::MySQL;
use mysql_controller::controllers::mysql::controllers;
use reconcile::{
    Manager,
    clock::Clock,
    conditions,
    manager::{ManagerError, Options},
    reconciler::Kind,
};
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, Options as PlaneOptions, TestNamespace};
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{disks::Disks, kubelet::Kubelet};

/// How many times faster than real time the operator's clock runs.
pub(crate) const SPEED: u32 = 50;
const DEADLINE: Duration = Duration::from_mins(4);
/// The class that is the default one, and one that lets its volumes grow.
pub(crate) const GROWS: &str = "grows";

/// A control plane of this suite's own: StorageClasses are everybody's.
pub(crate) async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE
        .get_or_init(async || {
            let plane = bare().await;
            let classes: Api<StorageClass> = Api::all(plane.client());
            for (name, default) in [("standard", true), (GROWS, false)] {
                let class = json!({
                    "metadata": {"name": name,
                                 "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()}},
                    "provisioner": "example.com/by-hand", "allowVolumeExpansion": name == GROWS,
                });
                let class: StorageClass = serde_json::from_value(class).unwrap();
                classes.create(&PostParams::default(), &class).await.unwrap();
            }
            plane
        })
        .await
}

/// A control plane without any StorageClass, for those who put Pods on nodes.
pub(crate) async fn classless() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE.get_or_init(bare).await
}

async fn bare() -> ControlPlane {
    reconcile::cli::install_crypto_provider();
    let plane = ControlPlane::start(PlaneOptions::default()).await.unwrap();
    plane.apply_crds(&mysql_api::crds()).await.unwrap();
    plane
}

/// The operator as its binary assembles it, as far as this kind goes.
pub(crate) fn manager(options: Options, config: kube::Config) -> Manager {
    let (databases, former) = controllers(4);
    Manager::new(options, config).register(databases).register(former)
}

pub(crate) struct Bed {
    pub(crate) client: Client,
    pub(crate) databases: Api<MySQL>,
    pub(crate) kubelet: Kubelet,
    pub(crate) namespace: TestNamespace,
    plane: &'static ControlPlane,
    operator: Option<Operator>,
}

struct Operator {
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), ManagerError>>,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let mut bed = Self::without_operator().await;
        bed.start();
        bed
    }

    pub(crate) async fn without_operator() -> Self {
        Self::on(plane().await).await
    }

    pub(crate) async fn on(plane: &'static ControlPlane) -> Self {
        let namespace = plane.namespace().await.unwrap();
        let client = plane.client();
        Self {
            databases: Api::namespaced(client.clone(), namespace.name()),
            kubelet: Kubelet::start(client.clone(), namespace.name(), Disks::default()),
            client,
            namespace,
            plane,
            operator: None,
        }
    }

    /// In a cluster without any StorageClass, with this many nodes, whose names are returned; without an operator.
    pub(crate) async fn of_folders(nodes: usize) -> (Self, Vec<String>) {
        let bed = Self::on(classless().await).await;
        let names = bed.kubelet.nodes(&bed.client, bed.namespace.name(), nodes).await;
        (bed, names.unwrap())
    }

    pub(crate) fn start(&mut self) {
        self.start_at(SPEED);
    }

    /// Starts an operator whose clock runs so many times faster than real time.
    pub(crate) fn start_at(&mut self, speed: u32) {
        self.start_with(Clock::accelerated(speed));
    }

    /// Starts an operator that goes by this clock.
    pub(crate) fn start_with(&mut self, clock: Clock) {
        let mut options = Options::new("mysql-operator");
        options.namespaces = vec![self.namespace.name().to_owned()];
        options.clock = clock;
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(manager(options, self.plane.config().clone()).run(shutdown.clone()));
        self.operator = Some(Operator { shutdown, running });
    }

    pub(crate) async fn stop(mut self) {
        assert_eq!(self.kubelet.disks.misdeeds(), [""; 0]);
        self.halt().await;
    }

    pub(crate) async fn halt(&mut self) {
        let Some(operator) = self.operator.take() else {
            return;
        };
        operator.shutdown.cancel();
        operator.running.await.unwrap().unwrap();
    }

    pub(crate) fn plane(&self) -> &'static ControlPlane {
        self.plane
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> MySQL {
        let object = MySQL::new(name, serde_json::from_value(spec).unwrap());
        self.databases
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    pub(crate) async fn make<K: Kind>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.databases
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.databases
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Waits until the object satisfies `holds`; `None` is one that is gone.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(Option<&MySQL>) -> bool,
    ) -> Option<MySQL> {
        let deadline = Instant::now() + DEADLINE;
        let states = watch_object(self.databases.clone(), name).default_backoff();
        pin_mut!(states);
        let mut status = None;
        loop {
            // An error is a server that is stopped; it answers later.
            if let Ok(Some(Ok(found))) = timeout(Duration::from_millis(50), states.next()).await {
                if holds(found.as_ref()) {
                    return found;
                }
                status = found.and_then(|object| object.status);
            }
            // What it waits for may never come after that.
            assert_eq!(self.kubelet.disks.misdeeds(), [""; 0], "before: {what}");
            assert!(
                Instant::now() < deadline,
                "not within {DEADLINE:?}: {what}; {status:#?}"
            );
        }
    }

    pub(crate) async fn ready(&self, name: &str) -> MySQL {
        self.until(name, "it is ready", |object| {
            says(object, "Ready", "True", "Serving")
                && object.is_some_and(|object| {
                    object
                        .status
                        .as_ref()
                        .and_then(|status| status.observed_generation)
                        == object.metadata.generation
                })
        })
        .await
        .unwrap()
    }

    pub(crate) async fn gone(&self, name: &str) {
        self.until(name, "it is gone", |object| object.is_none()).await;
    }

    /// UID of the claim of the data volume.
    pub(crate) async fn data(&self, name: &str) -> String {
        self.claim(&format!("{name}-pvc")).await
    }

    /// UID of the Job of this name, if it is there.
    pub(crate) async fn job(&self, name: &str) -> Option<String> {
        self.api::<Job>().get_opt(name).await.unwrap()?.uid()
    }

    /// UID of the claim of this name.
    pub(crate) async fn claim(&self, name: &str) -> String {
        self.api::<PersistentVolumeClaim>()
            .get(name)
            .await
            .unwrap()
            .uid()
            .unwrap()
    }

    pub(crate) async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds().await {
            assert_eq!(self.kubelet.disks.misdeeds(), [""; 0], "before: {what}");
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until so many minutes have passed by this clock.
    pub(crate) async fn pass(&self, clock: &Clock, minutes: u64) {
        let begin = clock.elapsed();
        self.eventually("time passes", async || {
            clock.elapsed() > begin + Duration::from_mins(minutes)
        })
        .await;
    }

    /// Whether there is a claim of this name that nobody has deleted.
    pub(crate) async fn has_claim(&self, name: &str) -> bool {
        let found = self.api::<PersistentVolumeClaim>().get_opt(name).await.unwrap();
        found.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none())
    }

    /// Whether there is none of this name.
    pub(crate) async fn lacks<K: Kind>(&self, name: &str) -> bool {
        self.api::<K>().get_opt(name).await.unwrap().is_none()
    }

    pub(crate) async fn reasons(&self, name: &str) -> Vec<String> {
        use k8s_openapi::api::events::v1::Event;
        let events = self
            .api::<Event>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let about = |event: &Event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|object| object.name.as_deref() == Some(name))
        };
        let reasons = events
            .items
            .into_iter()
            .filter(about)
            .filter_map(|event| event.reason);
        reasons.collect()
    }
}

/// The shortest spec.
pub(crate) fn spec(changes: &Value) -> Value {
    let mut spec = json!({"image": "mysql:9.7", "database": "shop", "storage_size": "1Gi"});
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// Whether a condition has this status and reason.
pub(crate) fn says(object: Option<&MySQL>, type_: &str, status: &str, reason: &str) -> bool {
    let Some(found) = object.and_then(|object| conditions::find(&object.status.as_ref()?.conditions, type_))
    else {
        return false;
    };
    found.status == status && found.reason == reason
}

/// What a condition says in words.
pub(crate) fn message(object: &MySQL, type_: &str) -> String {
    let conditions = object
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    conditions::find(conditions, type_)
        .map(|condition| condition.message.clone())
        .unwrap_or_default()
}

/// An owner reference to `object`, as a controller's.
pub(crate) fn owner(object: &MySQL) -> Value {
    serde_json::to_value(object.controller_owner_ref(&()).unwrap()).unwrap()
}
