//! The shipped program as pods of a real cluster, installed from its chart with the rights that the chart gives it: with
//! the node's Docker socket, in a namespace that admits that, and with Docker over TLS under the restricted Pod Security
//! Standard. Cluster API's kinds are its own; its managers are not there, and the tests set the owner that they would set.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use docker_controller::identity::NAMESPACE_LABEL;
use serde_json::json;
use testkit::{
    capi::{self, docker_backed, owned_infrastructure},
    cluster::{
        Cluster,
        installation::{CRASH, Installation, Plan, UPDATE},
    },
    docker::door::Door,
    image::{Image, Images},
};
use tokio::net::TcpStream;

const MODULE: &str = "sigs.k8s.io/cluster-api";
/// How long kubectl waits.
const TIMEOUT: &str = "--timeout=8m";

/// What the client of Docker needs over TLS.
const SECRET: &str = "docker-tls";

/// The namespace's name is the network's too.
const WITH_SOCKET: Plan = Plan {
    chart: "capdkc",
    name: "capdkc-smoke",
    kinds: "dockerclusters",
    pod_security: "privileged",
    everywhere: &[],
    sweep: r#"
"$docker" ps --all --quiet --filter "label=capdkc.cluster.x-k8s.io/namespace=$namespace" |
    xargs -r "$docker" rm --force --volumes
"$docker" rm --force "c1_lb.$namespace"
"$docker" network rm "$namespace""#,
};

const OVER_TLS: Plan = Plan {
    name: "capdkc-tls",
    pod_security: "restricted",
    ..WITH_SOCKET
};

/// The operator and its Docker.
struct Bed {
    operator: Installation,
    balancer_image: String,
    /// Over TLS only.
    _door: Option<Door>,
}

impl Bed {
    async fn start(plan: Plan) -> Result<Self> {
        reconcile::cli::install_crypto_provider();
        let cluster = Cluster::shared().await?;
        let balancer_image = Images::new(cluster.docker()).ensure(Image::Haproxy).await?;
        let operator = Installation::prepare(cluster, plan).await?;
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        cluster.kubectl(&apply, &cluster_api_definitions().await?).await?;
        let mut docker = json!({
            "network": operator.name(),
            "loadBalancerImage": balancer_image,
        });
        let mut door = None;
        if plan.pod_security == "privileged" {
            docker["socket"] = json!({"enabled": true});
        } else {
            let opened = Door::open(cluster.docker(), cluster.host_address().await?).await?;
            let secret = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET},
                "stringData": opened.client.iter().cloned().collect::<BTreeMap<_, _>>(),
            });
            operator
                .kubectl(&["create", "--filename=-"], &secret.to_string())
                .await?;
            docker["host"] = opened.url().into();
            docker["tls"] = json!({"secretName": SECRET});
            door = Some(opened);
        }
        let program = Path::new(env!("CARGO_BIN_EXE_capdkc"));
        operator.install(program, &json!({"docker": docker})).await?;
        Ok(Self {
            operator,
            balancer_image,
            _door: door,
        })
    }

    async fn docker(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let printed = self.operator.cluster().docker().run(arguments).await?;
        Ok(printed.lines().map(str::to_owned).collect())
    }

    /// A Cluster and the DockerCluster that it owns, `c1` both.
    async fn create_cluster(&self, namespace: &str) -> Result<()> {
        let create = [
            "--namespace",
            namespace,
            "create",
            "--filename=-",
            "--output=jsonpath={.metadata.uid}",
        ];
        let cluster = docker_backed("c1");
        let uid = self.operator.kubectl(&create, &cluster.to_string()).await?;
        let infrastructure = owned_infrastructure("c1", uid.trim());
        self.operator
            .kubectl(&create, &infrastructure.to_string())
            .await?;
        Ok(())
    }

    async fn is_provisioned(&self) -> Result<()> {
        let provisioned = [
            "wait",
            "--for=jsonpath={.status.initialization.provisioned}=true",
            "dockercluster/c1",
            TIMEOUT,
        ];
        self.operator.kubectl(&provisioned, "").await?;
        let balancer = format!("c1_lb.{} running", self.operator.name());
        let found = self.in_docker().await?;
        ensure!(
            found == [balancer, self.operator.name().to_owned()],
            "in Docker are {found:?}"
        );
        Ok(())
    }

    /// Deletes the cluster; nothing of it stays in Docker.
    async fn delete_cluster(&self) -> Result<()> {
        let delete = ["delete", "dockercluster/c1", "cluster/c1", TIMEOUT];
        self.operator.kubectl(&delete, "").await?;
        let left = self.in_docker().await?;
        ensure!(left.is_empty(), "left in Docker: {left:?}");
        Ok(())
    }

    /// What Docker has of the test's cluster: containers with their state, then networks.
    async fn in_docker(&self) -> Result<Vec<String>> {
        let label = format!("label={NAMESPACE_LABEL}={}", self.operator.name());
        let containers = [
            "ps",
            "--all",
            "--filter",
            &label,
            "--format",
            "{{.Names}} {{.State}}",
        ];
        let mut found = self.docker(&containers).await?;
        let name = format!("name=^{}$", self.operator.name());
        let networks = ["network", "ls", "--filter", &name, "--format", "{{.Name}}"];
        found.extend(self.docker(&networks).await?);
        Ok(found)
    }
}

