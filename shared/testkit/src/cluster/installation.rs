//! An operator as pods of a cluster, installed from its chart as its users install it, in a namespace of its own.
//!
//! # Guarantees
//! - Two replicas with the fast preset of leader election, and only the rights that the chart gives them. The namespace
//!   enforces the Pod Security Standard that [`Plan::pod_security`] names.
//! - The namespace, the release's cluster-wide objects and the operator's objects are gone when the value is dropped,
//!   and soon after its process has ended in any other way. Definitions stay: they are the cluster's.
//! - A failure says what the operator last said.

mod lease;
mod neighbour;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
pub use lease::{CRASH, Handover, UPDATE};
use serde_json::{Value, json};

use super::Cluster;
use crate::{
    helm::{self, Helm},
    image::{Image, Images},
    process::Janitor,
};

/// How long anything may take that should happen soon, on a machine that is slow and busy.
const LIMIT: Duration = Duration::from_mins(6);
/// The same for kubectl and helm.
const TIMEOUT: &str = "--timeout=6m";
/// Removes what a test has made. The operator goes first, so that it makes nothing any more; finalizers go by force,
/// since neither it nor its world may be there.
const SWEEP: &str = r#"docker=$1; node=$2; namespace=$3; kinds=$4
k() { "$docker" exec "$node" kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace="$namespace" "$@"; }
k delete deployments --all --cascade=foreground --timeout=60s
for tenant in "$namespace" "$namespace-neighbour"; do
    k delete "$kinds" --all --wait=false --namespace="$tenant"
    for object in $(k get "$kinds" --output=name --namespace="$tenant"); do
        k patch "$object" --type=merge --patch='{"metadata":{"finalizers":null}}' --namespace="$tenant"
    done
done
k delete --wait=false --ignore-not-found --selector="app.kubernetes.io/instance=$namespace" \
    clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings
k delete --wait=false --ignore-not-found "namespace/$namespace" "namespace/$namespace-neighbour"
"#;

/// What of a namespace an installation could leave behind.
const NAMESPACED: &str = "deployments,pods,jobs,services,endpointslices,serviceaccounts,configmaps,secrets,persistentvolumeclaims,roles,rolebindings,leases,poddisruptionbudgets,networkpolicies";
/// The same of the cluster.
const CLUSTER_WIDE: &str =
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
/// What every namespace has.
const NOBODYS: [&str; 2] = ["serviceaccount/default", "configmap/kube-root-ca.crt"];

/// The chart is rendered for this version where no cluster is asked.
const KUBE_VERSION: &str = "--kube-version=1.34.0";

/// What is to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The chart.
    pub chart: &'static str,
    /// With what the names of the namespace and the release begin; at most 20 characters.
    pub name: &'static str,
    /// The operator's kinds, as kubectl takes them.
    pub kinds: &'static str,
    /// The Pod Security Standard that the namespace enforces: `restricted`, `baseline` or `privileged`.
    pub pod_security: &'static str,
    /// What its account may do in all namespaces and outside of them beside what every operator's may, as
    /// `kubectl auth can-i --list` has it: `nodes get`.
    pub everywhere: &'static [&'static str],
    /// Further lines of the sweep. `$docker` is Docker, `$namespace` the namespace, `k` kubectl in it.
    pub sweep: &'static str,
}

/// A namespace for an operator and its objects.
#[derive(Debug)]
pub struct Installation {
    cluster: &'static Cluster,
    plan: Plan,
    name: String,
    helm: Helm,
    _janitor: Janitor,
}

