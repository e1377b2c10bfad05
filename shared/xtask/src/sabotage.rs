//! `cargo xtask test --sabotage`: the suites must notice every mistake that the product can be told to make.
//!
//! A package that has sabotages has a cargo feature `sabotage`, and asks `sabotage::active(…)` at the place that keeps
//! a promise: with the name itself, or with a constant of its file `sabotage.rs`. The names are read from there, so
//! that none can be forgotten here.
//!
//! # What counts as noticed
//! A test that fails with the mistake and passes without it, run by itself at once afterwards. A test that fails both
//! times has another reason, is passed over, and the search goes on.

mod search;
mod source;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::search::{Search, Verdict};
use crate::{build::TestBinary, stage::seconds, suite::Run, workspace::Metadata};

/// The variable that tells a product which mistake to make.
const VARIABLE: &str = "TESTKIT_SABOTAGE";

/// How long is searched for a test that notices one mistake.
const LIMIT: Duration = Duration::from_mins(10);

/// Searches for each sabotage whose name contains `wanted` a test that notices it. Fails if one has none, or if there
/// are no such sabotages at all.
pub(crate) fn run(wanted: &str, binaries: &[&TestBinary], run: &Run) -> Result<()> {
    let mut mistakes = source::mistakes(&Metadata::read()?)?;
    mistakes.retain(|name, _| name.contains(wanted));
    if mistakes.is_empty() {
        bail!("no package with the feature `sabotage` asks by `sabotage::active(…)` for one like `{wanted}`");
    }
    let width = mistakes.keys().map(String::len).max().unwrap_or_default();
    let mut unnoticed = Vec::new();
    let mut table = Vec::new();
    for (name, package) in &mistakes {
        let started = Instant::now();
        let mut with_it = Run {
            quiet: true,
            stop_at_failure: true,
            ..run.clone()
        };
        with_it.environment.push((VARIABLE.to_owned(), name.clone()));
        let without = Run {
            quiet: true,
            ..run.clone()
        };
        let search = Search {
            with_it,
            without,
            deadline: started + LIMIT,
        };
        let verdict = search.among(&in_order(binaries, package))?;
        let line = format!("{name:<width$}  {:>10}  {verdict}", seconds(started.elapsed()));
        eprintln!("sabotage {line}");
        if !matches!(verdict, Verdict::Noticed(_)) {
            unnoticed.push(name.as_str());
        }
        table.push(line);
    }
    let noticed = mistakes.len() - unnoticed.len();
    eprintln!(
        "\n{}\n\n{} sabotages, {noticed} noticed",
        table.join("\n"),
        mistakes.len()
    );
    if !unnoticed.is_empty() {
        bail!("not noticed by any test: {}", unnoticed.join(", "));
    }
    Ok(())
}

/// The binaries, the likeliest to notice a mistake of `package` first: its own, and those in `tests/` before those
/// beside the code.
fn in_order<'a>(binaries: &[&'a TestBinary], package: &str) -> Vec<&'a TestBinary> {
    let mut order = binaries.to_vec();
    order.sort_by_key(|binary| (binary.package != package, std::cmp::Reverse(binary.kind)));
    order
}
