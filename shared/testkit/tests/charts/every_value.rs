//! Every value of every chart does something: changed, another manifest is rendered.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::helm::Helm;

use crate::rendering::{Chart, only};

/// What a value does only beside others, and does not do while the definitions are rendered, whose thousands of lines would be
/// rendered for each.
const BESIDE: [&str; 8] = [
    "crds.enabled=false",
    "leaderElect=true",
    "replicaCount=2",
    "networkPolicy.enabled=true",
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboards.enabled=true",
    "metrics.service.type=NodePort",
];

/// Values that look at the cluster, which there is none of here: `helm install` and `upgrade` show them (`installed`).
const OF_A_CLUSTER: [&str; 2] = ["crds.takeOver", "refuseOverlap"];

/// Another value than the one in values.yaml, where its type alone does not tell of one that the schema takes.
fn another(path: &str, default: &Value) -> Value {
    match path {
        "awsIdentityNamespaces" | "watchNamespaces" | "allowedTables" => json!(["team-a"]),
        "allowedEndpoints" => json!(["https://one.example.com"]),
        "awsRegion" => json!("eu-west-1"),
        "docker.host" => json!("tcp://another.example.com:2376"),
        "docker.socket.path" => json!("/run/another.sock"),
        "extraArgs" => json!(["--sync-period=1h"]),
        "extraEnv" => json!([{"name": "GREETING", "value": "hello"}]),
        "extraObjects" => json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]),
        "extraVolumeMounts" => json!([{"name": "x", "mountPath": "/x"}]),
        "extraVolumes" => json!([{"name": "x", "emptyDir": {}}]),
        "gcOrphans" => json!("delete"),
        "image.digest" => json!(format!("sha256:{}", "0".repeat(64))),
        "image.pullPolicy" => json!("Always"),
        "imagePullSecrets" => json!([{"name": "registry"}]),
        "leaderElection.leaseDuration" => json!("20s"),
        "leaderElection.preset" => json!("fast"),
        "leaderElection.renewDeadline" => json!("9s"),
        "leaderElection.retryPeriod" => json!("3s"),
        "logging.format" => json!("text"),
        "logging.level" => json!("debug"),
        "metrics.service.type" => json!("LoadBalancer"),
        "metrics.prometheusRule.runbooks" => json!("https://example.com/runbooks.md"),
        "metrics.serviceMonitor.interval" | "syncPeriod" => json!("1m"),
        "networkPolicy.egress" => json!([{"ports": [{"port": 8443}]}]),
        "networkPolicy.metricsFrom" => json!([{"podSelector": {"matchLabels": {"app": "prometheus"}}}]),
        "places" => json!({"london": "eu-west-2"}),
        "policies.hostPaths" => json!(["/srv"]),
        "storageClasses" => json!({"fast": "io2"}),
        "tolerations" => json!([{"operator": "Exists"}]),
        "topologySpreadConstraints" => {
            json!([{"maxSkew": 2, "topologyKey": "x", "whenUnsatisfiable": "DoNotSchedule"}])
        }
        "webhook.certificate.issuerRef.kind" => json!("Issuer"),
        _ => match default {
            Value::Bool(on) => json!(!on),
            Value::Number(number) => json!(number.as_u64().unwrap_or_default() + 1),
            Value::String(_) => json!("another"),
            Value::Object(_) => json!({"another": "one"}),
            Value::Array(_) => json!(["ANOTHER"]),
            Value::Null => Value::Null,
        },
    }
}

/// The values, each with its path: an object that is empty by default is one.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(&path, value, found);
            }
        }
        _ => found.push((path.to_owned(), value.clone())),
    }
}

async fn rendered(chart: &Chart, helm: &Helm, beside: &[&str], set: Option<&str>) -> Result<String> {
    let mut command = vec![
        "template",
        "release",
        "--namespace=there",
        "--api-versions=cert-manager.io/v1",
    ];
    if let Some(set) = set {
        command.extend(["--set-json", set]);
    }
    Ok(chart.helm(helm, &command, beside).await?)
}

