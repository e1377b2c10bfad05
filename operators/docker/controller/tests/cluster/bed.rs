//! A workload cluster of a test: the management cluster that it is made from, and what is looked at.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use docker_controller::identity::NAMESPACE_LABEL;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::DynamicObject,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{
    audit::Filter,
    capi::Infrastructure,
    control_plane::TestNamespace,
    docker::Docker,
    image::{Image, Images},
    process::{Janitor, ScratchFolder},
};

use crate::management::{Management, release};

/// How long anything may take, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_mins(10);
pub const CORE: &str = "cluster.x-k8s.io/v1beta2";
const CONTROL_PLANE: &str = "controlplane.cluster.x-k8s.io/v1beta2";
const OURS: &str = "infrastructure.cluster.x-k8s.io/v1beta2";

/// Clusters of real nodes are made one after the other: together they would need more of a machine than many have.
pub static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Of this process.
static BEDS: AtomicU32 = AtomicU32::new(0);

/// Removes what a test that failed, or was killed, has left. `$1` is the namespace, `$2` the network.
const SWEEP: &str = r#"docker ps -aq --filter "network=$2" | xargs -r docker rm -fv
docker ps -aq --filter "label=capdkc.cluster.x-k8s.io/namespace=$1" | xargs -r docker rm -fv
docker network rm "$2""#;

/// A management cluster with everything running, and a namespace in it.
pub struct Bed {
    pub docker: Docker,
    pub node_image: String,
    arguments: Vec<String>,
    network: String,
    pub home: Management,
    namespace: TestNamespace,
    infrastructure: Infrastructure,
    pub release: ScratchFolder,
    /// Volumes that containers of the test had.
    volumes: Mutex<BTreeSet<String>>,
    _janitor: Janitor,
    // Last: whoever comes next finds nothing of this one.
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Bed {
    pub async fn start() -> Self {
        let turn = TURN.lock().await;
        let docker = Docker::connect().await.unwrap();
        let images = Images::new(&docker)
            .ensure_all(&[Image::Node, Image::Haproxy])
            .await
            .unwrap();
        let folder = ScratchFolder::create("capdkc-release").unwrap();
        let infrastructure = release(folder.path());
        // Made before its namespace has a name: the network is the test's own, too.
        let number = BEDS.fetch_add(1, Ordering::Relaxed);
        let network = format!("capdkc-{}-{number}", std::process::id());
        let arguments = ["--network", &network, "--load-balancer-image", &images[1]];
        let home = Management::start(&infrastructure, &arguments).await;
        let namespace = home.plane.namespace().await.unwrap();
        Self {
            _janitor: Janitor::engage(SWEEP, &[namespace.name(), &network]).unwrap(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            node_image: images[0].clone(),
            docker,
            network,
            home,
            namespace,
            infrastructure,
            release: folder,
            volumes: Mutex::default(),
            _turn: turn,
        }
    }

    /// Another management cluster, with the same provider over the same Docker.
    pub async fn second_home(&self) -> Management {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Management::start(&self.infrastructure, &arguments).await
    }

    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Waits until `holds`, and tells where everything was if that takes too long.
    pub async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            assert!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}\n{}",
                self.home.last_words()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        self.home.api(version, kind, self.namespace())
    }

    /// `clusterctl ARGUMENTS… --namespace NAMESPACE`.
    pub async fn clusterctl(&self, arguments: &[&str]) -> String {
        let arguments = [arguments, &["--namespace", self.namespace()]].concat();
        self.home.clusterctl.run(&arguments, &[]).await.unwrap()
    }

    /// Waits until `clusterctl describe` of the cluster `c1` says all of `parts`.
    pub async fn is_described_by(&self, parts: &[&str]) {
        let mut described = String::new();
        let describe = ["describe", "cluster", "c1", "--show-conditions", "all"];
        let deadline = Instant::now() + LIMIT;
        while !parts.iter().all(|part| described.contains(part)) {
            assert!(Instant::now() < deadline, "{parts:?} are not all in\n{described}");
            described = self.clusterctl(&describe).await;
        }
    }

