//! `testkit control-plane`: a control plane that runs until its caller is gone.

use std::path::PathBuf;

use testkit::control_plane::{AUDIT_LOG_VARIABLE, ControlPlane, KUBECONFIG_VARIABLE, Options};

use super::{caller::Caller, print_lines};

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
    let mut caller = Caller::new()?;
    let plane = tokio::select! {
        plane = ControlPlane::start(options) => plane?,
        () = caller.gone() => return Ok(()),
    };
    print_lines([
        format!("{KUBECONFIG_VARIABLE}={}", plane.kubeconfig_path().display()),
        format!("{AUDIT_LOG_VARIABLE}={}", plane.audit().path().display()),
    ])?;
    caller.gone().await;
    plane.stop();
    Ok(())
}
