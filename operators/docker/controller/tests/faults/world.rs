//! One cluster of two machines, from creation to the last trace, in a world of its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use docker_controller::{
    controllers::Settings,
    engine::{ContainerPlan, ContainerState},
    load_balancer::config::{Server, render},
    manager::{Concurrency, NAME, assemble},
};
use parking_lot::Mutex;
use reconcile::{client::wire_layer, clock::Clock, manager::Options};
use serde_json::json;
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    fault::{FaultPlan, crash::Harness, kube::FaultLayer, report::Coverage},
};
use tokio_util::sync::CancellationToken;

use crate::{
    daemon::Daemon,
    docker::Docker,
    objects::{Objects, definitions, is, message_of},
};

pub const CONTROL_PLANE: &str = "control-plane";
pub const WORKER: &str = "worker";
/// Somebody else's container.
pub const STRANGER: &str = "stranger";
pub const NETWORK: &str = "nodes";
const SPEED: u32 = 20;
pub const POLL: Duration = Duration::from_millis(20);

pub struct World {
    pub plane: &'static ControlPlane,
    pub namespace: TestNamespace,
    pub daemon: Arc<Mutex<Daemon>>,
    pub clock: Clock,
    /// How many containers each machine comes to, and bootstraps.
    pub attempts: BTreeMap<&'static str, u32>,
    /// The cluster was up once, and is on its way out.
    leaving: AtomicBool,
}

impl World {
    pub fn objects(&self) -> Objects {
        Objects {
            client: self.plane.client(),
            namespace: self.namespace.name().to_owned(),
        }
    }

    pub fn node(&self, machine: &str) -> String {
        format!("{machine}.{}", self.namespace.name())
    }
}

pub fn full() -> bool {
    std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1")
}

pub fn harness(name: &str) -> Harness {
    Harness::new(name)
        .clock(Clock::accelerated(SPEED))
        .deadline(Duration::from_secs(200))
}

pub fn coverage(plans: usize, sites: usize, crash_sites: usize) -> Coverage {
    Coverage {
        plans,
        sites,
        crash_sites,
    }
}

/// A cluster to be, and a stranger's container.
pub async fn world(plan: FaultPlan) -> Result<World> {
    world_in(ControlPlane::shared().await?, plan).await
}

/// [`world`] in this control plane.
pub async fn world_in(plane: &'static ControlPlane, plan: FaultPlan) -> Result<World> {
    plane.apply_crds(&definitions()).await?;
    plane.apply_crds(&docker_api::crds()).await?;
    let namespace = plane.namespace().await?;
    let mut daemon = Daemon::default();
    daemon.networks.insert(
        "strangers".into(),
        "10.9.0.0/16"
            .split_once('/')
            .map(|_| ([10, 9, 0, 0].into(), 16))
            .unwrap(),
    );
    let stranger = ContainerPlan {
        name: STRANGER.into(),
        network: "strangers".into(),
        ..ContainerPlan::default()
    };
    daemon.create(&stranger)?;
    let world = World {
        plane,
        namespace,
        daemon: Arc::new(Mutex::new(daemon)),
        clock: plan.clock().clone(),
        attempts: [(CONTROL_PLANE, 1), (WORKER, 1)].into(),
        leaving: AtomicBool::new(false),
    };
    world.objects().cluster(&[CONTROL_PLANE, WORKER]).await?;
    Ok(world)
}

