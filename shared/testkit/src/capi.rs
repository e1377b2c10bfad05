//! Cluster API's own managers as processes beside a control plane: core, kubeadm bootstrap, kubeadm control plane.
//!
//! Their manifests come out of the pinned Go module, so what runs here is what a release would install: CRDs, RBAC
//! and webhooks, except that webhooks are reached on loopback instead of through Services.
//!
//! # Guarantees
//! - The managers end with the value, and with the process that made it (see [`crate::process`]).
//! - When [`ClusterApi::start`] returns, every manager is ready, its webhooks included.
//!
//! # Assumptions
//! The control plane is the caller's own: CRDs and webhooks are for the whole cluster.

mod manifests;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::{
    control_plane::ControlPlane,
    process::{ScratchFolder, Supervised, free_port, tail},
    tools::{self, Tool},
};

/// How long a manager may take to be ready.
const READY_DEADLINE: Duration = Duration::from_mins(2);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(100);
/// What the managers are started with, beyond what every installation has.
const FEATURES: &str = "--feature-gates=MachinePool=true,ClusterTopology=true";

/// One of the managers.
struct Part {
    name: &'static str,
    tool: Tool,
    /// Its manifests within the module.
    manifests: &'static str,
}

const PARTS: [Part; 3] = [
    Part {
        name: "core",
        tool: Tool::ClusterApiCore,
        manifests: "config",
    },
    Part {
        name: "bootstrap",
        tool: Tool::ClusterApiBootstrap,
        manifests: "bootstrap/kubeadm/config",
    },
    Part {
        name: "control-plane",
        tool: Tool::ClusterApiControlPlane,
        manifests: "controlplane/kubeadm/config",
    },
];

/// Running managers.
#[derive(Debug)]
pub struct ClusterApi {
    managers: Vec<Supervised>,
    folder: ScratchFolder,
}

impl ClusterApi {
    /// Installs Cluster API into `plane` and starts its managers. What must be built first is built.
    pub async fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let tools = [PARTS[0].tool, PARTS[1].tool, PARTS[2].tool, Tool::Kubectl];
        let programs = tools::ensure_async(&tools).await?;
        let kubectl = programs.last().context("kubectl was not built")?;
        let folder = ScratchFolder::create("testkit-cluster-api")?;
        let certificate = manifests::write_certificate(folder.path())?;
        let module = manifests::module().await?;
        let mut managers = Vec::new();
        let mut probes = Vec::new();
        for (part, program) in PARTS.iter().zip(&programs) {
            let port = free_port()?;
            let source = manifests::Source {
                folder: &module.join(part.manifests),
                kubectl,
                scratch: folder.path(),
            };
            let file = source.render(part.name, port, &certificate).await?;
            manifests::apply(kubectl, plane.kubeconfig_path(), &file).await?;
            let probe = free_port()?;
            let command = manager(
                program,
                plane.kubeconfig_path(),
                folder.path(),
                [port, probe, free_port()?],
            );
            let log = folder.path().join(format!("{}.log", part.name));
            managers.push(Supervised::spawn(part.name, &command, &log)?);
            probes.push((probe, log));
        }
        let mut started = Self { managers, folder };
        for (probe, log) in probes {
            started.wait_ready(probe, &log).await?;
        }
        Ok(started)
    }

    async fn wait_ready(&mut self, probe: u16, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        while !is_ready(probe).await {
            for manager in &mut self.managers {
                manager.check()?;
            }
            ensure!(
                Instant::now() < deadline,
                "Cluster API's manager was not ready within {READY_DEADLINE:?}:\n{}",
                tail(log, 12)
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The folder with the managers' logs, `<name>.log`.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The end of every manager's log, for the message of a test that failed.
    pub fn last_words(&self) -> String {
        let of = |part: &Part| {
            let log = self.folder.path().join(format!("{}.log", part.name));
            format!("--- {}\n{}\n", part.name, tail(&log, 15))
        };
        PARTS.iter().map(of).collect()
    }
}

fn manager(program: &Path, kubeconfig: &Path, folder: &Path, ports: [u16; 3]) -> Command {
    let [webhook, probe, diagnostics] = ports;
    let mut command = Command::new(program);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--webhook-port", &webhook.to_string()])
        .arg("--webhook-cert-dir")
        .arg(folder)
        .args(["--health-addr", &format!("127.0.0.1:{probe}")])
        .args([
            "--diagnostics-address",
            &format!("127.0.0.1:{diagnostics}"),
            "--insecure-diagnostics",
        ])
        .arg(FEATURES);
    command
}

async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    ask.await.is_ok_and(|answer| {
        answer
            .lines()
            .next()
            .is_some_and(|status| status.contains(" 200 "))
    })
}

/// Runs `command` and returns what it printed.
async fn output(mut command: tokio::process::Command) -> anyhow::Result<Vec<u8>> {
    let ran = command.kill_on_drop(true).output().await;
    let ran = ran.with_context(|| format!("cannot run {command:?}"))?;
    if !ran.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr).trim()
        );
    }
    Ok(ran.stdout)
}
