//! `cargo xtask up`: builds the programs and hands over to `testkit up`, which shows the operators at work.

use std::{os::unix::process::CommandExt, process::Command, time::Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{build, prerequisites, workspace};

/// The operators that can be shown, in the order in which they are, with the packages of what runs for each. What each
/// does there stands in the test bed.
pub(crate) const OPERATORS: [(&str, &[&str]); 4] = [
    ("dynamodb", &["dynamodb-controller"]),
    ("mysql", &["mysql-ec2", "fake-ec2"]),
    ("docker", &["docker-controller"]),
    ("mysql-in-cluster", &["mysql-ec2"]),
];

/// Arguments of `cargo xtask up`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The operators to show, one after another: dynamodb, mysql, docker, mysql-in-cluster [default: all of them]
    #[arg(value_name = "OPERATOR")]
    operators: Vec<String>,
    /// End when the main jobs are done, instead of staying until Ctrl-C
    #[arg(long, visible_alias = "exit")]
    once: bool,
    /// Items in the partition that DynamoDB's job deletes
    #[arg(long, default_value_t = 100_000)]
    items: u32,
    /// Build the programs of these operators, and nothing else
    #[arg(long, hide = true)]
    build_only: bool,
}

/// Builds the first operator, then becomes `testkit up`, which has the others built meanwhile.
pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let packages = args.operators.iter().map(|name| packages(name));
    let packages = packages.collect::<Result<Vec<_>>>()?;
    prerequisites::ensure(&prerequisites::COMPILER)?;
    if args.build_only {
        return build::programs(&packages.concat()).map(drop);
    }
    let (first, first_packages) = OPERATORS[0];
    let first = args.operators.first().map_or(first, String::as_str);
    eprintln!("building the operator {first} and the test bed …");
    let artifacts = build::programs(packages.first().unwrap_or(&first_packages))?;
    let testkit = artifacts.program("testkit")?;
    let mut command = Command::new(testkit);
    command.arg("up").args(&args.operators);
    command.arg("--project").arg(workspace::root());
    command
        .arg("--programs")
        .arg(testkit.parent().context("the test bed's program has no folder")?);
    command.arg("--items").arg(args.items.to_string());
    command
        .arg("--build-seconds")
        .arg(started.elapsed().as_secs().to_string());
    command.arg("--builder").arg(artifacts.program("xtask")?);
    if args.once {
        command.arg("--once");
    }
    Err(anyhow!(command.exec()).context("cannot start `testkit up`"))
}

fn packages(operator: &str) -> Result<&'static [&'static str]> {
    let found = OPERATORS.iter().find(|(name, _)| *name == operator);
    ensure!(
        found.is_some(),
        "there is no operator {operator} to show; there are: {}",
        OPERATORS.map(|(name, _)| name).join(", ")
    );
    Ok(found.map_or(&[], |(_, packages)| packages))
}