async fn ineffective(chart: &Chart, helm: &Helm) -> Result<Vec<String>> {
    let values = std::fs::read_to_string(chart.path.join("values.yaml"))?;
    let mut all = Vec::new();
    leaves("", &serde_saphyr::from_str(&values)?, &mut all);
    ensure!(all.len() > 60, "only {} values", all.len());
    let mut without_effect = Vec::new();
    let mut without_change = BTreeMap::new();
    for (path, default) in all {
        if OF_A_CLUSTER.contains(&path.as_str()) {
            continue;
        }
        let mut beside: Vec<_> = BESIDE
            .into_iter()
            .filter(|given| !given.starts_with(&format!("{path}=")))
            .collect();
        match path.as_str() {
            "crds.keep" | "crds.enabled" => beside.retain(|given| !given.starts_with("crds.")),
            "metrics.enabled" => beside.retain(|given| !given.starts_with("metrics.")),
            "leaderElect" | "replicaCount" => beside.retain(|given| !given.contains("replica")),
            "serviceAccount.name" => beside.push("serviceAccount.create=false"),
            "serviceAccount.create" => beside.push("serviceAccount.name=somebody"),
            "docker.socket.group" | "docker.socket.path" => {
                beside.extend(crate::rendering::SOCKET);
            }
            // Either the socket or a host.
            "docker.socket.enabled" => beside.push("docker.host="),
            _ => {}
        }
        let mut value = another(&path, &default);
        if path == "replicaCount" {
            beside.push("leaderElect=true");
        } else if path == "metrics.service.nodePort" {
            value = json!(31943);
        }
        let set = format!("{path}={value}");
        let after = match value.as_str() {
            // A chart may need it to be set, and the last one counts.
            Some(text) => {
                let set = format!("{path}={text}");
                rendered(chart, helm, &[&beside[..], &[&set]].concat(), None).await
            }
            None => rendered(chart, helm, &beside, Some(&set)).await,
        };
        let after = after.with_context(|| format!("{set} is refused"))?;
        if !without_change.contains_key(&beside) {
            // Some sets are of no use without the value itself.
            let before = rendered(chart, helm, &beside, None).await.unwrap_or_default();
            without_change.insert(beside.clone(), before);
        }
        if without_change[&beside] == after {
            without_effect.push(set);
        }
    }
    Ok(without_effect)
}

#[tokio::test]
async fn another_value_renders_another_manifest() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        let without_effect = ineffective(&chart, &helm).await?;
        ensure!(
            without_effect.is_empty(),
            "{}: these do nothing: {without_effect:?}",
            chart.path.display()
        );
    }
    Ok(())
}

#[tokio::test]
async fn who_the_operator_is_in_aws_and_for_whom_stands_where_aws_and_the_operator_look() -> Result<()> {
    let helm = Helm::new().await?;
    let role = "arn:aws:iam::111122223333:role/operator";
    let account = format!(r"serviceAccount.annotations.eks\.amazonaws\.com/role-arn={role}");
    for name in ["dynamoctl-dp-operator", "nairobi-mysql"] {
        let rendered = Chart::named(name).rendered(&helm, "there", &[&account]).await?;
        let annotations = &only(&rendered, "ServiceAccount")?.metadata.annotations;
        let found = annotations
            .as_ref()
            .and_then(|all| all.get("eks.amazonaws.com/role-arn"));
        ensure!(
            found.is_some_and(|found| found == role),
            "{name}: {annotations:?}"
        );
    }
    let tenants = Chart::named("dynamoctl-dp-operator")
        .rendered(&helm, "there", &["awsIdentityNamespaces={team-a,team-b}"])
        .await?;
    let arguments = &only(&tenants, "Deployment")?.data["spec"]["template"]["spec"]["containers"][0]["args"];
    let expected = json!("--aws-identity-namespaces=team-a,team-b");
    ensure!(
        arguments.as_array().is_some_and(|all| all.contains(&expected)),
        "{arguments}"
    );
    Ok(())
}
