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

mod clusterctl;
mod manifests;
pub mod nodes;
mod upstream;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

pub use self::{
    clusterctl::{Clusterctl, Infrastructure},
    manifests::{docker_backed, module, owned_infrastructure},
    upstream::UpstreamDocker,
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

/// The folder of `tools`, and the module that has the managers' manifests.
const MODULE: (&str, &str) = ("cluster-api", "sigs.k8s.io/cluster-api");

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

/// What the managers are made from.
struct Prepared {
    programs: Vec<PathBuf>,
    kubectl: PathBuf,
    module: PathBuf,
    folder: ScratchFolder,
    /// Webhook port and manifests of each part.
    parts: Vec<(u16, Vec<Value>)>,
}

impl Prepared {
    async fn make() -> anyhow::Result<Self> {
        let tools = [PARTS[0].tool, PARTS[1].tool, PARTS[2].tool, Tool::Kubectl];
        let mut programs = tools::ensure_async(&tools).await?;
        let kubectl = programs.pop().context("kubectl was not built")?;
        let folder = ScratchFolder::create("testkit-cluster-api")?;
        let certificate = manifests::write_certificate(folder.path())?;
        let module = manifests::module(MODULE.0, MODULE.1).await?;
        let mut parts = Vec::new();
        for part in &PARTS {
            let port = free_port()?;
            let source = manifests::Source {
                folder: &module.join(part.manifests),
                kubectl: &kubectl,
                scratch: folder.path(),
            };
            parts.push((port, source.render(part.name, port, &certificate).await?));
        }
        Ok(Self {
            programs,
            kubectl,
            module,
            folder,
            parts,
        })
    }

    /// clusterctl for the cluster of `kubeconfig`, with a repository of the managers' manifests and `infrastructure`.
    async fn clusterctl(
        &self,
        kubeconfig: &Path,
        infrastructure: &Infrastructure,
    ) -> anyhow::Result<Clusterctl> {
        let clusterctl = tools::ensure_async(&[Tool::Clusterctl]).await?;
        let program = clusterctl.first().context("clusterctl was not built")?;
        let version = format!("v{}", tools::version(Tool::Clusterctl)?);
        let repository = self.folder.path().join("repository");
        let metadata = self.module.join("metadata.yaml");
        for (provider, (_, documents)) in clusterctl::PROVIDERS.iter().zip(&self.parts) {
            clusterctl::store(&repository, provider, &version, documents, &metadata)?;
        }
        Clusterctl::new(program, kubeconfig, &repository, &version, infrastructure)
    }

    /// Starts the managers, once what they need is installed.
    async fn launch(self, plane: &ControlPlane) -> anyhow::Result<ClusterApi> {
        let mut managers = Vec::new();
        let mut probes = Vec::new();
        for ((part, program), (port, _)) in PARTS.iter().zip(&self.programs).zip(&self.parts) {
            let probe = free_port()?;
            let command = manager(
                program,
                plane.kubeconfig_path(),
                self.folder.path(),
                [*port, probe, free_port()?],
            );
            let log = self.folder.path().join(format!("{}.log", part.name));
            managers.push(Supervised::spawn(part.name, &command, &log)?);
            probes.push((probe, log));
        }
        let mut started = ClusterApi {
            managers,
            folder: self.folder,
        };
        for (probe, log) in probes {
            started.wait_ready(probe, &log).await?;
        }
        Ok(started)
    }
}

/// Cluster API's kinds in a cluster, and nobody who serves them: an infrastructure provider's pods find what they ask for.
#[derive(Debug)]
pub struct Kinds {
    /// Speaking to that cluster.
    pub clusterctl: Clusterctl,
    _folder: ScratchFolder,
}

impl Kinds {
    /// Installs them and `infrastructure` into the cluster of `kubeconfig` by `clusterctl init`, with `variables` for the
    /// infrastructure's manifests.
    pub async fn init(
        kubeconfig: &Path,
        infrastructure: &Infrastructure,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut prepared = Prepared::make().await?;
        for (_, documents) in &mut prepared.parts {
            *documents = manifests::kinds_only(std::mem::take(documents));
        }
        let stand_ins = clusterctl::certificate_definitions()?;
        let stand_ins = stand_ins
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        let file = manifests::without_pods(prepared.folder.path(), "cert-manager", stand_ins)?;
        manifests::apply(&prepared.kubectl, kubeconfig, &file).await?;
        manifests::established(&prepared.kubectl, kubeconfig, &file).await?;
        let clusterctl = prepared.clusterctl(kubeconfig, infrastructure).await?;
        let init = ["init", "--infrastructure", &infrastructure.name];
        clusterctl.run(&init, variables).await?;
        Ok(Self {
            clusterctl,
            _folder: prepared.folder,
        })
    }
}

impl ClusterApi {
    /// Installs Cluster API into `plane` and starts its managers. What must be built first is built.
    pub async fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let mut prepared = Prepared::make().await?;
        for (part, (_, documents)) in PARTS.iter().zip(&mut prepared.parts) {
            let documents = std::mem::take(documents);
            let file = manifests::without_pods(prepared.folder.path(), part.name, documents)?;
            manifests::apply(&prepared.kubectl, plane.kubeconfig_path(), &file).await?;
        }
        prepared.launch(plane).await
    }

    /// Installs Cluster API and `infrastructure` into `plane` by `clusterctl init`, and starts Cluster API's managers.
    /// The infrastructure's manager is the caller's to start.
    pub async fn init(
        plane: &ControlPlane,
        infrastructure: &Infrastructure,
    ) -> anyhow::Result<(Self, Clusterctl)> {
        let prepared = Prepared::make().await?;
        plane.apply_crds(&clusterctl::certificate_definitions()?).await?;
        let clusterctl = prepared
            .clusterctl(plane.kubeconfig_path(), infrastructure)
            .await?;
        let init = ["init", "--infrastructure", &infrastructure.name];
        clusterctl.run(&init, &[]).await?;
        Ok((prepared.launch(plane).await?, clusterctl))
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
