//! A move to another management cluster that an operator has not seen: its watch of the Clusters says nothing more.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use testkit::fault::{Fault, FaultPlan, Schedule, schedule::Which};

use crate::{
    objects::DEADLINE,
    scene::Scene,
    world::{CONTROL_PLANE, Operator, WORKER, up},
};

const WATCH: &str = "WATCH clusters";
const LIST: &str = "LIST clusters";

impl Scene {
    fn has_container(&self, name: &str) -> bool {
        let name = format!("{name}.{}", self.world.namespace.name());
        self.world.daemon.lock().containers.contains_key(&name)
    }

    /// An operator whose Clusters stay as they are now, whatever becomes of them.
    async fn start_behind(&self) -> Result<(Operator, FaultPlan)> {
        let plan = FaultPlan::new(Schedule::default().at(WATCH, Which::Every, Fault::Hang));
        let operator = Operator::start(&self.world, &plan);
        asked(&plan, WATCH, 1).await?;
        Ok((operator, plan))
    }

    async fn pause(&self, paused: bool) -> Result<()> {
        let patch = json!({"spec": {"paused": paused}});
        self.objects.patch("Cluster", "c1", &patch).await
    }

    /// Deletes an object behind the back of an operator that does not know of the pause; its container must stay until the
    /// pause is over.
    async fn stays_while_paused(&self, kind: &str, name: &str, container: &str) -> Result<()> {
        let (operator, plan) = self.start_behind().await?;
        let before = lists(&plan, LIST);
        self.pause(true).await?;
        self.objects.delete(kind, name).await?;
        asked(&plan, LIST, before + 1).await?;
        operator.stop().await;
        if !self.has_container(container) || self.objects.get(kind, name).await?.is_none() {
            bail!("{kind} {name} was removed although its Cluster is paused");
        }
        self.pause(false).await?;
        let operator = self.start();
        self.wait(kind, name, Value::is_null).await?;
        operator.stop().await;
        if self.has_container(container) {
            bail!("{kind} {name} went before its container");
        }
        Ok(())
    }
}

fn lists(plan: &FaultPlan, site: &str) -> u64 {
    plan.sites().get(site).copied().unwrap_or_default()
}

/// Waits until that many requests of this kind were sent.
async fn asked(plan: &FaultPlan, site: &str, count: u64) -> Result<()> {
    let wait = async {
        while lists(plan, site) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    waited.with_context(|| format!("{site} was not asked {count} times: {:?}", plan.sites()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_moves_keeps_its_container_though_the_pause_was_not_seen() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.stays_while_paused("DockerMachine", WORKER, WORKER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_moves_keeps_its_load_balancer_though_the_pause_was_not_seen() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    let there = |object: &Value| object["status"]["initialization"]["provisioned"] == json!(true);
    scene.wait("DockerCluster", "c1", there).await?;
    for machine in [CONTROL_PLANE, WORKER] {
        scene.objects.delete("DockerMachine", machine).await?;
        scene.wait("DockerMachine", machine, Value::is_null).await?;
    }
    operator.stop().await;
    scene.stays_while_paused("DockerCluster", "c1", "c1_lb").await
}
