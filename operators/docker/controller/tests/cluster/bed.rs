//! The management cluster of a test, and what it looks at.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use docker_controller::identity::NAMESPACE_LABEL;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{
    audit::Filter,
    capi::ClusterApi,
    control_plane::{ControlPlane, Options, TestNamespace},
    docker::Docker,
    image::{Image, Images},
    process::{Janitor, ScratchFolder, Supervised, free_port, tail},
};

/// How long anything may take, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_mins(6);

/// Removes what a test that failed, or was killed, has left. `$1` is the namespace, `$2` the network.
const SWEEP: &str = r#"docker ps -aq --filter "label=capdkc.cluster.x-k8s.io/namespace=$1" | xargs -r docker rm -fv
docker network rm "$2""#;

/// A management cluster with everything running.
pub struct Bed {
    pub docker: Docker,
    pub node_image: String,
    load_balancer_image: String,
    network: String,
    manager: Mutex<Option<Supervised>>,
    capi: ClusterApi,
    namespace: TestNamespace,
    folder: ScratchFolder,
    _janitor: Janitor,
    plane: ControlPlane,
}

impl Bed {
    pub async fn start() -> Self {
        let docker = Docker::connect().await.unwrap();
        let images = Images::new(&docker)
            .ensure_all(&[Image::Node, Image::Haproxy])
            .await
            .unwrap();
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        plane.apply_crds(&docker_api::crds()).await.unwrap();
        let capi = ClusterApi::start(&plane).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let network = namespace.name().to_owned();
        let bed = Self {
            _janitor: Janitor::engage(SWEEP, &[namespace.name(), &network]).unwrap(),
            docker,
            node_image: images[0].clone(),
            load_balancer_image: images[1].clone(),
            network,
            manager: Mutex::default(),
            capi,
            namespace,
            folder: ScratchFolder::create("capdkc-test").unwrap(),
            plane,
        };
        bed.start_manager();
        bed
    }

    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("capdkc.log")
    }

    /// Starts the shipped binary.
    pub fn start_manager(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capdkc"));
        command
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig_path())
            .args([
                "--network",
                &self.network,
                "--load-balancer-image",
                &self.load_balancer_image,
            ])
            .args(["--metrics-bind-address", "0"])
            .args([
                "--health-probe-bind-address",
                &format!("127.0.0.1:{}", free_port().unwrap()),
            ]);
        *self.manager.lock() = Some(Supervised::spawn("capdkc", &command, &self.log()).unwrap());
    }

    /// SIGKILL.
    pub fn kill_manager(&self) {
        if let Some(mut manager) = self.manager.lock().take() {
            manager.kill();
        }
    }

    /// Waits until `holds`, and tells where everything was if that takes too long.
    pub async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            if Instant::now() > deadline {
                let words = tail(Path::new(&self.log()), 25);
                panic!(
                    "not within {LIMIT:?}: {what}\n--- capdkc\n{words}\n{}",
                    self.capi.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.plane.client(), self.namespace(), &resource)
    }

    /// Applies objects, in this order.
    pub async fn apply(&self, objects: Vec<Value>) {
        for object in objects {
            let text = |field: &str| object[field].as_str().unwrap().to_owned();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let name = object["metadata"]["name"].as_str().unwrap();
            let applied = self
                .api(&version, &kind)
                .patch(name, &PatchParams::apply("test"), &Patch::Apply(&object))
                .await;
            applied.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        }
    }

    /// The status of a condition; empty if there is none.
    pub async fn condition(&self, kind: &str, name: &str, type_: &str) -> String {
        let Ok(object) = self.api("cluster.x-k8s.io/v1beta2", kind).get(name).await else {
            return String::new();
        };
        let conditions = object
            .data
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .cloned();
        let found = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == type_);
        found
            .and_then(|condition| condition["status"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    async fn kubeconfig(&self) -> Kubeconfig {
        let secrets: Api<Secret> = Api::namespaced(self.plane.client(), self.namespace());
        let mut found = None;
        self.eventually("the kubeconfig is there", async || {
            found = secrets.get_opt("c1-kubeconfig").await.ok().flatten();
            found.is_some()
        })
        .await;
        let data = found.and_then(|secret| secret.data).unwrap();
        Kubeconfig::from_yaml(std::str::from_utf8(&data["value"].0).unwrap()).unwrap()
    }

    async fn client(&self, kubeconfig: Kubeconfig) -> Client {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// A client with the kubeconfig that users get.
    pub async fn workload_client(&self) -> Client {
        let kubeconfig = self.kubeconfig().await;
        self.client(kubeconfig).await
    }

    /// The published port leads to the control plane, whose certificate names 127.0.0.1.
    pub async fn reaches_the_control_plane_from_the_host(&self) {
        let cluster = self
            .api(&format!("{}/v1beta2", docker_api::GROUP), "DockerCluster")
            .get("c1")
            .await
            .unwrap();
        let port = cluster
            .data
            .pointer("/status/hostPort")
            .and_then(Value::as_i64)
            .unwrap();
        let mut kubeconfig = self.kubeconfig().await;
        for cluster in &mut kubeconfig.clusters {
            cluster.cluster.as_mut().unwrap().server = Some(format!("https://127.0.0.1:{port}"));
        }
        self.client(kubeconfig).await.apiserver_version().await.unwrap();
    }

    /// What the manager wrote to the management cluster within `time`.
    pub async fn writes_during(&self, time: Duration) -> Vec<String> {
        let audit = self.plane.audit();
        let client = self.plane.client();
        let start = audit.settle(&client).await.unwrap();
        tokio::time::sleep(time).await;
        audit.settle(&client).await.unwrap();
        let ours = Filter::writes().user_agent("capdkc");
        let events = audit.since(start).unwrap();
        events
            .iter()
            .filter(|event| ours.matches(event))
            .map(|event| format!("{} {}", event.verb, event.uri))
            .collect()
    }

    pub async fn scale_workers(&self, replicas: i32) {
        let patch = json!({"spec": {"replicas": replicas}});
        let workers = self.api("cluster.x-k8s.io/v1beta2", "MachineDeployment");
        workers
            .patch("workers", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
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
    pub async fn delete_cluster(&self) {
        let clusters = self.api("cluster.x-k8s.io/v1beta2", "Cluster");
        clusters.delete("c1", &DeleteParams::default()).await.unwrap();
        self.eventually("the Cluster is gone", async || {
            clusters.get_opt("c1").await.is_ok_and(|found| found.is_none())
        })
        .await;
        let ours = self.api(&format!("{}/v1beta2", docker_api::GROUP), "DockerMachine");
        let left = ours.list(&kube::api::ListParams::default()).await.unwrap();
        let names: Vec<_> = left.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, Vec::<String>::new());
    }

    /// Everything of Docker's that is left of the test.
    pub async fn traces(&self) -> Vec<String> {
        let label = format!("label={NAMESPACE_LABEL}={}", self.namespace());
        let containers = self.docker.run(&["ps", "-aq", "--filter", &label]).await.unwrap();
        let network = format!("name={}", self.network);
        let networks = self
            .docker
            .run(&["network", "ls", "-q", "--filter", &network])
            .await
            .unwrap();
        containers
            .lines()
            .chain(networks.lines())
            .map(str::to_owned)
            .collect()
    }
}
