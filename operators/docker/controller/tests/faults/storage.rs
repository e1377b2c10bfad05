//! Objects that an older provider has stored in a version which is not converted.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use testkit::{
    control_plane::{ControlPlane, Options},
    tools::{self, Tool},
};

use crate::{
    objects::{message_of, reason},
    scene::Scene,
    world::{CONTROL_PLANE, up},
};

/// The definitions of a provider that stores the version which ours no longer serve.
fn older() -> Vec<CustomResourceDefinition> {
    let mut definitions = docker_api::crds();
    for version in definitions
        .iter_mut()
        .flat_map(|definition| &mut definition.spec.versions)
    {
        version.storage = version.name == "v1beta1";
        version.served = true;
    }
    definitions
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_older_version_wait_for_a_migration_whose_command_is_told_and_works() -> Result<()> {
    // Definitions are for the whole server, so it is the test's own; its processes end with this one.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(Options::default()).await?));
    plane.apply_crds(&older()).await?;
    let scene = Scene::set_in(plane).await?;
    let template = json!({"template": {"spec": {}}});
    scene
        .objects
        .create("DockerMachineTemplate", "t1", None, template)
        .await?;
    let operator = scene.start();
    scene.infrastructure_is_there().await?;
    let note = scene
        .event("DockerMachineTemplate", "t1", "StorageMigrationNeeded")
        .await?;
    ensure!(note.contains("Definition dockermachinetemplates."), "{note}");
    // Of the templates of clusters there is none.
    for (kind, name, plural) in [
        ("DockerCluster", "c1", "dockerclusters"),
        ("DockerCluster", "c1", "dockerclustertemplates"),
        ("DockerMachine", CONTROL_PLANE, "dockermachines"),
        ("DockerMachine", CONTROL_PLANE, "dockermachinetemplates"),
    ] {
        let told = |object: &Value| {
            let message = message_of(object, "Ready").unwrap_or_default();
            reason(object, "Ready") == Some("StorageMigrationNeeded")
                && message.contains(&format!("Definition {plural}."))
        };
        let object = scene.wait(kind, name, told).await?;
        let message = message_of(&object, "Ready").unwrap_or_default().to_owned();
        ensure!(message.contains("stored as v1beta1"), "{message}");
        scene.event(kind, name, "StorageMigrationNeeded").await?;
        let command = message
            .split("or you do: ")
            .nth(1)
            .context("there is no command in it")?;
        run(plane, command).await?;
    }
    up(&scene.world, &scene.objects).await?;
    let reports = |object: &Value| object["status"]["capacity"]["cpu"].is_string();
    scene.wait("DockerMachineTemplate", "t1", reports).await?;
    operator.stop().await;
    Ok(())
}

/// Runs what people are told to.
async fn run(plane: &ControlPlane, command: &str) -> Result<()> {
    let kubectl = tools::ensure_async(&[Tool::Kubectl]).await?.remove(0);
    let folder = kubectl.parent().context("kubectl is nowhere")?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let output = Command::new("sh")
        .args(["-c", command])
        .env("PATH", path)
        .env("KUBECONFIG", plane.kubeconfig_path())
        .output()?;
    ensure!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
