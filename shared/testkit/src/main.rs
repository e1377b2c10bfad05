//! The test bed as a program: servers and clusters for tests, for `cargo xtask up` and for people.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The test bed.
#[derive(Debug, Parser)]
#[command(name = "testkit", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cluster(commands::cluster::Arguments),
    ControlPlane(commands::control_plane::Arguments),
    Images(commands::images::ImagesArguments),
    Tools(commands::images::ToolsArguments),
    #[cfg(feature = "dynamodb")]
    Up(commands::up::Arguments),
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = runtime.block_on(run(command));
    // A compiler that still runs for somebody who is gone is not waited for: it ends with this process.
    runtime.shutdown_background();
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Cluster(arguments) => commands::cluster::run(arguments).await,
        Command::ControlPlane(arguments) => commands::control_plane::run(arguments).await,
        Command::Images(arguments) => commands::images::run_images(arguments).await,
        Command::Tools(arguments) => commands::images::run_tools(arguments).await,
        #[cfg(feature = "dynamodb")]
        Command::Up(arguments) => commands::up::run(arguments).await,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    testkit::progress::line(&format!("testkit: {error:#}"));
    ExitCode::FAILURE
}
