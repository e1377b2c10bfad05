//! A move to another management cluster that an operator has not seen: its watch of the Clusters says nothing more.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use docker_controller::contract::moved::DELETE_FOR_MOVE;
use serde_json::{Value, json};
use testkit::{
    control_plane::ControlPlane,
    fault::{Fault, FaultPlan, Schedule, schedule::Which},
};

use crate::{
    objects::{DEADLINE, is},
    scene::Scene,
    world::{CONTROL_PLANE, Operator, WORKER, up},
};

const WATCH: &str = "WATCH clusters";
const LIST: &str = "LIST clusters";

impl Scene {
    fn name_of(&self, container: &str) -> String {
        format!("{container}.{}", self.world.namespace.name())
    }

    fn has_container(&self, name: &str) -> bool {
        self.world
            .daemon
            .lock()
            .containers
            .contains_key(&self.name_of(name))
    }

    async fn provisioned(&self, cluster: &str) -> Result<()> {
        let there = |object: &Value| object["status"]["initialization"]["provisioned"] == json!(true);
        self.wait("DockerCluster", cluster, there).await.map(|_| ())
    }

    /// Deletes the machines and the DockerCluster, which is to go with its load balancer.
    async fn leaves_no_load_balancer(&self, cluster: &str) -> Result<()> {
        for machine in [CONTROL_PLANE, WORKER] {
            self.objects.delete("DockerMachine", machine).await?;
            self.wait("DockerMachine", machine, Value::is_null).await?;
        }
        self.objects.delete("DockerCluster", cluster).await?;
        self.wait("DockerCluster", cluster, Value::is_null).await?;
        if self.has_container(&format!("{cluster}_lb")) {
            bail!("DockerCluster {cluster} has left its load balancer behind");
        }
        Ok(())
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
    scene.provisioned("c1").await?;
    for machine in [CONTROL_PLANE, WORKER] {
        scene.objects.delete("DockerMachine", machine).await?;
        scene.wait("DockerMachine", machine, Value::is_null).await?;
    }
    operator.stop().await;
    scene.stays_while_paused("DockerCluster", "c1", "c1_lb").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_container_that_moves_is_not_replaced_though_the_pause_was_not_seen() -> Result<()> {
    // The second operator sees the Clusters as the first one found them.
    let plan: Schedule = "LIST clusters=stale-list; WATCH clusters#2=hang".parse()?;
    let scene = Scene::planned(ControlPlane::shared().await?, FaultPlan::new(plan)).await?;
    scene.announced(WORKER).await?;
    let id = |scene: &Scene| {
        scene.world.daemon.lock().containers[&scene.name_of(WORKER)]
            .id
            .clone()
    };
    let before = id(&scene);
    scene.pause(true).await?;
    let operator = scene.start();
    let paused = |object: &Value| is(object, "Paused", "True");
    scene.wait("DockerMachine", WORKER, paused).await?;
    operator.stop().await;
    if id(&scene) != before {
        bail!("the container was replaced");
    }
    Ok(())
}

/// As `clusterctl move` does it: there is no other annotation afterwards.
fn moved() -> Value {
    json!({"metadata": {"annotations": {DELETE_FOR_MOVE: ""}}})
}

/// It was killed between its deletions and the removal of the finalizers, and somebody has helped the Cluster away.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_move_that_broke_off_has_deleted_goes_without_what_the_target_runs_on() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.pause(true).await?;
    let left = [
        ("DockerMachine", WORKER, WORKER),
        ("DockerCluster", "c1", "c1_lb"),
    ];
    for (kind, name, _) in left {
        scene.objects.patch(kind, name, &moved()).await?;
        scene.objects.delete(kind, name).await?;
    }
    scene.objects.delete("Cluster", "c1").await?;
    let operator = scene.start();
    for (kind, name, container) in left {
        scene.wait(kind, name, Value::is_null).await?;
        if !scene.has_container(container) {
            bail!("{container} was removed, on which the target runs");
        }
    }
    operator.stop().await;
    if !scene.has_container(CONTROL_PLANE) {
        bail!("{CONTROL_PLANE} was removed, on which the target runs");
    }
    Ok(())
}

/// A move that is tried again copies it; it must not keep a later deletion from removing anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_a_move_that_came_along_is_taken_back_once_the_cluster_is_not_paused() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    for (kind, name) in [
        ("DockerMachine", CONTROL_PLANE),
        ("DockerMachine", WORKER),
        ("DockerCluster", "c1"),
    ] {
        scene.objects.patch(kind, name, &moved()).await?;
    }
    let operator = scene.start();
    let unmarked = |object: &Value| object["metadata"]["annotations"][DELETE_FOR_MOVE].is_null();
    for (kind, name) in [("DockerMachine", WORKER), ("DockerCluster", "c1")] {
        scene.wait(kind, name, unmarked).await?;
    }
    scene.wait("DockerMachine", CONTROL_PLANE, unmarked).await?;
    scene.leaves_no_load_balancer("c1").await?;
    operator.stop().await;
    if scene.has_container(WORKER) {
        bail!("DockerMachine {WORKER} has left its container behind");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_cluster_does_not_leave_its_load_balancer_to_one_of_another_cluster() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    scene.provisioned("c1").await?;
    let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerCluster", "name": "c2"});
    let spec = json!({"infrastructureRef": reference});
    let other = scene.objects.create("Cluster", "c2", None, spec.clone()).await?;
    scene
        .objects
        .create("DockerCluster", "c2", Some(&other), json!({}))
        .await?;
    scene.provisioned("c2").await?;
    // A slip of the hand: both Clusters name the same one now.
    scene
        .objects
        .patch("Cluster", "c1", &json!({"spec": spec}))
        .await?;
    scene.leaves_no_load_balancer("c1").await?;
    if !scene.has_container("c2_lb") {
        bail!("the other cluster has lost its load balancer");
    }
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_cluster_is_not_gone_before_the_one_in_its_place_would_clean_up() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    scene.provisioned("c1").await?;
    // Nobody has made it a Cluster's yet.
    scene
        .objects
        .create("DockerCluster", "c1-anew", None, json!({}))
        .await?;
    let refers = json!({"spec": {"infrastructureRef": {"name": "c1-anew"}}});
    scene.objects.patch("Cluster", "c1", &refers).await?;
    for machine in [CONTROL_PLANE, WORKER] {
        scene.objects.delete("DockerMachine", machine).await?;
        scene.wait("DockerMachine", machine, Value::is_null).await?;
    }
    let (reads, before) = ("GET dockerclusters", lists(scene.plan(), "GET dockerclusters"));
    scene.objects.delete("DockerCluster", "c1").await?;
    // Itself and the other, and itself again: it waits.
    asked(scene.plan(), reads, before + 3).await?;
    scene.objects.delete("DockerCluster", "c1-anew").await?;
    scene.leaves_no_load_balancer("c1").await?;
    operator.stop().await;
    Ok(())
}
