//! The shipped program as pods of a real cluster, installed from its chart with the rights that the chart gives it and
//! no others, under the restricted Pod Security Standard.

mod servers;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use fake_ec2::{FakeEc2, Faults, Options, State};
use kube::{Api, ResourceExt as _};
use mysql_api::{
    MySQLCluster,
    cluster::{MySQLClusterStatus, Phase},
};
use mysql_controller::identity::{CLUSTER_UID, ORDINAL};
use reconcile::clock::Clock;
use serde_json::{Value, json};
use testkit::{
    cluster::{
        Cluster,
        installation::{CRASH, Installation, Plan, UPDATE},
    },
    image::{Image, Images},
};

/// Machines boot and end between two looks of the operator, which has the time of everybody in its pod.
const SPEED: u32 = 100;
/// Two installations of one chart have the CRDs of one: one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// The example's name.
const NAME: &str = "orders";

const PLAN: Plan = Plan {
    chart: "nairobi-mysql",
    name: "mysql-smoke",
    kinds: "mysqlclusters,mysqls",
    pod_security: "restricted",
    everywhere: &[
        "nodes get",
        "persistentvolumes get create patch delete",
        "storageclasses.storage.k8s.io list",
    ],
    sweep: "",
};

/// What the operator is installed with, for this EC2. That takes any key. The machine may be an instance of the real
/// one, which is none of the test's business.
fn values(endpoint: &str) -> Value {
    json!({
        "extraArgs": [format!("--aws-endpoint-url={endpoint}")],
        "extraEnv": [
            {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
            {"name": "AWS_ACCESS_KEY_ID", "value": "AKIDTEST"},
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "secret"},
        ],
    })
}

async fn status(clusters: &Api<MySQLCluster>) -> Result<MySQLClusterStatus> {
    Ok(clusters.get(NAME).await?.status.unwrap_or_default())
}

