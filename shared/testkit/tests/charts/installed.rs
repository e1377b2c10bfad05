//! The commands that users know, on a real API server of its own.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Service, ServiceAccount},
    rbac::v1::ClusterRole,
};
use kube::Api;
use testkit::{
    control_plane::{ControlPlane, Options},
    helm,
    tools::{self, Tool},
};

/// Runs shell commands as a person would who has helm and kubectl and stands in a folder with the charts.
struct Shell {
    folder: tempfile::TempDir,
    path: String,
    kubeconfig: PathBuf,
}

impl Shell {
    async fn new(plane: &ControlPlane) -> Result<Self> {
        let programs = tools::ensure_async(&[Tool::Helm, Tool::Kubectl]).await?;
        let folder = tempfile::tempdir()?;
        let charts = helm::chart("").canonicalize()?;
        std::os::unix::fs::symlink(charts, folder.path().join("charts"))?;
        let folders: Vec<_> = programs.iter().filter_map(|program| program.parent()).collect();
        let own = std::env::join_paths(folders)?;
        let path = format!("{}:{}", own.to_string_lossy(), std::env::var("PATH")?);
        Ok(Self {
            folder,
            path,
            kubeconfig: plane.kubeconfig_path().to_owned(),
        })
    }

    /// What the commands print; an error as soon as one fails.
    fn run(&self, commands: &str) -> Result<String> {
        let output = Command::new("sh")
            .args(["-ec", commands])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.success(), "{commands}: {said}");
        Ok(said)
    }
}

/// The commands that the operator's users know, word for word, and what they are promised to find.
#[tokio::test]
async fn the_known_commands_install_mysql_from_a_clean_clone_under_the_known_names() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let shell = Shell::new(&plane).await?;
    shell.run("helm lint charts/nairobi-mysql/")?;
    shell.run("helm package charts/nairobi-mysql/ --version 0.1.0")?;
    let notes = shell.run(
        "kubectl create namespace nairobi-mysql-system
         helm install nairobi-mysql ./nairobi-mysql-0.1.0.tgz \
             --namespace nairobi-mysql-system \
             --set image.tag=v0.1.0 \
             --set leaderElect=true",
    )?;
    // Another Kubernetes cluster's operator in the same AWS account must not have it too.
    ensure!(notes.contains("Its id is nairobi-mysql,"), "{notes}");
    shell.run("kubectl get crd mysqlclusters.mysql.alx.ke")?;
    let (client, namespace) = (plane.client(), "nairobi-mysql-system");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployment = deployments.get("nairobi-mysql-controller-manager").await?;
    let spec = deployment.spec.context("no spec")?;
    ensure!(spec.replicas == Some(1));
    let pod = spec.template.spec.context("no pod")?;
    ensure!(pod.service_account_name.as_deref() == Some("nairobi-mysql-controller-manager"));
    let container = &pod.containers[0];
    ensure!(container.image.as_deref() == Some("nairobi-mysql-operator:v0.1.0"));
    ensure!(container.image_pull_policy.as_deref() == Some("IfNotPresent"));
    let arguments = container.args.clone().unwrap_or_default();
    for expected in ["--leader-elect", "--aws-region=us-east-1"] {
        ensure!(
            arguments.iter().any(|argument| argument == expected),
            "{arguments:?}"
        );
    }
    let resources = serde_json::to_value(&container.resources)?;
    let expected = serde_json::json!({
        "limits": {"cpu": "200m", "memory": "256Mi"},
        "requests": {"cpu": "100m", "memory": "128Mi"},
    });
    ensure!(resources == expected, "{resources}");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    accounts.get("nairobi-mysql-controller-manager").await?;
    Api::<ClusterRole>::all(client.clone())
        .get("nairobi-mysql-manager-role")
        .await?;
    let services: Api<Service> = Api::namespaced(client, namespace);
    let service = services
        .get("nairobi-mysql-controller-manager-metrics-service")
        .await?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    ensure!(ports.len() == 1 && ports[0].port == 8080, "{ports:?}");
    the_rest_of_the_checklist(&shell)?;
    who_may_edit_may_scale(&shell).await
}

