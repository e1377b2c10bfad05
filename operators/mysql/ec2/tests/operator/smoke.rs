//! Real MySQL: instances of the simulated EC2 are containers that boot their own user data, and the operator forms
//! them into one cluster over TLS.

use std::{fmt::Write as _, time::Duration};

use fake_ec2::{
    Account, FakeEc2, LABEL, Limits, MachineOptions, Machines, Options as Ec2Options, StateReason, Timings,
};
use k8s_openapi::api::{core::v1::Secret, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mysql_api::{
    MySQLCluster,
    cluster::{MySQLClusterStatus, Role},
};
use mysql_controller::sql::Sql;
use reconcile::{clock::Clock, manager::Options};
use serde_json::json;
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    docker::Docker,
    image::{Image, Images},
    process::Janitor,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bed::{manager, sample, says, sdk};

const NAME: &str = "real";
/// Boots are real; the operator's waits need not be.
const SPEED: u32 = 10;
const LIMIT: Duration = Duration::from_mins(10);
const ROWS: usize = 10_000;

struct Lab {
    clusters: Api<MySQLCluster>,
    namespace: TestNamespace,
    docker: Docker,
    network: String,
    ec2: FakeEc2,
    machines: Option<Machines>,
    shutdown: CancellationToken,
    _janitor: Janitor,
}

impl Lab {
    async fn new() -> Self {
        reconcile::cli::install_crypto_provider();
        let docker = Docker::connect().await.unwrap();
        let image = Images::new(&docker).ensure(Image::Ec2Instance).await.unwrap();
        let plane = ControlPlane::shared().await.unwrap();
        plane.apply_crds(&mysql_api::crds()).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let network = format!("ec2-{}", namespace.name());
        let script = format!(
            r#"docker=$1; network=$2
            "$docker" ps --all --quiet --filter label={LABEL}="$network" | xargs -r "$docker" rm --force --volumes
            "$docker" network rm "$network""#
        );
        let program = docker.program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(&script, &[program, network.clone()]).unwrap();
        let clock = Clock::accelerated(SPEED);
        let ec2 = FakeEc2::start(&Ec2Options {
            account: Account::default().within(second_number(namespace.name())),
            timings: Timings {
                lag: Duration::from_secs(1),
                ..Timings::default()
            },
            limits: Limits::Unlimited,
            clock: clock.clone(),
            ..Ec2Options::default()
        })
        .unwrap();
        let machines = MachineOptions {
            docker: docker.program().to_owned(),
            image,
            network: network.clone(),
            range: format!("10.{}.0.0/16", second_number(namespace.name())),
        };
        let machines = Machines::start(ec2.world(), machines).unwrap();
        let mut options = Options::new("mysql-operator");
        options.namespaces = vec![namespace.name().to_owned()];
        options.clock = clock;
        let manager = manager(
            options,
            plane.config().clone(),
            &sdk(&ec2.endpoint()),
            Sql::default(),
        );
        let shutdown = CancellationToken::new();
        tokio::spawn(manager.run(shutdown.clone()));
        Self {
            clusters: Api::namespaced(plane.client(), namespace.name()),
            namespace,
            docker,
            network,
            ec2,
            machines: Some(machines),
            shutdown,
            _janitor: janitor,
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(Option<&MySQLCluster>) -> bool) -> MySQLClusterStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.clusters.get_opt(NAME).await.unwrap();
            if holds(found.as_ref()) {
                return found.and_then(|cluster| cluster.status).unwrap_or_default();
            }
            let conditions = found
                .and_then(|cluster| cluster.status)
                .map(|status| status.conditions);
            assert!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}; {conditions:#?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn replicas(&self, replicas: i32) -> MySQLClusterStatus {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.clusters
            .patch(NAME, &PatchParams::default(), &patch)
            .await
            .unwrap();
        let ready = format!("{replicas}/{replicas}");
        self.until(&ready, |cluster| is_ready(cluster, &ready)).await
    }

    /// What a client that was given the binding gets from the server at `address`, asked from the member `through`.
    async fn sql(
        &self,
        through: &str,
        address: &str,
        statement: &str,
    ) -> Result<String, testkit::docker::DockerError> {
        let secrets: Api<Secret> =
            Api::namespaced(self.clusters.clone().into_client(), self.namespace.name());
        let binding = secrets
            .get(&format!("{NAME}-binding"))
            .await
            .unwrap()
            .data
            .unwrap();
        let text = |key: &str| String::from_utf8(binding[key].0.clone()).unwrap();
        let password = format!("--password={}", text("password"));
        let (host, user) = (
            format!("--host={address}"),
            format!("--user={}", text("username")),
        );
        let command = [
            "mysql",
            &host,
            &user,
            &password,
            "--ssl-mode=REQUIRED",
            "--batch",
            "--skip-column-names",
            "app",
        ];
        let container = format!("{}-{through}", self.network);
        self.docker
            .exec_with(&container, &command, statement.as_bytes())
            .await
    }

    /// Changes an option in which MySQL lets no copy differ, and waits until every member was replaced by one that has it.
    async fn roll(&self, before: &MySQLClusterStatus) -> MySQLClusterStatus {
        let options = json!({"spec": {"mySQLOptions": {"collation_server": "utf8mb4_bin"}}});
        self.clusters
            .patch(NAME, &PatchParams::default(), &Patch::Merge(&options))
            .await
            .unwrap();
        let old = before.aws_instance_ids.clone();
        self.until("every member is replaced", |cluster| {
            let status = cluster.and_then(|cluster| cluster.status.as_ref());
            is_ready(cluster, "3/3")
                && says(cluster, "UpToDate", "True", "MembersCurrent")
                && status.is_some_and(|status| status.aws_instance_ids.iter().all(|id| !old.contains(id)))
        })
        .await
    }

    /// The address behind the writer's Service.
    async fn writer(&self) -> String {
        let slices: Api<EndpointSlice> =
            Api::namespaced(self.clusters.clone().into_client(), self.namespace.name());
        let slice = slices.get(NAME).await.unwrap();
        slice.endpoints[0].addresses[0].clone()
    }

    /// Waits until every replica counts this many rows.
    async fn everywhere(&self, status: &MySQLClusterStatus, rows: usize) {
        let deadline = Instant::now() + LIMIT;
        for member in status
            .members
            .iter()
            .filter(|member| member.role == Some(Role::Replica))
        {
            let (id, address) = (
                member.instance_id.as_deref().unwrap(),
                member.private_ip.as_deref().unwrap(),
            );
            loop {
                let counted = self.sql(id, address, "SELECT COUNT(*) FROM t").await;
                if counted.as_deref().ok() == Some(&rows.to_string()) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{} has not {rows} rows: {counted:?}",
                    member.name
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn leftovers(&self) -> String {
        let filter = format!("label={LABEL}={}", self.network);
        self.docker
            .run(&["ps", "--all", "--quiet", "--filter", &filter])
            .await
            .unwrap()
    }
}

fn is_ready(cluster: Option<&MySQLCluster>, count: &str) -> bool {
    let status = cluster.and_then(|cluster| cluster.status.as_ref());
    says(cluster, "Ready", "True", "Replicating")
        && status.is_some_and(|status| status.ready.as_deref() == Some(count))
}

/// The second number of the addresses of a lab: labs beside one another have different ones.
fn second_number(namespace: &str) -> u8 {
    64 + namespace
        .bytes()
        .fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte))
        % 128
}

fn rows(from: usize, to: usize) -> String {
    let mut statement = String::from("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY);\n");
    // More transactions than a new member repeats: it becomes a copy.
    for chunk in (from..to).collect::<Vec<_>>().chunks(50) {
        let values: Vec<_> = chunk.iter().map(|id| format!("({id})")).collect();
        let _ = writeln!(statement, "INSERT INTO t VALUES {};", values.join(","));
    }
    statement
}

/// The whole life with real servers: formed, written to, a replica lost and replaced by a copy, grown, shrunk, every
/// member replaced and the primary handed over, gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_three_real_servers_replicate_survive_a_loss_grow_shrink_and_leave_nothing() {
    let mut lab = Lab::new().await;
    let mut spec = sample(3);
    // Small machines on a small host.
    spec["mySQLOptions"] = json!({"performance_schema": "OFF", "innodb_buffer_pool_size": "67108864"});
    let cluster = MySQLCluster::new(NAME, serde_json::from_value(spec).unwrap());
    lab.clusters
        .create(&PostParams::default(), &cluster)
        .await
        .unwrap();
    let status = lab
        .until("three members replicate", |cluster| is_ready(cluster, "3/3"))
        .await;

    let first = status.aws_instance_ids[0].clone();
    let writer = lab.writer().await;
    lab.sql(&first, &writer, &rows(0, ROWS)).await.unwrap();
    lab.everywhere(&status, ROWS).await;
    let replica = &status.members[1];
    let (id, address) = (
        replica.instance_id.clone().unwrap(),
        replica.private_ip.clone().unwrap(),
    );
    let pool = lab.sql(&id, &address, "SELECT @@innodb_buffer_pool_size").await;
    assert_eq!(pool.unwrap().trim(), "67108864", "what a user says comes last");
    let refused = lab
        .sql(&id, &address, "INSERT INTO t VALUES (-1)")
        .await
        .unwrap_err();
    assert!(refused.says("1290"), "a replica takes no writes: {refused}");

    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(lab.ec2.world().terminate(&id, &reason));
    let replaced = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        is_ready(cluster, "3/3") && status.is_some_and(|status| status.members[1].incarnation == 2)
    };
    let status = lab.until("the lost replica is replaced", replaced).await;
    lab.sql(&first, &writer, &rows(ROWS, ROWS + 1000)).await.unwrap();
    lab.everywhere(&status, ROWS + 1000).await;

    let status = lab.replicas(5).await;
    lab.everywhere(&status, ROWS + 1000).await;
    let status = lab.replicas(3).await;
    lab.sql(&first, &writer, &rows(ROWS + 1000, ROWS + 1001))
        .await
        .unwrap();
    lab.everywhere(&status, ROWS + 1001).await;
    let status = lab.roll(&status).await;
    let (through, writer) = (status.aws_instance_ids[1].clone(), lab.writer().await);
    assert_ne!(
        status.primary.as_deref(),
        Some("real-0"),
        "another member takes writes"
    );
    lab.sql(&through, &writer, &rows(ROWS + 1001, ROWS + 1002))
        .await
        .unwrap();
    lab.everywhere(&status, ROWS + 1002).await;
    let collation = lab
        .sql(&through, &writer, "SELECT @@global.collation_server")
        .await;
    assert_eq!(collation.unwrap().trim(), "utf8mb4_bin", "its own after the copy");

    lab.clusters.delete(NAME, &DeleteParams::default()).await.unwrap();
    lab.until("it is gone", |cluster| cluster.is_none()).await;
    let deadline = Instant::now() + LIMIT;
    while !lab.leftovers().await.is_empty() {
        assert!(Instant::now() < deadline, "containers are left");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(lab.ec2.world().volumes().is_empty() && lab.ec2.world().interfaces().is_empty());
    lab.shutdown.cancel();
    drop(lab.machines.take());
}
