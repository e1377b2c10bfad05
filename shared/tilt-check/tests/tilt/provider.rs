//! The Docker provider inside Cluster API's own Tiltfile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tilt_check::{
    Outcome,
    cluster_api::{self, Settings},
};

use crate::{copy, root, setting};

/// What docs/tilt.md tells people to write to `tilt-settings.json` of Cluster API's checkout, without its `debug`.
fn documented() -> Result<Settings> {
    let page = fs::read_to_string(root().join("docs/tilt.md"))?;
    let section = page
        .split("## Inside Cluster API")
        .nth(1)
        .context("no section of Cluster API's")?;
    let block = section
        .split("```json")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let mut settings = Settings::parse(block.context("no settings on the page")?)?;
    ensure!(settings.debug["docker-kubecon"]["port"] == 30000, "{settings:?}");
    settings.debug.clear();
    Ok(settings)
}

const IMAGE: &str = "ghcr.io/capi-samples/cluster-api-provider-docker:dev";

/// A checkout of Cluster API's with this fragment in `tilt.d` and what the settings say of debugging.
fn checkout(fragment: &str, settings: &Settings) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("tilt.d"))?;
    fs::write(folder.path().join("tilt.d/capdkc"), fragment)?;
    let debug = serde_json::json!({"debug": settings.debug});
    fs::write(folder.path().join("tilt-settings.json"), debug.to_string())?;
    let tiltfile = "for path in listdir('tilt.d'):\n    include(path)\n";
    fs::write(folder.path().join("Tiltfile"), tiltfile)?;
    Ok(folder)
}

fn fragment(repository: &Path) -> String {
    format!(
        "include(\"{}\")\n",
        repository.join("tilt/tilt.d/capdkc").display()
    )
}

async fn evaluate(repository: &Path, settings: &Settings) -> Result<Outcome> {
    let checkout = checkout(&fragment(repository), settings)?;
    Ok(cluster_api::evaluate(
        &setting().await?,
        checkout.path(),
        repository,
        settings,
    )?)
}

/// Changes `tilt-provider.json` of a copy.
fn changed(change: impl Fn(&mut Value)) -> Result<tempfile::TempDir> {
    let repository = copy()?;
    let path = repository.path().join("tilt-provider.json");
    let mut provider: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    change(&mut provider);
    fs::write(&path, provider.to_string())?;
    Ok(repository)
}

fn deployment(objects: &[Value]) -> Result<&Value> {
    let found = objects.iter().find(|object| object["kind"] == "Deployment");
    found.context("no Deployment")
}

