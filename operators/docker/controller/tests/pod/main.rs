//! The shipped program as a pod of a real cluster, with the rights of a release and the node's Docker socket. Cluster
//! API's kinds are its own; its managers are not there, and the test sets the owner that they would set.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lints' own exceptions do not reach their helper functions"
)]

use std::{path::Path, process::Command, time::Duration};

use docker_controller::identity::NAMESPACE_LABEL;
use serde_json::json;
use testkit::{
    cluster::Cluster,
    image::{Image, Images},
    process::Janitor,
};
use tokio::{net::TcpStream, time::Instant};

const LIMIT: Duration = Duration::from_mins(3);
/// Of the pods, in the release's Deployment.
const SELECTOR: &str = "--selector=control-plane=controller-manager";
const SERVER: &str = "deployment/capdkc-controller-manager";
const MODULE: &str = "sigs.k8s.io/cluster-api";

/// Removes what a test has made, in the cluster and in Docker. `$1` is Docker, `$2` the control plane's node, `$3` the
/// namespace, which is the network's name too. The operator goes first, so that it makes nothing any more.
const SWEEP: &str = r#"docker=$1; node=$2; namespace=$3
k() { "$docker" exec "$node" kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace="$namespace" "$@"; }
k delete deployments --all --cascade=foreground --timeout=60s
k delete dockerclusters --all --wait=false
for cluster in $(k get dockerclusters --output=name); do
    k patch "$cluster" --type=merge --patch='{"metadata":{"finalizers":null}}'
done
k delete --wait=false --ignore-not-found "namespace/$namespace" "clusterrole/$namespace-manager" \
    "clusterrolebinding/$namespace-manager"
"$docker" ps --all --quiet --filter "label=capdkc.cluster.x-k8s.io/namespace=$namespace" |
    xargs -r "$docker" rm --force --volumes
"$docker" rm --force "c1_lb.$namespace"
"$docker" network rm "$namespace""#;

/// A namespace of the cluster with the operator and its objects, and a network of Docker's of the same name; all gone
/// when the test ends, however it ends.
struct Bed {
    cluster: &'static Cluster,
    name: String,
    balancer_image: String,
    _janitor: Janitor,
}

impl Bed {
    async fn start() -> Self {
        let cluster = Cluster::shared().await.unwrap();
        let images = Images::new(cluster.docker());
        let balancer_image = images.ensure(Image::Haproxy).await.unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_capdkc"));
        let image = images.of_program("capdkc", program).await.unwrap();
        cluster.load_image(&image).await.unwrap();
        let name = format!("capdkc-smoke-{}", std::process::id());
        let docker = cluster.docker().program().to_string_lossy().into_owned();
        let arguments = [docker, cluster.nodes().remove(0), name.clone()];
        let bed = Self {
            cluster,
            name,
            balancer_image,
            _janitor: Janitor::engage(SWEEP, &arguments).unwrap(),
        };
        bed.install(&image).await;
        bed
    }

    async fn install(&self, image: &str) {
        let mut manifests = definitions();
        manifests.push(self.manager(image));
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        let applied = self.cluster.kubectl(&apply, &manifests.join("\n---\n")).await;
        applied.unwrap();
        let available = ["wait", "--for=condition=Available", SERVER, "--timeout=120s"];
        self.kubectl(&available, "").await;
    }

    /// What a release installs beside its kinds, in the test's namespace and for it.
    fn manager(&self, image: &str) -> String {
        let image = format!("image: {image}\n          imagePullPolicy: Never\n");
        let flags = format!(
            "- --leader-elect\n{0}- --leader-elect-preset=fast\n{0}- --namespace={1}\n",
            " ".repeat(12),
            self.name
        );
        let changes = [
            ("capdkc-system", self.name.as_str()),
            ("image: capdkc\n", &image),
            ("- --leader-elect\n", &flags),
            (
                "${CAPDKC_DOCKER_HOST:=unix:///var/run/docker.sock}",
                "unix:///var/run/docker.sock",
            ),
            ("${CAPDKC_DOCKER_NETWORK:=kind}", &self.name),
            (
                "${CAPDKC_LOAD_BALANCER_IMAGE:=kindest/haproxy:v20230606-42a2262b}",
                &self.balancer_image,
            ),
        ];
        changes
            .into_iter()
            .fold(file("../config/manager.yaml"), |text, (from, to)| {
                assert!(text.contains(from), "manager.yaml has no {from:?}");
                text.replace(from, to)
            })
    }

