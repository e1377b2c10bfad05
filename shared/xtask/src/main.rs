//! The project's own commands: `cargo xtask --help`.
//!
//! This program stays small, so that it compiles in seconds: it knows the kinds (to write their CRDs) and how to
//! build, and starts the `testkit` binary for everything that needs a server.
#![expect(
    clippy::print_stderr,
    reason = "a command line tells its progress to the person who runs it"
)]

mod bench;
mod build;
mod charts;
mod cluster;
mod crds;
mod docs;
mod images;
mod prerequisites;
mod release;
mod sabotage;
mod servers;
mod stage;
mod suite;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the CRDs under crds/ from the types
    Crds(crds::Args),
    /// Write the Helm charts under charts/ from their sources, the types and the operators' rules
    Charts(charts::Args),
    /// Write the reference of the API under docs/api/ from the types
    Docs(docs::Args),
    /// Run an operator on a real control plane and let it do its main job
    Up(up::Args),
    /// Run the tests: levels 0 to 2 and a smoke of level 3
    Test(test::Args),
    /// Run benchmarks; raw samples go to target/bench
    Bench(bench::Args),
    /// Write the Cluster API provider as the local repository from which clusterctl installs it
    Release(release::Args),
    /// Make the operators' images from static programs; nothing is pulled
    Images(images::Args),
    /// Create, list and delete real clusters in containers (see `cargo xtask cluster --help`)
    #[command(disable_help_flag = true)]
    Cluster(cluster::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Crds(args) => crds::run(&args),
        Task::Charts(args) => charts::run(&args),
        Task::Docs(args) => docs::run(&args),
        Task::Up(args) => up::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Release(args) => release::run(&args),
        Task::Images(args) => images::run(&args),
        Task::Cluster(args) => cluster::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