/// The cluster's own roles get the rights over the kinds a moment after the release is there.
async fn who_may_edit_may_scale(shell: &Shell) -> Result<()> {
    shell.run(
        "kubectl create rolebinding editor --clusterrole=edit --user=editor
         kubectl create rolebinding viewer --clusterrole=view --user=viewer",
    )?;
    let may = |user: &str, verb: &str| {
        let asked =
            format!("kubectl auth can-i {verb} mysqlclusters --subresource=scale --as={user} || true");
        shell.run(&asked).map(|said| said.trim().ends_with("yes"))
    };
    let deadline = Instant::now() + Duration::from_mins(3);
    while !(may("editor", "patch")? && may("viewer", "get")?) {
        ensure!(
            Instant::now() < deadline,
            "who may edit a MySQLCluster may not scale it"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(!may("viewer", "patch")?, "who may only look may scale");
    Ok(())
}

/// Rights, the fixed port of metrics, and scaling by hand. Metrics and probes themselves answer in pods alone.
fn the_rest_of_the_checklist(shell: &Shell) -> Result<()> {
    let may = |verb: &str| {
        let asked = format!(
            "kubectl auth can-i {verb} --as=system:serviceaccount:nairobi-mysql-system:nairobi-mysql-controller-manager || true"
        );
        shell.run(&asked).map(|said| said.trim().ends_with("yes"))
    };
    for needed in [
        "list mysqlclusters",
        "patch mysqlclusters --subresource=status",
        "get secrets",
    ] {
        ensure!(may(needed)?, "it may not {needed}");
    }
    for needless in [
        "create mysqlclusters",
        "list secrets",
        "delete pods -A",
        "create clusterrolebindings",
        "'*' '*'",
    ] {
        ensure!(!may(needless)?, "it may {needless}");
    }
    shell.run(
        "helm upgrade nairobi-mysql ./nairobi-mysql-0.1.0.tgz -n nairobi-mysql-system --reset-then-reuse-values \
             --set metrics.service.type=NodePort --set metrics.service.nodePort=31943",
    )?;
    let port = shell.run(
        "kubectl get -n nairobi-mysql-system svc/nairobi-mysql-controller-manager-metrics-service \
             -o jsonpath='{.spec.ports[0].nodePort}'",
    )?;
    ensure!(port == "31943", "{port}");
    // With a standby, and without: a lease is held in either case.
    for leader_elect in ["true", "false"] {
        shell.run(&format!(
            "helm upgrade nairobi-mysql ./nairobi-mysql-0.1.0.tgz -n nairobi-mysql-system --reset-then-reuse-values \
                 --set leaderElect={leader_elect}
             kubectl scale deployment nairobi-mysql-controller-manager --replicas=3 -n nairobi-mysql-system
             kubectl get lease -n nairobi-mysql-system"
        ))?;
        let deployed = shell.run(
            "kubectl get -n nairobi-mysql-system deployment nairobi-mysql-controller-manager \
                 -o jsonpath='{.spec.replicas} {.spec.strategy.type} {.spec.template.spec.containers[0].args}'",
        )?;
        let strategy = if leader_elect == "true" {
            "RollingUpdate"
        } else {
            "Recreate"
        };
        ensure!(deployed.starts_with(&format!("3 {strategy} ")), "{deployed}");
        ensure!(deployed.contains(r#""--leader-elect""#), "{deployed}");
    }
    let refused = shell.run(
        "helm upgrade nairobi-mysql ./nairobi-mysql-0.1.0.tgz -n nairobi-mysql-system --set replicaCount=3",
    );
    let why = refused.err().context("three replicas without leaderElect")?;
    ensure!(why.to_string().contains("leaderElect"), "{why}");
    Ok(())
}
