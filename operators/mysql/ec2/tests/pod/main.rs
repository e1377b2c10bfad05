//! The shipped program as a pod of a real cluster, with the rights that `rbac.yaml` gives it and no others.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lints' own exceptions do not reach their helper functions"
)]

use std::{path::Path, time::Duration};

use fake_ec2::{FakeEc2, Faults, Options, State};
use kube::{Api, ResourceExt as _};
use mysql_api::{
    MySQLCluster,
    cluster::{MySQLClusterStatus, Phase},
};
use mysql_controller::identity::{CLUSTER_UID, ORDINAL};
use reconcile::clock::Clock;
use testkit::{cluster::Cluster, image::Images, process::Janitor};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(3);
/// Machines boot and end between two looks of the operator, which has the time of everybody in its pod.
const SPEED: u32 = 100;
/// The example's name.
const NAME: &str = "orders";

/// Removes what a test has made. `$1` is Docker, `$2` the control plane's node, `$3` the namespace. The finalizers go
/// by force: neither the operator nor its EC2 may be there any more.
const SWEEP: &str = r#"docker=$1; node=$2; namespace=$3
k() { "$docker" exec "$node" kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace="$namespace" "$@"; }
k delete mysqlclusters --all --wait=false
for cluster in $(k get mysqlclusters --output=name); do
    k patch "$cluster" --type=merge --patch='{"metadata":{"finalizers":null}}'
done
k delete --wait=false --ignore-not-found "namespace/$namespace" "clusterrolebinding/$namespace""#;

/// A namespace of the cluster with what the test makes in it, gone when the test ends, however it ends.
struct Namespace {
    cluster: &'static Cluster,
    name: String,
    clusters: Api<MySQLCluster>,
    _janitor: Janitor,
}

impl Namespace {
    async fn new(cluster: &'static Cluster) -> Self {
        let name = format!("mysql-smoke-{}", std::process::id());
        let docker = cluster.docker().program().to_string_lossy().into_owned();
        let arguments = [docker, cluster.nodes().remove(0), name.clone()];
        let janitor = Janitor::engage(SWEEP, &arguments).unwrap();
        let clusters = Api::namespaced(cluster.client(), &name);
        cluster
            .kubectl(&["create", "namespace", &name], "")
            .await
            .unwrap();
        Self {
            cluster,
            name,
            clusters,
            _janitor: janitor,
        }
    }

    /// Runs kubectl in it. A failure shows what the operator last said.
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
            ["get", "pods,mysqlclusters", "--output=wide"],
            ["logs", "deployment/operator", "--tail=30"],
        ] {
            let whole = [&["--namespace", &self.name], &arguments[..]].concat();
            let printed = self.cluster.kubectl(&whole, "").await;
            seen.push_str(&printed.unwrap_or_else(|error| error.to_string()));
            seen.push('\n');
        }
        seen
    }

    async fn pods(&self) -> String {
        self.kubectl(&["get", "pods", "--selector=app=operator", "--output=name"], "")
            .await
    }

    async fn status(&self) -> MySQLClusterStatus {
        let cluster = self.clusters.get(NAME).await.unwrap();
        cluster.status.unwrap_or_default()
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

    /// Installs the operator as a pod and waits until it is ready.
    async fn install(&self, endpoint: &str) {
        let images = Images::new(self.cluster.docker());
        let program = Path::new(env!("CARGO_BIN_EXE_mysql-operator"));
        let image = images.of_program("mysql-operator", program).await.unwrap();
        self.cluster.load_image(&image).await.unwrap();
        let manifests = [
            file("../../../crds/mysqlclusters.mysql.alx.ke.yaml"),
            file("../controller/rbac.yaml"),
            file("tests/pod/operator.yaml")
                .replace("NAMESPACE", &self.name)
                .replace("IMAGE", &image)
                .replace("ENDPOINT", endpoint),
        ];
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.kubectl(&apply, &manifests.join("\n---\n")).await;
        let available = [
            "wait",
            "--for=condition=Available",
            "deployment/operator",
            "--timeout=120s",
        ];
        self.kubectl(&available, "").await;
    }

    async fn kill_the_pod(&self) {
        let kill = [
            "delete",
            "pods",
            "--selector=app=operator",
            "--grace-period=0",
            "--force",
        ];
        self.kubectl(&kill, "").await;
    }
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// From the second launch on no answer arrives, and no listing tells what came of it.
const SILENCE: &str = "RunInstances#2+=lose; DescribeInstances#2+=InternalError";

/// An EC2 that pods reach, and that falls silent.
async fn ec2(cluster: &Cluster) -> FakeEc2 {
    let host = cluster.host_address().await.unwrap();
    FakeEc2::start(&Options {
        faults: SILENCE.parse().unwrap(),
        clock: Clock::accelerated(SPEED),
        listen: (host, 0).into(),
        ..Options::default()
    })
    .unwrap()
}

/// The numbers of the members for which an instance was ever made, one for each instance.
fn launched(ec2: &FakeEc2, uid: &str) -> Vec<String> {
    let all = ec2.world().instances();
    let mut numbers: Vec<_> = all
        .iter()
        .map(|instance| {
            assert_eq!(instance.tags[CLUSTER_UID], uid, "no instance is anybody else's");
            instance.tags[ORDINAL].clone()
        })
        .collect();
    numbers.sort();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_as_a_pod_it_launches_each_member_once_although_its_pod_is_killed_and_leaves_none() {
    reconcile::cli::install_crypto_provider();
    let cluster = Cluster::shared().await.unwrap();
    let namespace = Namespace::new(cluster).await;
    let ec2 = ec2(cluster).await;
    namespace.install(&ec2.endpoint()).await;
    let example = file("../../../examples/mysql/three-zones.yaml");
    namespace.kubectl(&["apply", "--filename=-"], &example).await;
    let uid = namespace.clusters.get(NAME).await.unwrap().uid().unwrap();

    namespace
        .eventually("a launch whose answer is lost has been made", async || {
            launched(&ec2, &uid).len() > 1
        })
        .await;
    let first = namespace.pods().await;
    namespace.kill_the_pod().await;
    let launches = namespace.status().await.launches;
    assert!(
        launches.iter().any(|launch| launch.instance_id.is_none()),
        "what came of a launch is not known when it is killed: {launches:#?}"
    );
    ec2.world().set_faults(Faults::default());

    namespace
        .eventually("every instance runs", async || {
            namespace.status().await.phase == Some(Phase::Provisioned)
        })
        .await;
    assert_eq!(launched(&ec2, &uid), ["0", "1", "2"]);
    assert_ne!(namespace.pods().await, first, "another pod has finished it");
    let published = [
        "get",
        "service/orders",
        "service/orders-ro",
        "secret/orders-binding",
    ];
    namespace.kubectl(&published, "").await;

    let delete = ["delete", "mysqlcluster/orders", "--timeout=120s"];
    namespace.kubectl(&delete, "").await;
    let world = ec2.world();
    assert!(
        world
            .instances()
            .iter()
            .all(|instance| instance.state == State::Terminated)
    );
    assert_eq!(
        launched(&ec2, &uid).len(),
        3,
        "nothing was launched while it ended"
    );
    assert!(world.volumes().is_empty() && world.interfaces().is_empty());
    let reasons = [
        "get",
        "events.events.k8s.io",
        "--output=jsonpath={.items[*].reason}",
    ];
    let reasons = namespace.kubectl(&reasons, "").await;
    assert!(
        reasons.contains("CleanupComplete") && !reasons.contains("PermissionDenied"),
        "{reasons}"
    );
}
