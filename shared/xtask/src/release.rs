//! `cargo xtask release`: what is published of a version, in a local folder: the Cluster API provider as a repository of
//! clusterctl's, and each operator as a chart, as one manifest for kubectl, and as a base for Kustomize.
//!
//! ```text
//! <output>/<version>/<chart>-<version>.tgz, <chart>-install.yaml, kustomize/<chart>/, SHA256SUMS
//! <output>/infrastructure-capdkc/<version>/infrastructure-components.yaml   kinds, rights, policies, Deployment
//!                                          metadata.yaml                    which contract it keeps
//!                                          cluster-template*.yaml           flavors of `clusterctl generate cluster`
//!                                          clusterclass-*.yaml              classes that the flavors name
//! <output>/clusterctl.yaml                                                  the entry for clusterctl's configuration
//! ```
//!
//! The sources are in `operators/docker/config`; the kinds come from the types. What is there already of the same
//! version is replaced, other versions stay.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

mod operators;

use crate::workspace::{self, Metadata};

/// Arguments of `cargo xtask release`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the repository; `target/release-repository` without
    #[arg(long)]
    output: Option<PathBuf>,
    /// The release, as clusterctl names it
    #[arg(long, default_value = concat!("v", env!("CARGO_PKG_VERSION")))]
    version: String,
    /// The image of the provider's manager, with its registry; `<registry>/capdkc:<version>` without
    #[arg(long)]
    image: Option<String>,
    /// The registry of the images in manifests and bases for Kustomize. `images` in clusterctl's configuration renames
    /// the provider's once more
    #[arg(long, default_value = "localhost")]
    registry: String,
    /// helm; built from its module without
    #[arg(long, value_name = "FILE")]
    helm: Option<PathBuf>,
    /// Only the provider's repository
    #[arg(long)]
    provider_only: bool,
}

/// The name by which clusterctl knows the provider, with its type before it.
const PROVIDER: &str = "infrastructure-capdkc";
const LABEL: &str = "cluster.x-k8s.io/provider";
const SOURCES: &str = "operators/docker/config";
const COMPONENTS: &str = "infrastructure-components.yaml";

/// Writes the release.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure_version(&args.version)?;
    let output = match &args.output {
        Some(output) => std::path::absolute(output)?,
        None => Metadata::read()?.target_directory.join("release-repository"),
    };
    let image = args.image();
    ensure_canonical(&image)?;
    let sources = workspace::root().join(SOURCES);
    ensure_series(&args.version, &sources)?;
    let folder = output.join(PROVIDER).join(&args.version);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    write(&folder.join(COMPONENTS), &components(&sources, &image)?)?;
    for name in copied(&sources)? {
        let text = fs::read_to_string(sources.join(&name)).with_context(|| format!("cannot read {name}"))?;
        write(&folder.join(name), &text)?;
    }
    let (path, configuration) = (output.join("clusterctl.yaml"), configuration(&folder));
    write(&path, &configuration)?;
    eprintln!("{}", folder.display());
    eprintln!(
        "\nfor clusterctl's own configuration, or for its --config, where it stands as {}:\n\n{configuration}",
        path.display()
    );
    if !args.provider_only {
        let folder = output.join(&args.version);
        operators::write(&folder, args)?;
        eprintln!("{}", folder.display());
    }
    Ok(())
}

