//! A Docker daemon of a test's own, which may be ended in any way: nothing of it meets the machine's.
//!
//! # Guarantees
//! - Its networks, ports, mounts and processes are in namespaces of their own, its files in a folder of its own.
//! - With the value, and soon after the process has ended in any other way, it is gone with everything that it has made.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Docker, daemon, pipe_commands};
use crate::process::{Janitor, ScratchFolder, Supervised, tail};

/// How long the daemon may take to come, or to go with all of its containers.
const LIMIT: Duration = Duration::from_mins(3);

/// The first process: it ends what is orphaned, as containers are whose daemon was killed. `$0` tells that all is there.
/// What containerd's shims leave behind is in memory only.
const INIT: &str = "ip link set lo up && mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd && : > \"$0\" || exit
sleep infinity & wait";

/// Removes the control groups below `$1`, once nothing is in them any more.
const SWEEP: &str = r#"for _ in $(seq 100); do
    find /sys/fs/cgroup -depth -type d -path "*/$1*" -exec rmdir {} + && break
    sleep 0.1
done"#;

/// A daemon.
#[derive(Debug)]
pub struct OwnDaemon {
    docker: Docker,
    name: String,
    // In this order: the processes go before what they use.
    running: Option<Supervised>,
    namespaces: Supervised,
    _groups: Janitor,
    folder: ScratchFolder,
}

impl OwnDaemon {
    /// Starts one, with no images. Takes root, and a Docker that is installed.
    pub async fn start() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a Docker daemon of a test's own takes root: run this as root"
        );
        let machines = Docker::connect().await?;
        let folder = ScratchFolder::create("testkit-docker")?;
        let name = folder.path().file_name().context("the folder has no name")?;
        let name = name.to_string_lossy().into_owned();
        let groups = Janitor::engage(SWEEP, &[&name])?;
        let socket = format!("unix://{}", folder.path().join("socket").display());
        let ready = folder.path().join("ready");
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["sh", "-c", INIT])
            .arg(&ready);
        let log = folder.path().join("namespaces.log");
        let mut namespaces = Supervised::spawn("namespaces", &command, &log)?;
        eventually("namespaces", || {
            namespaces.check()?;
            Ok(ready.exists())
        })
        .await?;
        fs::write(folder.path().join("daemon.json"), "{}")?;
        let mut daemon = Self {
            docker: Docker {
                host: Some(socket),
                ..machines
            },
            name,
            running: None,
            namespaces,
            _groups: groups,
            folder,
        };
        daemon.start_again().await?;
        Ok(daemon)
    }

    /// Its command line.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Where it is, for `DOCKER_HOST`.
    pub fn host(&self) -> &str {
        self.docker.host.as_deref().unwrap_or_default()
    }

    /// Copies an image of the machine's daemon into it.
    pub async fn load(&self, image: &str) -> Result<()> {
        let machines = Docker {
            host: None,
            ..self.docker.clone()
        };
        let source = machines.command(&["save", image]);
        pipe_commands(source, self.docker.command(&["load", "--quiet"])).await?;
        Ok(())
    }

    /// Ends the daemon by this signal (`KILL`), and returns when it is gone. Its containers are as it has left them.
    pub async fn end(&mut self, signal: &str) -> Result<()> {
        let mut running = self.running.take().context("the daemon does not run")?;
        let script = format!("kill -{signal} $(cat {})", self.path("pid").display());
        let status = self.inside("sh").args(["-c", &script]).status()?;
        ensure!(status.success(), "`{script}` ended with {status}");
        eventually("the end of dockerd", || Ok(running.check().is_err())).await
    }

    /// Starts the daemon, which has ended, and returns when it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = self.inside("dockerd");
        for (option, file) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(option).arg(self.path(file));
        }
        command
            .args(["--host", self.host()])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &format!("/{}", self.name)]);
        if !daemon::lacks_nothing() {
            let shim = daemon::write_shim(self.folder.path())?;
            let runtime = format!("testbed={}", shim.display());
            command.args(["--add-runtime", &runtime, "--default-runtime", "testbed"]);
        }
        let log = self.path("dockerd.log");
        let mut running = Supervised::spawn("dockerd", &command, &log)?;
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.docker.run(&["version"]).await {
            running.check()?;
            if Instant::now() >= deadline {
                bail!(
                    "dockerd does not answer after {LIMIT:?}: {error}\n{}",
                    tail(&log, 20)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.running = Some(running);
        Ok(())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A command in the daemon's namespaces.
    fn inside(&self, program: &str) -> Command {
        let of = |option: &str, namespace: &str| {
            OsString::from(format!(
                "--{option}=/proc/{}/ns/{namespace}",
                self.namespaces.id()
            ))
        };
        let mut command = Command::new("nsenter");
        command
            .args([
                of("mount", "mnt"),
                of("net", "net"),
                of("pid", "pid_for_children"),
            ])
            .arg(program);
        command
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds()? {
        ensure!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
