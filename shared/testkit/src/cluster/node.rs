//! A node: a privileged container in which systemd, containerd and kubelet run.

use std::time::Duration;

use tokio::time::Instant;

use super::{ClusterError, kubeadm::VOLUMES, layout::Layout, setup::Setup};
use crate::{
    docker::{DockerError, LABEL, SYS_RESOURCE, has_capability},
    process::free_port,
};

/// How long containerd may take from the container's start.
const BOOT_DEADLINE: Duration = Duration::from_secs(90);
/// How often another port is tried when somebody took the first.
const PORT_ATTEMPTS: usize = 5;
/// The port of the API server inside of its node.
const API_PORT: u16 = 6443;

impl Setup {
    /// Starts the container `node` and waits until pods could run in it. The control plane's API is published on a
    /// free port of 127.0.0.1, which is returned.
    pub(super) async fn boot(&self, node: &str, image: &str) -> Result<Option<u16>, ClusterError> {
        self.create_volume(&Layout::node_volume(node)).await?;
        let port = if node == self.layout.control_plane() {
            Some(self.run_published(node, image).await?)
        } else {
            self.run_container(node, image, &[]).await?;
            None
        };
        self.wait(BOOT_DEADLINE, &format!("containerd runs in {node}"), async || {
            self.docker
                .exec(node, &["systemctl", "is-active", "containerd"])
                .await
                .is_ok_and(|state| state == "active")
        })
        .await?;
        Ok(port)
    }

    async fn run_published(&self, node: &str, image: &str) -> Result<u16, ClusterError> {
        let mut attempt = 1;
        loop {
            let port = free_port().map_err(|source| ClusterError::File {
                path: "127.0.0.1".into(),
                source,
            })?;
            let published = format!("127.0.0.1:{port}:{API_PORT}");
            match self.run_container(node, image, &["--publish", &published]).await {
                Ok(()) => return Ok(port),
                Err(ClusterError::Docker { source, .. })
                    if attempt < PORT_ATTEMPTS && is_taken_port(&source) =>
                {
                    attempt += 1;
                    // The container exists and only could not be started.
                    self.remove_own(node).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the container of this name if it is the cluster's.
    async fn remove_own(&self, node: &str) -> Result<(), ClusterError> {
        let name = format!("name=^/?{node}$");
        let label = format!("label={}", self.layout.label());
        let list = ["ps", "--all", "--quiet", "--filter", &name, "--filter", &label];
        for id in self.docker("look for a node", &list).await?.lines() {
            self.docker("give way to another port", &["rm", "--force", id])
                .await?;
        }
        Ok(())
    }

    /// Fails if a container that is not the cluster's has the name of one of `nodes`. It is never touched.
    pub(super) async fn refuse_foreign(&self, nodes: u16) -> Result<(), ClusterError> {
        let format = format!(r#"{{{{index .Config.Labels "{LABEL}.cluster"}}}}"#);
        for node in self.layout.nodes(nodes) {
            if !self.docker.exists("container", &node).await? {
                continue;
            }
            let inspect = ["container", "inspect", "--format", &format, &node];
            if self.docker("look whose a container is", &inspect).await? != self.layout.name {
                return Err(ClusterError::Foreign {
                    name: self.layout.name.clone(),
                    container: node,
                });
            }
        }
        Ok(())
    }

    async fn run_container(&self, node: &str, image: &str, extra: &[&str]) -> Result<(), ClusterError> {
        let network = self.layout.network();
        let var = format!("{}:/var", Layout::node_volume(node));
        let shared = format!("{}:{VOLUMES}", self.layout.shared_volume());
        let mut arguments: Vec<&str> = vec!["run", "--detach", "--name", node, "--hostname", node];
        arguments.extend(["--network", &network, "--privileged", "--cgroupns", "private"]);
        arguments.extend([
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
        ]);
        arguments.extend([
            "--tmpfs",
            "/tmp:exec",
            "--tmpfs",
            "/run:exec",
            "--volume",
            &var,
            "--volume",
            &shared,
        ]);
        // For pods that make containers of their own: the Docker provider of Cluster API.
        let socket = self
            .docker
            .socket()
            .map(|path| format!("{path}:/run/docker.sock"));
        if let Some(socket) = &socket {
            arguments.extend(["--volume", socket]);
        }
        arguments.extend(["--volume", "/lib/modules:/lib/modules:ro"]);
        for label in &self.labels {
            arguments.extend(["--label", label.as_str()]);
        }
        arguments.extend(extra);
        arguments.push(image);
        self.docker(&format!("start the node {node}"), &arguments)
            .await
            .map(drop)
    }

    /// Whether the node has CAP_SYS_RESOURCE, which depends on the machine and on its Docker.
    pub(super) async fn has_sys_resource(&self, node: &str) -> Result<bool, ClusterError> {
        let status = self
            .docker(
                "look at a node's capabilities",
                &["exec", node, "cat", "/proc/1/status"],
            )
            .await?;
        Ok(has_capability(&status, SYS_RESOURCE))
    }

    /// Waits until `holds`, asking again and again.
    pub(super) async fn wait(
        &self,
        limit: Duration,
        what: &str,
        mut holds: impl AsyncFnMut() -> bool,
    ) -> Result<(), ClusterError> {
        let deadline = Instant::now() + limit;
        while !holds().await {
            if Instant::now() >= deadline {
                return Err(ClusterError::Deadline {
                    name: self.layout.name.clone(),
                    what: what.to_owned(),
                    after: limit,
                    last: self.describe_nodes().await,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// Whether a container could not be started because somebody else listens on its port. That a name is in use sounds
/// alike and is something else.
fn is_taken_port(error: &DockerError) -> bool {
    error.says("port is already allocated") || error.says("address already in use")
}
