//! A cluster that an earlier release has left is not touched: neither its objects nor its containers.
//!
//! `golden/<version>.json` has the objects of a cluster of two machines and the lease as the API server stored them under that
//! release, and its containers and networks as the daemon had them. A release writes its own:
//! `GOLDEN=v0.1.0 cargo test --test faults -- can_be_recorded`.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, ensure};
use docker_api::PortProtocol;
use docker_controller::{
    controllers::Settings,
    engine::{ContainerPlan, ContainerState, PublishedPort},
    load_balancer::config::PATH,
    manager::{Concurrency, NAME, assemble},
};
use kube::Config;
use parking_lot::Mutex;
use reconcile::{
    clock::Clock,
    leader::{LeaderConfig, Timing},
    manager::Options,
    metrics::Metrics,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::{
    fault::{FaultPlan, Schedule},
    golden::{self, Upgrade},
};
use tokio_util::sync::CancellationToken;

use crate::{
    daemon::{Daemon, Model},
    docker::Docker,
    objects::{DEADLINE, Objects, definitions, is},
    scene::Scene,
    world::{NETWORK, STRANGER, WORKER, up},
};

const KINDS: [(&str, &str); 6] = [
    ("cluster.x-k8s.io/v1beta2", "Cluster"),
    ("cluster.x-k8s.io/v1beta2", "Machine"),
    ("infrastructure.cluster.x-k8s.io/v1beta2", "DockerCluster"),
    ("infrastructure.cluster.x-k8s.io/v1beta2", "DockerMachine"),
    ("v1", "Secret"),
    ("coordination.k8s.io/v1", "Lease"),
];
const SPEED: u32 = 20;

#[derive(Serialize, Deserialize)]
struct Left {
    objects: Vec<Value>,
    networks: BTreeMap<String, (Ipv4Addr, u8)>,
    containers: Vec<Container>,
}

/// What an operator sees of a container.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Container {
    id: String,
    name: String,
    image: String,
    labels: BTreeMap<String, String>,
    network: String,
    address: Option<Ipv4Addr>,
    /// Ports with those of the host.
    ports: Vec<(u16, Option<u16>)>,
    /// What the load balancer has loaded.
    configuration: String,
}

impl Container {
    fn of(model: &Model) -> Self {
        let plan = &model.plan;
        let ports = plan.ports.iter();
        Self {
            id: model.id.clone(),
            name: plan.name.clone(),
            image: plan.image.clone(),
            labels: plan.labels.clone(),
            network: plan.network.clone(),
            address: plan.address,
            ports: ports.map(|port| (port.container_port, port.host_port)).collect(),
            configuration: String::from_utf8_lossy(&model.loaded).into_owned(),
        }
    }

    /// Has it run in `daemon`.
    fn run(&self, daemon: &mut Daemon) -> Result<()> {
        let published = |&(container_port, host_port): &(u16, Option<u16>)| PublishedPort {
            container_port,
            host_port,
            listen_address: "127.0.0.1".into(),
            protocol: PortProtocol::default(),
        };
        daemon.create(&ContainerPlan {
            name: self.name.clone(),
            image: self.image.clone(),
            labels: self.labels.clone(),
            network: self.network.clone(),
            address: self.address,
            ports: self.ports.iter().map(published).collect(),
            ..ContainerPlan::default()
        })?;
        let model = daemon.find(&self.name)?;
        model.id.clone_from(&self.id);
        model
            .files
            .insert(PATH.to_owned(), self.configuration.clone().into_bytes());
        daemon.start(&self.name)?;
        Ok(())
    }
}

/// The containers of a daemon, the stranger's apart.
fn containers(daemon: &Daemon) -> Vec<Container> {
    let models = daemon.containers.values();
    let ours = models.filter(|model| model.plan.name != STRANGER && model.state == ContainerState::Running);
    ours.map(Container::of).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/golden")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_release_leaves_can_be_recorded() -> Result<()> {
    let scene = Scene::set().await?;
    let (world, shutdown) = (&scene.world, CancellationToken::new());
    let place = (world.plane.config().clone(), world.namespace.name());
    let operator = operator(place, &world.clock, &world.daemon, &shutdown)?;
    up(&scene.world, &scene.objects).await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerCluster", "c1", ready).await?;
    shutdown.cancel();
    operator.ended.await??;
    let objects = &scene.objects;
    let left = {
        let found = golden::objects(&objects.client, &objects.namespace, &KINDS).await?;
        let daemon = scene.world.daemon.lock();
        Left {
            objects: found,
            networks: daemon.networks.clone(),
            containers: containers(&daemon),
        }
    };
    for (_, kind) in KINDS {
        ensure!(
            left.objects.iter().any(|object| object["kind"] == kind),
            "no {kind} is left"
        );
    }
    ensure!(left.containers.len() == 3, "{:?}", left.containers);
    golden::record(&folder(), &left)
}

