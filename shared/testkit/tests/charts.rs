//! What stands in `charts/`: helm finds nothing to complain about, and a real API server takes what it renders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::rbac::v1::PolicyRule,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use testkit::{
    control_plane::ControlPlane,
    tools::{self, Tool},
};

/// The version that these charts are rendered for, since helm asks no cluster here.
const KUBE_VERSION: &str = "1.34.4";
/// Everything that is off by default, on.
const EVERYTHING: [&str; 6] = [
    "leaderElect=true",
    "replicaCount=2",
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "networkPolicy.enabled=true",
    "watchNamespaces={default}",
];

struct Helm(PathBuf);

impl Helm {
    async fn new() -> Result<Self> {
        Ok(Self(tools::ensure_pinned(&[Tool::Helm]).await?.remove(0)))
    }

    /// Runs helm on the chart; what it printed, or why it refused.
    fn run(&self, subcommand: &[&str], chart: &Path, values: &[&str]) -> Result<Result<String, String>> {
        let mut command = Command::new(&self.0);
        command
            .args(subcommand)
            .arg(chart)
            .args(["--kube-version", KUBE_VERSION]);
        for value in values {
            command.args(["--set", value]);
        }
        let output = command.output().context("cannot run helm")?;
        let printed = String::from_utf8(output.stdout)?;
        Ok(if output.status.success() {
            Ok(printed)
        } else {
            Err(printed + &String::from_utf8_lossy(&output.stderr))
        })
    }

    fn rendered(&self, chart: &Path, namespace: &str, values: &[&str]) -> Result<Vec<DynamicObject>> {
        let command = ["template", "release", "--namespace", namespace];
        let text = self
            .run(&command, chart, values)?
            .map_err(|refused| anyhow::anyhow!("{}: {refused}", chart.display()))?;
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text)?;
        documents
            .into_iter()
            .filter(|document| !document.is_null())
            .map(|document| serde_json::from_value(document).context("not an object"))
            .collect()
    }
}

fn charts() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        found.push(entry?.path());
    }
    ensure!(!found.is_empty(), "no charts");
    found.sort();
    Ok(found)
}

/// Sends the object as a dry run in which a field that the schema does not know is an error.
async fn accepted(client: &Client, namespace: &str, object: &DynamicObject) -> Result<()> {
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

#[tokio::test]
async fn helm_finds_nothing_to_complain_about_in_any_chart() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in charts()? {
        for values in [&[][..], &EVERYTHING] {
            let linted = helm.run(&["lint", "--strict"], &chart, values)?;
            ensure!(linted.is_ok(), "{}: {linted:?}", chart.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_real_api_server_takes_everything_that_a_chart_renders() -> Result<()> {
    let (helm, plane) = (Helm::new().await?, ControlPlane::shared().await?);
    let (client, namespace) = (plane.client(), plane.namespace().await?);
    for chart in charts()? {
        for values in [&[][..], &EVERYTHING] {
            let objects = helm.rendered(&chart, namespace.name(), values)?;
            ensure!(
                objects.len() >= 8,
                "{}: only {} objects",
                chart.display(),
                objects.len()
            );
            for object in &objects {
                let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
                // The Prometheus operator's kinds, which this server has not.
                if matches!(kind, "ServiceMonitor" | "PrometheusRule") {
                    continue;
                }
                accepted(&client, namespace.name(), object)
                    .await
                    .with_context(|| format!("{}: {kind} {}", chart.display(), object.name_any()))?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_definitions_in_a_chart_are_those_in_crds() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in charts()? {
        for object in helm.rendered(&chart, "default", &[])? {
            if object
                .types
                .as_ref()
                .is_none_or(|types| types.kind != "CustomResourceDefinition")
            {
                continue;
            }
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../crds")
                .join(format!("{}.yaml", object.name_any()));
            let written: CustomResourceDefinition = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
            let rendered: CustomResourceDefinition = object.try_parse()?;
            ensure!(rendered.spec == written.spec, "{} differs", path.display());
            ensure!(
                rendered
                    .annotations()
                    .get("helm.sh/resource-policy")
                    .is_some_and(|policy| policy == "keep"),
                "an uninstall would delete {} and all its objects",
                rendered.name_any()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn bad_values_are_refused_and_named() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in charts()? {
        for (value, named) in [
            ("replicaCount=2", "leaderElect"),
            ("replicas=2", "replicas"),
            ("image.pullPolicy=Sometimes", "pullPolicy"),
            ("leaderElection.leaseDuration=15", "leaseDuration"),
            ("watchNamespaces={Not_A_Name}", "watchNamespaces"),
            ("metrics.service.nodePort=70000", "nodePort"),
        ] {
            let refused = helm.run(&["template", "release"], &chart, &[value])?;
            let Err(why) = refused else {
                anyhow::bail!("{} takes {value}", chart.display());
            };
            ensure!(why.contains(named), "{value}: {why}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_rule_of_a_manager_is_a_wildcard() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in charts()? {
        for object in helm.rendered(&chart, "default", &["leaderElect=true"])? {
            if object
                .types
                .as_ref()
                .is_none_or(|types| !types.kind.ends_with("Role"))
            {
                continue;
            }
            let rules: Vec<PolicyRule> = serde_json::from_value(object.data["rules"].clone())?;
            for rule in rules {
                let words = rule.verbs.iter().chain(rule.resources.iter().flatten());
                ensure!(
                    !words.into_iter().any(|word| word == "*"),
                    "{}: {rule:?}",
                    object.name_any()
                );
            }
        }
    }
    Ok(())
}