/// Those of Cluster API's kinds that are watched, out of its pinned module.
async fn cluster_api_definitions() -> Result<String> {
    let module = capi::module("cluster-api", MODULE).await?;
    let mut found = Vec::new();
    for kind in ["clusters", "machines", "machinepools"] {
        let path = module.join(format!("config/crd/bases/cluster.x-k8s.io_{kind}.yaml"));
        found.push(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?);
    }
    Ok(found.join("\n---\n"))
}

/// A container of somebody else's has the load balancer's name, so that the pod is killed before it could make one.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_as_a_pod_it_makes_a_load_balancer_although_its_pod_is_killed_and_leaves_nothing() -> Result<()>
{
    let bed = Bed::start(WITH_SOCKET).await?;
    let operator = &bed.operator;
    operator.test().await?;
    let balancer = format!("c1_lb.{}", operator.name());
    let theirs = bed
        .docker(&["create", "--name", &balancer, &bed.balancer_image])
        .await?;
    bed.create_cluster(&operator.add_neighbour().await?).await?;
    bed.create_cluster(operator.name()).await?;
    let reasons = [
        "get",
        "dockercluster/c1",
        "--output=jsonpath={.status.conditions[*].reason}",
    ];
    operator
        .eventually("it says that the name is taken", async || {
            Ok(operator.kubectl(&reasons, "").await?.contains("NameConflict"))
        })
        .await?;
    let handover = operator.kill_leader().await?;
    let untouched = bed.docker(&["inspect", "--format", "{{.Id}}", &balancer]).await?;
    ensure!(untouched == theirs, "somebody else's container stays");
    bed.docker(&["rm", &balancer]).await?;

    bed.is_provisioned().await?;
    let port = ["get", "dockercluster/c1", "--output=jsonpath={.status.hostPort}"];
    let port: u16 = operator.kubectl(&port, "").await?.trim().parse()?;
    TcpStream::connect(("127.0.0.1", port)).await?;
    let gap = operator.update().await?;
    ensure!(gap < UPDATE, "nobody led for {gap:?} during an update");
    let crash = operator.takeover(&handover).await?;
    ensure!(crash < CRASH, "nobody led for {crash:?} after a crash");
    operator.spares_its_neighbour().await?;
    testkit::progress::line(&format!(
        "capdkc: crash to takeover {crash:?}, longest gap of an update {gap:?}"
    ));

    bed.delete_cluster().await?;
    let left = operator.uninstall().await?;
    ensure!(
        left == [format!("lease.coordination.k8s.io/{}", operator.name())],
        "{left:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_over_tls_it_needs_no_more_than_the_restricted_pod_security_standard() -> Result<()> {
    let bed = Bed::start(OVER_TLS).await?;
    bed.create_cluster(bed.operator.name()).await?;
    bed.is_provisioned().await?;
    bed.delete_cluster().await?;
    let left = bed.operator.uninstall().await?;
    let lease = format!("lease.coordination.k8s.io/{}", bed.operator.name());
    ensure!(left == [format!("secret/{SECRET}"), lease], "{left:?}");
    Ok(())
}
