//! What Docker refuses: each is told by a condition and an event.

use anyhow::{Result, ensure};
use docker_controller::engine::Failure;
use serde_json::{Value, json};

use crate::{
    daemon::failure,
    objects::{is, message_of, reason},
    scene::Scene,
    world::{CONTROL_PLANE, WORKER, up},
};

/// The operation, what the daemon says to it, and the reason that it is told by.
const REFUSALS: [(&str, Failure, &str, &str); 8] = [
    (
        "list",
        Failure::Unavailable,
        "there is no socket at /x; is Docker installed and running?",
        "DockerUnavailable",
    ),
    (
        "list",
        Failure::Denied,
        "permission denied; run as root or in the socket's group",
        "DockerUnavailable",
    ),
    ("image", Failure::Image, "manifest unknown", "ImageUnavailable"),
    (
        "image",
        Failure::Image,
        "it is made for arm64, and the host is amd64; name an image for amd64",
        "ImageUnavailable",
    ),
    (
        "create",
        Failure::MountMissing,
        "bind source path does not exist: /none",
        "MountInvalid",
    ),
    ("create", Failure::Invalid, "invalid sysctl", "SpecInvalid"),
    (
        "start",
        Failure::PortTaken,
        "port is already allocated",
        "SpecInvalid",
    ),
    (
        "start",
        Failure::Unavailable,
        "the daemon did not answer within 60 s",
        "DockerUnavailable",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_refuses_is_told_by_condition_and_event() -> Result<()> {
    let worlds = REFUSALS.into_iter().map(told_of);
    futures::future::try_join_all(worlds).await?;
    Ok(())
}

async fn told_of((operation, kind, says, told): (&str, Failure, &str, &str)) -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    let there = |object: &Value| object["status"]["initialization"]["provisioned"] == json!(true);
    scene.wait("DockerCluster", "c1", there).await?;
    let refusal = failure(kind, says);
    scene
        .world
        .daemon
        .lock()
        .refusals
        .insert(operation.into(), refusal);
    scene.open().await?;
    for machine in [CONTROL_PLANE, WORKER] {
        let refused = |object: &Value| reason(object, "Ready") == Some(told);
        let object = scene.wait("DockerMachine", machine, refused).await?;
        let message = message_of(&object, "ContainerProvisioned").unwrap_or_default();
        ensure!(message.contains(says), "{operation}: {message}");
        ensure!(object["status"]["initialization"].is_null(), "{object:#}");
        let note = scene.event("DockerMachine", machine, told).await?;
        ensure!(note.contains(says), "{operation}: {note}");
    }
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_host_that_somebody_else_has_is_told_by_the_cluster() -> Result<()> {
    let scene = Scene::set().await?;
    let port = json!({"spec": {"loadBalancer": {"hostPort": 30001}}});
    scene.objects.patch("DockerCluster", "c1", &port).await?;
    let refusal = failure(
        Failure::PortTaken,
        "Bind for 127.0.0.1:30001 failed: port is already allocated",
    );
    scene.world.daemon.lock().refusals.insert("start".into(), refusal);
    let operator = scene.start();
    let refused = |object: &Value| reason(object, "LoadBalancerAvailable") == Some("SpecInvalid");
    let object = scene.wait("DockerCluster", "c1", refused).await?;
    let message = message_of(&object, "Ready").unwrap_or_default();
    ensure!(message.contains("127.0.0.1:30001"), "{message}");
    let note = scene.event("DockerCluster", "c1", "SpecInvalid").await?;
    ensure!(note.contains("127.0.0.1:30001"), "{note}");
    scene.world.daemon.lock().refusals.clear();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    Ok(())
}

/// A load balancer that takes no configuration holds up the end of a machine, and not that of its cluster.
#[tokio::test(flavor = "multi_thread")]
async fn what_holds_up_a_deletion_is_told_and_does_not_hold_up_the_deletion_of_the_cluster() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    scene.world.daemon.lock().refuses_configurations = true;
    scene.objects.delete("DockerMachine", CONTROL_PLANE).await?;
    let held = |object: &Value| {
        reason(object, "Ready") == Some("Deleting")
            && message_of(object, "ContainerProvisioned").is_some_and(|says| says.contains("cannot take it"))
    };
    scene.wait("DockerMachine", CONTROL_PLANE, held).await?;
    scene.objects.delete("Cluster", "c1").await?;
    scene.wait("DockerMachine", CONTROL_PLANE, Value::is_null).await?;
    let name = format!("{CONTROL_PLANE}.{}", scene.world.namespace.name());
    ensure!(
        !scene.world.daemon.lock().containers.contains_key(&name),
        "the object went before its container"
    );
    operator.stop().await;
    Ok(())
}

/// Names as long as Kubernetes lets them be become containers; longer ones never come to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_any_length_that_kubernetes_takes_becomes_a_machine() -> Result<()> {
    let scene = Scene::set().await?;
    let refused = scene
        .objects
        .create("DockerMachine", &"x".repeat(300), None, json!({}))
        .await;
    let error = format!(
        "{:#}",
        refused.err().unwrap_or_else(|| anyhow::anyhow!("it was taken"))
    );
    ensure!(error.contains("must be no more than 253"), "{error}");
    let name = "x".repeat(253);
    let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerMachine", "name": name});
    let spec = json!({"clusterName": "c1", "version": "v1.34.4", "bootstrap": {"dataSecretName": "data"},
                      "infrastructureRef": reference});
    let machine = scene.objects.create("Machine", &name, None, spec).await?;
    scene
        .objects
        .create("DockerMachine", &name, Some(&machine), json!({}))
        .await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let ready = |object: &Value| reason(object, "Ready") == Some("Ready");
    let object = scene.wait("DockerMachine", &name, ready).await?;
    let addresses = object["status"]["addresses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let hostname = addresses.iter().find(|address| address["type"] == "Hostname");
    let hostname = hostname
        .and_then(|address| address["address"].as_str())
        .unwrap_or_default();
    ensure!(!hostname.is_empty() && hostname.len() <= 63, "{object:#}");
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_to_preload_that_the_host_does_not_have_is_told_until_it_is_there() -> Result<()> {
    const IMAGE: &str = "team/preloaded:1";
    let scene = Scene::set().await?;
    scene.world.daemon.lock().missing.insert(IMAGE.into());
    let patch = json!({"spec": {"preLoadImages": [IMAGE]}});
    scene.objects.patch("DockerMachine", WORKER, &patch).await?;
    let operator = scene.start();
    scene.open().await?;
    let unavailable = |object: &Value| reason(object, "BootstrapCompleted") == Some("ImageUnavailable");
    let object = scene.wait("DockerMachine", WORKER, unavailable).await?;
    let message = message_of(&object, "BootstrapCompleted").unwrap_or_default();
    ensure!(
        message.contains(IMAGE) && message.contains("not on the Docker host"),
        "{message}"
    );
    // It stays told while it is looked for again and again.
    let looks = || scene.plan().sites().get("Docker look at image").copied();
    let enough = looks().map(|before| before + 3);
    let looked = |object: &Value| !unavailable(object) || looks() >= enough;
    let object = scene.wait("DockerMachine", WORKER, looked).await?;
    ensure!(unavailable(&object), "{object:#}");
    ensure!(
        !scene.plan().sites().contains_key("Docker copy image"),
        "it was copied"
    );
    scene.world.daemon.lock().missing.clear();
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerMachine", WORKER, ready).await?;
    operator.stop().await;
    Ok(())
}
