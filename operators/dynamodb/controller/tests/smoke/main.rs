//! The shipped program as a pod of a real cluster, with the rights that `rbac.yaml` gives it and no others.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lints' own exceptions do not reach their helper functions"
)]

use std::{net::SocketAddr, path::Path, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use testkit::{
    cluster::Cluster,
    dynamodb::{Fill, KeyType, Server, Table},
    image::Images,
    process::Janitor,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

const LIMIT: Duration = Duration::from_mins(3);
const ITEMS: u64 = 2000;
/// Slow enough for the pod to be killed in mid-run.
const WCU_PER_SECOND: u32 = 250;
const UNTOUCHED: u64 = 40;

/// A namespace of the cluster with what the test makes in it, gone when the test ends, however it ends.
struct Namespace {
    cluster: &'static Cluster,
    name: String,
    _janitor: Janitor,
}

impl Namespace {
    async fn new(cluster: &'static Cluster) -> Self {
        let name = format!("dynamodb-smoke-{}", std::process::id());
        let docker = cluster.docker().program().to_string_lossy().into_owned();
        let script = r#""$1" exec "$2" kubectl --kubeconfig=/etc/kubernetes/admin.conf delete --wait=false \
                        --ignore-not-found "namespace/$3" "clusterrolebinding/$3""#;
        let arguments = [docker, cluster.nodes().remove(0), name.clone()];
        let janitor = Janitor::engage(script, &arguments).unwrap();
        let namespace = Self {
            cluster,
            name,
            _janitor: janitor,
        };
        cluster
            .kubectl(&["create", "namespace", &namespace.name], "")
            .await
            .unwrap();
        namespace
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
            ["get", "pods,ddbctldpjobs", "--output=wide"],
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
}

/// Makes `server`, which listens on loopback, reachable from the cluster's pods; returns its address for them.
async fn published(cluster: &Cluster, server: &Server) -> SocketAddr {
    let host = cluster.host_address().await.unwrap();
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let (address, target) = (listener.local_addr().unwrap(), server.address());
    tokio::spawn(async move {
        while let Ok((mut pod, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    // Either side may hang up.
                    tokio::io::copy_bidirectional(&mut pod, &mut server).await.ok();
                }
            });
        }
    });
    address
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn partition(number: u64) -> AttributeValue {
    AttributeValue::S(format!("tenant-{number}"))
}

async fn filled(server: &Server) -> Table {
    let table = Table::new("Orders", "tenant", KeyType::S).sorted_by("order", KeyType::S);
    server.create_table(&table).await.unwrap();
    for (number, items) in [(1, ITEMS), (11, UNTOUCHED)] {
        let fill = Fill::new(partition(number), 0..items);
        server.fill(&table, &fill).await.unwrap();
    }
    table
}

/// Installs the operator as a pod and waits until it is ready.
async fn install(namespace: &Namespace, endpoint: &str) {
    let images = Images::new(namespace.cluster.docker());
    let program = Path::new(env!("CARGO_BIN_EXE_dynamoctl"));
    let image = images.of_program("dynamoctl", program).await.unwrap();
    namespace.cluster.load_image(&image).await.unwrap();
    let manifests = [
        file("../../../crds/ddbctldpjobs.dynamoctl.dp.operators.sanjivmadhavan.io.yaml"),
        file("rbac.yaml"),
        file("tests/smoke/operator.yaml")
            .replace("NAMESPACE", &namespace.name)
            .replace("IMAGE", &image)
            .replace("ENDPOINT", endpoint),
    ];
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
    namespace.kubectl(&apply, &manifests.join("\n---\n")).await;
    let available = [
        "wait",
        "--for=condition=Available",
        "deployment/operator",
        "--timeout=120s",
    ];
    namespace.kubectl(&available, "").await;
}

fn job(endpoint: &str) -> String {
    serde_json::json!({
        "apiVersion": "dynamoctl.dp.operators.sanjivmadhavan.io/v1alpha1",
        "kind": "DdbctlDpJob",
        "metadata": { "name": "tenant-1" },
        "spec": {
            "tableName": "Orders",
            "partitionValue": "tenant-1",
            "endpointURL": endpoint,
            "maxWcuPerSecond": WCU_PER_SECOND,
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_as_a_pod_it_empties_a_partition_although_its_pod_is_killed_in_mid_run() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = Namespace::new(cluster).await;
    let server = Server::embedded().unwrap();
    let table = filled(&server).await;
    let endpoint = format!("http://{}", published(cluster, &server).await);
    install(&namespace, &endpoint).await;
    namespace
        .kubectl(&["apply", "--filename=-"], &job(&endpoint))
        .await;

    let left = async || server.count_partition(&table, partition(1)).await.unwrap();
    namespace
        .eventually("some items are gone", async || left().await < ITEMS)
        .await;
    let first = namespace.pods().await;
    let kill = [
        "delete",
        "pods",
        "--selector=app=operator",
        "--grace-period=0",
        "--force",
    ];
    namespace.kubectl(&kill, "").await;
    let at_the_kill = left().await;
    assert!(at_the_kill > 0, "it was done before it could be killed");

    let succeeded = [
        "wait",
        "--for=condition=Succeeded",
        "ddbctldpjob/tenant-1",
        "--timeout=120s",
    ];
    namespace.kubectl(&succeeded, "").await;
    assert_eq!(left().await, 0);
    assert_eq!(
        server.count_partition(&table, partition(11)).await.unwrap(),
        UNTOUCHED
    );
    assert_ne!(namespace.pods().await, first, "another pod has finished it");
}
