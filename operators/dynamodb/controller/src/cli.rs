//! The command line.
//!
//! Exit codes: 0 when what was asked for is done; 1 when it failed; 2 when the command line was wrong (clap's own);
//! 3 when a deletion was interrupted or declined with items possibly left; 130 on a second interrupt.
//!
//! Results go to standard output; questions, progress and errors to standard error.

mod delete;
mod place;
mod progress;
mod wording;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

pub use delete::DeleteArgs;

use crate::manager::{self, ManagerArgs};

/// Deletes one partition of a DynamoDB table: as an operator, or at once.
#[derive(Debug, Parser)]
#[command(name = "dynamoctl", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delete all items of one partition of a table, now, and prove that none is left.
    DeletePartition(Box<DeleteArgs>),
    /// Run the operator for DdbctlDpJob resources.
    Manager(Box<ManagerArgs>),
}

/// The arguments of this process: called as `manager`, as the container image does, it is the operator.
pub fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = given.collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    let subcommand = "manager";
    if called.is_some_and(|name| name == subcommand)
        && arguments.get(1).is_none_or(|first| first != subcommand)
    {
        arguments.insert(1, subcommand.into());
    }
    arguments
}

/// Parses `arguments` and does what they ask for.
pub async fn run(arguments: Vec<OsString>) -> ExitCode {
    let Cli { command } = match reconcile::cli::parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match command {
        Command::Manager(args) => match manager::run(*args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Command::DeletePartition(args) => match delete::run(*args).await {
            Ok(code) => code,
            Err(error) => fail(&error),
        },
    }
}

/// Says on standard error what failed, and why.
#[expect(clippy::print_stderr, reason = "the command line talks to people")]
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        reconcile::cli::parse_from(arguments(line.split_whitespace().map(OsString::from)))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_originals_flags_are_accepted() {
        let line = "dynamoctl delete-partition -t Orders -p tenant -e http://localhost:8000 -r eu-west-1 -s";
        let Command::DeletePartition(short) = parse(line).unwrap().command else {
            panic!("another command")
        };
        let line = "dynamoctl delete-partition --table-name Orders --partition-value tenant \
                    --endpoint-url http://localhost:8000 --region eu-west-1 --skip-confirmation";
        let Command::DeletePartition(long) = parse(line).unwrap().command else {
            panic!("another command")
        };
        assert_eq!(format!("{short:?}"), format!("{long:?}"));
        assert!(
            parse("dynamoctl delete-partition -t Orders").is_err(),
            "a partition must be named"
        );
    }

    #[test]
    fn a_partition_may_be_a_negative_number_and_is_no_flag() {
        let partition = |given: &str| {
            let line = format!("dynamoctl delete-partition -t Readings {given} --dry-run");
            parse(&line).map(|cli| match cli.command {
                Command::DeletePartition(args) => args.partition().to_owned(),
                Command::Manager(_) => panic!("another command"),
            })
        };
        for (given, value) in [
            ("-p -5", "-5"),
            ("--partition -5.25", "-5.25"),
            ("--partition-value -1e10", "-1e10"),
            ("--partition=-table", "-table"),
        ] {
            assert_eq!(partition(given).unwrap(), value, "{given}");
        }
        // Somebody has forgotten the value.
        assert!(partition("--partition --yes").is_err());
    }

    #[test]
    fn called_as_manager_it_is_the_operator() {
        for line in [
            "/manager --leader-elect -zap-log-level=debug",
            "manager manager",
            "dynamoctl manager",
        ] {
            assert!(
                matches!(parse(line).unwrap().command, Command::Manager(_)),
                "{line}"
            );
        }
        assert!(parse("dynamoctl").is_err(), "help, for people");
    }
}
