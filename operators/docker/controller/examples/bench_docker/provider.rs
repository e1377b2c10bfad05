//! The two providers, each as a process beside a control plane.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result};
use docker_controller::cli;
use reconcile::{manager, telemetry};
use testkit::{
    bench::Usage,
    capi::UpstreamDocker,
    control_plane::ControlPlane,
    process::{ScratchFolder, Supervised, tail},
};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Upstream,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Upstream => "upstream",
        }
    }
}

/// A running provider; killed when dropped.
pub(crate) enum Provider {
    Ours(Ours),
    Upstream(UpstreamDocker),
}

/// Our provider in a process of its own.
pub(crate) struct Ours {
    process: Supervised,
    folder: ScratchFolder,
}

impl Ours {
    /// Starts `program`, or this one's own provider; `flags` beyond those that every installation here needs.
    pub(crate) fn start(program: Option<&Path>, kubeconfig: &Path, flags: &[&str]) -> Result<Self> {
        let folder = ScratchFolder::create("bench-docker")?;
        let mut command = if let Some(program) = program {
            Command::new(program)
        } else {
            let mut own = Command::new(env::current_exe().context("cannot find this program")?);
            own.arg("operate");
            own
        };
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--metrics-bind-address", "0", "--health-probe-bind-address", "0"])
            .args(flags);
        let process = Supervised::spawn("capdkc", &command, &folder.path().join("log"))?;
        Ok(Self { process, folder })
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    pub(crate) fn last_words(&self) -> String {
        tail(&self.folder.path().join("log"), 30)
    }
}

impl Provider {
    /// Installs one of them into `plane`, where Cluster API is, and starts it.
    pub(crate) async fn start(
        kind: Kind,
        program: Option<&Path>,
        plane: &ControlPlane,
        network: &str,
    ) -> Result<Self> {
        match kind {
            Kind::Ours => {
                plane.apply_crds(&docker_api::crds()).await?;
                let flags = ["--network", network];
                Ours::start(program, plane.kubeconfig_path(), &flags).map(Self::Ours)
            }
            Kind::Upstream => UpstreamDocker::start(plane).await.map(Self::Upstream),
        }
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        match self {
            Self::Ours(ours) => ours.usage(),
            Self::Upstream(upstream) => Usage::of(upstream.process_id()),
        }
    }

    pub(crate) fn last_words(&self) -> String {
        match self {
            Self::Ours(ours) => ours.last_words(),
            Self::Upstream(upstream) => upstream.last_words(),
        }
    }
}

/// What the shipped program does.
pub(crate) async fn operate(args: cli::Args) -> Result<()> {
    telemetry::init(&args.common.log_filter(), args.common.log_format())?;
    let config = args.common.kube_config().await?;
    let options = cli::options(&args, &config);
    cli::manager(&args, options, config)?
        .run(manager::shutdown_signal()?)
        .await?;
    Ok(())
}
