//! The subcommands of the test bed's binary, a file each.

mod caller;
pub(crate) mod cluster;
pub(crate) mod control_plane;
pub(crate) mod images;
#[cfg(feature = "dynamodb")]
pub(crate) mod up;

use std::{fmt::Display, io::Write};

use anyhow::Context;

/// Prints one item a line to standard output.
fn print_lines<T: Display>(items: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    for item in items {
        writeln!(output, "{item}").context("cannot write to standard output")?;
    }
    output.flush().context("cannot write to standard output")
}
