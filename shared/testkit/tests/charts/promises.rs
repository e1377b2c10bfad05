//! What every chart promises of its pods, whatever else is asked for: probes, spread, eviction, a lease, and what they reach.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use testkit::helm::Helm;

use crate::{
    VALUES,
    rendering::{Chart, only},
};

/// What gives a pod its AWS identity.
const IDENTITY: &str = "TCP 80 to 169.254.170.23/32, 169.254.169.254/32, fd00:ec2::23/128, fd00:ec2::254/128";

/// What each chart's pods may open, beside DNS and HTTPS and the usual ports of the Kubernetes API; and where they are probed.
const OWN: [(&str, &[&str], u64); 3] = [
    ("capdkc", &["TCP 2376"], 9440),
    ("dynamoctl-dp-operator", &[IDENTITY], 8081),
    ("nairobi-mysql", &["TCP 3306", IDENTITY], 8081),
];

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn deployment(objects: &[DynamicObject]) -> Result<(&Value, &Value)> {
    let spec = &only(objects, "Deployment")?.data["spec"];
    Ok((spec, &spec["template"]["spec"]))
}

#[tokio::test]
async fn a_lease_is_held_and_the_old_pod_goes_first_also_without_leader_elect() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        for (values, strategy) in [
            (VALUES[0], "Recreate"),
            (&["leaderElect=false"], "Recreate"),
            (VALUES[1], "RollingUpdate"),
        ] {
            let objects = chart.rendered(&helm, "default", values).await?;
            let (spec, pod) = deployment(&objects)?;
            let of = format!("{} {values:?}", chart.path.display());
            let arguments = &pod["containers"][0]["args"];
            let election = list(arguments).filter(|word| {
                let word = word.as_str().unwrap_or_default();
                word == "--leader-elect" || word.starts_with("--leader-elect=")
            });
            ensure!(
                election.eq([&json!("--leader-elect")]),
                "{of}: nothing keeps two from acting: {arguments}"
            );
            ensure!(spec["strategy"]["type"] == strategy, "{of}: {}", spec["strategy"]);
        }
    }
    Ok(())
}

/// Where the kubelet asks, and that the program listens there.
fn probed(container: &Value, port: u64) -> Result<()> {
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let asked = &container[probe]["httpGet"];
        ensure!(
            *asked == json!({"path": path, "port": "healthz"}),
            "{probe}: {asked}"
        );
    }
    let named = json!({"name": "healthz", "containerPort": port, "protocol": "TCP"});
    ensure!(
        list(&container["ports"]).any(|open| *open == named),
        "no {named}: {}",
        container["ports"]
    );
    let listens = json!(format!("--health-probe-bind-address=:{port}"));
    ensure!(
        list(&container["args"]).any(|word| *word == listens),
        "no {listens}: {}",
        container["args"]
    );
    Ok(())
}

/// What a rule for egress opens, in words, one for each port.
fn opened(rule: &Value) -> Vec<String> {
    let to: Vec<_> = list(&rule["to"])
        .map(|peer| peer["ipBlock"]["cidr"].as_str().unwrap_or("somebody"))
        .collect();
    let to = if rule["to"].is_null() {
        String::new()
    } else {
        format!(" to {}", to.join(", "))
    };
    let words = |port: &Value| {
        format!(
            "{} {}{to}",
            port["protocol"].as_str().unwrap_or("any"),
            port["port"]
        )
    };
    match rule["ports"].as_array() {
        Some(ports) => ports.iter().map(words).collect(),
        None => vec![format!("everything{to}")],
    }
}

#[tokio::test]
async fn pods_are_probed_spread_evicted_one_by_one_read_only_and_reach_what_they_need_alone() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        let objects = chart.rendered(&helm, "default", VALUES[1]).await?;
        let of = chart.path.display().to_string();
        let (_, own, port) = OWN
            .into_iter()
            .find(|(name, ..)| chart.path.ends_with(name))
            .with_context(|| format!("{of}: nothing says what it promises"))?;
        let (spec, pod) = deployment(&objects)?;
        let (selector, container) = (&spec["selector"], &pod["containers"][0]);
        ensure!(selector["matchLabels"].is_object(), "{of}: {selector}");
        probed(container, port).with_context(|| of.clone())?;
        ensure!(
            container["securityContext"]["readOnlyRootFilesystem"] == true,
            "{of}: {}",
            container["securityContext"]
        );
        let spread = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(|key| {
            json!({
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector,
            })
        });
        let found = &pod["topologySpreadConstraints"];
        ensure!(*found == json!(spread), "{of}: {found}");
        let budget = &only(&objects, "PodDisruptionBudget")?.data["spec"];
        ensure!(
            *budget == json!({"maxUnavailable": 1, "selector": selector}),
            "{of}: {budget}"
        );
        let policy = &only(&objects, "NetworkPolicy")?.data["spec"];
        ensure!(
            policy["podSelector"] == *selector && policy["policyTypes"] == json!(["Ingress", "Egress"]),
            "{of}: {policy}"
        );
        let ingress = json!([{"ports": [{"port": "metrics"}]}, {"ports": [{"port": "healthz"}]}]);
        ensure!(policy["ingress"] == ingress, "{of}: {}", policy["ingress"]);
        let open: BTreeSet<_> = list(&policy["egress"]).flat_map(opened).collect();
        let common = ["UDP 53", "TCP 53", "TCP 443", "TCP 6443"];
        let expected: BTreeSet<_> = common.iter().chain(own).map(|&words| words.to_owned()).collect();
        ensure!(open == expected, "{of}: {open:?} in place of {expected:?}");
    }
    Ok(())
}
