//! What stands in `crds/` and `examples/` is taken by a real API server as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use testkit::control_plane::ControlPlane;

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

/// Applies the object in a dry run, in `namespace` whatever namespace it names, a field that the schema does not know being
/// an error. Cluster API's own kinds, which these servers have not, are left out.
async fn apply(client: &Client, namespace: &str, object: &DynamicObject) -> Result<bool> {
    let types = object.types.as_ref().context("no apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(types)?;
    if kind.group == "cluster.x-k8s.io" || kind.group.ends_with(".cluster.x-k8s.io") && !has_crd(&kind)? {
        return Ok(false);
    }
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
    api.patch(
        &name,
        &PatchParams::apply("examples").validation_strict().dry_run(),
        &Patch::Apply(&object),
    )
    .await?;
    Ok(true)
}

fn has_crd(kind: &GroupVersionKind) -> Result<bool> {
    Ok(crds()?
        .iter()
        .any(|crd| crd.spec.group == kind.group && crd.spec.names.kind == kind.kind))
}

#[tokio::test]
async fn every_example_is_accepted_by_the_api_with_no_field_unknown() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane.apply_crds(&crds()?).await?;
    let client = plane.client();
    let mut applied = 0;
    for example in manifests("examples")? {
        let namespace = plane.namespace().await?;
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&fs::read_to_string(&example)?)?;
        for object in objects {
            let object: DynamicObject = serde_json::from_value(object)?;
            let accepted = apply(&client, namespace.name(), &object).await;
            applied += u32::from(accepted.with_context(|| format!("{} is refused", example.display()))?);
        }
    }
    ensure!(applied >= 35, "only {applied} objects were applied");
    Ok(())
}