#[test]
fn the_provider_is_a_list_of_one_that_names_nothing_to_compile() -> Result<()> {
    let providers = cluster_api::providers(&root())?;
    let [provider] = providers.as_slice() else {
        anyhow::bail!("{providers:?}");
    };
    assert_eq!(
        (provider.name.as_str(), provider.label.as_str()),
        ("docker-kubecon", "CAPDKC")
    );
    let text = fs::read_to_string(root().join("tilt-provider.json"))?;
    ensure!(
        !text.contains("image") && !text.contains("live_reload_deps"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn it_is_deployed_with_the_image_that_the_fragment_builds() -> Result<()> {
    let repository = copy()?;
    let outcome = evaluate(repository.path(), &documented()?).await?;
    ensure!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    let controller = &outcome.resources["capdkc_controller"];
    assert_eq!(controller.images, [IMAGE]);
    assert_eq!(controller.resource_deps, ["provider_crd", "binaries"]);
    // Nobody else says who the manager runs as, and the socket is root's.
    assert_eq!(outcome.images[0].build_args["RUN_AS"], "0:0");
    assert_eq!(outcome.images[0].target, "dev");
    ensure!(
        controller
            .objects
            .contains(&"infrastructure-capdkc:Provider:capdkc-system".to_owned()),
        "{:?}",
        controller.objects
    );
    assert_eq!(
        outcome.resources["binaries"].labels.iter().collect::<Vec<_>>(),
        ["ALL.binaries", "CAPDKC"]
    );
    ensure!(outcome.resources["binaries"].command.ends_with(" capdkc"));
    Ok(())
}

#[tokio::test]
async fn its_objects_are_those_of_a_release_with_the_settings_filled_in() -> Result<()> {
    let repository = copy()?;
    let provider = cluster_api::providers(repository.path())?.remove(0);
    let mut settings = documented()?;
    let network = ("CAPDKC_DOCKER_NETWORK".to_owned(), "kind2".to_owned());
    settings.kustomize_substitutions.extend([network]);
    let objects = provider.objects(&setting().await?, &settings)?;
    for object in &objects {
        assert_eq!(
            object["metadata"]["labels"]["cluster.x-k8s.io/provider"],
            "infrastructure-capdkc"
        );
    }
    let crds = objects
        .iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .count();
    let released = crate_crds()?;
    assert_eq!(crds, released.len(), "{released:?}");
    let pod = &deployment(&objects)?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], IMAGE);
    assert_eq!(container["command"], serde_json::json!(["/manager"]));
    let args = container["args"].as_array().context("no arguments")?;
    for expected in [
        "--network=kind2",
        "--docker-host=unix:///var/run/docker.sock",
        "-zap-log-level=debug",
    ] {
        ensure!(
            args.iter().any(|arg| arg == expected),
            "{expected} is missing in {args:?}"
        );
    }
    ensure!(container["securityContext"].is_null() && pod["securityContext"].is_null());
    Ok(())
}

/// The definitions of the provider's kinds.
fn crate_crds() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("crds"))? {
        let path = entry?.path();
        if path
            .to_string_lossy()
            .ends_with(".infrastructure.cluster.x-k8s.io.yaml")
        {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn the_debugger_that_is_started_is_one_that_the_image_has() -> Result<()> {
    let repository = copy()?;
    let mut settings = documented()?;
    let debug = serde_json::json!({"continue": false, "port": 30000});
    settings.debug.insert("docker-kubecon".to_owned(), debug);
    let outcome = evaluate(repository.path(), &settings).await?;
    assert_eq!(
        outcome.resources["capdkc_controller"].port_forwards,
        ["30000:30000"]
    );
    assert_eq!(
        outcome.images[0].target, "debug",
        "the stage that has a debug server"
    );
    ensure!(
        outcome.images[0].syncs.is_empty(),
        "a program is replaced under its debug server"
    );
    let provider = cluster_api::providers(repository.path())?.remove(0);
    let objects = provider.objects(&setting().await?, &settings)?;
    let container = &deployment(&objects)?["spec"]["template"]["spec"]["containers"][0];
    let command = container["command"].as_array().context("no command")?;
    let dockerfile = fs::read_to_string(root().join("tilt/Dockerfile"))?;
    for program in ["/start.sh", "/dlv", "/manager"] {
        ensure!(
            command.iter().any(|word| word == program),
            "{program} is not in {command:?}"
        );
        ensure!(
            dockerfile.contains(&format!(" {program}")),
            "{program} is not in the image"
        );
    }
    let args = container["args"].as_array().context("no arguments")?;
    ensure!(args.iter().any(|arg| arg == "--leader-elect=false"), "{args:?}");
    ensure!(container["livenessProbe"].is_null() && container["readinessProbe"].is_null());
    Ok(())
}

#[tokio::test]
async fn a_provider_that_cluster_api_cannot_take_is_refused() -> Result<()> {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (
            |of| of[0]["config"]["image"] = IMAGE.into(),
            "compile its main.go with Go",
        ),
        (
            |of| drop(of[0]["config"].as_object_mut().unwrap().remove("label")),
            "has no label",
        ),
        (
            |of| drop(of[0].as_object_mut().unwrap().remove("name")),
            "has no name",
        ),
        (
            |of| of[0]["config"]["kustomise_folder"] = "x".into(),
            "kustomise_folder",
        ),
        (
            |of| of[0]["config"]["kustomize_folder"] = "config/none".into(),
            "config/none",
        ),
        (
            |of| of[0]["name"] = "docker-other".into(),
            "which no repository has",
        ),
    ];
    for (change, why) in cases {
        let repository = changed(change)?;
        let refused = evaluate(repository.path(), &documented()?)
            .await
            .err()
            .with_context(|| why.to_owned())?;
        ensure!(refused.to_string().contains(why), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn without_the_fragment_nothing_builds_the_image_and_a_wrong_name_is_found() -> Result<()> {
    let repository = copy()?;
    let settings = documented()?;
    let empty = checkout("", &settings)?;
    let outcome = cluster_api::evaluate(&setting().await?, empty.path(), repository.path(), &settings)?;
    ensure!(outcome.resources["capdkc_controller"].images.is_empty());
    let path = repository.path().join("tilt/tilt.d/capdkc");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replace(":dev", ":latest"))?;
    let outcome = evaluate(repository.path(), &documented()?).await?;
    ensure!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("Image not used")),
        "{:?}",
        outcome.warnings
    );
    Ok(())
}
