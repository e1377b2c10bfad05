//! Cluster API's command line, with a repository of every provider in a local folder.
//!
//! # Caveats
//! `clusterctl init` asks for cert-manager. It finds the kinds of one, and nobody who issues anything: the managers are
//! processes here and have their certificate already.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;
use tokio::process::Command;

use super::output;

/// A provider as the repository holds it.
pub(super) struct Provider {
    /// Folder: type and name.
    pub(super) folder: &'static str,
    /// The file with what is installed.
    pub(super) components: &'static str,
    name: &'static str,
    kind: &'static str,
}

/// In the order of [`super::PARTS`].
pub(super) const PROVIDERS: [Provider; 3] = [
    Provider {
        folder: "cluster-api",
        components: "core-components.yaml",
        name: "cluster-api",
        kind: "CoreProvider",
    },
    Provider {
        folder: "bootstrap-kubeadm",
        components: "bootstrap-components.yaml",
        name: "kubeadm",
        kind: "BootstrapProvider",
    },
    Provider {
        folder: "control-plane-kubeadm",
        components: "control-plane-components.yaml",
        name: "kubeadm",
        kind: "ControlPlaneProvider",
    },
];

/// An infrastructure provider that stands in a local repository of its own.
#[derive(Clone, Debug)]
pub struct Infrastructure {
    /// Its name.
    pub name: String,
    /// Its `infrastructure-components.yaml`, in `…/infrastructure-<name>/<version>/`.
    pub components: PathBuf,
}

/// clusterctl, speaking to one management cluster.
#[derive(Clone, Debug)]
pub struct Clusterctl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// Its configuration; what it keeps goes beside it.
    configuration: PathBuf,
}

impl Clusterctl {
    /// With `repository`, which has [`PROVIDERS`] in `version`, and `infrastructure`.
    pub(super) fn new(
        program: &Path,
        kubeconfig: &Path,
        repository: &Path,
        version: &str,
        infrastructure: &Infrastructure,
    ) -> anyhow::Result<Self> {
        let mut providers: Vec<_> = PROVIDERS
            .iter()
            .map(|provider| {
                let url = repository
                    .join(provider.folder)
                    .join(version)
                    .join(provider.components);
                json!({"name": provider.name, "type": provider.kind, "url": url})
            })
            .collect();
        providers.push(json!({
            "name": infrastructure.name, "type": "InfrastructureProvider", "url": infrastructure.components,
        }));
        let configuration = repository.join("clusterctl.yaml");
        std::fs::write(&configuration, json!({"providers": providers}).to_string())?;
        Ok(Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            configuration,
        })
    }

    /// Runs `clusterctl ARGUMENTS…`, with `variables` in its environment; returns what it printed.
    pub async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<String> {
        let home = self
            .configuration
            .parent()
            .context("the configuration has no folder")?;
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.configuration)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("XDG_CONFIG_HOME", home)
            .env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true")
            .env("CLUSTER_TOPOLOGY", "true")
            // Nothing is looked for beyond this machine.
            .env("GOPROXY", "off")
            .envs(variables.iter().copied());
        let printed = output(command).await?;
        String::from_utf8(printed).context("clusterctl printed no text")
    }

    /// Its configuration file, as JSON: where the repository of each provider is.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// The kubeconfig of the management cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Puts one provider's files into `repository`.
pub(super) fn store(
    repository: &Path,
    provider: &Provider,
    version: &str,
    documents: &[serde_json::Value],
    metadata: &Path,
) -> anyhow::Result<()> {
    ensure!(!documents.is_empty(), "{} has no manifests", provider.folder);
    let folder = repository.join(provider.folder).join(version);
    std::fs::create_dir_all(&folder)?;
    let texts: Vec<_> = documents.iter().map(ToString::to_string).collect();
    std::fs::write(folder.join(provider.components), texts.join("\n---\n"))?;
    let metadata = std::fs::read(metadata).with_context(|| format!("cannot read {}", metadata.display()))?;
    std::fs::write(folder.join("metadata.yaml"), metadata)?;
    Ok(())
}

/// The kinds of cert-manager that providers' manifests use, with any content.
pub(super) fn certificate_definitions() -> anyhow::Result<Vec<CustomResourceDefinition>> {
    ["Certificate", "Issuer"]
        .iter()
        .map(|kind| {
            let singular = kind.to_lowercase();
            let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let definition = json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{singular}s.cert-manager.io")},
                "spec": {
                    "group": "cert-manager.io",
                    "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular},
                    "scope": "Namespaced",
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": open}}],
                },
            });
            serde_json::from_value(definition).context("a stand-in definition is malformed")
        })
        .collect()
}
