//! `testkit up`: the operators at their main jobs, on a control plane and backends of this machine.
//!
//! # Guarantees
//! - The outcome of each is checked by a client of our own, not believed from the status.
//! - Whatever was started ends with this process, however it ends, and leaves no folder, container or network behind.

mod builds;
mod docker;
mod dynamodb;
mod mysql;
mod mysql_in_cluster;
mod operator;
mod progress;
mod session;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use reconcile::manager::shutdown_signal;
use testkit::{
    control_plane::{ControlPlane, Options},
    process::Supervised,
    progress::line,
};

use self::{builds::Builds, operator::Operator, session::Session, world::World};

/// Starts a control plane, and then one operator after another beside a backend; applies an example of each and shows
/// the progress until it is done. Then all of it stays until Ctrl-C, for you to try more.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which operators, in this order [default: all of them]
    #[arg(value_name = "OPERATOR")]
    operators: Vec<String>,
    /// The project's folder, with crds/ and examples/
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    project: PathBuf,
    /// The folder of the operators' programs
    #[arg(long, default_value = "target/debug", value_name = "FOLDER")]
    programs: PathBuf,
    /// Items in the partition that DynamoDB's example deletes
    #[arg(long, default_value_t = 100_000)]
    items: u64,
    /// End when the jobs are done
    #[arg(long, visible_alias = "exit")]
    once: bool,
    /// How long the build before took; counted into the total
    #[arg(long, default_value_t = 0, hide = true)]
    build_seconds: u64,
    /// Builds every operator but the first while others are shown, run as `PROGRAM up OPERATOR --build-only`
    #[arg(long, hide = true, value_name = "PROGRAM")]
    builder: Option<PathBuf>,
}

/// How long an operator may take to stop on request.
const GRACE: Duration = Duration::from_secs(15);

/// Runs the subcommand. Ends early and in order on SIGINT and SIGTERM, which is a failure only for somebody who waits
/// for the jobs' end. A second one ends it at once, with status 130.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // What was started ends with this process however that ends.
    let shutdown = shutdown_signal()?;
    let result = tokio::select! {
        result = show(&arguments) => Some(result),
        () = shutdown.cancelled() => None,
    };
    line("everything that was started has ended");
    match result {
        Some(result) => result,
        None if arguments.once => bail!("interrupted before the jobs had ended"),
        None => Ok(()),
    }
}

async fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let operators = Operator::called(&arguments.operators)?;
    let (first, others) = operators.split_first().context("there is no operator to show")?;
    // What cannot work is refused before anything is started.
    first.program(&arguments.programs)?;
    for operator in &operators {
        operator.crds(&arguments.project)?;
        operator.example(&arguments.project)?;
    }
    let session = Session::prepare(arguments)?;
    let mut builds = Builds::start(&session, others)?;
    let (plane, world) = tokio::try_join!(
        async {
            ControlPlane::start(Options::default())
                .await
                .context("no control plane")
        },
        World::start(first, &session),
    )?;
    let mut shown = Vec::new();
    let ready = Instant::now();
    shown.extend(Shown::of(first, world, &plane, &session).await?);
    line(&format!(
        "build {} s, servers and data {:.1} s, operator and job {:.1} s: first resource ready after {:.1} s",
        arguments.build_seconds,
        (ready - started).as_secs_f64(),
        ready.elapsed().as_secs_f64(),
        (Duration::from_secs(arguments.build_seconds) + started.elapsed()).as_secs_f64()
    ));
    for operator in others {
        builds.wait_for(operator).await?;
        let started = Instant::now();
        let world = World::start(operator, &session).await?;
        if let Some(done) = Shown::of(operator, world, &plane, &session).await? {
            shown.push(done);
            line(&format!(
                "{}: after {:.1} s",
                operator.name,
                started.elapsed().as_secs_f64()
            ));
        }
    }
    if arguments.once {
        return Ok(());
    }
    let hints: Vec<_> = shown.iter().map(|done| done.hints.as_str()).collect();
    line(&format!(
        "\nIt keeps running until Ctrl-C. In another shell:\n\n  export KUBECONFIG={}\n{}\n",
        plane.kubeconfig_path().display(),
        hints.join("\n")
    ));
    loop {
        for done in &mut shown {
            done.running.0.check()?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// An operator that has done its job and runs on, beside its backend. It ends before the backend does.
struct Shown {
    running: Running,
    hints: String,
    _world: World,
}

impl Shown {
    /// Starts the operator and applies its example; returns once that is ready. `None` where this machine has not what
    /// it takes, which was said when `world` was to be started.
    async fn of(
        operator: &Operator,
        world: Option<World>,
        plane: &ControlPlane,
        session: &Session,
    ) -> anyhow::Result<Option<Self>> {
        let Some(mut world) = world else {
            return Ok(None);
        };
        let crds = operator.crds(&session.project)?;
        world.join(plane, &crds).await?;
        let program = operator.program(&session.programs)?;
        let log = session.log(operator.name);
        let (client, kubeconfig) = world.site(plane);
        let command = operator.command(&program, kubeconfig, world.settings());
        let mut running = Running(Supervised::spawn(operator.program, &command, &log)?);
        let objects = world.adapted(operator.example(&session.project)?)?;
        line(&format!(
            "\napplying {}: {}\n",
            operator.example,
            world.describe()
        ));
        let target = operator::apply(&client, world.namespace(), operator.target, &objects).await?;
        let outcome = progress::follow(&client, &target, world.goal(), || {
            running.0.check().map_err(Into::into)
        })
        .await;
        outcome.with_context(|| session.last_words(operator.name))?;
        let verified = world.verify(&client, &target).await;
        line(&format!(
            "\n{}",
            verified.with_context(|| session.last_words(operator.name))?
        ));
        let hints = format!("\n{}\n  tail -f {}", world.hints(operator), log.display());
        Ok(Some(Self {
            running,
            hints,
            _world: world,
        }))
    }
}

/// An operator's process, stopped as Kubernetes would stop it.
struct Running(Supervised);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop(GRACE);
    }
}
