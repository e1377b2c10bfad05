//! The operator's process, seen from both sides.

use std::{
    env,
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fake_ec2::{Account, FakeEc2, Limits, Options as Ec2Options, State, Subnet};
use kube::Api;
use mysql_api::MySQLCluster;
use mysql_controller::{
    act::Operator,
    controllers::mysqlcluster::{self, Clusters},
    desired::Settings,
    identity::ORDINAL,
    limiter::Limited,
    lookout::{self, Lookout},
    metrics::ClusterMetrics,
    reader::Reader,
};
use mysql_ec2::Ec2;
use reconcile::{Manager, clock::Clock, manager, telemetry};
use serde_json::{Value, json};
use testkit::{
    bench::{Exposition, Usage},
    control_plane::{self, ControlPlane, TestNamespace},
    process::{ScratchFolder, Supervised, free_address},
};

use crate::servers::Memory;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long anything may take.
const DEADLINE: Duration = Duration::from_mins(15);
/// Clusters that are worked on at a time: the default of what ships.
const CONCURRENCY: usize = 8;

/// Arguments of the operator's process.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    kubeconfig: String,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    metrics: SocketAddr,
    #[arg(long)]
    speed: u32,
}

/// Runs the operator, as its binary assembles it.
pub(crate) async fn operate(args: Args) -> Result<()> {
    telemetry::init("info", telemetry::LogFormat::Json)?;
    let kubeconfig = kube::config::Kubeconfig::read_from(&args.kubeconfig)?;
    let choices = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &choices).await?;
    let mut options = manager::Options::new("mysql-operator");
    options.namespaces = vec![args.namespace];
    options.metrics_address = args.metrics.to_string();
    options.clock = Clock::accelerated(args.speed);
    // The API server is not what is measured.
    options.qps = 0.0;
    let settings = Settings::default();
    let ec2 = Ec2::from_environment(Some(&args.endpoint), &settings.region).await;
    let cloud = Arc::new(Limited::new(ec2, options.clock.clone()));
    let operator = Operator {
        reader: Reader::new(cloud.clone(), &settings.operator_id, options.clock.clone()),
        cloud,
        operator_id: settings.operator_id.clone(),
        clock: options.clock.clone(),
    };
    let manager = Manager::new(options, config);
    let metrics = ClusterMetrics::new(manager.metrics().registry())?;
    let (lookout, changes) = Lookout::new(&operator.reader, &operator.clock, lookout::INTERVAL);
    let clusters = Clusters::new(operator, lookout.clone(), Memory::default(), settings, metrics);
    manager
        .register(
            mysqlcluster::controller(clusters)
                .wakes(changes)
                .concurrency(CONCURRENCY),
        )
        .background("lookout", |_| lookout.run())
        .run(manager::shutdown_signal()?)
        .await?;
    Ok(())
}

/// What all operators of the benchmark share.
pub(crate) struct Bed {
    pub(crate) plane: ControlPlane,
    folder: ScratchFolder,
}

impl Bed {
    pub(crate) async fn start() -> Result<Self> {
        let options = control_plane::Options {
            without_controllers: true,
            ..control_plane::Options::default()
        };
        let plane = ControlPlane::start(options).await?;
        plane.apply_crds(&mysql_api::crds()).await?;
        Ok(Self {
            plane,
            folder: ScratchFolder::create("bench-mysqlcluster")?,
        })
    }
}

/// An operator with an EC2 of its own.
pub(crate) struct Site {
    pub(crate) ec2: FakeEc2,
    pub(crate) clusters: Api<MySQLCluster>,
    pub(crate) namespace: TestNamespace,
    process: Supervised,
    metrics: SocketAddr,
    consoles: tokio::task::JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.consoles.abort();
    }
}

impl Site {
    pub(crate) async fn start(bed: &Bed, speed: u32) -> Result<Self> {
        let namespace = bed.plane.namespace().await?;
        let ec2 = FakeEc2::start(&Ec2Options {
            account: account(),
            limits: Limits::Documented,
            clock: Clock::accelerated(speed),
            ..Ec2Options::default()
        })?;
        let metrics = free_address()?;
        let mut command = Command::new(env::current_exe().context("cannot find this program")?);
        command
            .arg("operate")
            .args(["--namespace", namespace.name(), "--endpoint", &ec2.endpoint()])
            .args(["--metrics", &metrics.to_string(), "--speed", &speed.to_string()])
            .arg("--kubeconfig")
            .arg(bed.plane.kubeconfig_path())
            .env("AWS_ACCESS_KEY_ID", "AKIDBENCH")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        let log = bed.folder.path().join(format!("{}.log", namespace.name()));
        let process = Supervised::spawn("mysql-operator", &command, &log)?;
        Ok(Self {
            clusters: Api::namespaced(bed.plane.client(), namespace.name()),
            consoles: tokio::spawn(print(ec2.world().clone())),
            ec2,
            namespace,
            process,
            metrics,
        })
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    pub(crate) async fn metrics(&self) -> Result<Exposition> {
        Exposition::scrape(self.metrics).await
    }

    /// Waits until `holds`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self).await.unwrap_or_default() {
            self.process.check()?;
            ensure!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

/// The default account with subnets that hold thousands of instances.
fn account() -> Account {
    let mut account = Account::default();
    if let Some(region) = account.regions.get_mut("us-east-1") {
        let template = region.subnets.clone();
        for index in 0..24u32 {
            let like = &template[usize::try_from(index).unwrap_or_default() % template.len()];
            region.subnets.push(Subnet {
                id: subnet(index),
                prefix: format!("10.9.{index}"),
                ..like.clone()
            });
        }
    }
    account
}

fn subnet(index: u32) -> String {
    format!("subnet-{:08x}", 0xbe00_0000 + index)
}

/// The spec of the `number`-th cluster: three members in three zones, spread over the subnets.
pub(crate) fn spec(number: usize) -> Value {
    let base = u32::try_from(number % 8).unwrap_or_default() * 3;
    json!({"replicas": 3, "aws": {
        "ami": "ami-0c02fb55956c7d316",
        "instanceType": "t3.micro",
        "subnetId": subnet(base),
        "subnetIds": [subnet(base + 1), subnet(base + 2)],
        "securityGroupIds": ["sg-12345678"],
    }})
}

/// Lets each instance print a certificate when it runs.
async fn print(world: fake_ec2::World) {
    let mut printed = std::collections::HashSet::new();
    loop {
        for instance in world.instances() {
            if instance.state != State::Running || !printed.insert(instance.id.clone()) {
                continue;
            }
            let tag = |key: &str| instance.tags.get(key).cloned().unwrap_or_default();
            let member = format!("{}-{}", tag("Name").trim_start_matches("mysql-"), tag(ORDINAL));
            let mut der = vec![0x30, 0x81, u8::try_from(instance.id.len()).unwrap_or_default()];
            der.extend_from_slice(instance.id.as_bytes());
            let certificate = BASE64_STANDARD.encode(der);
            let text = format!("\nMEMBER-CERTIFICATE-BEGIN {member} {certificate} MEMBER-CERTIFICATE-END\n");
            world.set_console(&instance.id, &text);
        }
        tokio::time::sleep(POLL).await;
    }
}