    /// What `clusterctl generate cluster` makes of a flavor.
    pub async fn generate(&self, name: &str, flavor: Option<&str>, workers: usize) -> Vec<Value> {
        let workers = workers.to_string();
        let mut arguments = vec![
            "generate",
            "cluster",
            name,
            "--infrastructure",
            "capdkc",
            "--kubernetes-version",
            "v1.34.4",
            "--control-plane-machine-count",
            "1",
            "--worker-machine-count",
            &workers,
            "--target-namespace",
            self.namespace(),
        ];
        if let Some(flavor) = flavor {
            arguments.extend(["--flavor", flavor]);
        }
        let variables = [("CAPDKC_NODE_IMAGE", self.node_image.as_str())];
        let text = self.home.clusterctl.run(&arguments, &variables).await.unwrap();
        serde_saphyr::from_multiple(&text).unwrap()
    }

    /// Applies objects, in this order.
    pub async fn apply(&self, objects: Vec<Value>) {
        self.apply_with(objects, &PatchParams::apply("test")).await;
    }

    /// Asks whether objects would be taken.
    pub async fn try_apply(&self, objects: Vec<Value>) {
        let mut params = PatchParams::apply("test");
        params.dry_run = true;
        self.apply_with(objects, &params).await;
    }

    async fn apply_with(&self, objects: Vec<Value>, params: &PatchParams) {
        for object in objects {
            let text = |field: &str| object[field].as_str().unwrap().to_owned();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let name = object["metadata"]["name"].as_str().unwrap();
            let applied = self
                .api(&version, &kind)
                .patch(name, params, &Patch::Apply(&object))
                .await;
            applied.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        }
    }