    /// Runs kubectl in the namespace. A failure shows what the operator last said.
    async fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let whole = [&["--namespace", &self.name], arguments].concat();
        match self.cluster.kubectl(&whole, input).await {
            Ok(printed) => printed,
            Err(error) => panic!("{error}\n{}", self.state().await),
        }
    }

    async fn state(&self) -> String {
        let mut seen = String::new();
        for arguments in [
            ["get", "pods,dockerclusters", "--output=wide"],
            ["logs", SERVER, "--tail=30"],
        ] {
            let whole = [&["--namespace", &self.name], &arguments[..]].concat();
            let printed = self.cluster.kubectl(&whole, "").await;
            seen.push_str(&printed.unwrap_or_else(|error| error.to_string()));
            seen.push('\n');
        }
        seen
    }

    async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            assert!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}\n{}",
                self.state().await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn docker(&self, arguments: &[&str]) -> Vec<String> {
        let printed = self.cluster.docker().run(arguments).await.unwrap();
        printed.lines().map(str::to_owned).collect()
    }

    async fn pods(&self) -> String {
        self.kubectl(&["get", "pods", SELECTOR, "--output=name"], "")
            .await
    }

    async fn kill_the_pod(&self) {
        let kill = ["delete", "pods", SELECTOR, "--grace-period=0", "--force"];
        self.kubectl(&kill, "").await;
    }

    /// A Cluster and the DockerCluster that it owns, `c1` both.
    async fn create_cluster(&self) {
        let reference = json!({
            "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DockerCluster", "name": "c1",
        });
        let cluster = json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2",
            "kind": "Cluster",
            "metadata": {"name": "c1"},
            "spec": {"infrastructureRef": reference},
        });
        let create = ["create", "--filename=-", "--output=jsonpath={.metadata.uid}"];
        let uid = self.kubectl(&create, &cluster.to_string()).await;
        let owner = json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "c1", "uid": uid.trim(),
        });
        let infrastructure = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2",
            "kind": "DockerCluster",
            "metadata": {"name": "c1", "ownerReferences": [owner]},
            "spec": {},
        });
        self.kubectl(&create, &infrastructure.to_string()).await;
    }

    /// What Docker has of the test's cluster: containers with their state, then networks.
    async fn in_docker(&self) -> Vec<String> {
        let label = format!("label={NAMESPACE_LABEL}={}", self.name);
        let containers = [
            "ps",
            "--all",
            "--filter",
            &label,
            "--format",
            "{{.Names}} {{.State}}",
        ];
        let mut found = self.docker(&containers).await;
        let name = format!("name=^{}$", self.name);
        let networks = ["network", "ls", "--filter", &name, "--format", "{{.Name}}"];
        found.extend(self.docker(&networks).await);
        found
    }
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Our kinds, and those of Cluster API that are watched, out of its pinned module.
fn definitions() -> Vec<String> {
    let module = cluster_api();
    let theirs = ["clusters", "machines"].map(|kind| {
        let path = format!("{module}/config/crd/bases/cluster.x-k8s.io_{kind}.yaml");
        std::fs::read_to_string(path).unwrap()
    });
    let ours = docker_api::crds();
    let ours = ours.iter().map(|crd| serde_json::to_string(crd).unwrap());
    ours.chain(theirs).collect()
}

/// The folder of Cluster API's module.
fn cluster_api() -> String {
    let go = |arguments: &[&str]| {
        let output = Command::new("go")
            .args(arguments)
            .current_dir(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/testkit/tools/cluster-api"
            ))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "go {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    go(&["mod", "download", MODULE]);
    go(&["list", "-m", "-f", "{{.Dir}}", MODULE])
}

/// A container of somebody else's has the load balancer's name, so that the pod is killed before it could make one.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_as_a_pod_it_makes_a_load_balancer_although_its_pod_is_killed_and_leaves_nothing() {
    let bed = Bed::start().await;
    let balancer = format!("c1_lb.{}", bed.name);
    let theirs = bed
        .docker(&["create", "--name", &balancer, &bed.balancer_image])
        .await;
    bed.create_cluster().await;
    let reasons = [
        "get",
        "dockercluster/c1",
        "--output=jsonpath={.status.conditions[*].reason}",
    ];
    bed.eventually("it says that the name is taken", async || {
        bed.kubectl(&reasons, "").await.contains("NameConflict")
    })
    .await;
    let first = bed.pods().await;
    bed.kill_the_pod().await;
    let untouched = bed.docker(&["inspect", "--format", "{{.Id}}", &balancer]).await;
    assert_eq!(untouched, theirs, "somebody else's container stays");
    bed.docker(&["rm", &balancer]).await;

    let provisioned = [
        "wait",
        "--for=jsonpath={.status.initialization.provisioned}=true",
        "dockercluster/c1",
        "--timeout=120s",
    ];
    bed.kubectl(&provisioned, "").await;
    assert_ne!(bed.pods().await, first, "another pod has finished it");
    assert_eq!(
        bed.in_docker().await,
        [format!("{balancer} running"), bed.name.clone()]
    );
    let port = ["get", "dockercluster/c1", "--output=jsonpath={.status.hostPort}"];
    let port: u16 = bed.kubectl(&port, "").await.trim().parse().unwrap();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();

    let delete = ["delete", "dockercluster/c1", "cluster/c1", "--timeout=120s"];
    bed.kubectl(&delete, "").await;
    assert_eq!(bed.in_docker().await, Vec::<String>::new());
}
