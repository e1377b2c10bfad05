//! `cargo xtask cluster …`: builds the test bed and hands over to `testkit cluster` with the same arguments.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use anyhow::{Result, anyhow};

use crate::build;

/// Arguments of `cargo xtask cluster`: passed on as they are.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds, then becomes `testkit cluster`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let artifacts = build::programs(&[])?;
    let mut command = Command::new(artifacts.program("testkit")?);
    command.arg("cluster").args(&args.arguments);
    Err(anyhow!(command.exec()).context("cannot start `testkit cluster`"))
}
