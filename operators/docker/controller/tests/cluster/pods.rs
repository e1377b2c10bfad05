//! What `clusterctl init` installs, as pods of a real cluster. Cluster API's kinds are its own; its managers are not there,
//! and the test sets the owner that they would set.

use std::{path::Path, time::Duration};

use docker_controller::{identity::NAMESPACE_LABEL, kubeadm::INIT_CONFIG};
use serde_json::{Value, json};
use testkit::{
    capi::{
        Infrastructure, Kinds, docker_backed,
        nodes::{bootstrap_spec, fit_for_this_machine},
        owned_infrastructure,
    },
    cluster::{Cluster, Spec},
    image::{Image, Images},
    process::{Janitor, ScratchFolder},
};
use tokio::{net::TcpStream, time::Instant};

use crate::{bed::TURN, management};

const NAMESPACE: &str = "capdkc-system";
const DEPLOYMENT: &str = "deployment/capdkc-controller-manager";
/// How long kubectl waits, on a machine that does other things as well.
const TIMEOUT: &str = "--timeout=8m";
const LIMIT: Duration = Duration::from_mins(5);

/// Removes what a test that failed, or was killed, has left. `$1` is the namespace and the network, `$2` the image.
const SWEEP: &str = r#"docker ps -aq --filter "label=capdkc.cluster.x-k8s.io/namespace=$1" | xargs -r docker rm -fv
docker network rm "$1"
docker image rm "$2""#;

/// A cluster with the provider as clusterctl installs it, and a namespace in it.
struct Bed {
    cluster: Cluster,
    namespace: String,
    node_image: String,
    kinds: Kinds,
    _release: ScratchFolder,
    _janitor: Janitor,
}

impl Bed {
    async fn start() -> Self {
        reconcile::cli::install_crypto_provider();
        let spec = Spec {
            name: "clusterctl".into(),
            ..Spec::default()
        };
        let cluster = Cluster::ephemeral(spec).await.unwrap();
        let namespace = format!("capdkc-init-{}", std::process::id());
        let images = Images::new(cluster.docker());
        let program = Path::new(env!("CARGO_BIN_EXE_capdkc"));
        let local = images.of_program("capdkc", program).await.unwrap();
        // clusterctl wants the registry's name, too.
        let image = format!("localhost/{local}");
        cluster.docker().run(&["tag", &local, &image]).await.unwrap();
        let janitor = Janitor::engage(SWEEP, &[namespace.as_str(), image.as_str()]).unwrap();
        cluster.load_image(&image).await.unwrap();
        let tags = images.ensure_all(&[Image::Haproxy, Image::Node]).await.unwrap();
        let folder = ScratchFolder::create("capdkc-init").unwrap();
        let infrastructure = with_image(management::release(folder.path()), &image);
        let variables = [
            ("CAPDKC_DOCKER_NETWORK", namespace.as_str()),
            ("CAPDKC_LOAD_BALANCER_IMAGE", tags[0].as_str()),
        ];
        let kinds = Kinds::init(cluster.kubeconfig_path(), &infrastructure, &variables)
            .await
            .unwrap();
        Self {
            cluster,
            namespace,
            node_image: tags[1].clone(),
            kinds,
            _release: folder,
            _janitor: janitor,
        }
    }