    /// The status of a condition of one of Cluster API's own objects; empty if there is none.
    pub async fn condition(&self, kind: &str, name: &str, type_: &str) -> String {
        let Ok(object) = self.api(CORE, kind).get(name).await else {
            return String::new();
        };
        let conditions = object.data.pointer("/status/conditions");
        let found = conditions
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == type_);
        found
            .and_then(|condition| condition["status"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Whether one of our objects is provisioned.
    pub async fn is_provisioned(&self, kind: &str, of_cluster: &str) -> bool {
        let of_cluster = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={of_cluster}"));
        let listed = self.api(OURS, kind).list(&of_cluster).await.unwrap();
        let provisioned = |object: &DynamicObject| {
            object.data.pointer("/status/initialization/provisioned") == Some(&json!(true))
        };
        !listed.items.is_empty() && listed.items.iter().all(provisioned)
    }

    /// What users get: `clusterctl get kubeconfig`.
    async fn kubeconfig(&self, cluster: &str) -> Kubeconfig {
        let mut found = None;
        let arguments = ["get", "kubeconfig", cluster, "--namespace", self.namespace()];
        self.eventually("the kubeconfig is there", async || {
            found = self.home.clusterctl.run(&arguments, &[]).await.ok();
            found.is_some()
        })
        .await;
        Kubeconfig::from_yaml(&found.unwrap()).unwrap()
    }

    async fn client(&self, kubeconfig: Kubeconfig) -> Client {
        let options = KubeConfigOptions::default();
        Client::try_from(
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .unwrap(),
        )
        .unwrap()
    }

    /// A client with the kubeconfig that users get.
    pub async fn workload_client(&self, cluster: &str) -> Client {
        let kubeconfig = self.kubeconfig(cluster).await;
        self.client(kubeconfig).await
    }

    /// The published port leads to the control plane, whose certificate names 127.0.0.1.
    pub async fn reaches_the_control_plane_from_the_host(&self, cluster: &str) {
        let object = self.api(OURS, "DockerCluster").get(cluster).await.unwrap();
        let port = object
            .data
            .pointer("/status/hostPort")
            .and_then(Value::as_i64)
            .unwrap();
        let mut kubeconfig = self.kubeconfig(cluster).await;
        for cluster in &mut kubeconfig.clusters {
            cluster.cluster.as_mut().unwrap().server = Some(format!("https://127.0.0.1:{port}"));
        }
        self.client(kubeconfig).await.apiserver_version().await.unwrap();
    }

    /// What the manager wrote to the management cluster within `time`, its lease apart.
    pub async fn writes_during(&self, time: Duration) -> Vec<String> {
        let (audit, client) = (self.home.plane.audit(), self.home.plane.client());
        let start = audit.settle(&client).await.unwrap();
        tokio::time::sleep(time).await;
        audit.settle(&client).await.unwrap();
        let ours = Filter::writes().user_agent("capdkc");
        let events = audit.since(start).unwrap();
        events
            .iter()
            .filter(|event| ours.matches(event) && !event.uri.contains("/leases"))
            .map(|event| format!("{} {}", event.verb, event.uri))
            .collect()
    }

    pub async fn scale_workers(&self, deployment: &str, replicas: usize) {
        self.scale(CORE, "MachineDeployment", deployment, replicas).await;
    }

    pub async fn scale_control_plane(&self, name: &str, replicas: usize) {
        self.scale(CONTROL_PLANE, "KubeadmControlPlane", name, replicas)
            .await;
    }

    async fn scale(&self, version: &str, kind: &str, name: &str, replicas: usize) {
        self.note_volumes().await;
        assert!(!self.volumes.lock().is_empty(), "no node has a volume");
        let patch = json!({"spec": {"replicas": replicas}});
        let api = self.api(version, kind);
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    /// The names of the Machines of a cluster.
    pub async fn machines(&self, cluster: &str) -> Vec<String> {
        let of_cluster = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={cluster}"));
        let listed = self.api(CORE, "Machine").list(&of_cluster).await.unwrap();
        listed.items.iter().map(ResourceExt::name_any).collect()
    }

    /// The container of a Machine or a Node, which have one name.
    pub fn container_of(&self, machine: &str) -> String {
        format!("{machine}.{}", self.namespace())
    }

    /// The full name of the container whose name begins with `prefix`.
    pub async fn container(&self, prefix: &str) -> String {
        let name = format!("{prefix}.{}", self.namespace());
        self.docker
            .run(&["inspect", "--format", "{{.Name}}", &name])
            .await
            .unwrap();
        name
    }

    /// Deletes the Cluster, and waits until it is gone with all that it had.
    pub async fn delete_cluster(&self, name: &str) {
        self.note_volumes().await;
        let clusters = self.api(CORE, "Cluster");
        clusters.delete(name, &DeleteParams::default()).await.unwrap();
        self.eventually("the Cluster is gone", async || {
            clusters.get_opt(name).await.is_ok_and(|found| found.is_none())
        })
        .await;
        let of_cluster = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={name}"));
        let left = self.api(OURS, "DockerMachine").list(&of_cluster).await.unwrap();
        let names: Vec<_> = left.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, Vec::<String>::new());
    }

    /// Every container of the test, with the time of its last start.
    pub async fn starts(&self) -> Vec<String> {
        let ids = self.containers().await;
        let mut arguments = vec!["inspect", "--format", "{{.Id}} {{.State.StartedAt}}"];
        arguments.extend(ids.lines());
        let mut starts: Vec<_> = self
            .docker
            .run(&arguments)
            .await
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        starts.sort();
        starts
    }

    async fn containers(&self) -> String {
        let label = format!("label={NAMESPACE_LABEL}={}", self.namespace());
        self.docker.run(&["ps", "-aq", "--filter", &label]).await.unwrap()
    }

    /// Takes note of the volumes that the containers have now: without these nobody knows whose they were.
    async fn note_volumes(&self) {
        let ids = self.containers().await;
        if ids.is_empty() {
            return;
        }
        let mut arguments = vec!["inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}"];
        arguments.extend(ids.lines());
        let names = self.docker.run(&arguments).await.unwrap();
        let mut volumes = self.volumes.lock();
        volumes.extend(names.split_whitespace().map(str::to_owned));
    }

    /// Everything of Docker's that is left of the test.
    pub async fn traces(&self) -> Vec<String> {
        let containers = self.containers().await;
        let network = format!("name={}", self.network);
        let networks = self
            .docker
            .run(&["network", "ls", "-q", "--filter", &network])
            .await
            .unwrap();
        let volumes = self.docker.run(&["volume", "ls", "-q"]).await.unwrap();
        let known = self.volumes.lock();
        containers
            .lines()
            .chain(networks.lines())
            .chain(volumes.lines().filter(|volume| known.contains(*volume)))
            .map(str::to_owned)
            .collect()
    }
}
