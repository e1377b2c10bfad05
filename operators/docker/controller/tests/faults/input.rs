//! What people get wrong, and what belongs to others.

use anyhow::{Result, ensure};
use docker_controller::controllers::{Settings, machine::FINALIZER};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{
    objects::{is, message_of, reason},
    scene::Scene,
    world::{CONTROL_PLANE, Operator, STRANGER, WORKER, up},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_cluster_is_left_alone_until_it_goes_on() -> Result<()> {
    let scene = Scene::set().await?;
    scene
        .objects
        .patch("Cluster", "c1", &json!({"spec": {"paused": true}}))
        .await?;
    let operator = scene.start();
    for (kind, name) in [("DockerCluster", "c1"), ("DockerMachine", WORKER)] {
        let object = scene
            .wait(kind, name, |object| is(object, "Paused", "True"))
            .await?;
        ensure!(
            object["metadata"]["finalizers"].is_null(),
            "{kind} was taken into care"
        );
    }
    let containers: Vec<_> = scene.world.daemon.lock().containers.keys().cloned().collect();
    ensure!(containers == [STRANGER], "made while paused: {containers:?}");
    scene
        .objects
        .patch("Cluster", "c1", &json!({"spec": {"paused": false}}))
        .await?;
    up(&scene.world, &scene.objects).await?;
    scene
        .wait("DockerCluster", "c1", |object| is(object, "Paused", "False"))
        .await?;
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_somebody_else_manages_is_never_written_to() -> Result<()> {
    let scene = Scene::set().await?;
    let managed = json!({"metadata": {"annotations": {"cluster.x-k8s.io/managed-by": "others"}}});
    scene.objects.patch("DockerCluster", "c1", &managed).await?;
    let before = scene.objects.get("DockerCluster", "c1").await?;
    let operator = scene.start();
    // The machines are ours still, and wait: by then the cluster was seen, too.
    let waits = |object: &Value| reason(object, "Ready") == Some("WaitingForClusterInfrastructureReady");
    scene.wait("DockerMachine", WORKER, waits).await?;
    operator.stop().await;
    ensure!(
        scene.objects.get("DockerCluster", "c1").await? == before,
        "it was written to"
    );
    let containers: Vec<_> = scene.world.daemon.lock().containers.keys().cloned().collect();
    ensure!(
        containers == [STRANGER],
        "made for somebody else's cluster: {containers:?}"
    );
    Ok(())
}

/// Another may share the finalizer's name, and have what it guards.
#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_a_cluster_that_became_somebody_elses_is_left_to_them() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let managed =
        |by: Option<&str>| json!({"metadata": {"annotations": {"cluster.x-k8s.io/managed-by": by}}});
    scene
        .objects
        .patch("DockerCluster", "c1", &managed(Some("others")))
        .await?;
    scene.objects.delete("DockerCluster", "c1").await?;
    for machine in [WORKER, CONTROL_PLANE] {
        scene.objects.delete("DockerMachine", machine).await?;
        scene.wait("DockerMachine", machine, Value::is_null).await?;
    }
    let name = format!("c1_lb.{}", scene.world.namespace.name());
    let there = || scene.world.daemon.lock().containers.contains_key(&name);
    let object = scene
        .objects
        .get("DockerCluster", "c1")
        .await?
        .unwrap_or_default();
    ensure!(
        there() && reason(&object, "Ready") == Some("Ready"),
        "it was taken into care: {object:#}"
    );
    scene.objects.patch("DockerCluster", "c1", &managed(None)).await?;
    scene.wait("DockerCluster", "c1", Value::is_null).await?;
    ensure!(!there(), "the load balancer was left behind");
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_an_owner_is_not_taken_into_care() -> Result<()> {
    let scene = Scene::set().await?;
    scene
        .objects
        .create("DockerMachine", "stray", None, json!({}))
        .await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    let stray = scene
        .objects
        .get("DockerMachine", "stray")
        .await?
        .unwrap_or_default();
    ensure!(
        stray["metadata"]["finalizers"].is_null() && stray["status"].is_null(),
        "{stray}"
    );
    let owned = scene
        .objects
        .get("DockerMachine", WORKER)
        .await?
        .unwrap_or_default();
    ensure!(owned["metadata"]["finalizers"] == json!([FINALIZER]), "{owned}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_data_that_cannot_be_used_is_named_not_quoted_and_tried_again_when_repaired() -> Result<()>
{
    let scene = Scene::set().await?;
    for (data, says) in [
        (json!({"other": "x"}), "empty"),
        (
            json!({"value": "#cloud-config\nruncmd: [secret-token-42"}),
            "cloud-config",
        ),
        (json!({"value": "{}", "format": "ignition"}), "ignition"),
    ] {
        scene.objects.set_data(&data).await?;
        let operator = scene.start();
        scene.open().await?;
        let refused = |object: &Value| {
            let message = message_of(object, "BootstrapCompleted");
            reason(object, "BootstrapCompleted") == Some("BootstrapDataInvalid")
                && message.is_some_and(|message| message.contains(says))
        };
        let object = scene.wait("DockerMachine", CONTROL_PLANE, refused).await?;
        ensure!(!object.to_string().contains("secret-token"), "quoted: {object}");
        operator.stop().await;
    }
    let operator = scene.start();
    scene
        .objects
        .set_data(&json!({"value": "#cloud-config\nruncmd: [kubeadm init]"}))
        .await?;
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    let events: Api<Event> = Api::namespaced(scene.objects.client.clone(), &scene.objects.namespace);
    let events = serde_json::to_string(&events.list(&ListParams::default()).await?.items)?;
    ensure!(!events.contains("secret-token"), "quoted in an event: {events}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_carries_another_watch_filter_is_left_alone() -> Result<()> {
    let scene = Scene::set().await?;
    let labelled = |value: &str| json!({"metadata": {"labels": {"cluster.x-k8s.io/watch-filter": value}}});
    for (kind, name, value) in [
        ("DockerCluster", "c1", "red"),
        ("DockerMachine", WORKER, "red"),
        ("DockerMachine", "blue", "blue"),
    ] {
        if name == "blue" {
            scene.objects.machine(name).await?;
        }
        scene.objects.patch(kind, name, &labelled(value)).await?;
    }
    let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerCluster", "name": "c2"});
    let spec = json!({"infrastructureRef": reference});
    let other = scene.objects.create("Cluster", "c2", None, spec).await?;
    scene
        .objects
        .create("DockerCluster", "c2", Some(&other), json!({}))
        .await?;
    let settings = Settings {
        watch_filter: Some("red".into()),
        ..Settings::default()
    };
    let operator = Operator::start_with(&scene.world, scene.plan(), settings);
    scene.open().await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", WORKER, ready).await?;
    let foreign = [
        ("DockerCluster", "c2"),
        ("DockerMachine", CONTROL_PLANE),
        ("DockerMachine", "blue"),
    ];
    for (kind, name) in foreign {
        let object = scene.objects.get(kind, name).await?.unwrap_or_default();
        let (finalizers, status) = (&object["metadata"]["finalizers"], &object["status"]);
        ensure!(finalizers.is_null() && status.is_null(), "{object:#}");
    }
    let served = [
        format!("c1_lb.{}", scene.world.namespace.name()),
        scene.world.node(WORKER),
    ];
    let containers: Vec<_> = scene.world.daemon.lock().containers.keys().cloned().collect();
    ensure!(
        containers
            .iter()
            .all(|name| name == STRANGER || served.contains(name))
            && containers.len() == 3,
        "{containers:?}"
    );
    // One that is labelled now is served from now on.
    let patch = labelled("red");
    scene
        .objects
        .patch("DockerMachine", CONTROL_PLANE, &patch)
        .await?;
    scene.wait("DockerMachine", CONTROL_PLANE, ready).await?;
    operator.stop().await;
    Ok(())
}
