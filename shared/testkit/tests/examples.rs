//! What stands in `crds/` and `examples/` is taken by a real API server as it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use testkit::{
    capi,
    control_plane::{ControlPlane, Options},
    helm::{self, Helm},
};

/// The YAML files below a folder of the project.
fn manifests(folder: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "no manifests in {folder}");
    Ok(found)
}

fn crds() -> Result<Vec<CustomResourceDefinition>> {
    let read = |path: &PathBuf| {
        serde_saphyr::from_str(&fs::read_to_string(path)?).with_context(|| path.display().to_string())
    };
    manifests("crds")?.iter().map(read).collect()
}

/// How an object is applied.
fn dry_run() -> PatchParams {
    PatchParams::apply("examples").validation_strict().dry_run()
}

fn kind(object: &DynamicObject) -> Result<GroupVersionKind> {
    let types = object.types.as_ref().context("no apiVersion and kind")?;
    Ok(GroupVersionKind::try_from(types)?)
}

/// Applies the object, in `namespace` whatever namespace it names, a field that the schema does not know being
/// an error.
async fn apply(client: &Client, namespace: &str, object: &DynamicObject, how: &PatchParams) -> Result<()> {
    let kind = kind(object)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let mut object = object.clone();
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            object.metadata.namespace = Some(namespace.to_owned());
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let name = object.metadata.name.clone().context("no name")?;
    api.patch(&name, how, &Patch::Apply(&object)).await?;
    Ok(())
}

/// Cluster API's definitions of those of its own kinds that examples have.
async fn cluster_apis_crds() -> Result<Vec<CustomResourceDefinition>> {
    let ours = crds()?;
    let mut kinds = BTreeSet::new();
    for example in manifests("examples")? {
        for object in objects(&fs::read_to_string(&example)?)? {
            let kind = kind(&object)?;
            let is_ours = |crd: &CustomResourceDefinition| crd.spec.names.kind == kind.kind;
            if kind.group.ends_with("cluster.x-k8s.io") && !ours.iter().any(is_ours) {
                kinds.insert(kind.kind);
            }
        }
    }
    let module = capi::module("cluster-api", "sigs.k8s.io/cluster-api").await?;
    let mut found = Vec::new();
    for folder in ["", "bootstrap/kubeadm", "controlplane/kubeadm"] {
        let folder = module.join(folder).join("config/crd/bases");
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let definition: CustomResourceDefinition =
                serde_saphyr::from_str(&fs::read_to_string(entry?.path())?)?;
            if kinds.remove(&definition.spec.names.kind) {
                found.push(definition);
            }
        }
    }
    ensure!(kinds.is_empty(), "no definitions of {kinds:?}");
    Ok(found)
}

fn objects(text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text)?;
    let there = documents.into_iter().filter(|document| !document.is_null());
    there
        .map(|document| Ok(serde_json::from_value(document)?))
        .collect()
}

#[test]
fn the_samples_of_the_originals_have_the_names_that_they_had_there() -> Result<()> {
    let found = manifests("examples/seeds")?;
    let names: Vec<_> = found
        .iter()
        .filter_map(|path| path.file_stem()?.to_str())
        .collect();
    let expected = [
        "aws-mysql-prod",
        "aws-mysql-test",
        "cr",
        "dynamoctl_v1alpha1_ddbctldpjob",
        "prod-aws-cluster",
    ];
    ensure!(names == expected, "{names:?}");
    Ok(())
}

/// A control plane with Cluster API's kinds and ours, for others would take its stand-ins for these.
async fn plane() -> Result<ControlPlane> {
    let plane = ControlPlane::start(Options::default()).await?;
    plane.apply_crds(&crds()?).await?;
    let theirs = cluster_apis_crds().await?;
    ensure!(theirs.len() >= 6, "only {} kinds of Cluster API", theirs.len());
    plane.apply_crds(&theirs).await?;
    Ok(plane)
}

/// A control plane with the admission policies of the Docker provider.
struct Guarded {
    plane: ControlPlane,
    helm: Helm,
}

impl Guarded {
    /// With the policies as the chart brings them with these values.
    async fn set(&self, values: &[&str]) -> Result<()> {
        let chart = helm::chart("capdkc").to_string_lossy().into_owned();
        let mut arguments = vec![
            "template",
            "capdkc",
            &chart,
            "--namespace=default",
            "--kube-version=1.34.4",
        ];
        arguments.extend([
            "--set=docker.socket.enabled=true",
            "--show-only=templates/policies.yaml",
        ]);
        for value in values {
            arguments.extend(["--set", value]);
        }
        let policies = objects(&self.helm.run(&arguments).await?)?;
        ensure!(policies.len() >= 5, "only {} objects", policies.len());
        for object in policies {
            apply(
                &self.plane.client(),
                "default",
                &object,
                &PatchParams::apply("chart").force(),
            )
            .await?;
        }
        Ok(())
    }

    /// Why an example is refused, if it is.
    async fn refuses(&self, example: &Path) -> Result<Option<String>> {
        for object in objects(&fs::read_to_string(example)?)? {
            if let Err(error) = apply(&self.plane.client(), "default", &object, &dry_run()).await {
                return match error.downcast_ref() {
                    Some(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
                    _ => Err(error),
                };
            }
        }
        Ok(None)
    }

    /// Waits until the API server does with an example what it should: policies take effect a moment after they are there.
    async fn until(&self, example: &Path, refused: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(3);
        loop {
            let why = self.refuses(example).await?;
            if let Some(why) = &why {
                ensure!(why.contains("the host path"), "{}: {why}", example.display());
            }
            if why.is_some() == refused {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{}: {why:?}", example.display());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn every_example_is_accepted_and_one_that_mounts_a_path_of_the_host_names_the_value_that_allows_it()
-> Result<()> {
    let guarded = Guarded {
        plane: plane().await?,
        helm: Helm::new().await?,
    };
    let mut applied = 0;
    for example in manifests("examples")? {
        for object in objects(&fs::read_to_string(&example)?)? {
            apply(&guarded.plane.client(), "default", &object, &dry_run())
                .await
                .with_context(|| format!("{} is refused", example.display()))?;
            applied += 1;
        }
    }
    ensure!(applied >= 50, "only {applied} objects were applied");
    guarded.set(&[]).await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for example in manifests("examples/docker")? {
        let text = fs::read_to_string(&example)?;
        let needed = text
            .split_whitespace()
            .find(|word| word.starts_with("policies.hostPaths="));
        match needed {
            Some(needed) => with.push((example, needed.trim_end_matches([',', '.']).to_owned())),
            None => without.push(example),
        }
    }
    ensure!(with.len() >= 2 && without.len() >= 3, "{with:?} {without:?}");
    for (example, _) in &with {
        guarded.until(example, true).await?;
    }
    for example in &without {
        let refused = guarded.refuses(example).await?;
        ensure!(refused.is_none(), "{}: {refused:?}", example.display());
    }
    for (example, needed) in &with {
        guarded.set(&[needed]).await?;
        guarded.until(example, false).await?;
    }
    Ok(())
}