fn file(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What stays of the database `notes`, for a moment or for ever.
const OF_THE_BACKUP: [&str; 3] = [
    "persistentvolumeclaim/backup-notes-pvc",
    "job.batch/backup-notes-job",
    "pod/backup-notes-job-",
];

/// From the second launch on no answer arrives.
const LOSING: &str = "RunInstances#2+=lose";
/// And no listing tells what came of it: each shows what was a part of this ago, of EC2's time.
const BLIND: Duration = Duration::from_hours(100_000);

/// An EC2 that pods reach.
async fn ec2(cluster: &Cluster) -> Result<FakeEc2> {
    let host = cluster.host_address().await?;
    let ec2 = FakeEc2::start(&Options {
        faults: LOSING.parse()?,
        clock: Clock::accelerated(SPEED),
        listen: (host, 0).into(),
        ..Options::default()
    })?;
    ec2.world().set_lag(BLIND);
    Ok(ec2)
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

/// The lines of the checklist that need pods: probes answer, and of three replicas one acts.
async fn three_answer_and_one_acts(operator: &Installation) -> Result<()> {
    let deployment = format!("deployment/{}-controller-manager", operator.name());
    operator
        .kubectl(&["scale", &deployment, "--replicas=3"], "")
        .await?;
    operator
        .kubectl(&["rollout", "status", &deployment, "--timeout=120s"], "")
        .await?;
    let pods = operator.pods().await?;
    ensure!(pods.len() == 3, "{pods:?}");
    for pod in &pods {
        for path in ["/healthz", "/readyz"] {
            let said = operator.asked(pod, 8081, path).await?;
            ensure!(said.trim() == "ok", "{pod}{path}: {said}");
        }
    }
    operator
        .eventually("one replica says that it acts", async || {
            let mut leading = 0;
            for pod in &pods {
                let metrics = operator.asked(pod, 8080, "/metrics").await?;
                let leads =
                    |line: &str| line.starts_with("leader_election_master_status{") && line.ends_with(" 1");
                leading += metrics.lines().filter(|line| leads(line)).count();
            }
            Ok(leading == 1)
        })
        .await?;
    let leases = operator.kubectl(&["get", "lease", "--output=name"], "").await?;
    ensure!(leases.lines().count() == 1, "{leases}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_as_a_pod_it_launches_each_member_once_although_its_pod_is_killed_and_leaves_none() -> Result<()>
{
    let _alone = ALONE.lock().await;
    reconcile::cli::install_crypto_provider();
    let operator = Installation::prepare(Cluster::shared().await?, PLAN).await?;
    let ec2 = ec2(operator.cluster()).await?;
    let program = Path::new(env!("CARGO_BIN_EXE_mysql-operator"));
    operator.install(program, &values(&ec2.endpoint())).await?;
    operator.test().await?;
    three_answer_and_one_acts(&operator).await?;
    let example = file("../../../examples/mysql/three-zones.yaml")?;
    for namespace in [&operator.add_neighbour().await?, operator.name()] {
        let apply = ["--namespace", namespace, "apply", "--filename=-"];
        operator.kubectl(&apply, &example).await?;
    }
    let clusters: Api<MySQLCluster> = Api::namespaced(operator.cluster().client(), operator.name());
    let uid = clusters.get(NAME).await?.uid().context("no UID")?;

    operator
        .eventually("a launch whose answer is lost has been made", async || {
            Ok(launched(&ec2, &uid).len() > 1)
        })
        .await?;
    operator
        .eventually("what came of a launch is not known", async || {
            let launches = status(&clusters).await?.launches;
            Ok(launches.iter().any(|launch| launch.instance_id.is_none()))
        })
        .await?;
    let handover = operator.kill_leader().await?;
    let launches = status(&clusters).await?.launches;
    ensure!(
        launches.iter().any(|launch| launch.instance_id.is_none()),
        "what came of a launch is not known when it is killed: {launches:#?}"
    );
    ec2.world().set_faults(Faults::default());
    ec2.world().set_lag(Duration::ZERO);
    operator
        .eventually("every instance runs", async || {
            Ok(status(&clusters).await?.phase == Some(Phase::Provisioned))
        })
        .await?;
    ensure!(launched(&ec2, &uid) == ["0", "1", "2"]);
    operator.spares_its_neighbour().await?;
    let published = [
        "get",
        "service/orders",
        "service/orders-ro",
        "secret/orders-binding",
    ];
    operator.kubectl(&published, "").await?;
    let gap = operator.update().await?;
    ensure!(gap < UPDATE, "nobody led for {gap:?} during an update");
    let crash = operator.takeover(&handover).await?;
    ensure!(crash < CRASH, "nobody led for {crash:?} after a crash");
    testkit::progress::line(&format!(
        "mysql-operator: crash to takeover {crash:?}, longest gap of an update {gap:?}"
    ));
    it_leaves_none(&operator, &ec2, &uid).await?;
    it_runs_a_database_inside_the_cluster(&operator).await?;
    let left = operator.uninstall().await?;
    let lease = format!("lease.coordination.k8s.io/{}", operator.name());
    // Of a database its backup stays, and for a moment who took it.
    let made: Vec<_> = left
        .iter()
        .filter(|name| **name != lease && !OF_THE_BACKUP.iter().any(|of| name.starts_with(of)))
        .collect();
    ensure!(made.is_empty(), "{left:?}");
    Ok(())
}

/// The example, with the image that is there, and nothing else changed: ready, written to, and gone.
async fn it_runs_a_database_inside_the_cluster(operator: &Installation) -> Result<()> {
    let image = Images::new(operator.cluster().docker())
        .ensure(Image::Mysql)
        .await?;
    let example = file("../../../examples/database/minimal.yaml")?;
    ensure!(example.contains("mysql:8.4"), "{example}");
    let manifest = example.replace("mysql:8.4", &image);
    operator.kubectl(&["apply", "--filename=-"], &manifest).await?;
    let ready = ["wait", "--for=condition=Ready", "mysql/notes", "--timeout=6m"];
    operator.kubectl(&ready, "").await?;
    let password = "--template={{.data.password | base64decode}}";
    let password = operator
        .kubectl(&["get", "secret/notes-binding", password], "")
        .await?;
    let (password, statement) = (
        format!("-p{password}"),
        "CREATE TABLE t (id INT); SELECT COUNT(*) FROM t",
    );
    let client = [
        "mysql",
        "-uroot",
        &password,
        "--skip-column-names",
        "notes",
        "-e",
        statement,
    ];
    let query = [&["exec", "deployment/notes", "--"], &client[..]].concat();
    let counted = operator.kubectl(&query, "").await?;
    ensure!(counted.trim() == "0", "{counted}");
    operator
        .kubectl(&["delete", "mysql/notes", "--timeout=6m"], "")
        .await?;
    // What it owned is collected in the background.
    for gone in [
        &["persistentvolumeclaim/notes-pvc"][..],
        &["pod", "--selector=app=notes"],
    ] {
        let wait = [&["wait", "--for=delete", "--timeout=6m"], gone].concat();
        operator.kubectl(&wait, "").await?;
    }
    Ok(())
}

async fn it_leaves_none(operator: &Installation, ec2: &FakeEc2, uid: &str) -> Result<()> {
    let delete = ["delete", "mysqlcluster/orders", "--timeout=120s"];
    operator.kubectl(&delete, "").await?;
    let world = ec2.world();
    let instances = world.instances();
    ensure!(
        instances
            .iter()
            .all(|instance| instance.state == State::Terminated)
    );
    ensure!(
        launched(ec2, uid).len() == 3,
        "nothing was launched after its pod was killed"
    );
    ensure!(world.volumes().is_empty() && world.interfaces().is_empty());
    let reasons = [
        "get",
        "events.events.k8s.io",
        "--output=jsonpath={.items[*].reason}",
    ];
    let reasons = operator.kubectl(&reasons, "").await?;
    ensure!(
        reasons.contains("CleanupComplete") && !reasons.contains("PermissionDenied"),
        "{reasons}"
    );
    Ok(())
}
