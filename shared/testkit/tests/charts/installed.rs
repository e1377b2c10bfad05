//! Charts installed by helm on a real API server of their own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Service, ServiceAccount},
        rbac::v1::ClusterRole,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use testkit::{
    control_plane::{ControlPlane, Options},
    helm::{self, Helm},
    tools::{self, Tool},
};

use crate::rendering::Chart;

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
    shell.run(
        "kubectl create namespace nairobi-mysql-system
         helm install nairobi-mysql ./nairobi-mysql-0.1.0.tgz \
             --namespace nairobi-mysql-system \
             --set image.tag=v0.1.0 \
             --set leaderElect=true",
    )?;
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
        "helm upgrade nairobi-mysql ./nairobi-mysql-0.1.0.tgz -n nairobi-mysql-system --reuse-values \
             --set metrics.service.type=NodePort --set metrics.service.nodePort=31943",
    )?;
    let port = shell.run(
        "kubectl get -n nairobi-mysql-system svc/nairobi-mysql-controller-manager-metrics-service \
             -o jsonpath='{.spec.ports[0].nodePort}'",
    )?;
    ensure!(port == "31943", "{port}");
    shell.run(
        "kubectl scale deployment nairobi-mysql-controller-manager --replicas=3 -n nairobi-mysql-system
         kubectl get lease -n nairobi-mysql-system",
    )?;
    let arguments = shell.run(
        "kubectl get -n nairobi-mysql-system deployment nairobi-mysql-controller-manager \
             -o jsonpath='{.spec.template.spec.containers[0].args}'",
    )?;
    ensure!(arguments.contains(r#""--leader-elect""#), "{arguments}");
    let refused = shell.run(
        "helm upgrade nairobi-mysql ./nairobi-mysql-0.1.0.tgz -n nairobi-mysql-system --set replicaCount=3",
    );
    let why = refused.err().context("three replicas without leaderElect")?;
    ensure!(why.to_string().contains("leaderElect"), "{why}");
    Ok(())
}

struct Releases {
    helm: Helm,
    chart: Chart,
}

impl Releases {
    async fn install(&self, name: &str, values: &[&str]) -> Result<String> {
        let path = self.chart.path.to_string_lossy();
        let namespace = format!("--namespace={name}");
        let mut arguments = vec!["install", name, &path, &namespace, "--create-namespace"];
        for value in values {
            arguments.extend(["--set", value]);
        }
        Ok(self.helm.run(&arguments).await?)
    }
}

#[tokio::test]
async fn two_releases_serve_one_cluster_when_their_namespaces_are_disjoint_and_not_otherwise() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    let releases = Releases {
        helm: Helm::new().await?.with_cluster(plane.kubeconfig_path()),
        chart: Chart::named("dynamoctl-dp-operator"),
    };
    let namespace = |name: &str| serde_json::json!({"metadata": {"name": name}});
    for name in ["team-a", "team-b", "team-c"] {
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(namespace(name))?)
            .await?;
    }
    releases
        .install("one", &["watchNamespaces={team-a,team-b}"])
        .await?;
    for overlapping in [&[][..], &["watchNamespaces={team-c,team-b}"]] {
        let refused = releases.install("two", overlapping).await;
        let why = refused
            .err()
            .context("two releases serve one namespace")?
            .to_string();
        ensure!(
            why.contains("release one") && why.contains("team-a,team-b"),
            "{why}"
        );
    }
    let notes = releases.install("two", &["watchNamespaces={team-c}"]).await?;
    let definition = "ddbctldpjobs.dynamoctl.dp.operators.sanjivmadhavan.io";
    ensure!(
        notes.contains(&format!("{definition} was installed by something else")),
        "{notes}"
    );

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let owner = |crd: &CustomResourceDefinition| crd.annotations()["meta.helm.sh/release-name"].clone();
    ensure!(owner(&definitions.get(definition).await?) == "one");
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let found = roles
        .list(&ListParams::default().labels("app.kubernetes.io/name=dynamoctl-dp-operator"))
        .await?;
    for release in ["one", "two"] {
        let own = found
            .iter()
            .filter(|role| role.name_any().starts_with(&format!("{release}-")))
            .count();
        ensure!(own == 5, "{release} has {own} ClusterRoles");
    }
    // Its own release is no neighbour, and what it did not install it leaves alone when it goes.
    let path = releases.chart.path.to_string_lossy().into_owned();
    let again = [
        "upgrade",
        "two",
        &path,
        "--namespace=two",
        "--reuse-values",
        "--set=logging.level=debug",
    ];
    releases.helm.run(&again).await?;
    let renamed = [&again[..], &["--set=nameOverride=other"]].concat();
    let refused = releases.helm.run(&renamed).await;
    let why = refused.err().context("two of one release act")?.to_string();
    ensure!(
        why.contains("two-dynamoctl-dp-operator-controller-manager"),
        "{why}"
    );
    let adopted = [&again[..], &["--set=crds.takeOver=true", "--take-ownership"]].concat();
    releases.helm.run(&adopted).await?;
    ensure!(owner(&definitions.get(definition).await?) == "two");
    let back = [
        "upgrade",
        "one",
        &path,
        "--namespace=one",
        "--reuse-values",
        "--set=crds.takeOver=true",
        "--take-ownership",
    ];
    releases.helm.run(&back).await?;
    releases
        .helm
        .run(&["uninstall", "two", "--namespace=two"])
        .await?;
    ensure!(owner(&definitions.get(definition).await?) == "one");
    left_by_an_uninstall(&plane, &releases).await
}

