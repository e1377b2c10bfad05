//! Values whose effect nobody sees in a chart that is merely taken: each is looked for where it should have gone.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};
use testkit::helm::Helm;

use crate::{
    VALUES,
    rendering::{self, Chart, kind, only},
};

/// What `cargo xtask images --push` puts into a registry.
const PUSHED: [&str; 3] = ["capdkc", "dynamoctl-dp-operator", "nairobi-mysql-operator"];

/// Every text under a key `image`, wherever it stands.
fn images(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "image" => found.push(text.to_owned()),
                    _ => images(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| images(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_registry_stands_before_what_is_pushed_there_and_before_nothing_else() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        let values = ["global.imageRegistry=registry.example.com/", "image.tag=v9"];
        let rendered = chart.rendered(&helm, "default", &values).await?;
        let (mut pulled, mut own) = (Vec::new(), 0);
        for object in rendered
            .iter()
            .filter(|object| kind(object) != "CustomResourceDefinition")
        {
            images(&object.data, &mut pulled);
        }
        for image in &pulled {
            let Some(name) = image.strip_prefix("registry.example.com/") else {
                continue;
            };
            own += 1;
            ensure!(
                PUSHED.iter().any(|pushed| name == format!("{pushed}:v9")),
                "{}: nobody has pushed {image}",
                chart.path.display()
            );
        }
        // The operator's own, and that of `helm test`.
        ensure!(
            own == 1 && pulled.len() == 2,
            "{}: {pulled:?}",
            chart.path.display()
        );
    }
    Ok(())
}

/// The ports of TCP that the rendered NetworkPolicy lets out to everywhere.
async fn ports(helm: &Helm, values: &[&str]) -> Result<BTreeSet<u64>> {
    let values = [&["networkPolicy.enabled=true"], values].concat();
    let rendered = Chart::named("dynamoctl-dp-operator")
        .rendered(helm, "default", &values)
        .await?;
    let policy = only(&rendered, "NetworkPolicy")?;
    let rules = policy.data["spec"]["egress"].as_array().context("no egress")?;
    let open = rules.iter().filter(|rule| rule["to"].is_null());
    let ports = open.flat_map(|rule| rule["ports"].as_array().into_iter().flatten());
    Ok(ports
        .filter(|port| port["protocol"] == "TCP")
        .filter_map(|port| port["port"].as_u64())
        .collect())
}

#[tokio::test]
async fn the_network_policy_lets_out_to_the_ports_of_the_endpoints_that_jobs_may_name() -> Result<()> {
    let helm = Helm::new().await?;
    let always = BTreeSet::from([53, 443, 6443]);
    ensure!(ports(&helm, &[]).await? == always);
    let endpoints = "allowedEndpoints={aws,http://dynamodb.dynamodb-local.svc:8000,https://*.example.com:4566,http://plain,http://[::1]:8000}";
    let mut expected = always;
    expected.extend([80, 4566, 8000]);
    let open = ports(&helm, &[endpoints]).await?;
    ensure!(open == expected, "{open:?}");
    // Of somebody who lists what may be reached.
    let narrow = "networkPolicy.egress[0].ports[0].port=6443";
    let open = ports(&helm, &["allowedEndpoints={https://one.example.com}", narrow]).await?;
    ensure!(open == BTreeSet::from([53, 443]), "{open:?}");
    Ok(())
}

#[tokio::test]
async fn places_and_storage_classes_reach_the_operator() -> Result<()> {
    let helm = Helm::new().await?;
    let chart = Chart::named("nairobi-mysql");
    let given = &[
        "places.london=eu-west-2",
        "places.nairobi=af-south-1",
        "storageClasses.fast=io2",
    ];
    let rendered = chart.rendered(&helm, "default", given).await?;
    let container = &only(&rendered, "Deployment")?.data["spec"]["template"]["spec"]["containers"][0];
    for argument in [
        "--place=london=eu-west-2",
        "--place=nairobi=af-south-1",
        "--storage-class=fast=io2",
    ] {
        let arguments = container["args"].as_array().context("no arguments")?;
        ensure!(
            arguments.contains(&json!(argument)),
            "no {argument} in {arguments:?}"
        );
    }
    for refused in ["places.london=Europe", "storageClasses.fast=st1"] {
        ensure!(
            chart.rendered(&helm, "default", &[refused]).await.is_err(),
            "{refused}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn persistent_volumes_and_nodes_are_granted_for_folders_of_nodes_alone() -> Result<()> {
    let helm = Helm::new().await?;
    let chart = Chart::named("nairobi-mysql");
    for (values, expected) in [(&[][..], 2), (&["nodeFolders.enabled=false"], 0)] {
        let rendered = chart.rendered(&helm, "default", values).await?;
        let roles = rendered.iter().filter(|object| kind(object).ends_with("Role"));
        let rules: Vec<PolicyRule> = roles
            .map(|role| serde_json::from_value::<Vec<_>>(role.data["rules"].clone()))
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        ensure!(rules.len() > 15, "only {} rules", rules.len());
        let resources = rules.iter().flat_map(|rule| rule.resources.iter().flatten());
        let found: Vec<_> = resources
            .filter(|of| ["persistentvolumes", "nodes"].contains(&of.as_str()))
            .collect();
        ensure!(found.len() == expected, "{values:?}: {found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_given_besides_stands_beside_what_is_the_charts_own() -> Result<()> {
    let helm = Helm::new().await?;
    let holds = |list: &Value, entry: &Value| list.as_array().is_some_and(|list| list.contains(entry));
    for chart in Chart::all()? {
        let rendered = chart.rendered(&helm, "default", VALUES[1]).await?;
        let pod = &only(&rendered, "Deployment")?.data["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        for (list, entry) in [
            (&container["args"], json!("--sync-period=1h")),
            (&container["args"], json!("--leader-elect")),
            (&container["env"], json!({"name": "GREETING", "value": "hello"})),
            (
                &container["volumeMounts"],
                json!({"name": "scratch", "mountPath": "/scratch"}),
            ),
            (
                &pod["volumes"],
                json!({"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}),
            ),
        ] {
            ensure!(
                holds(list, &entry),
                "{}: no {entry} in {list}",
                chart.path.display()
            );
        }
        let extra = rendered.iter().filter(|object| kind(object) == "ConfigMap");
        let names: Vec<_> = extra.map(kube::ResourceExt::name_any).collect();
        ensure!(names.contains(&"extra-release".to_owned()), "{names:?}");
    }
    // The daemon's key stays mounted beside what is given.
    let provider = Chart::named("capdkc")
        .rendered(&helm, "default", VALUES[1])
        .await?;
    let volumes = &only(&provider, "Deployment")?.data["spec"]["template"]["spec"]["volumes"];
    ensure!(
        volumes.as_array().is_some_and(|volumes| volumes.len() == 2),
        "{volumes}"
    );
    let socket = Chart::named("capdkc")
        .rendered(&helm, "default", &rendering::SOCKET)
        .await?;
    let volumes = &only(&socket, "Deployment")?.data["spec"]["template"]["spec"]["volumes"];
    ensure!(volumes[0]["hostPath"]["type"] == "Socket", "{volumes}");
    Ok(())
}
