//! Charts as helm renders them, and how a real API server takes the result.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use testkit::helm::{self, Helm, HelmError};

/// The version that charts are rendered for, since helm asks no cluster here.
const KUBE_VERSION: &str = "1.34.4";

/// The Docker provider with the node's socket in place of a daemon over TLS.
pub(crate) const SOCKET: [&str; 2] = ["docker.host=", "docker.socket.enabled=true"];

/// A chart, with the values that it cannot be without.
pub(crate) struct Chart {
    pub(crate) path: PathBuf,
    needs: &'static [&'static str],
}

impl Chart {
    pub(crate) fn all() -> Result<Vec<Self>> {
        let charts: Vec<_> = helm::charts()?.into_iter().map(Self::at).collect();
        anyhow::ensure!(charts.len() >= 3, "only {} charts", charts.len());
        Ok(charts)
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::at(helm::chart(name))
    }

    fn at(path: PathBuf) -> Self {
        let needs = if path.ends_with("capdkc") {
            &[
                "docker.host=tcp://docker.example.com:2376",
                "docker.tls.secretName=docker-tls",
            ][..]
        } else {
            &[]
        };
        Self { path, needs }
    }

    /// These sets of values, and those that only this chart has.
    pub(crate) fn variants<'a>(&self, common: &[&'a [&'a str]]) -> Vec<&'a [&'a str]> {
        let mut all = common.to_vec();
        if self.path.ends_with("capdkc") {
            all.push(&SOCKET);
        }
        all
    }

    /// Runs a subcommand of helm's on it with `--set` and these values.
    pub(crate) async fn helm(
        &self,
        helm: &Helm,
        command: &[&str],
        values: &[&str],
    ) -> Result<String, HelmError> {
        let path = self.path.to_string_lossy();
        let mut arguments = [command, &[&path, "--kube-version", KUBE_VERSION]].concat();
        for value in self.needs.iter().chain(values) {
            arguments.extend(["--set", value]);
        }
        helm.run(&arguments).await
    }

    pub(crate) async fn rendered(
        &self,
        helm: &Helm,
        namespace: &str,
        values: &[&str],
    ) -> Result<Vec<DynamicObject>> {
        let command = ["template", "release", "--namespace", namespace];
        objects(&self.helm(helm, &command, values).await?)
    }
}

/// The objects of a stream of YAML documents.
pub(crate) fn objects(text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text)?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| serde_json::from_value(document).context("not an object"))
        .collect()
}

pub(crate) fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// The only object of this kind.
pub(crate) fn only<'a>(objects: &'a [DynamicObject], wanted: &str) -> Result<&'a DynamicObject> {
    let mut found = objects.iter().filter(|object| kind(object) == wanted);
    let first = found.next().with_context(|| format!("no {wanted}"))?;
    anyhow::ensure!(found.next().is_none(), "more than one {wanted}");
    Ok(first)
}

/// Sends the object as a dry run in which a field that the schema does not know is an error.
pub(crate) async fn accepted(client: &Client, namespace: &str, object: &DynamicObject) -> Result<()> {
    let types = object.types.as_ref().context("no apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let own = object.metadata.namespace.as_deref().unwrap_or(namespace);
            Api::namespaced_with(client.clone(), own, &resource)
        }
    };
    let params = PatchParams::apply("charts").validation_strict().dry_run();
    api.patch(&object.name_any(), &params, &Patch::Apply(object))
        .await?;
    Ok(())
}

/// The text of a file of the workspace.
pub(crate) fn file(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
