//! Whose network is whose: what an operator has made goes with the last who is on it, and nothing else.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use docker_controller::{
    controllers::Settings,
    engine::{ContainerPlan, ContainerState},
    identity::{ClusterId, Role, node_labels},
    launch::{Launch, launch},
};
use serde_json::{Value, json};
use testkit::fault::{FaultPlan, Schedule};

use crate::{
    docker::Docker,
    objects::{DEADLINE, is},
    scene::Scene,
    world::{CONTROL_PLANE, NETWORK, Operator, POLL, STRANGER, WORKER, down, serves_the_control_plane, up},
};

impl Scene {
    /// The network of the cluster is there, or not, and nothing has happened that must not.
    fn network_is(&self, there: bool) -> Result<()> {
        let daemon = self.world.daemon.lock();
        ensure!(daemon.misdeeds.is_empty(), "{:?}", daemon.misdeeds);
        let networks = &daemon.networks;
        ensure!(networks.contains_key(NETWORK) == there, "{networks:?}");
        Ok(())
    }

    /// An operator whose clusters without a named network are to be on another one.
    fn start_elsewhere(&self) -> Operator {
        let network = "elsewhere".into();
        let settings = Settings {
            network,
            ..Settings::default()
        };
        Operator::start_on(&self.world, self.plan(), settings)
    }

    /// What the load balancer has said: a line for each configuration that it took.
    fn loaded(&self) -> Result<usize> {
        let name = format!("c1_lb.{}", self.world.namespace.name());
        Ok(self.world.daemon.lock().find(&name)?.log.len())
    }

    /// Each container of the cluster is on the network that it began on, and the load balancer serves its machines.
    fn stays_at_home(&self) -> Result<()> {
        serves_the_control_plane(&self.world)?;
        let daemon = self.world.daemon.lock();
        let ours = daemon
            .containers
            .values()
            .filter(|model| model.plan.name != STRANGER);
        let networks: Vec<_> = ours
            .map(|model| (&model.plan.name, &model.plan.network))
            .collect();
        ensure!(
            networks.iter().all(|(_, network)| *network == NETWORK),
            "{networks:?}"
        );
        ensure!(
            !daemon.networks.contains_key("elsewhere"),
            "{:?}",
            daemon.networks
        );
        ensure!(daemon.misdeeds.is_empty(), "{:?}", daemon.misdeeds);
        Ok(())
    }
}

