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

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Cluster(arguments) => commands::cluster::run(arguments).await,
        Command::ControlPlane(arguments) => commands::control_plane::run(arguments).await,
        Command::Images(arguments) => commands::images::run_images(arguments).await,
        Command::Tools(arguments) => commands::images::run_tools(arguments).await,
        #[cfg(feature = "dynamodb")]
        Command::Up(arguments) => commands::up::run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            testkit::progress::line(&format!("testkit: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
