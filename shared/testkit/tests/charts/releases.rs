//! Several releases of a chart in one cluster, and what each leaves when it goes.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{apps::v1::Deployment, rbac::v1::ClusterRole},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use testkit::{
    control_plane::{ControlPlane, Options},
    helm::Helm,
    tools::{self, Tool},
};

use crate::rendering::Chart;

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
        "--reset-then-reuse-values",
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
        "--reset-then-reuse-values",
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
    beside(
        "infrastructure-capdkc",
        "release of clusterctl in namespace default",
    )
    .await?;
    // Upstream's, which serves the same kinds.
    beside(
        "infrastructure-docker",
        "clusterctl delete --infrastructure docker",
    )
    .await
}

/// The chart is refused where a provider with this label is, in these words.
async fn beside(label: &str, words: &str) -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let deployments: Api<Deployment> = Api::namespaced(plane.client(), "default");
    let labels = serde_json::json!({"cluster.x-k8s.io/provider": label});
    let provider = serde_json::json!({
        "metadata": {"name": "provider", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "manager", "image": "provider"}]},
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
    ensure!(why.contains(words), "{why}");
    Ok(())
}

#[tokio::test]
async fn two_docker_providers_with_a_watch_filter_each_stand_side_by_side() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let releases = Releases {
        helm: Helm::new().await?.with_cluster(plane.kubeconfig_path()),
        chart: Chart::named("capdkc"),
    };
    let install = async |name: &str, filter: &str| {
        let filter = format!("watchFilter={filter}");
        releases
            .install(name, &["docker.socket.enabled=true", &filter])
            .await
    };
    install("one", "red").await?;
    install("two", "blue").await?;
    for filter in ["red", ""] {
        let refused = install("three", filter).await;
        let why = refused
            .err()
            .with_context(|| format!("two serve what has the watch filter red, one of them as {filter:?}"))?;
        ensure!(why.to_string().contains("a watchFilter each"), "{why}");
    }
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
