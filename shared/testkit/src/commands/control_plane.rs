//! `testkit control-plane`: a control plane that runs until its caller is gone.

use std::{
    io::{Read, Write},
    path::PathBuf,
    thread,
};

use anyhow::Context;
use testkit::control_plane::{AUDIT_LOG_VARIABLE, ControlPlane, KUBECONFIG_VARIABLE, Options};
use tokio::signal::unix::{SignalKind, signal};

/// Starts etcd, kube-apiserver and kube-controller-manager on loopback and prints the environment variables under
/// which tests find them, one `NAME=value` a line. Runs until standard input closes or a signal comes, then removes
/// everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep everything in this folder, which must not exist yet [default: a new temporary folder].
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// A further argument of kube-apiserver; may be given several times.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    apiserver_arg: Vec<String>,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let options = Options {
        folder: arguments.dir,
        apiserver_args: arguments.apiserver_arg,
        ..Options::default()
    };
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let closed = standard_input_closed()?;
    let plane = tokio::select! {
        plane = ControlPlane::start(options) => plane?,
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
    };
    announce(&plane)?;
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        _ = closed => {}
    }
    plane.stop();
    Ok(())
}

fn announce(plane: &ControlPlane) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    let lines = format!(
        "{KUBECONFIG_VARIABLE}={}\n{AUDIT_LOG_VARIABLE}={}\n",
        plane.kubeconfig_path().display(),
        plane.audit().path().display()
    );
    output
        .write_all(lines.as_bytes())
        .and_then(|()| output.flush())
        .context("cannot write to standard output")
}

/// Resolves when standard input ends. Read on a thread of its own, so that a read that never returns keeps nobody
/// from leaving.
fn standard_input_closed() -> anyhow::Result<tokio::sync::oneshot::Receiver<()>> {
    let (closed, receiver) = tokio::sync::oneshot::channel();
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut ignored = [0; 256];
            while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
            closed.send(()).ok();
        })
        .context("cannot start a thread")?;
    Ok(receiver)
}