    async fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        match self.cluster.kubectl(arguments, input).await {
            Ok(printed) => printed,
            Err(error) => panic!("{error}\n{}", self.last_words().await),
        }
    }

    /// In the namespace of the test's objects.
    async fn here(&self, arguments: &[&str], input: &str) -> String {
        let whole = [&["--namespace", &self.namespace], arguments].concat();
        self.kubectl(&whole, input).await
    }

    /// What the provider's pods are like, and what they said last.
    async fn last_words(&self) -> String {
        let mut told = String::new();
        for arguments in [
            &["describe", "pods"][..],
            &["logs", DEPLOYMENT, "--tail=30"],
            &["get", "leases"],
        ] {
            let whole = [&["--namespace", NAMESPACE], arguments].concat();
            let printed = self.cluster.kubectl(&whole, "").await;
            told.push_str(&printed.unwrap_or_else(|error| error.to_string()));
        }
        told
    }

    /// Makes an object; returns its UID.
    async fn create(&self, object: &Value) -> String {
        let create = ["create", "--filename=-", "--output=jsonpath={.metadata.uid}"];
        self.here(&create, &object.to_string()).await.trim().to_owned()
    }

    /// A Cluster and the DockerCluster that it owns, `c1` both.
    async fn create_cluster(&self) {
        let uid = self.create(&docker_backed("c1")).await;
        self.create(&owned_infrastructure("c1", &uid)).await;
    }

    /// A control plane machine, `first`, with the data that the bootstrap provider would make.
    async fn create_machine(&self) {
        let provisioned = json!({"status": {"initialization": {"infrastructureProvisioned": true}}});
        let patch = format!("--patch={provisioned}");
        let status = [
            "patch",
            "cluster/c1",
            "--subresource=status",
            "--type=merge",
            &patch,
        ];
        self.here(&status, "").await;
        self.create(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "first"},
            "stringData": {"format": "cloud-config", "value": cloud_config()},
        }))
        .await;
        let labels = json!({"cluster.x-k8s.io/cluster-name": "c1", "cluster.x-k8s.io/control-plane": ""});
        let group = "infrastructure.cluster.x-k8s.io";
        let uid = self
            .create(&json!({
                "apiVersion": "cluster.x-k8s.io/v1beta2",
                "kind": "Machine",
                "metadata": {"name": "first", "labels": labels},
                "spec": {
                    "clusterName": "c1",
                    "bootstrap": {"dataSecretName": "first"},
                    "infrastructureRef": {"apiGroup": group, "kind": "DockerMachine", "name": "first"},
                },
            }))
            .await;
        let owner =
            json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": "first", "uid": uid});
        self.create(&json!({
            "apiVersion": format!("{group}/v1beta2"),
            "kind": "DockerMachine",
            "metadata": {"name": "first", "labels": labels, "ownerReferences": [owner]},
            "spec": {"customImage": self.node_image},
        }))
        .await;
    }

    /// The machine is Ready, and so is the Node that it has become, under its id.
    async fn has_a_ready_node(&self) {
        let ready = ["wait", "--for=condition=Ready", "dockermachine/first", TIMEOUT];
        self.here(&ready, "").await;
        let id = "--output=jsonpath={.spec.providerID}";
        let machines = self.here(&["get", "dockermachine/first", id], "").await;
        let container = format!("first.{}", self.namespace);
        let docker = self.cluster.docker();
        let kubectl = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"];
        for (arguments, said) in [
            (
                &["wait", "--for=condition=Ready", "node/first", TIMEOUT][..],
                "condition met",
            ),
            (&["get", "node/first", id], machines.trim()),
        ] {
            let whole = [&kubectl[..], arguments].concat();
            let printed = docker.exec(&container, &whole).await.unwrap();
            assert!(!said.is_empty() && printed.contains(said), "{printed}");
        }
    }

    /// What Docker has of the test's cluster: containers with their state, then networks.
    async fn in_docker(&self) -> Vec<String> {
        let docker = self.cluster.docker();
        let label = format!("label={NAMESPACE_LABEL}={}", self.namespace);
        let containers = [
            "ps",
            "--all",
            "--filter",
            &label,
            "--format",
            "{{.Names}} {{.State}}",
        ];
        let mut found = Vec::new();
        let name = format!("name=^{}$", self.namespace);
        let networks = ["network", "ls", "--filter", &name, "--format", "{{.Name}}"];
        for arguments in [&containers[..], &networks] {
            let printed = docker.run(arguments).await.unwrap();
            found.extend(printed.lines().map(str::to_owned));
        }
        found
    }
}

