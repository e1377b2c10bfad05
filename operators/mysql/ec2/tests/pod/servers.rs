//! Real MySQL on the simulated EC2, formed by the operator as a pod, and reached by other pods. The instances' network is one
//! that the cluster's nodes have a leg in, as those of a VPC have.

use std::path::Path;

use anyhow::{Result, ensure};
use fake_ec2::{Account, FakeEc2, LABEL, MachineOptions, Machines, Options, State};
use reconcile::clock::Clock;
use testkit::{
    cluster::{
        Cluster,
        installation::{Installation, Plan},
    },
    docker::Docker,
    image::{Image, Images},
    process::Janitor,
};

use crate::{ALONE, PLAN, file, values};

/// Boots are real; what EC2 says of them need not take its time.
const SPEED: u32 = 10;

/// The network of the instances, with the nodes in it.
struct Vpc {
    ec2: FakeEc2,
    machines: Machines,
    docker: Docker,
    network: String,
    nodes: Vec<String>,
    _janitor: Janitor,
}

impl Vpc {
    async fn new(cluster: &Cluster) -> Result<Self> {
        let docker = cluster.docker().clone();
        let image = Images::new(&docker).ensure(Image::Ec2Instance).await?;
        let number = u8::try_from(196 + std::process::id() % 48)?;
        let network = format!("ec2-pods-{}", std::process::id());
        let script = format!(
            r#"docker=$1; network=$2; shift 2
            "$docker" ps --all --quiet --filter label={LABEL}="$network" | xargs -r "$docker" rm --force --volumes
            for node; do "$docker" network disconnect --force "$network" "$node"; done
            "$docker" network rm "$network""#
        );
        let nodes = cluster.nodes();
        let program = docker.program().to_string_lossy().into_owned();
        let arguments = [&[program, network.clone()], &nodes[..]].concat();
        let janitor = Janitor::engage(&script, &arguments)?;
        let ec2 = FakeEc2::start(&Options {
            account: Account::default().within(number),
            clock: Clock::accelerated(SPEED),
            listen: (cluster.host_address().await?, 0).into(),
            ..Options::default()
        })?;
        let machines = MachineOptions {
            docker: docker.program().to_owned(),
            image,
            network: network.clone(),
            range: format!("10.{number}.0.0/16"),
        };
        let machines = Machines::start(ec2.world(), machines)?;
        for node in &nodes {
            docker.run(&["network", "connect", &network, node]).await?;
        }
        Ok(Self {
            ec2,
            machines,
            docker,
            network,
            nodes,
            _janitor: janitor,
        })
    }

    async fn end(self) -> Result<()> {
        for node in &self.nodes {
            let disconnect = ["network", "disconnect", "--force", &self.network, node];
            self.docker.run(&disconnect).await?;
        }
        drop(self.machines);
        let filter = format!("label={LABEL}={}", self.network);
        let left = self
            .docker
            .run(&["ps", "--all", "--quiet", "--filter", &filter])
            .await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_as_a_pod_it_forms_three_servers_that_pods_write_to() -> Result<()> {
    let _alone = ALONE.lock().await;
    reconcile::cli::install_crypto_provider();
    let plan = Plan {
        name: "mysql-servers",
        ..PLAN
    };
    let operator = Installation::prepare(Cluster::shared().await?, plan).await?;
    let vpc = Vpc::new(operator.cluster()).await?;
    let program = Path::new(env!("CARGO_BIN_EXE_mysql-operator"));
    operator.install(program, &values(&vpc.ec2.endpoint())).await?;
    let example = file("../../../examples/mysql/three-zones.yaml")?;
    operator.kubectl(&["apply", "--filename=-"], &example).await?;
    // A client, for which another example does.
    let image = Images::new(operator.cluster().docker())
        .ensure(Image::Mysql)
        .await?;
    let client = file("../../../examples/database/minimal.yaml")?.replace("mysql:8.4", &image);
    operator.kubectl(&["apply", "--filename=-"], &client).await?;
    for object in ["mysql/notes", "mysqlcluster/orders"] {
        let ready = ["wait", "--for=condition=Ready", object, "--timeout=9m"];
        operator.kubectl(&ready, "").await?;
    }
    // As an application would have it, from the Secret alone.
    let secret = async |what: &str| {
        let template = format!("--template={{{{.data.{what} | base64decode}}}}");
        operator
            .kubectl(&["get", "secret/orders-binding", &template], "")
            .await
    };
    let user = format!("-u{}", secret("username").await?);
    let password = format!("-p{}", secret("password").await?);
    let database = secret("database").await?;
    let sql = async |host: &str, statement: &str| {
        let host = format!("-h{host}");
        let words = [
            "exec",
            "deployment/notes",
            "--",
            "mysql",
            &host,
            &user,
            &password,
            "--ssl-mode=REQUIRED",
            "-N",
            &database,
            "-e",
        ];
        operator.kubectl(&[&words[..], &[statement]].concat(), "").await
    };
    sql(
        "orders",
        "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)",
    )
    .await?;
    operator
        .eventually("a replica has the row", async || {
            Ok(sql("orders-ro", "SELECT id FROM t").await?.trim() == "7")
        })
        .await?;
    let deleted = ["delete", "mysqlcluster/orders", "mysql/notes", "--timeout=6m"];
    operator.kubectl(&deleted, "").await?;
    let instances = vpc.ec2.world().instances();
    ensure!(
        instances.len() == 3
            && instances
                .iter()
                .all(|instance| instance.state == State::Terminated),
        "{instances:?}"
    );
    operator.uninstall().await?;
    vpc.end().await
}
