//! What stands in `charts/`: helm finds nothing to complain about, and a real API server takes what it renders.

mod arguments;
mod definitions;
mod every_value;
mod installed;
mod monitoring;
mod promises;
mod releases;
mod rendering;
mod single_values;
mod upgrade;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod, ServiceAccount},
        rbac::v1::PolicyRule,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use rendering::{Chart, accepted, file, kind, only};
use serde_json::json;
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    helm::Helm,
};

/// Sets of values with which every chart is looked at.
const VALUES: [&[&str]; 3] = [
    &[],
    // Everything that is off by default, on.
    &[
        "leaderElect=true",
        "replicaCount=2",
        "metrics.serviceMonitor.enabled=true",
        "metrics.prometheusRule.enabled=true",
        "metrics.dashboards.enabled=true",
        "metrics.service.type=NodePort",
        "metrics.service.nodePort=31943",
        "networkPolicy.enabled=true",
        "watchNamespaces={default}",
        "priorityClassName=system-cluster-critical",
        "image.digest=sha256:0123456789012345678901234567890123456789012345678901234567890123",
        "global.imageRegistry=registry.example.com",
        "extraArgs={--sync-period=1h}",
        "extraEnv[0].name=GREETING",
        "extraEnv[0].value=hello",
        "extraVolumes[0].name=scratch",
        "extraVolumes[0].emptyDir.sizeLimit=1Mi",
        "extraVolumeMounts[0].name=scratch",
        "extraVolumeMounts[0].mountPath=/scratch",
        "extraObjects[0].apiVersion=v1",
        "extraObjects[0].kind=ConfigMap",
        "extraObjects[0].metadata.name=extra-{{ .Release.Name }}",
    ],
    // Everything that is on by default, off.
    &[
        "crds.enabled=false",
        "rbac.aggregate=false",
        "metrics.enabled=false",
        "podDisruptionBudget.enabled=false",
        "refuseOverlap=false",
        "serviceAccount.create=false",
        "serviceAccount.name=somebody",
    ],
];

