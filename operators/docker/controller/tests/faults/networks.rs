//! Whose network is whose: what an operator has made goes with the last who is on it, and nothing else.

use anyhow::{Context as _, Result, ensure};
use docker_controller::{
    engine::{ContainerPlan, ContainerState},
    identity::{ClusterId, Role, node_labels},
};
use serde_json::{Value, json};

use crate::{
    objects::is,
    scene::Scene,
    world::{CONTROL_PLANE, NETWORK, STRANGER, WORKER, down, up},
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
