//! What charts make for the Prometheus operator, held to its own definitions and to the metrics that are served.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use reconcile::metrics::{Metrics, PassResult};
use serde_json::Value;
use testkit::{
    control_plane::{ControlPlane, Options},
    helm::Helm,
};

use crate::rendering::{Chart, accepted, file, kind, only};

const MODULE: &str = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
/// The hash of the module, as a `go.sum` has it.
const SUM: &str = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=";
const KINDS: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];
const ALL_OF_IT: [&str; 3] = [
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboards.enabled=true",
];
/// What Prometheus itself knows of every target.
const PROMETHEUS_OWN: &str = "up";

/// The definitions of the Prometheus operator's kinds.
async fn definitions() -> Result<Vec<CustomResourceDefinition>> {
    let mut download = Command::new("go");
    download
        .args(["mod", "download", "-json", MODULE])
        .env("GOWORK", "off");
    let output = tokio::task::spawn_blocking(move || download.output())
        .await?
        .context("cannot start go")?;
    let told: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    ensure!(told["Sum"] == SUM, "{MODULE} is not what it was: {told}");
    let folder = PathBuf::from(told["Dir"].as_str().context("the module is nowhere")?);
    let mut all = Vec::new();
    for kind in KINDS {
        let name = format!("monitoring.coreos.com_{}s.yaml", kind.to_lowercase());
        let path = folder.join("example/prometheus-operator-crd").join(name);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        all.push(serde_saphyr::from_str(&text)?);
    }
    Ok(all)
}

#[tokio::test]
async fn the_prometheus_operators_definitions_take_every_monitor_and_every_rule() -> Result<()> {
    let helm = Helm::new().await?;
    // Its definitions are for the whole server.
    let plane = ControlPlane::start(Options::default()).await?;
    plane.apply_crds(&definitions().await?).await?;
    for chart in Chart::all()? {
        let objects = chart.rendered(&helm, "default", &ALL_OF_IT).await?;
        for wanted in KINDS {
            let object = objects.iter().find(|object| kind(object) == wanted);
            let object = object.with_context(|| format!("{}: no {wanted}", chart.path.display()))?;
            let taken = accepted(&plane.client(), "default", object).await;
            taken.with_context(|| format!("{}: {wanted} {}", chart.path.display(), object.name_any()))?;
        }
    }
    Ok(())
}

/// The names of what an operator serves, once everything has happened to it.
fn served() -> BTreeSet<String> {
    let metrics = Metrics::new();
    let controller = metrics.controller("kind", 1);
    controller.pass_started().finish(PassResult::Success);
    controller.queue_depth(0, 1);
    controller.waited(std::time::Duration::ZERO);
    controller.worked(std::time::Duration::ZERO);
    metrics.leader_status("lease").set(1);
    metrics.request("200", "GET", "host");
    let text = metrics.encode();
    let names = text.lines().filter_map(|line| {
        let name = line.split(['{', ' ']).next()?;
        (!name.starts_with('#')).then(|| name.to_owned())
    });
    names.collect()
}

/// The names in a query: what selectors and ranges stand behind.
fn names(query: &str) -> BTreeSet<String> {
    let is_part = |of: char| of.is_ascii_alphanumeric() || matches!(of, '_' | ':');
    let mut found = BTreeSet::new();
    for (at, _) in query.char_indices().filter(|(_, of)| *of == '{') {
        let before = &query[..at];
        let start = before.rfind(|of: char| !is_part(of)).map_or(0, |end| end + 1);
        if start < at {
            found.insert(before[start..].to_owned());
        }
    }
    found
}

fn is_json(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "json")
}

/// Every text under a key `expr`, wherever it stands.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "expr" => found.push(text.to_owned()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                queries(value, found);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn alerts_and_dashboards_ask_for_nothing_that_is_not_served() -> Result<()> {
    let (helm, served) = (Helm::new().await?, served());
    for chart in Chart::all()? {
        let mut asked = Vec::new();
        for object in chart.rendered(&helm, "default", &ALL_OF_IT).await? {
            queries(&object.data, &mut asked);
            let files = object.data["data"].as_object().into_iter().flatten();
            for (_, text) in files.filter(|(name, _)| is_json(name)) {
                queries(
                    &serde_json::from_str(text.as_str().unwrap_or_default())?,
                    &mut asked,
                );
            }
        }
        ensure!(
            asked.len() >= 18,
            "{}: only {} queries",
            chart.path.display(),
            asked.len()
        );
        for query in asked {
            let names = names(&query);
            ensure!(!names.is_empty(), "nothing is asked for: {query}");
            for name in names {
                ensure!(
                    served.contains(&name) || name == PROMETHEUS_OWN,
                    "{}: no operator serves {name}: {query}",
                    chart.path.display()
                );
            }
        }
    }
    Ok(())
}

/// Grafana lets nobody's dashboards be loaded from a place with two of one title, or of one uid.
#[tokio::test]
async fn no_two_releases_have_dashboards_of_one_name() -> Result<()> {
    let helm = Helm::new().await?;
    let (mut titles, mut ids, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for chart in Chart::all()? {
        for namespace in ["default", "other"] {
            let objects = chart.rendered(&helm, namespace, &ALL_OF_IT).await?;
            let files = objects
                .iter()
                .filter_map(|object| object.data["data"].as_object());
            for (_, text) in files.flatten().filter(|(name, _)| is_json(name)) {
                let board: Value = serde_json::from_str(text.as_str().context("no text")?)?;
                ensure!(board["panels"].as_array().is_some_and(|panels| panels.len() > 5));
                titles.insert(board["title"].to_string());
                ids.insert(board["uid"].as_str().context("no uid")?.to_owned());
                count += 1;
            }
        }
    }
    ensure!(
        count == 6 && titles.len() == 6 && ids.len() == 6,
        "{titles:?} {ids:?}"
    );
    ensure!(ids.iter().all(|id| id.len() <= 40), "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn each_alert_has_its_section_and_links_to_it_where_the_page_is_served() -> Result<()> {
    let helm = Helm::new().await?;
    let page = file("docs/troubleshooting.md")?;
    let served = "metrics.prometheusRule.runbooks=https://wiki.example.com/operators";
    for chart in Chart::all()? {
        for (values, link) in [
            (&ALL_OF_IT[..], false),
            (&[&ALL_OF_IT[..], &[served]].concat(), true),
        ] {
            let objects = chart.rendered(&helm, "default", values).await?;
            let rule = only(&objects, "PrometheusRule")?;
            let alerts = rule.data["spec"]["groups"][0]["rules"]
                .as_array()
                .context("no rules")?;
            ensure!(
                alerts.len() >= 5,
                "{}: {} alerts",
                chart.path.display(),
                alerts.len()
            );
            for alert in alerts {
                let name = alert["alert"].as_str().context("no name")?;
                ensure!(
                    page.contains(&format!("\n## {name}\n")),
                    "nothing says what to do about {name}"
                );
                let expected = format!("https://wiki.example.com/operators#{}", name.to_lowercase());
                let told = alert["annotations"]["runbook_url"].as_str();
                ensure!(told == link.then_some(expected.as_str()), "{name}: {told:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_name_is_what_stands_before_a_selector() {
    let query = r#"sum by (le) (rate(a_bucket{job=~"$job"}[5m])) / on () up{job="x"} > b"#;
    let expected = ["a_bucket", "up"].map(str::to_owned);
    assert_eq!(names(query), expected.into());
}