#[tokio::test]
async fn helm_finds_nothing_to_complain_about_in_any_chart() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        for values in chart.variants(&VALUES) {
            chart.helm(&helm, &["lint", "--strict"], values).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_real_api_server_takes_everything_that_a_chart_renders() -> Result<()> {
    let (helm, plane) = (Helm::new().await?, ControlPlane::shared().await?);
    let (client, namespace) = (plane.client(), plane.namespace().await?);
    for chart in Chart::all()? {
        for values in chart.variants(&VALUES) {
            let objects = chart.rendered(&helm, namespace.name(), values).await?;
            ensure!(
                objects.len() >= 5,
                "{}: only {} objects",
                chart.path.display(),
                objects.len()
            );
            for object in &objects {
                // The Prometheus operator's kinds, which this server has not.
                if matches!(kind(object), "ServiceMonitor" | "PrometheusRule") {
                    continue;
                }
                accepted(&client, namespace.name(), object)
                    .await
                    .with_context(|| {
                        format!("{}: {} {}", chart.path.display(), kind(object), object.name_any())
                    })?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_definitions_in_a_chart_are_those_in_crds() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        for object in chart.rendered(&helm, "default", &[]).await? {
            if kind(&object) != "CustomResourceDefinition" {
                continue;
            }
            let path = format!("crds/{}.yaml", object.name_any());
            let written: CustomResourceDefinition = serde_saphyr::from_str(&file(&path)?)?;
            let rendered: CustomResourceDefinition = object.try_parse()?;
            ensure!(rendered.spec == written.spec, "{path} differs");
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
    let of_every_chart = [
        ("replicaCount=2", "leaderElect"),
        ("replicas=2", "replicas"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("leaderElection.leaseDuration=15", "leaseDuration"),
        ("watchNamespaces={Not_A_Name}", "watchNamespaces"),
        ("metrics.service.nodePort=70000", "nodePort"),
        ("metrics.service.nodePort=31943", "metrics.service.type"),
        (
            "metrics.enabled=false,metrics.serviceMonitor.enabled=true",
            "metrics.enabled",
        ),
        ("leaderElection.leaseDuration=5s", "renewDeadline=10s"),
        ("leaderElection.leaseDuration=0s", "leaseDuration"),
        ("leaderElection.renewDeadline=20s", "leaseDuration=15s"),
        ("leaderElection.renewDeadline=1.5.5s", "renewDeadline"),
        ("leaderElection.retryPeriod=10s", "retryPeriod"),
        (
            "leaderElection.preset=fast,leaderElection.retryPeriod=1800ms",
            "retryPeriod=1800ms",
        ),
        (
            "leaderElection.leaseDuration=30s,leaderElection.renewDeadline=40s",
            "leaseDuration=30s",
        ),
        ("syncPeriod=1.2.3s", "syncPeriod"),
        ("podAnnotations.enabled=true", "podAnnotations"),
        ("nameOverride=Foo_Bar", "nameOverride"),
        ("kubeApi.burst=2000000", "burst"),
        ("networkPolicy.egress={}", "egress"),
        (
            "metrics.prometheusRule.runbooks=docs/troubleshooting.md",
            "runbooks",
        ),
    ];
    let mut cases: Vec<(Chart, &str, &str)> = Vec::new();
    for chart in Chart::all()? {
        let name = chart.path.clone();
        let again = || Chart::named(&name.to_string_lossy());
        cases.extend(of_every_chart.map(|(value, named)| (again(), value, named)));
    }
    for (name, value, named) in [
        ("nairobi-mysql", "awsRegion=Nairobi", "awsRegion"),
        (
            "nairobi-mysql",
            "webhook.certificate.issuerRef.kind=Certificate",
            "kind",
        ),
        ("capdkc", "docker.host=docker.example.com", "host"),
        ("capdkc", "docker.host=", "say where Docker is"),
        ("capdkc", "docker.socket.enabled=true", "exclude each other"),
        ("capdkc", "docker.tls.secretName=", "docker.tls.secretName"),
        ("capdkc", "policies.hostPaths={relative}", "hostPaths"),
        ("dynamoctl-dp-operator", "concurrency=0", "concurrency"),
        (
            "dynamoctl-dp-operator",
            "allowedEndpoints={dynamodb.local:8000}",
            "allowedEndpoints",
        ),
    ] {
        cases.push((Chart::named(name), value, named));
    }
    for (chart, value, named) in cases {
        let refused = chart.helm(&helm, &["template", "release"], &[value]).await;
        let Err(why) = refused else {
            anyhow::bail!("{} takes {value}", chart.path.display());
        };
        ensure!(why.to_string().contains(named), "{value}: {why}");
    }
    Ok(())
}

#[tokio::test]
async fn no_rule_of_a_manager_is_a_wildcard_or_lists_secrets() -> Result<()> {
    let helm = Helm::new().await?;
    for chart in Chart::all()? {
        for object in chart.rendered(&helm, "default", &[]).await? {
            if !kind(&object).ends_with("Role") {
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
                let reads_secrets = rule.resources.iter().flatten().any(|what| what == "secrets");
                ensure!(
                    !reads_secrets || !rule.verbs.iter().any(|verb| verb == "list" || verb == "watch"),
                    "{}: {rule:?}",
                    object.name_any()
                );
            }
        }
    }
    Ok(())
}

/// Whether Pod Security admits the chart's pod into the namespace. Its account is not there, any other will do.
async fn admits(namespace: &TestNamespace, objects: &[DynamicObject]) -> Result<Result<(), String>> {
    let deployment = only(objects, "Deployment")?;
    let mut pod = deployment.data["spec"]["template"].clone();
    pod["metadata"]["name"] = "admitted".into();
    pod["spec"]["serviceAccountName"] = "default".into();
    let api: Api<Pod> = Api::namespaced(namespace.client(), namespace.name());
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Ok(match api.create(&params, &serde_json::from_value(pod)?).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(status.message),
        Err(error) => return Err(error.into()),
    })
}

/// Pods are refused before their namespace has its account.
async fn has_an_account(namespace: &TestNamespace) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(namespace.client(), namespace.name());
    let deadline = Instant::now() + Duration::from_secs(60);
    while accounts.get_opt("default").await?.is_none() {
        ensure!(Instant::now() < deadline, "no account within a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn the_restricted_pod_security_standard_admits_every_chart_and_docker_s_socket_needs_privileged()
-> Result<()> {
    let (helm, plane) = (Helm::new().await?, ControlPlane::shared().await?);
    let namespace = plane.namespace().await?;
    has_an_account(&namespace).await?;
    let enforce = async |level: &str| -> Result<()> {
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        let api: Api<Namespace> = Api::all(plane.client());
        api.patch(namespace.name(), &PatchParams::default(), &Patch::Merge(label))
            .await?;
        Ok(())
    };
    enforce("restricted").await?;
    for chart in Chart::all()? {
        let objects = chart.rendered(&helm, namespace.name(), &[]).await?;
        if let Err(why) = admits(&namespace, &objects).await? {
            anyhow::bail!("{}: {why}", chart.path.display());
        }
    }
    let socket = rendering::SOCKET;
    let provider = Chart::named("capdkc");
    for group in ["docker.socket.group=0", "docker.socket.group=998"] {
        let values = [&socket[..], &[group]].concat();
        let objects = provider.rendered(&helm, namespace.name(), &values).await?;
        enforce("restricted").await?;
        let refused = admits(&namespace, &objects).await?;
        ensure!(refused.is_err_and(|why| why.contains("hostPath")), "{group}");
        enforce("privileged").await?;
        ensure!(admits(&namespace, &objects).await? == Ok(()), "{group}");
        let security = &only(&objects, "Deployment")?.data["spec"]["template"]["spec"]["securityContext"];
        let root = security["runAsUser"] == 0;
        ensure!(root == group.ends_with("=0"), "{group}: {security}");
    }
    Ok(())
}

#[tokio::test]
async fn the_certificate_is_made_where_cert_manager_is_and_enable_webhook_asks_for_it() -> Result<()> {
    let helm = Helm::new().await?;
    let chart = Chart::named("nairobi-mysql");
    let command = [
        "template",
        "nairobi-mysql",
        "--namespace=nairobi-mysql-system",
        "--api-versions=cert-manager.io/v1",
    ];
    let rendered = rendering::objects(&chart.helm(&helm, &command, &[]).await?)?;
    let certificate = only(&rendered, "Certificate")?;
    ensure!(certificate.name_any() == "nairobi-mysql-webhook");
    let host = "nairobi-mysql-webhook.nairobi-mysql-system.svc";
    let expected = json!({
        "secretName": "nairobi-mysql-webhook-tls",
        "issuerRef": {"name": "selfsigned-cluster-issuer", "kind": "ClusterIssuer", "group": "cert-manager.io"},
        "commonName": host,
        "dnsNames": [host],
    });
    ensure!(
        certificate.data["spec"] == expected,
        "{}",
        certificate.data["spec"]
    );
    // An issuer that is not cert-manager's own.
    let external = [
        "name=ca",
        "kind=AWSPCAClusterIssuer",
        "group=awspca.cert-manager.io",
    ]
    .map(|field| format!("webhook.certificate.issuerRef.{field}"));
    let values = external.each_ref().map(String::as_str);
    let rendered = rendering::objects(&chart.helm(&helm, &command, &values).await?)?;
    let issuer = &only(&rendered, "Certificate")?.data["spec"]["issuerRef"];
    let expected = json!({"name": "ca", "kind": "AWSPCAClusterIssuer", "group": "awspca.cert-manager.io"});
    ensure!(*issuer == expected, "{issuer}");
    for (command, values) in [(&command[..], &["enableWebhook=false"][..]), (&command[..3], &[])] {
        let rendered = chart.helm(&helm, command, values).await?;
        ensure!(!rendered.contains("webhook"), "{command:?} {values:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_of_the_docker_chart_judges_the_namespaces_of_its_release_alone() -> Result<()> {
    let helm = Helm::new().await?;
    let chart = Chart::named("capdkc");
    let values = ["watchNamespaces={a,b}", "policies.hostPaths={/srv,/opt/x}"];
    let rendered = chart.rendered(&helm, "there", &values).await?;
    let paths = only(&rendered, "ConfigMap")?;
    ensure!(paths.data["data"]["allowed"] == "/srv,/opt/x", "{}", paths.data);
    let bindings: Vec<_> = rendered
        .iter()
        .filter(|object| kind(object) == "ValidatingAdmissionPolicyBinding")
        .collect();
    ensure!(bindings.len() == 2, "{} bindings", bindings.len());
    for binding in bindings {
        let scope = binding
            .data
            .pointer("/spec/matchResources/namespaceSelector/matchExpressions/0");
        let expected = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]});
        ensure!(scope == Some(&expected), "{}", binding.data);
        ensure!(
            binding.name_any().starts_with("release-capdkc-"),
            "{}",
            binding.name_any()
        );
    }
    Ok(())
}
