//! Cluster API around the Docker provider: its managers as processes, and a network of Docker's for the nodes.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Node, Secret},
};
use kube::{
    Api, Client, Config,
    api::{ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use testkit::{
    capi::{
        ClusterApi,
        nodes::{fit_for_this_machine, is_ready},
    },
    control_plane::ControlPlane,
    docker::Docker,
    image::{Image, Images},
    process::Janitor,
    progress::{Step, line},
    tools::{self, Tool},
};
use tokio::time::Instant;

use super::{
    operator::Settings,
    session::{Session, unique},
};

/// The example's name, and how many machines it has.
const NAME: &str = "quick-start";
const MACHINES: usize = 2;
/// How long kubelets may take to be Ready once their machines are.
const DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(200);

/// What removes the nodes, whoever made them. `$1` is Docker, `$2` the network.
const SWEEP: &str = r#""$1" ps --all --quiet --filter network="$2" | xargs -r "$1" rm --force --volumes
"$1" network rm "$2""#;

/// Cluster API and Docker. The managers end before their nodes are removed.
pub(super) struct World {
    cluster_api: Option<ClusterApi>,
    /// Of the network and of the namespace: nodes are called after theirs.
    name: String,
    node: String,
    load_balancer: String,
    kubeconfig: PathBuf,
    _janitor: Janitor,
}

impl World {
    /// Makes the images. `None`, with a line that says why, where there is no Docker.
    pub(super) async fn start(session: &Session) -> anyhow::Result<Option<Self>> {
        let docker = match Docker::connect().await {
            Ok(docker) => docker,
            Err(error) => {
                line(&format!("docker is left out, since there is no Docker: {error}"));
                return Ok(None);
            }
        };
        let tags = Images::new(&docker)
            .ensure_all(&[Image::Node, Image::Haproxy])
            .await?;
        let [node, load_balancer] = <[String; 2]>::try_from(tags)
            .ok()
            .context("an image has no tag")?;
        let name = unique();
        let program = docker.program().to_string_lossy().into_owned();
        Ok(Some(Self {
            cluster_api: None,
            node,
            load_balancer,
            kubeconfig: session.folder().join(format!("{NAME}.kubeconfig")),
            _janitor: Janitor::engage(SWEEP, &[program, name.clone()])?,
            name,
        }))
    }

    /// Installs Cluster API and starts its managers.
    pub(super) async fn join(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        let step = Step::start("starting Cluster API");
        self.cluster_api = Some(ClusterApi::start(plane).await?);
        step.done();
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(plane.client());
        namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// What the operator must be told.
    pub(super) fn settings(&self) -> Settings {
        let arguments = [
            "--network",
            &self.name,
            "--load-balancer-image",
            &self.load_balancer,
        ];
        Settings {
            arguments: arguments.map(str::to_owned).to_vec(),
            ..Settings::default()
        }
    }

    /// The namespace of the cluster.
    pub(super) fn namespace(&self) -> &str {
        &self.name
    }

    /// What there is, in a few words.
    pub(super) fn describe(&self) -> String {
        format!("Cluster API, and nodes on Docker's network {}", self.name)
    }

    /// The example with the images of this machine and a pod network.
    pub(super) fn adapted(&self, mut objects: Vec<Value>) -> anyhow::Result<Vec<Value>> {
        let version = format!("v{}", tools::version(Tool::Kubelet)?);
        for object in &mut objects {
            match object["kind"].as_str() {
                Some("DockerMachineTemplate") => {
                    object["spec"]["template"]["spec"]["customImage"] = json!(self.node);
                }
                Some("KubeadmControlPlane") => object["spec"]["version"] = json!(version),
                Some("MachineDeployment") => object["spec"]["template"]["spec"]["version"] = json!(version),
                _ => {}
            }
        }
        Ok(fit_for_this_machine(objects))
    }

    /// Asks the new cluster itself, with the kubeconfig that users get: its nodes are Ready.
    pub(super) async fn verify(&self, client: &Client) -> anyhow::Result<String> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.name);
        let secret = secrets.get(&format!("{NAME}-kubeconfig")).await?;
        let data = secret.data.unwrap_or_default();
        let ByteString(bytes) = data.get("value").context("the cluster's kubeconfig is empty")?;
        let text = std::str::from_utf8(bytes).context("the cluster's kubeconfig is no text")?;
        std::fs::write(&self.kubeconfig, text)?;
        let kubeconfig = Kubeconfig::from_yaml(text)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let nodes: Api<Node> = Api::all(Client::try_from(config)?);
        let deadline = Instant::now() + DEADLINE;
        loop {
            let ready = nodes
                .list(&ListParams::default())
                .await
                .map(|list| list.items.iter().filter(|node| is_ready(node)).count());
            if matches!(ready, Ok(MACHINES)) {
                return Ok(format!(
                    "asked the new cluster itself: {MACHINES} nodes are Ready"
                ));
            }
            ensure!(
                Instant::now() < deadline,
                "in place of {MACHINES} Ready nodes there are {ready:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// What a person may try next.
    pub(super) fn hints(&self) -> String {
        format!(
            "  kubectl --namespace {name} get clusters,machines,dockermachines\n  kubectl --namespace {name} scale \
             machinedeployment {NAME} --replicas 2\n  kubectl --kubeconfig {kubeconfig} get nodes",
            name = self.name,
            kubeconfig = self.kubeconfig.display()
        )
    }
}