impl Args {
    /// The image of the provider's manager.
    fn image(&self) -> String {
        let registry = self.registry.trim_end_matches('/');
        let of_registry = || format!("{registry}/capdkc:{}", self.version);
        self.image.clone().unwrap_or_else(of_registry)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// clusterctl finds a release by a semantic version with a `v` before it.
fn ensure_version(version: &str) -> Result<()> {
    let numbers = version
        .strip_prefix('v')
        .map(|rest| rest.split(['-', '+']).next().unwrap_or(rest));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<_> = numbers
        .into_iter()
        .flat_map(|numbers| numbers.split('.'))
        .collect();
    ensure!(
        parts.len() == 3 && parts.iter().all(|part| is_number(part)),
        "{version:?} is no release that clusterctl would find; write it as v1.2.3"
    );
    Ok(())
}

/// clusterctl refuses a release of whose series it is not told which contract it keeps.
fn ensure_series(version: &str, sources: &Path) -> Result<()> {
    let path = sources.join("metadata.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let metadata: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let mut series = metadata["releaseSeries"].as_array().into_iter().flatten();
    let named = |of: &Value| version.starts_with(&format!("v{}.{}.", of["major"], of["minor"]));
    ensure!(
        series.any(named),
        "{SOURCES}/metadata.yaml names no series of {version}: add it with its contract, or clusterctl refuses the release"
    );
    Ok(())
}

/// clusterctl refuses a name that Docker would complete.
fn ensure_canonical(image: &str) -> Result<()> {
    let registry = image.split_once('/').map(|(registry, _)| registry);
    ensure!(
        registry.is_some_and(|name| name == "localhost" || name.contains(['.', ':'])),
        "the image {image:?} does not name its registry; write it as registry.example.com/capdkc:v1.2.3"
    );
    Ok(())
}

/// The entry of clusterctl's configuration that names this release.
fn configuration(folder: &Path) -> String {
    let url = folder.join(COMPONENTS);
    format!(
        "providers:\n- name: capdkc\n  type: InfrastructureProvider\n  url: {}\n",
        url.display()
    )
}

/// The sources that are released as they are.
fn copied(sources: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(sources).with_context(|| format!("cannot list {}", sources.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == "metadata.yaml" || name.starts_with("cluster") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Everything that is installed, in one text.
fn components(sources: &Path, image: &str) -> Result<String> {
    let mut text = String::from("# Generated by `cargo xtask release`.\n");
    for crd in docker_api::crds() {
        // clusterctl fills in variables: a dollar of ours is doubled.
        let document = serde_json::to_value(crd).context("cannot write a definition")?;
        text.push_str(&document_text(document)?.replace('$', "$$"));
    }
    for name in ["manager.yaml", "policies.yaml"] {
        let source = fs::read_to_string(sources.join(name)).with_context(|| format!("cannot read {name}"))?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&source).with_context(|| format!("cannot read {name}"))?;
        for mut document in documents {
            if document["kind"] == "Deployment" {
                set_image(&mut document, image)?;
            }
            text.push_str(&document_text(document)?);
        }
    }
    Ok(text)
}

fn document_text(mut document: Value) -> Result<String> {
    let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) else {
        bail!("a document has no metadata");
    };
    let labels = metadata
        .entry("labels")
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    labels[LABEL] = PROVIDER.into();
    let text = serde_saphyr::to_string(&document).context("cannot write YAML")?;
    Ok(format!("---\n{text}"))
}

fn set_image(deployment: &mut Value, image: &str) -> Result<()> {
    let container = deployment
        .pointer_mut("/spec/template/spec/containers/0")
        .context("the Deployment has no container")?;
    ensure!(
        container["name"] == "manager",
        "clusterctl wants the container to be called manager"
    );
    container["image"] = image.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Value> {
        let sources = workspace::root().join(SOURCES);
        let text = components(&sources, "registry.example.com/capdkc:v9").unwrap();
        serde_saphyr::from_multiple(&text).unwrap()
    }

    #[test]
    fn every_component_carries_the_label_and_there_is_one_namespace() {
        let documents = documents();
        for document in &documents {
            assert_eq!(document["metadata"]["labels"][LABEL], PROVIDER, "{document}");
        }
        let of_kind = |kind: &str| {
            documents
                .iter()
                .filter(|document| document["kind"] == kind)
                .count()
        };
        assert_eq!(of_kind("Namespace"), 1);
        assert_eq!(of_kind("CustomResourceDefinition"), docker_api::crds().len());
        for namespaced in documents
            .iter()
            .filter_map(|document| document["metadata"]["namespace"].as_str())
        {
            assert_eq!(namespaced, "capdkc-system");
        }
    }

    #[test]
    fn the_deployment_is_what_clusterctl_and_the_probes_expect() {
        let documents = documents();
        let deployment = documents
            .iter()
            .find(|document| document["kind"] == "Deployment")
            .unwrap();
        let pod = &deployment["spec"]["template"];
        assert_eq!(
            pod["metadata"]["labels"],
            deployment["spec"]["selector"]["matchLabels"]
        );
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 35);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["name"], "manager");
        assert_eq!(container["image"], "registry.example.com/capdkc:v9");
        assert_eq!(container["args"][0], "--leader-elect");
        assert_eq!(container["ports"][0]["name"], "healthz");
        assert_eq!(container["ports"][0]["containerPort"], 9440);
        for probe in ["readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "healthz");
        }
        let names: Vec<_> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|of| of["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["POD_NAMESPACE", "POD_NAME", "POD_UID"]);
    }

    #[test]
    fn the_flavors_are_released_and_a_class_has_neither_variables_nor_a_namespace() {
        let sources = workspace::root().join(SOURCES);
        let names = copied(&sources).unwrap();
        for expected in [
            "cluster-template.yaml",
            "cluster-template-ha.yaml",
            "cluster-template-topology.yaml",
        ] {
            assert!(names.iter().any(|name| name == expected), "{expected} is missing");
        }
        let classes: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with("clusterclass-"))
            .collect();
        assert!(!classes.is_empty());
        for class in classes {
            let text = fs::read_to_string(sources.join(class)).unwrap();
            assert!(!text.contains("${") && !text.contains("namespace:"), "{class}");
        }
    }

    #[test]
    fn the_metadata_names_the_series_of_this_version() {
        let text = fs::read_to_string(workspace::root().join(SOURCES).join("metadata.yaml")).unwrap();
        let metadata: Value = serde_saphyr::from_str(&text).unwrap();
        let [major, minor] = [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR")]
            .map(|number| number.parse::<u64>().unwrap());
        let series = metadata["releaseSeries"].as_array().unwrap();
        assert!(
            series
                .iter()
                .any(|of| of["major"] == major && of["minor"] == minor && of["contract"] == "v1beta2")
        );
    }

    #[test]
    fn a_release_whose_series_clusterctl_is_not_told_of_is_refused() {
        let sources = workspace::root().join(SOURCES);
        ensure_series(concat!("v", env!("CARGO_PKG_VERSION")), &sources).unwrap();
        for bad in ["v0.10.0", "v7.1.0"] {
            let why = ensure_series(bad, &sources).unwrap_err().to_string();
            assert!(why.contains(bad) && why.contains("metadata.yaml"), "{why}");
        }
    }

    #[test]
    fn only_images_with_a_registry_are_taken() {
        for good in [
            "localhost/capdkc:v1",
            "registry.example.com/a/capdkc:v1",
            "r:5000/capdkc",
        ] {
            ensure_canonical(good).unwrap();
        }
        for bad in ["capdkc:v1", "team/capdkc"] {
            assert!(
                ensure_canonical(bad).unwrap_err().to_string().contains(bad),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_versions_that_clusterctl_finds_are_taken() {
        for good in ["v0.1.0", "v1.22.3-rc.1"] {
            ensure_version(good).unwrap();
        }
        for bad in ["0.1.0", "v1", "v1.2", "v1.2.x", "latest"] {
            assert!(
                ensure_version(bad).unwrap_err().to_string().contains("v1.2.3"),
                "{bad}"
            );
        }
    }
}