/// `kubeadm init`, with a pod network and what kubelet needs on this machine.
fn cloud_config() -> String {
    let control_plane = json!({"kind": "KubeadmControlPlane", "spec": {"kubeadmConfigSpec": {}}});
    let mut fitted = fit_for_this_machine(vec![control_plane]);
    let spec = bootstrap_spec(&mut fitted[0]).unwrap();
    let mut init = spec["initConfiguration"].clone();
    init["apiVersion"] = "kubeadm.k8s.io/v1beta4".into();
    init["kind"] = "InitConfiguration".into();
    let cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": "c1",
        "kubernetesVersion": "v1.34.4",
        "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"},
    });
    let mut files = spec["files"].as_array().unwrap().clone();
    files.push(json!({"path": INIT_CONFIG, "content": format!("{init}\n---\n{cluster}\n")}));
    let run = [format!("kubeadm init --config {INIT_CONFIG}")];
    format!("#cloud-config\n{}", json!({"write_files": files, "runcmd": run}))
}

/// The release with this image in its Deployment, as `images` in clusterctl's configuration puts one there.
fn with_image(infrastructure: Infrastructure, image: &str) -> Infrastructure {
    let text = std::fs::read_to_string(&infrastructure.components).unwrap();
    let lines: Vec<_> = text
        .lines()
        .map(|line| match line.split_once("image: ") {
            Some((indent, old)) if old.contains("/capdkc:") => format!("{indent}image: {image}"),
            _ => line.to_owned(),
        })
        .collect();
    let changed = lines.join("\n");
    assert_eq!(changed.matches(image).count(), 1, "the release names one image");
    std::fs::write(&infrastructure.components, changed).unwrap();
    infrastructure
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_as_clusterctl_installs_it_the_provider_is_a_pod_that_makes_a_cluster_and_leaves_nothing() {
    let _turn = TURN.lock().await;
    let bed = Bed::start().await;
    let rollout = ["--namespace", NAMESPACE, "rollout", "status", DEPLOYMENT, TIMEOUT];
    bed.kubectl(&rollout, "").await;
    bed.kubectl(&["create", "namespace", &bed.namespace], "").await;
    bed.create_cluster().await;
    let provisioned = [
        "wait",
        "--for=jsonpath={.status.initialization.provisioned}=true",
        "dockercluster/c1",
        TIMEOUT,
    ];
    bed.here(&provisioned, "").await;
    let balancer = format!("c1_lb.{} running", bed.namespace);
    assert_eq!(bed.in_docker().await, [balancer, bed.namespace.clone()]);
    let port = ["get", "dockercluster/c1", "--output=jsonpath={.status.hostPort}"];
    let port: u16 = bed.here(&port, "").await.trim().parse().unwrap();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    bed.create_machine().await;
    bed.has_a_ready_node().await;

    let all = [
        "dockermachine/first",
        "machine/first",
        "dockercluster/c1",
        "cluster/c1",
    ];
    let delete = [&["delete"], &all[..], &[TIMEOUT]].concat();
    bed.here(&delete, "").await;
    assert_eq!(bed.in_docker().await, Vec::<String>::new());
    let restarts = "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let restarts = ["--namespace", NAMESPACE, "get", "pods", restarts];
    assert_eq!(bed.kubectl(&restarts, "").await.trim(), "0");

    let uninstall = [
        "delete",
        "--infrastructure",
        "capdkc",
        "--include-crd",
        "--include-namespace",
    ];
    bed.kinds.clusterctl.run(&uninstall, &[]).await.unwrap();
    let deadline = Instant::now() + LIMIT;
    let ours = "--selector=cluster.x-k8s.io/provider=infrastructure-capdkc";
    let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    loop {
        let left = bed.kubectl(&["get", kinds, ours, "--output=name"], "").await;
        if left.trim().is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "still there: {left}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
