//! Who lives beside whom, and whose container is whose.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    objects::is,
    scene::Scene,
    world::{CONTROL_PLANE, STRANGER, WORKER, down, up},
};

impl Scene {
    /// The containers of the daemon and their ids, the stranger's apart.
    fn containers(&self) -> BTreeMap<String, String> {
        let daemon = self.world.daemon.lock();
        let all = daemon.containers.iter();
        all.filter(|(name, _)| *name != STRANGER)
            .map(|(name, model)| (name.clone(), model.id.clone()))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_of_one_name_in_two_namespaces_live_side_by_side() -> Result<()> {
    let one = Scene::set().await?;
    let other = Scene::beside(&one).await?;
    let operators = [one.start(), other.start()];
    up(&one.world, &one.objects).await?;
    up(&other.world, &other.objects).await?;
    ensure!(one.containers().len() == 6, "{:?}", one.containers());

    down(&one.world, &one.objects).await?;
    let left = one.containers();
    let namespace = other.world.namespace.name();
    ensure!(
        left.len() == 3 && left.keys().all(|name| name.ends_with(namespace)),
        "{left:?}"
    );
    let ready = |object: &Value| is(object, "Ready", "True");
    other.wait("DockerMachine", WORKER, ready).await?;
    down(&other.world, &other.objects).await?;
    ensure!(one.containers().is_empty(), "{:?}", one.containers());
    for operator in operators {
        operator.stop().await;
    }
    Ok(())
}

/// As Cluster API's adoption test does it: new objects under new UIDs, without status, the cluster's under another name,
/// the machines' with their ids and with bootstrap data that is empty.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_made_anew_find_their_containers_and_nothing_is_bootstrapped_again() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    let before = scene.containers();

    let cluster = scene.forgotten("DockerCluster", "c1").await?;
    let owner = scene.objects.get("Cluster", "c1").await?.context("no Cluster")?;
    scene
        .objects
        .create("DockerCluster", "c1-anew", Some(&owner), json!({}))
        .await?;
    let refers = json!({"spec": {"infrastructureRef": {"name": "c1-anew"}}});
    scene.objects.patch("Cluster", "c1", &refers).await?;
    scene.objects.set_data(&json!({"value": ""})).await?;
    let mut ids = Vec::new();
    for machine in [CONTROL_PLANE, WORKER] {
        let forgotten = scene.forgotten("DockerMachine", machine).await?;
        let owner = scene
            .objects
            .get("Machine", machine)
            .await?
            .context("no Machine")?;
        let spec = json!({"providerID": forgotten["spec"]["providerID"]});
        let made = scene
            .objects
            .create("DockerMachine", machine, Some(&owner), spec)
            .await?;
        ids.push(made["metadata"]["uid"] != forgotten["metadata"]["uid"]);
    }
    ensure!(ids == [true, true], "the objects are not new");

    let operator = scene.start();
    let ready = |object: &Value| is(object, "Ready", "True");
    let anew = scene.wait("DockerCluster", "c1-anew", ready).await?;
    ensure!(
        anew["spec"]["controlPlaneEndpoint"] == cluster["spec"]["controlPlaneEndpoint"],
        "{anew:#}"
    );
    for machine in [CONTROL_PLANE, WORKER] {
        let object = scene.wait("DockerMachine", machine, ready).await?;
        ensure!(object["status"]["addresses"].is_array(), "{object:#}");
    }
    ensure!(scene.containers() == before, "{:?}", scene.containers());
    operator.stop().await;
    let daemon = scene.world.daemon.lock();
    for counts in [&daemon.started, &daemon.bootstrapped] {
        ensure!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
    Ok(())
}

impl Scene {
    /// Takes an object away without anybody's cleaning up after it; returns it.
    async fn forgotten(&self, kind: &str, name: &str) -> Result<Value> {
        let object = self
            .objects
            .get(kind, name)
            .await?
            .context("it is gone already")?;
        self.objects
            .patch(kind, name, &json!({"metadata": {"finalizers": null}}))
            .await?;
        self.objects.delete(kind, name).await?;
        Ok(object)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_hangs_for_one_machine_holds_up_no_other() -> Result<()> {
    let scene = Scene::set().await?;
    let hung = format!("{WORKER}.{}", scene.world.namespace.name());
    scene.world.daemon.lock().hanging.insert(hung);
    let operator = scene.start();
    scene.open().await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", CONTROL_PLANE, ready).await?;
    let worker = scene.objects.get("DockerMachine", WORKER).await?;
    ensure!(
        !is(&worker.unwrap_or_default(), "Ready", "True"),
        "it did not hang"
    );
    scene.world.daemon.lock().hanging.clear();
    scene.wait("DockerMachine", WORKER, ready).await?;
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_an_object_is_told_of_and_goes_with_its_cluster() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    for kind in ["DockerMachine", "Machine"] {
        scene.forgotten(kind, WORKER).await?;
    }
    let operator = scene.start();
    let note = scene.event("DockerCluster", "c1", "OrphanedContainer").await?;
    let name = format!("{WORKER}.{}", scene.world.namespace.name());
    ensure!(
        note.contains(&format!("docker rm --force --volumes {name}")),
        "{note}"
    );
    ensure!(scene.containers().contains_key(&name), "it was removed");
    down(&scene.world, &scene.objects).await?;
    ensure!(scene.containers().is_empty(), "{:?}", scene.containers());
    operator.stop().await;
    Ok(())
}
