//! A machine of a control plane that is about to go.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docker_controller::load_balancer::config::{Server, render};
use serde_json::{Value, json};

use crate::{
    objects::{DEADLINE, is},
    scene::Scene,
    world::{CONTROL_PLANE, Operator},
};

const SECOND: &str = "control-plane-2";

impl Scene {
    /// A cluster with two machines of its control plane, which are ready, and its operator.
    async fn of_two() -> Result<(Self, Operator)> {
        let scene = Self::set().await?;
        scene.objects.machine(SECOND).await?;
        let operator = scene.start();
        scene.open().await?;
        let ready = |object: &Value| is(object, "Ready", "True");
        for machine in [CONTROL_PLANE, SECOND] {
            scene.wait("DockerMachine", machine, ready).await?;
        }
        Ok((scene, operator))
    }

    /// The configuration that serves both machines, the second of which may drain.
    fn serving(&self, draining: bool) -> Result<String> {
        let mut daemon = self.world.daemon.lock();
        let mut servers = Vec::new();
        for (machine, draining) in [(CONTROL_PLANE, false), (SECOND, draining)] {
            let name = self.world.node(machine);
            let address = daemon.find(&name)?.address.context("no address")?;
            servers.push(Server {
                name,
                address,
                draining,
                joined: machine == CONTROL_PLANE,
            });
        }
        Ok(render(6443, &servers))
    }

    /// Waits until the load balancer has loaded this.
    async fn loads(&self, configuration: &str) -> Result<()> {
        let name = format!("c1_lb.{}", self.world.namespace.name());
        let loaded = || -> Result<String> {
            let mut daemon = self.world.daemon.lock();
            Ok(String::from_utf8_lossy(&daemon.find(&name)?.loaded).into_owned())
        };
        let wait = async {
            while loaded()? != configuration {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.with_context(|| format!("{configuration}\nis not loaded, but {:?}", loaded()))?
    }
}

/// Cluster API drains its Node first, and deletes the DockerMachine after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_machine_that_is_being_deleted_gets_nothing_new_and_its_neighbour_everything()
-> Result<()> {
    let (scene, operator) = Scene::of_two().await?;
    scene.loads(&scene.serving(false)?).await?;
    let joined = json!({"nodeRef": {"name": CONTROL_PLANE}});
    scene.objects.status("Machine", CONTROL_PLANE, joined).await?;

    let held = json!({"metadata": {"finalizers": ["tests.example.com/drain"]}});
    scene.objects.patch("Machine", SECOND, &held).await?;
    scene.objects.delete("Machine", SECOND).await?;
    let draining = scene.serving(true)?;
    let weights: Vec<_> = draining
        .lines()
        .filter(|line| line.trim_start().starts_with("server "))
        .map(|line| (line.contains(SECOND), line.contains("weight 0")))
        .collect();
    ensure!(
        weights.len() == 2 && weights.iter().all(|(second, none)| second == none),
        "{draining}"
    );
    scene.loads(&draining).await?;
    let object = scene.objects.get("DockerMachine", SECOND).await?;
    ensure!(
        object.is_some_and(|object| is(&object, "Ready", "True")),
        "it is served on"
    );
    operator.stop().await;
    Ok(())
}

/// One that is left of an earlier cluster of the same name answers as well as any, with other certificates.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_node_that_no_machine_stands_for_gets_nothing_new() -> Result<()> {
    let (scene, operator) = Scene::of_two().await?;
    let joined = json!({"nodeRef": {"name": CONTROL_PLANE}});
    scene.objects.status("Machine", CONTROL_PLANE, joined).await?;
    operator.stop().await;
    for kind in ["DockerMachine", "Machine"] {
        let free = json!({"metadata": {"finalizers": null}});
        scene.objects.patch(kind, SECOND, &free).await?;
        scene.objects.delete(kind, SECOND).await?;
    }
    let operator = scene.start();
    scene.loads(&scene.serving(true)?).await?;
    operator.stop().await;
    Ok(())
}