/// An operator in this process. Dropping it asks it to stop.
pub struct Operator {
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Operator {
    pub fn start(world: &World, plan: &FaultPlan) -> Self {
        Self::start_with(world, plan, Settings::default())
    }

    /// With these settings, but for the network.
    pub fn start_with(world: &World, plan: &FaultPlan, settings: Settings) -> Self {
        let network = NETWORK.into();
        Self::start_on(world, plan, Settings { network, ..settings })
    }

    /// With these settings.
    pub fn start_on(world: &World, plan: &FaultPlan, settings: Settings) -> Self {
        let mut options = Options::new(NAME);
        options.namespaces = vec![world.namespace.name().to_owned()];
        options.clock = world.clock.clone();
        options.wire = Some(wire_layer(FaultLayer::new(plan)));
        let docker = Docker {
            daemon: world.daemon.clone(),
            boundary: plan.boundary(),
            noted: Arc::default(),
        };
        let concurrency = Concurrency {
            clusters: 2,
            machines: 4,
        };
        let manager = assemble(
            docker,
            settings,
            concurrency,
            options,
            world.plane.config().clone(),
        )
        .unwrap();
        let shutdown = CancellationToken::new();
        let stopped = shutdown.clone();
        let running = tokio::spawn(async move { manager.run(stopped).await.unwrap() });
        Self { shutdown, running }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

/// One incarnation: up, then down. Plays Cluster API's part on the way.
pub async fn run(world: Arc<World>, plan: FaultPlan) -> Result<()> {
    let operator = Operator::start(&world, &plan);
    let objects = world.objects();
    if !world.leaving.load(Ordering::Acquire) {
        up(&world, &objects).await?;
        world.leaving.store(true, Ordering::Release);
    }
    down(&world, &objects).await?;
    operator.stop().await;
    Ok(())
}

pub async fn up(world: &World, objects: &Objects) -> Result<()> {
    loop {
        let cluster = objects.get("DockerCluster", "c1").await?.unwrap_or_default();
        if cluster["status"]["initialization"]["provisioned"] == json!(true) {
            ensure!(
                cluster["spec"]["controlPlaneEndpoint"]["host"].is_string(),
                "provisioned without an endpoint"
            );
            objects
                .status(
                    "Cluster",
                    "c1",
                    json!({"initialization": {"infrastructureProvisioned": true}}),
                )
                .await?;
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    for machine in [CONTROL_PLANE, WORKER] {
        loop {
            let object = objects.get("DockerMachine", machine).await?.unwrap_or_default();
            if object["status"]["initialization"]["provisioned"] == json!(true) {
                ensure!(
                    object["spec"]["providerID"].is_string(),
                    "{machine} is provisioned without an id"
                );
                ensure!(
                    !object["status"]["addresses"].is_null(),
                    "{machine} is provisioned without addresses"
                );
            }
            if is(&object, "Ready", "True") {
                // Cluster API repeats what a condition that holds says, and its own specs expect nothing there.
                ensure!(message_of(&object, "Ready") == Some(""), "{object:#}");
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    serves_the_control_plane(world)
}

/// The load balancer has loaded what it should serve: at once after a machine is ready, for its bootstrap needs it.
pub fn serves_the_control_plane(world: &World) -> Result<()> {
    let daemon = world.daemon.lock();
    let balancer = daemon
        .containers
        .get(&format!("c1_lb.{}", world.namespace.name()));
    let balancer = balancer.ok_or_else(|| anyhow::anyhow!("there is no load balancer"))?;
    let node = daemon.containers.get(&world.node(CONTROL_PLANE));
    let address = node
        .and_then(|node| node.address)
        .ok_or_else(|| anyhow::anyhow!("there is no node"))?;
    let server = Server {
        name: world.node(CONTROL_PLANE),
        address,
        draining: false,
        joined: true,
    };
    let loaded = String::from_utf8_lossy(&balancer.loaded);
    ensure!(
        loaded == render(6443, &[server]),
        "the load balancer serves something else: {loaded}"
    );
    Ok(())
}

/// Deletes in an order that Cluster API would not choose: what all share goes first.
pub async fn down(world: &World, objects: &Objects) -> Result<()> {
    let all = [
        ("DockerMachine", CONTROL_PLANE),
        ("DockerCluster", "c1"),
        ("DockerMachine", WORKER),
    ];
    for (kind, name) in all {
        objects.delete(kind, name).await?;
    }
    for (kind, name) in all {
        while objects.get(kind, name).await?.is_some() {
            tokio::time::sleep(POLL).await;
        }
        ensure!(
            kind != "DockerMachine" || !world.daemon.lock().containers.contains_key(&world.node(name)),
            "DockerMachine {name} went before its container"
        );
    }
    Ok(())
}

/// What must hold afterwards.
pub async fn check(world: Arc<World>) -> Result<()> {
    let daemon = world.daemon.lock();
    ensure!(daemon.misdeeds.is_empty(), "{:?}", daemon.misdeeds);
    for (&machine, &attempts) in &world.attempts {
        let count = |counts: &BTreeMap<String, u32>| counts.get(machine).copied().unwrap_or(0);
        ensure!(
            count(&daemon.started) == attempts,
            "{machine} was started {} times",
            count(&daemon.started)
        );
        ensure!(
            count(&daemon.bootstrapped) == attempts,
            "{machine} was bootstrapped {} times",
            count(&daemon.bootstrapped)
        );
    }
    let left: Vec<_> = daemon.containers.keys().collect();
    ensure!(left == [STRANGER], "left behind: {left:?}");
    ensure!(
        daemon.containers[STRANGER].state == ContainerState::Created,
        "the stranger was touched"
    );
    let networks: Vec<_> = daemon.networks.keys().collect();
    ensure!(networks == ["strangers"], "networks left behind: {networks:?}");
    Ok(())
}
