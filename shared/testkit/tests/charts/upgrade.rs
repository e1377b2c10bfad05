//! What a release has installed stays the same object under the next: names, and the fields that no upgrade can change; and what
//! it was installed with are values still.
//!
//! `golden/<version>.json` has those of each chart as that release rendered it. A release writes its own:
//! `GOLDEN=v0.1.0 cargo test --test charts -- can_be_recorded`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};
use testkit::{golden, helm::Helm};

use crate::{
    definitions,
    rendering::{Chart, kind},
};

/// The values under which a chart renders the most of what lasts.
const VALUES: &[&str] = &["leaderElect=true"];
/// Arguments that name what an operator finds its own by.
const IDENTITY: [&str; 2] = ["--leader-election-id=", "--operator-id="];

/// Under which name the values stand beside the objects.
const VALUES_KEY: &str = "values";

/// By chart, and in it by object: what stays.
type Golden = BTreeMap<String, BTreeMap<String, Value>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charts/golden")
}

/// The fields of an object that an API server lets nobody change, or by which others find it.
fn fixed(object: &DynamicObject) -> Value {
    let data = &object.data;
    match kind(object) {
        "Deployment" => {
            let arguments = data["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
            let arguments: BTreeSet<_> = arguments
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .filter(|argument| IDENTITY.iter().any(|prefix| argument.starts_with(prefix)))
                .collect();
            json!({"selector": data["spec"]["selector"], "arguments": arguments})
        }
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": data["roleRef"]}),
        "Service" => json!({"selector": data["spec"]["selector"], "type": data["spec"]["type"]}),
        "CustomResourceDefinition" => {
            let spec = &data["spec"];
            let versions = definitions::versions(spec);
            json!({"group": spec["group"], "scope": spec["scope"], "names": spec["names"], "versions": versions})
        }
        _ => json!({}),
    }
}

/// The names of values and what kind each is: a chart refuses those that it does not know, so that an upgrade with the values of
/// before would fail.
fn shape(values: &Value) -> Value {
    match values {
        Value::Object(fields) => {
            let shapes = fields.iter().map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(shapes.collect())
        }
        Value::Array(_) => "list".into(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "yes or no".into(),
        Value::Null => "nothing".into(),
    }
}

async fn rendered() -> Result<Golden> {
    let helm = Helm::new().await?;
    let mut all = Golden::new();
    for chart in Chart::all()? {
        let name = chart.path.file_name().context("a chart has a name")?;
        let objects = chart.rendered(&helm, "operators", VALUES).await?;
        // What `helm test` makes goes with the test.
        let lasting = objects.iter().filter(|object| kind(object) != "Pod");
        let objects = lasting.map(|object| {
            let namespace = object.namespace().unwrap_or_default();
            let identity = format!("{} {namespace}/{}", kind(object), object.name_any());
            (identity, fixed(object))
        });
        let values = std::fs::read_to_string(chart.path.join("values.yaml"))?;
        let values = [(VALUES_KEY.to_owned(), shape(&serde_saphyr::from_str(&values)?))];
        let name = name.to_string_lossy().into_owned();
        all.insert(name, objects.chain(values).collect());
    }
    Ok(all)
}

/// Whether everything of `older` is in `newer`: words may be added, nothing is taken away or changed.
fn keeps(older: &Value, newer: &Value) -> bool {
    match (older, newer) {
        (Value::Object(older), Value::Object(newer)) => older
            .iter()
            .all(|(key, value)| newer.get(key).is_some_and(|newer| keeps(value, newer))),
        (Value::Array(older), Value::Array(newer)) => older.iter().all(|value| newer.contains(value)),
        _ => older == newer,
    }
}

#[tokio::test]
async fn what_a_chart_installs_can_be_recorded() -> Result<()> {
    let now = rendered().await?;
    ensure!(now.values().all(|objects| objects.len() >= 5), "{now:#?}");
    golden::record(&folder(), &now)
}

#[tokio::test]
async fn what_earlier_charts_have_installed_is_upgraded_in_place() -> Result<()> {
    let now = rendered().await?;
    for (_, golden) in golden::releases::<Golden>(&folder())? {
        for (chart, objects) in &golden {
            let present = now
                .get(chart)
                .with_context(|| format!("the chart {chart} is gone"))?;
            for (identity, older) in objects {
                let newer = present
                    .get(identity)
                    .with_context(|| format!("{chart} has no {identity} any more"))?;
                let (mut older, mut newer) = (older.clone(), newer.clone());
                // What is stored of a kind is held to its schema, which has rules of its own.
                let versions = [&mut older, &mut newer].map(|of| of["versions"].take());
                let broken = definitions::broken(&versions[0], &versions[1]);
                ensure!(broken.is_empty(), "{chart}: {identity}: {}", broken.join("; "));
                ensure!(
                    keeps(&older, &newer),
                    "{chart}: {identity} had {older}, has {newer}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_added_keeps_and_what_is_taken_away_does_not() {
    let older = json!({"arguments": ["a"], "scope": "Namespaced"});
    assert!(keeps(
        &older,
        &json!({"arguments": ["a", "b"], "scope": "Namespaced"})
    ));
    assert!(!keeps(
        &older,
        &json!({"arguments": ["b"], "scope": "Namespaced"})
    ));
    assert!(!keeps(&older, &json!({"arguments": ["a"], "scope": "Cluster"})));
    let values = shape(&json!({"metrics": {"port": 1}, "tags": []}));
    assert!(keeps(
        &values,
        &shape(&json!({"metrics": {"port": 2, "type": "x"}, "tags": ["a"]}))
    ));
    for broken in [
        json!({"metrics": {}, "tags": []}),
        json!({"metrics": {"port": "1"}, "tags": []}),
        json!({"metrics": {"port": 1}}),
    ] {
        assert!(!keeps(&values, &shape(&broken)), "{broken}");
    }
}
