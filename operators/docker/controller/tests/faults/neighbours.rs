//! Who lives beside whom, and whose container is whose.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use docker_controller::{
    engine::ContainerPlan,
    identity::{ClusterId, Role, node_labels},
};
use serde_json::{Value, json};
use testkit::fault::{FaultPlan, Schedule};

use crate::{
    objects::{is, message_of, reason},
    scene::Scene,
    world::{CONTROL_PLANE, NETWORK, Operator, STRANGER, WORKER, down, up},
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
/// the machines' with their ids, and with bootstrap data that is empty or gone.
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
    let gone = json!({"spec": {"bootstrap": {"dataSecretName": "gone"}}});
    scene.objects.patch("Machine", WORKER, &gone).await?;
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

/// As after a move to a management cluster whose API server is ill, or does not let Secrets be read.
#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_data_that_cannot_be_read_holds_up_only_a_node_that_needs_it() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    scene.forgotten("DockerMachine", WORKER).await?;
    let owner = scene.objects.get("Machine", WORKER).await?;
    scene
        .objects
        .create("DockerMachine", WORKER, owner.as_ref(), json!({}))
        .await?;
    scene.objects.machine("fresh").await?;

    let ill: Schedule = "GET secrets=500".parse()?;
    let operator = Operator::start(&scene.world, &FaultPlan::new(ill));
    let ready = |object: &Value| is(object, "Ready", "True");
    let adopted = scene.wait("DockerMachine", WORKER, ready).await?;
    ensure!(adopted["spec"]["providerID"].is_string(), "{adopted:#}");
    // Nothing is wrong with the data: it is asked for again soon, and nobody is called.
    let told = |object: &Value| {
        let message = message_of(object, "BootstrapCompleted");
        reason(object, "BootstrapCompleted") == Some("Bootstrapping")
            && message.is_some_and(|message| message.contains("read Secret"))
    };
    scene.wait("DockerMachine", "fresh", told).await?;
    operator.stop().await;

    let operator = scene.start();
    scene.wait("DockerMachine", "fresh", ready).await?;
    operator.stop().await;
    let daemon = scene.world.daemon.lock();
    let once: Vec<_> = daemon.bootstrapped.values().map(|count| *count == 1).collect();
    ensure!(once == [true; 3], "{:?}", daemon.bootstrapped);
    Ok(())
}

/// Whoever may make DockerMachines could have one of any image beside every Machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_docker_machine_that_its_owner_does_not_name_gets_no_container() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    let owner = scene.objects.get("Machine", WORKER).await?;
    scene
        .objects
        .create("DockerMachine", "uninvited", owner.as_ref(), json!({}))
        .await?;
    up(&scene.world, &scene.objects).await?;
    scene.objects.machine("later").await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", "later", ready).await?;
    operator.stop().await;
    let made = scene
        .world
        .daemon
        .lock()
        .find(&scene.world.node("uninvited"))
        .is_ok();
    ensure!(!made, "it has a container");
    Ok(())
}

impl Scene {
    /// A container that runs as the worker of another cluster in this namespace; its name.
    fn worker_of(&self, cluster: &str) -> Result<String> {
        let namespace = self.world.namespace.name();
        let name = format!("{WORKER}.{namespace}");
        let theirs = ContainerPlan {
            name: name.clone(),
            labels: node_labels(&ClusterId::new(namespace, cluster), WORKER, Role::Worker, None),
            network: "strangers".into(),
            ..ContainerPlan::default()
        };
        let mut daemon = self.world.daemon.lock();
        daemon.create(&theirs)?;
        daemon.start(&name)?;
        Ok(name)
    }

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

/// A name that another cluster of the namespace has used before, and whose object was taken away without its container.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_another_cluster_under_the_same_name_is_neither_adopted_nor_removed() -> Result<()> {
    let scene = Scene::set().await?;
    let name = scene.worker_of("c0")?;
    let before = scene.containers();
    let operator = scene.start();
    scene.open().await?;
    let refused = |object: &Value| reason(object, "Ready") == Some("NameConflict");
    let object = scene.wait("DockerMachine", WORKER, refused).await?;
    ensure!(object["spec"]["providerID"].is_null(), "{object:#}");
    scene.objects.delete("DockerMachine", WORKER).await?;
    scene.wait("DockerMachine", WORKER, Value::is_null).await?;
    ensure!(
        scene.containers().get(&name) == before.get(&name),
        "it was touched"
    );

    // It goes with its own cluster, though an object of that name is there: that is another cluster's.
    let owner = scene.objects.get("Machine", WORKER).await?;
    scene
        .objects
        .create("DockerMachine", WORKER, owner.as_ref(), json!({}))
        .await?;
    let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerCluster", "name": "c0"});
    let spec = json!({"infrastructureRef": reference});
    let cluster = scene.objects.create("Cluster", "c0", None, spec).await?;
    scene
        .objects
        .create("DockerCluster", "c0", Some(&cluster), json!({}))
        .await?;
    let note = scene.event("DockerCluster", "c0", "OrphanedContainer").await?;
    ensure!(note.contains(&name), "{note}");
    scene.objects.delete("DockerCluster", "c0").await?;
    scene.wait("DockerCluster", "c0", Value::is_null).await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", WORKER, ready).await?;
    ensure!(
        scene.containers().get(&name) != before.get(&name),
        "it is there still"
    );
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_cluster_whose_place_another_has_taken_goes_and_leaves_everything() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let before = scene.containers();
    let owner = scene.objects.get("Cluster", "c1").await?;
    scene
        .objects
        .create("DockerCluster", "c1-anew", owner.as_ref(), json!({}))
        .await?;
    let refers = json!({"spec": {"infrastructureRef": {"name": "c1-anew"}}});
    scene.objects.patch("Cluster", "c1", &refers).await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerCluster", "c1-anew", ready).await?;
    scene.objects.delete("DockerCluster", "c1").await?;
    scene.wait("DockerCluster", "c1", Value::is_null).await?;
    ensure!(scene.containers() == before, "{:?}", scene.containers());

    for machine in [CONTROL_PLANE, WORKER] {
        scene.objects.delete("DockerMachine", machine).await?;
    }
    scene.objects.delete("DockerCluster", "c1-anew").await?;
    scene.wait("DockerCluster", "c1-anew", Value::is_null).await?;
    ensure!(scene.containers().is_empty(), "{:?}", scene.containers());
    ensure!(
        !scene.world.daemon.lock().networks.contains_key(NETWORK),
        "the network was left behind"
    );
    operator.stop().await;
    Ok(())
}