/// As after an upgrade, or a move, to a manager with another `--network`.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_names_no_network_stays_on_its_own_whatever_the_default_has_become() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;

    let loads = scene.loaded()?;
    let operator = scene.start_elsewhere();
    scene.objects.machine("later").await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", "later", ready).await?;
    // Says that the DockerCluster had a pass.
    let domains = json!({"spec": {"failureDomains": [{"name": "one"}]}});
    scene.objects.patch("DockerCluster", "c1", &domains).await?;
    let seen = |object: &Value| object["status"]["failureDomains"][0]["name"] == "one";
    scene.wait("DockerCluster", "c1", seen).await?;
    scene.stays_at_home()?;
    let again = scene.loaded()? - loads;
    ensure!(
        again == 1,
        "one that starts has the configuration loaded once, not {again} times"
    );
    operator.stop().await;

    for (kind, name) in [
        ("DockerCluster", "c1"),
        ("DockerMachine", CONTROL_PLANE),
        ("DockerMachine", WORKER),
    ] {
        scene.objects.status(kind, name, Value::Null).await?;
    }
    let operator = scene.start_elsewhere();
    up(&scene.world, &scene.objects).await?;
    scene.stays_at_home()?;
    ensure!(scene.loaded()? == loads + 2, "the load balancer was reconfigured");

    let balancer = format!("c1_lb.{}", scene.world.namespace.name());
    scene.world.daemon.lock().remove(&balancer)?;
    let healed = async {
        while scene.stays_at_home().is_err() {
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, healed).await;
    waited.context("the load balancer is not made anew where its machines are")?;

    scene.objects.delete("DockerMachine", "later").await?;
    scene.wait("DockerMachine", "later", Value::is_null).await?;
    down(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.network_is(false)
}

/// It would lead a node's requests to its own control plane out of the network.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_proxy_is_handed_on_the_network_of_the_container_does_not_go_through_it() -> Result<()> {
    let docker = Docker {
        daemon: Arc::default(),
        boundary: FaultPlan::new(Schedule::default()).boundary(),
        noted: Arc::default(),
    };
    docker
        .daemon
        .lock()
        .networks
        .insert(NETWORK.into(), ([172, 21, 0, 0].into(), 16));
    let plan = ContainerPlan {
        name: "m.ns".into(),
        hostname: "m".into(),
        network: NETWORK.into(),
        environment: vec!["HTTPS_PROXY=http://p:1".into()],
        ..ContainerPlan::default()
    };
    let launching = Launch {
        plan,
        address: None,
        host_ports: Vec::new(),
        files: Vec::new(),
    };
    launch(&docker, launching, None).await?;
    let made = docker.daemon.lock().find("m.ns")?.plan.environment.clone();
    ensure!(
        made.contains(&"no_proxy=172.21.0.0/16,m,.svc,.svc.cluster,.svc.cluster.local".to_owned()),
        "{made:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_was_there_before_stays() -> Result<()> {
    let scene = Scene::set().await?;
    let subnet = ([172, 21, 0, 0].into(), 16);
    scene.world.daemon.lock().networks.insert(NETWORK.into(), subnet);
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    down(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.network_is(true)
}

/// It is to be started again, with the address that it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_stays_as_long_as_a_machine_of_another_cluster_is_on_it_though_stopped() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let namespace = scene.world.namespace.name();
    let name = format!("neighbour.{namespace}");
    let cluster = ClusterId::new(namespace, "c0");
    let neighbour = ContainerPlan {
        name: name.clone(),
        labels: node_labels(&cluster, "neighbour", Role::Worker, None),
        network: NETWORK.into(),
        ..ContainerPlan::default()
    };
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.create(&neighbour)?;
        daemon.start(&name)?;
        daemon.find(&name)?.state = ContainerState::Stopped;
    }
    down(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.network_is(true)
}

/// Docker would remove it under a container that is stopped, which could not be started any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_stays_as_long_as_a_strangers_container_is_on_it_though_stopped() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let guest = ContainerPlan {
        name: "guest".into(),
        network: NETWORK.into(),
        ..ContainerPlan::default()
    };
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.create(&guest)?;
        daemon.start("guest")?;
        let stopped = daemon.find("guest")?;
        (stopped.state, stopped.address) = (ContainerState::Stopped, None);
    }
    down(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.network_is(true)
}

/// Nobody else would remove it: the load balancer is not ours, and what stands for the cluster neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_was_made_for_machines_alone_goes_with_the_last_of_them() -> Result<()> {
    let scene = Scene::set().await?;
    let managed = json!({"metadata": {"annotations": {"cluster.x-k8s.io/managed-by": "others"}}});
    scene.objects.patch("DockerCluster", "c1", &managed).await?;
    scene.infrastructure_is_there().await?;
    let operator = scene.start();
    let ready = |object: &Value| is(object, "Ready", "True");
    for machine in [CONTROL_PLANE, WORKER] {
        scene.wait("DockerMachine", machine, ready).await?;
    }
    for (machine, there) in [(CONTROL_PLANE, true), (WORKER, false)] {
        scene.network_is(true)?;
        scene.objects.delete("DockerMachine", machine).await?;
        scene.wait("DockerMachine", machine, Value::is_null).await?;
        scene.network_is(there)?;
    }
    let left: Vec<_> = scene.world.daemon.lock().containers.keys().cloned().collect();
    ensure!(left == [STRANGER], "{left:?}");
    let theirs = scene.objects.get("DockerCluster", "c1").await?;
    let theirs = theirs.context("it is gone")?;
    ensure!(theirs["status"].is_null(), "{theirs:#}");
    operator.stop().await;
    Ok(())
}