/// An operator for a namespace, that leads by a lease there.
fn operator(
    (config, namespace): (Config, &str),
    clock: &Clock,
    daemon: &Arc<Mutex<Daemon>>,
    shutdown: &CancellationToken,
) -> Result<Running> {
    let mut options = Options::new(NAME);
    options.namespaces = vec![namespace.to_owned()];
    options.clock = clock.clone();
    options.sync_period = Duration::from_secs(30);
    let mut election = LeaderConfig::new(NAME, namespace);
    election.timing = Timing::FAST;
    options.leader_election = Some(election);
    let docker = Docker {
        daemon: daemon.clone(),
        boundary: FaultPlan::new(Schedule::default()).boundary(),
        noted: Arc::default(),
    };
    let settings = Settings {
        network: NETWORK.into(),
        ..Settings::default()
    };
    let concurrency = Concurrency {
        clusters: 2,
        machines: 4,
    };
    let manager = assemble(docker, settings, concurrency, options, config)?;
    let (metrics, shutdown) = (manager.metrics().clone(), shutdown.clone());
    Ok(Running {
        metrics,
        ended: tokio::spawn(async move { Ok(manager.run(shutdown).await?) }),
    })
}

struct Running {
    metrics: Metrics,
    ended: tokio::task::JoinHandle<Result<()>>,
}

impl Running {
    /// How many passes of a controller have ended like this.
    fn passes(&self, controller: &str, result: &str) -> u64 {
        let text = self.metrics.encode();
        let of = format!("controller_runtime_reconcile_total{{controller=\"{controller}\",");
        let samples = text
            .lines()
            .filter(|line| line.starts_with(&of) && line.contains(result));
        samples
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_releases_have_left_is_not_touched_and_what_happens_meanwhile_is_not_lost() -> Result<()>
{
    for (release, left) in golden::releases::<Left>(&folder())? {
        eprintln!("{release}");
        upgrade(&left).await?;
    }
    Ok(())
}

async fn upgrade(left: &Left) -> Result<()> {
    let mut daemon = Daemon::default();
    daemon.networks.clone_from(&left.networks);
    for container in &left.containers {
        container.run(&mut daemon)?;
    }
    let started = daemon.started.clone();
    let daemon = Arc::new(Mutex::new(daemon));
    let definitions = [definitions(), docker_api::crds()].concat();
    let upgrade = Upgrade::begin(&definitions, &left.objects).await?;
    let shutdown = CancellationToken::new();
    let place = (upgrade.plane.config().clone(), upgrade.namespace());
    let operator = operator(place, &Clock::accelerated(SPEED), &daemon, &shutdown)?;
    let looked = async {
        while operator.passes("dockercluster", "") < 2 || operator.passes("dockermachine", "") < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looked).await?;
    upgrade.untouched(NAME).await?;
    for controller in ["dockercluster", "dockermachine"] {
        ensure!(
            operator.passes(controller, "result=\"error\"") == 0,
            "{controller} fails"
        );
    }
    shutdown.cancel();
    operator.ended.await??;
    {
        let daemon = daemon.lock();
        ensure!(
            containers(&daemon) == left.containers,
            "{:#?}",
            containers(&daemon)
        );
        ensure!(daemon.started == started, "{:?}", daemon.started);
        ensure!(daemon.bootstrapped.is_empty(), "{:?}", daemon.bootstrapped);
        ensure!(daemon.misdeeds.is_empty(), "{:?}", daemon.misdeeds);
    }
    a_deletion_that_nobody_saw_is_carried_out(&upgrade, &daemon).await
}

/// What somebody deletes while no operator runs.
async fn a_deletion_that_nobody_saw_is_carried_out(
    upgrade: &Upgrade,
    daemon: &Arc<Mutex<Daemon>>,
) -> Result<()> {
    let objects = Objects {
        client: upgrade.plane.client(),
        namespace: upgrade.namespace().to_owned(),
    };
    let node = format!("{WORKER}.{}", upgrade.namespace());
    ensure!(daemon.lock().find(&node).is_ok(), "{node} is not there");
    objects.delete("DockerMachine", WORKER).await?;
    let shutdown = CancellationToken::new();
    let place = (upgrade.plane.config().clone(), upgrade.namespace());
    let operator = operator(place, &Clock::accelerated(SPEED), daemon, &shutdown)?;
    objects.wait("DockerMachine", WORKER, Value::is_null).await?;
    ensure!(daemon.lock().find(&node).is_err(), "{node} was left behind");
    shutdown.cancel();
    operator.ended.await??;
    Ok(())
}
