//! `cargo xtask up`: builds the programs and hands over to `testkit up`, which shows an operator at work.

use std::{os::unix::process::CommandExt, process::Command, time::Instant};

use anyhow::{Context, Result, anyhow};

use crate::{build, prerequisites, workspace};

/// The operators that can be shown, with the package of each one's program. What each does there stands in the test
/// bed.
pub(crate) const OPERATORS: [(&str, &str); 1] = [("dynamodb", "dynamodb-controller")];

/// Arguments of `cargo xtask up`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The operator to run
    #[arg(default_value = "dynamodb")]
    operator: String,
    /// End when the main job is done, instead of staying until Ctrl-C
    #[arg(long, visible_alias = "exit")]
    once: bool,
    /// Items in the partition that the main job deletes
    #[arg(long, default_value_t = 100_000)]
    items: u32,
}

/// Builds, then becomes `testkit up`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let (_, package) = OPERATORS
        .iter()
        .find(|(name, _)| *name == args.operator)
        .with_context(|| {
            let names: Vec<_> = OPERATORS.iter().map(|(name, _)| *name).collect();
            format!(
                "there is no operator {} to show; there are: {}",
                args.operator,
                names.join(", ")
            )
        })?;
    prerequisites::ensure(&prerequisites::COMPILER)?;
    eprintln!("building the operator and the test bed …");
    let artifacts = build::programs(Some(package))?;
    let testkit = artifacts.program("testkit")?;
    let mut command = Command::new(testkit);
    command.arg("up").arg(&args.operator);
    command.arg("--project").arg(workspace::root());
    command
        .arg("--programs")
        .arg(testkit.parent().context("the test bed's program has no folder")?);
    command.arg("--items").arg(args.items.to_string());
    command
        .arg("--build-seconds")
        .arg(started.elapsed().as_secs().to_string());
    if args.once {
        command.arg("--once");
    }
    Err(anyhow!(command.exec()).context("cannot start `testkit up`"))
}
