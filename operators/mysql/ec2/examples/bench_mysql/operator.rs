//! The operator's process, seen from both sides.

use std::{env, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};
use mysql_controller::controllers::mysql::controllers;
use reconcile::{Manager, clock::Clock, manager, telemetry};
use testkit::process::Supervised;

/// Databases that are worked on at a time: the default of what ships.
const CONCURRENCY: usize = 8;

/// Arguments of the operator's process.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    kubeconfig: String,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    metrics: SocketAddr,
    #[arg(long)]
    speed: u32,
}

/// Runs the operator, as far as this kind goes.
pub(crate) async fn operate(args: Args) -> Result<()> {
    telemetry::init("info", telemetry::LogFormat::Json)?;
    let kubeconfig = kube::config::Kubeconfig::read_from(&args.kubeconfig)?;
    let choices = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &choices).await?;
    let mut options = manager::Options::new("mysql-operator");
    options.namespaces = vec![args.namespace];
    options.metrics_address = args.metrics.to_string();
    options.clock = Clock::accelerated(args.speed);
    let (databases, former) = controllers(CONCURRENCY);
    Manager::new(options, config)
        .register(databases)
        .register(former)
        .run(manager::shutdown_signal()?)
        .await?;
    Ok(())
}

/// Starts it for `namespace`, with a clock that is `speed` times as fast as real time.
pub(crate) fn start(
    kubeconfig: &Path,
    namespace: &str,
    speed: u32,
    metrics: SocketAddr,
    log: &Path,
) -> Result<Supervised> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    command
        .args(["operate", "--namespace", namespace])
        .args(["--metrics", &metrics.to_string(), "--speed", &speed.to_string()])
        .arg("--kubeconfig")
        .arg(kubeconfig);
    Ok(Supervised::spawn("mysql-operator", &command, log)?)
}
