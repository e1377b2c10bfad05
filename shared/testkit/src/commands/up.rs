//! `testkit up`: an operator at its main job, on a control plane and a backend of this machine.
//!
//! # Guarantees
//! - The job's outcome is checked by a client of our own, not believed from the status.
//! - Whatever was started ends with this process, however it ends, and leaves no folder behind.

mod dynamodb;
mod operator;
mod progress;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use testkit::{
    control_plane::{ControlPlane, Options},
    process::{ScratchFolder, Supervised, tail},
    progress::line,
};
use tokio::signal::unix::{SignalKind, signal};

use self::{dynamodb::World, operator::Operator};

/// Starts a control plane, a backend with data, and an operator; applies its example and shows the progress until
/// the job is done. Then it stays until Ctrl-C, for you to try more.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which operator
    #[arg(default_value = "dynamodb")]
    operator: String,
    /// The project's folder, with crds/ and examples/
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    project: PathBuf,
    /// The folder of the operators' programs
    #[arg(long, default_value = "target/debug", value_name = "FOLDER")]
    programs: PathBuf,
    /// Items in the partition that the example deletes
    #[arg(long, default_value_t = 100_000)]
    items: u64,
    /// End when the job is done
    #[arg(long, visible_alias = "exit")]
    once: bool,
    /// How long the build before took; counted into the total
    #[arg(long, default_value_t = 0, hide = true)]
    build_seconds: u64,
}

/// How long the operator may take to stop on request.
const GRACE: Duration = Duration::from_secs(15);

/// Runs the subcommand. Ends early and in order on SIGINT and SIGTERM, which is a failure only for somebody who waits
/// for the job's end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = show(&arguments) => Some(result),
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
    };
    line("everything that was started has ended");
    match result {
        Some(result) => result,
        None if arguments.once => bail!("interrupted before the job had ended"),
        None => Ok(()),
    }
}

async fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let operator = Operator::called(&arguments.operator)?;
    // What cannot work is refused before anything is started.
    let program = operator.program(&arguments.programs)?;
    let crds = operator.crds(&arguments.project)?;
    let objects = operator.example(&arguments.project)?;
    let (plane, world) = tokio::try_join!(
        async {
            ControlPlane::start(Options::default())
                .await
                .context("no control plane")
        },
        World::start(arguments.items),
    )?;
    plane
        .apply_crds(&crds)
        .await
        .context("the CRDs of this project")?;
    let servers = started.elapsed();
    let logs = ScratchFolder::create("testkit-up").context("cannot make a folder for logs")?;
    let log = logs.path().join(format!("{}.log", operator.program));
    let command = operator::command(&program, plane.kubeconfig_path(), &world.operator_arguments());
    let mut running = Running(Supervised::spawn(operator.program, &command, &log)?);
    let client = plane.client();
    let objects = operator::adapted(objects, |job| world.retarget(job))?;
    line(&format!(
        "\napplying {} (endpoint: {})\n",
        operator.example,
        world.endpoint()
    ));
    let target = operator::apply(&client, &objects).await?;
    let outcome = progress::follow(&client, &target, || running.0.check().map_err(Into::into)).await;
    outcome.with_context(|| format!("the end of the operator's log:\n{}", tail(&log, 20)))?;
    line(&format!("\n{}", world.verify().await?));
    let (total, before) = (started.elapsed(), Duration::from_secs(arguments.build_seconds));
    line(&format!(
        "build {} s, servers and data {:.1} s, operator and job {:.1} s: first resource ready after {:.1} s",
        arguments.build_seconds,
        servers.as_secs_f64(),
        total.saturating_sub(servers).as_secs_f64(),
        (before + total).as_secs_f64()
    ));
    if arguments.once {
        return Ok(());
    }
    line(&format!(
        "\nIt keeps running until Ctrl-C. In another shell:\n\n  export KUBECONFIG={}\n{}\n  tail -f {}\n",
        plane.kubeconfig_path().display(),
        world.hints(operator),
        log.display()
    ));
    loop {
        running.0.check()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The operator's process, stopped as Kubernetes would stop it.
struct Running(Supervised);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop(GRACE);
    }
}
