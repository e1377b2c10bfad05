//! Cluster API's own Docker provider, to measure ours beside it.
//!
//! It is built from its Go module like every other program of the test bed, and installed like the managers: its
//! manifests out of the module, its webhooks on loopback.

use std::process::Command;

use anyhow::Context as _;
use tokio::time::Instant;

use super::{POLL, READY_DEADLINE, is_ready, manager, manifests};
use crate::{
    control_plane::ControlPlane,
    process::{ScratchFolder, Supervised, free_port, tail},
    tools::{self, Tool},
};

/// The folder of `tools`, and the module that has the manifests.
const MODULE: (&str, &str) = ("cluster-api-test", "sigs.k8s.io/cluster-api/test");
const MANIFESTS: &str = "infrastructure/docker/config";

/// Its manager as a process.
#[derive(Debug)]
pub struct UpstreamDocker {
    process: Supervised,
    folder: ScratchFolder,
}

impl UpstreamDocker {
    /// Installs it into `plane`, where Cluster API is, and starts its manager. Returns when that is ready.
    pub async fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let mut programs = tools::ensure_async(&[Tool::ClusterApiDocker, Tool::Kubectl]).await?;
        let kubectl = programs.pop().context("kubectl was not built")?;
        let program = programs.pop().context("the provider was not built")?;
        let folder = ScratchFolder::create("testkit-upstream-docker")?;
        let certificate = manifests::write_certificate(folder.path())?;
        let [webhook, probe, diagnostics] = [free_port()?, free_port()?, free_port()?];
        let module = manifests::module(MODULE.0, MODULE.1).await?;
        let source = manifests::Source {
            folder: &module.join(MANIFESTS),
            kubectl: &kubectl,
            scratch: folder.path(),
        };
        let documents = source.render("docker", webhook, &certificate).await?;
        let file = manifests::without_pods(folder.path(), "docker", documents)?;
        manifests::apply(&kubectl, plane.kubeconfig_path(), &file).await?;
        let mut command: Command = manager(
            &program,
            plane.kubeconfig_path(),
            folder.path(),
            [webhook, probe, diagnostics],
        );
        command.env("POD_IP", "127.0.0.1");
        let process = Supervised::spawn("upstream-docker", &command, &folder.path().join("log"))?;
        let mut started = Self { process, folder };
        let deadline = Instant::now() + READY_DEADLINE;
        while !is_ready(probe).await {
            started.process.check()?;
            anyhow::ensure!(
                Instant::now() < deadline,
                "upstream's Docker provider was not ready within {READY_DEADLINE:?}:\n{}",
                started.last_words()
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(started)
    }

    /// The manager's process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The end of the manager's log.
    pub fn last_words(&self) -> String {
        tail(&self.folder.path().join("log"), 30)
    }
}