impl Installation {
    /// Makes the namespace.
    pub async fn prepare(cluster: &'static Cluster, plan: Plan) -> Result<Self> {
        let name = format!("{}-{}", plan.name, std::process::id());
        let docker = cluster.docker().program().to_string_lossy().into_owned();
        let arguments = [
            docker,
            cluster.nodes().remove(0),
            name.clone(),
            plan.kinds.to_owned(),
        ];
        let janitor = Janitor::engage(&format!("{SWEEP}{}", plan.sweep), &arguments)?;
        let helm = Helm::new().await?.with_cluster(cluster.kubeconfig_path());
        let installation = Self {
            cluster,
            plan,
            name,
            helm,
            _janitor: janitor,
        };
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": installation.name,
                "labels": {"pod-security.kubernetes.io/enforce": plan.pod_security},
            },
        });
        cluster
            .kubectl(&["create", "--filename=-"], &namespace.to_string())
            .await?;
        Ok(installation)
    }

    /// The name of the namespace, the release and the lease, with which all names begin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Installs the chart, with `program` in its pods and `values` over those of every test, and waits until both
    /// replicas are ready.
    pub async fn install(&self, program: &Path, values: &Value) -> Result<()> {
        let name = program.file_name().context("the program has no name")?;
        let images = Images::new(self.cluster.docker());
        let image = images.of_program(&name.to_string_lossy(), program).await?;
        let probe = images.ensure(Image::Mysql).await?;
        self.cluster.load_image(&image).await?;
        self.cluster.load_image(&probe).await?;
        let (repository, tag) = image.split_once(':').context("the image has no tag")?;
        let ours = json!({
            "fullnameOverride": self.name,
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "replicaCount": 2,
            "leaderElect": true,
            "leaderElection": {"preset": "fast"},
            "watchNamespaces": [self.name],
            // Of all releases of the run only one can have them.
            "rbac": {"aggregate": false},
            // What is tested is compiled without optimization.
            "resources": {"limits": {"cpu": "1"}},
            "tests": {"image": probe},
        });
        let folder = tempfile::tempdir()?;
        let mut files = Vec::new();
        for (number, values) in [&ours, values].into_iter().enumerate() {
            let path = folder.path().join(format!("{number}.json"));
            std::fs::write(&path, values.to_string())?;
            files.push(format!("--values={}", path.display()));
        }
        let (chart, namespace) = (helm::chart(self.plan.chart), format!("--namespace={}", self.name));
        let chart = chart.to_string_lossy();
        let arguments = [&self.name, &*chart, &namespace, &files[0], &files[1]];
        self.apply_definitions(&arguments).await?;
        self.helm.run(&[&["install"], &arguments[..]].concat()).await?;
        self.rolled_out().await
    }

    /// Those of the chart, whichever version of them another run has left in the cluster.
    async fn apply_definitions(&self, arguments: &[&str]) -> Result<()> {
        let show = ["--show-only=templates/definitions.yaml", KUBE_VERSION];
        let template = [&["template"], arguments, &show].concat();
        let definitions = self.helm.run(&template).await?;
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.cluster.kubectl(&apply, &definitions).await?;
        let established = ["wait", "--for=condition=Established", TIMEOUT, "--filename=-"];
        self.cluster.kubectl(&established, &definitions).await?;
        Ok(())
    }

    async fn rolled_out(&self) -> Result<()> {
        let deployment = self.deployment();
        let status = ["rollout", "status", &deployment, TIMEOUT];
        self.kubectl(&status, "").await.map(drop)
    }

    fn deployment(&self) -> String {
        format!("deployment/{}-controller-manager", self.name)
    }

    /// Runs kubectl in the namespace.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let whole = [&["--namespace", &self.name], arguments].concat();
        match self.cluster.kubectl(&whole, input).await {
            Ok(printed) => Ok(printed),
            Err(error) => bail!("{error}\n{}", self.state().await),
        }
    }

    /// The pods, the objects and the last words of every replica.
    async fn state(&self) -> String {
        let mut seen = String::new();
        let kinds = format!("pods,leases,{}", self.plan.kinds);
        let pods = "--selector=app.kubernetes.io/component=controller-manager";
        for arguments in [
            &["get", kinds.as_str(), "--output=wide"][..],
            &["logs", pods, "--tail=30", "--prefix"],
            &[
                "get",
                "events.events.k8s.io",
                "--sort-by=.metadata.creationTimestamp",
            ],
        ] {
            let whole = [&["--namespace", &self.name], arguments].concat();
            let printed = self.cluster.kubectl(&whole, "").await;
            seen.push_str(&printed.unwrap_or_else(|error| error.to_string()));
            seen.push('\n');
        }
        seen
    }

    /// Waits until `holds`; an error after six minutes.
    pub async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !holds().await? {
            ensure!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}\n{}",
                self.state().await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What `path` (`/readyz`) of a pod's port answers.
    pub async fn asked(&self, pod: &str, port: u16, path: &str) -> Result<String> {
        let url = format!("/api/v1/namespaces/{}/pods/{pod}:{port}/proxy{path}", self.name);
        self.kubectl(&["get", "--raw", &url], "").await
    }

    /// `helm test`.
    pub async fn test(&self) -> Result<()> {
        let namespace = format!("--namespace={}", self.name);
        if let Err(error) = self.helm.run(&["test", &self.name, &namespace, TIMEOUT]).await {
            let pod = format!("pod/{}-controller-manager-test", self.name);
            let said = self
                .cluster
                .kubectl(&["--namespace", &self.name, "logs", &pod], "")
                .await;
            bail!("{error}\n{said:?}\n{}", self.state().await);
        }
        Ok(())
    }

    /// Uninstalls the release; returns the names of what it has left, definitions and the operator's objects apart.
    pub async fn uninstall(&self) -> Result<Vec<String>> {
        let namespace = format!("--namespace={}", self.name);
        let uninstall = ["uninstall", &self.name, &namespace, "--wait", TIMEOUT];
        self.helm.run(&uninstall).await?;
        let pods = "--selector=app.kubernetes.io/component=controller-manager";
        self.kubectl(&["wait", "--for=delete", "pod", pods, TIMEOUT], "")
            .await?;
        let release = format!("--selector=app.kubernetes.io/instance={}", self.name);
        let here = self.kubectl(&["get", NAMESPACED, "--output=name"], "").await?;
        let everywhere = self
            .kubectl(&["get", CLUSTER_WIDE, &release, "--output=name"], "")
            .await?;
        let left = here.lines().chain(everywhere.lines());
        Ok(left
            .filter(|name| !NOBODYS.contains(name))
            .map(str::to_owned)
            .collect())
    }
}