#[tokio::test]
async fn the_chart_is_not_installed_beside_a_provider_that_clusterctl_installed() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let deployments: Api<Deployment> = Api::namespaced(plane.client(), "default");
    let labels = serde_json::json!({"cluster.x-k8s.io/provider": "infrastructure-capdkc"});
    let provider = serde_json::json!({
        "metadata": {"name": "capdkc-controller-manager", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "manager", "image": "capdkc"}]},
            },
        },
    });
    deployments
        .create(&PostParams::default(), &serde_json::from_value(provider)?)
        .await?;
    let releases = Releases {
        helm: Helm::new().await?.with_cluster(plane.kubeconfig_path()),
        chart: Chart::named("capdkc"),
    };
    let refused = releases.install("docker", &["docker.socket.enabled=true"]).await;
    let why = refused.err().context("two serve one cluster")?.to_string();
    ensure!(
        why.contains("release of clusterctl in namespace default"),
        "{why}"
    );
    Ok(())
}

/// What the chart's README says: the definition, kept, and nothing else.
async fn left_by_an_uninstall(plane: &ControlPlane, releases: &Releases) -> Result<()> {
    let manifest = releases
        .helm
        .run(&["get", "manifest", "one", "--namespace=one"])
        .await?;
    let installed = crate::rendering::objects(&manifest)?;
    releases
        .helm
        .run(&["uninstall", "one", "--namespace=one", "--wait"])
        .await?;
    let kubectl = tools::ensure_async(&[Tool::Kubectl]).await?.remove(0);
    let mut left = Vec::new();
    for object in &installed {
        let types = object.types.as_ref().context("no types")?;
        let mut command = Command::new::<&Path>(&kubectl);
        command.args([
            "get",
            &types.kind,
            &object.name_any(),
            "--ignore-not-found",
            "--output=name",
        ]);
        if let Some(namespace) = object.namespace() {
            command.args(["--namespace", &namespace]);
        }
        let output = command.env("KUBECONFIG", plane.kubeconfig_path()).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        left.extend(String::from_utf8(output.stdout)?.lines().map(str::to_owned));
    }
    let kept =
        "customresourcedefinition.apiextensions.k8s.io/ddbctldpjobs.dynamoctl.dp.operators.sanjivmadhavan.io";
    ensure!(left == [kept], "{left:?}");
    ensure!(installed.len() > 10, "only {} objects", installed.len());
    Ok(())
}
