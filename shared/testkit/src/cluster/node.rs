//! A node: a privileged container in which systemd, containerd and kubelet run.

use std::time::Duration;

use tokio::time::Instant;

use super::{ClusterError, kubeadm::VOLUMES, layout::Layout, setup::Setup};
use crate::{
    docker::{SYS_RESOURCE, has_capability},
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
                    if attempt < PORT_ATTEMPTS
                        && (source.says("already allocated") || source.says("already in use")) =>
                {
                    attempt += 1;
                    // The container exists and only could not be started.
                    self.docker("give way to another port", &["rm", "--force", node])
                        .await?;
                }
                Err(error) => return Err(error),
            }
        }
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
        arguments.extend(["--volume", "/var/run/docker.sock:/run/docker.sock"]);
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
