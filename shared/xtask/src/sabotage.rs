//! `cargo xtask test --sabotage`: the suites must notice every mistake that the product can be told to make.
//!
//! A package that has sabotages has a cargo feature `sabotage`, and asks `sabotage::active(…)` at the place that keeps
//! a promise: with the name itself, or with a constant of its file `sabotage.rs`. The names are read from there, so
//! that none can be forgotten here. Its file `tests/sabotages.txt` says which test is there to notice which.
//!
//! # What counts as noticed
//! A test that fails with the mistake and passes without it, run by itself at once afterwards. Of a mistake that names its
//! test no other is run. For one that names none a test is searched for in all suites: one that fails both times has
//! another reason, is passed over, and the search goes on.

mod search;
mod source;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::{
    search::{Search, Verdict},
    source::{BESIDE_THE_CODE, Mistake, Witness},
};
use crate::{
    build::{TestBinary, TestKind},
    stage::seconds,
    suite::{Failed, Run, Tally, What},
    workspace::Metadata,
};

/// The variable that tells a product which mistake to make.
const VARIABLE: &str = "TESTKIT_SABOTAGE";

/// How long is searched for a test that notices one mistake.
const LIMIT: Duration = Duration::from_mins(10);

/// How many mistakes are tried at the same time: their tests wait for servers most of the time.
const AT_ONCE: usize = 2;

/// Tries each sabotage whose name contains `wanted`. One that is noticed counts as passed, one that is not as failed.
/// Fails if there are no such sabotages at all.
pub(crate) fn run(wanted: &str, binaries: &[&TestBinary], run: &Run) -> Result<Tally> {
    let mut mistakes = source::mistakes(&Metadata::read()?)?;
    mistakes.retain(|name, _| name.contains(wanted));
    if mistakes.is_empty() {
        bail!("no package with the feature `sabotage` asks by `sabotage::active(…)` for one like `{wanted}`");
    }
    let trials = trials(&mistakes, binaries, run)?;
    let mut tally = Tally::default();
    for ((name, mistake), (verdict, _)) in mistakes.iter().zip(&trials) {
        if matches!(verdict, Verdict::Noticed(_)) {
            tally.passed += 1;
        } else {
            tally.failed.push(Failed {
                suite: mistake.package.clone(),
                what: What::Test(format!("the sabotage {name} is not noticed: {verdict}")),
            });
        }
    }
    let width = mistakes.keys().map(String::len).max().unwrap_or_default();
    eprintln!();
    for ((name, _), (verdict, took)) in mistakes.iter().zip(&trials) {
        eprintln!("{name:<width$}  {:>10}  {verdict}", seconds(*took));
    }
    eprintln!("\n{} sabotages, {} noticed", mistakes.len(), tally.passed);
    Ok(tally)
}

/// Tries them all, some at a time, and says so as they end; the verdicts are in the order of the mistakes.
fn trials(
    mistakes: &BTreeMap<String, Mistake>,
    binaries: &[&TestBinary],
    run: &Run,
) -> Result<Vec<(Verdict, Duration)>> {
    let waiting = Mutex::new(mistakes.iter().enumerate());
    let done = Mutex::new(BTreeMap::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((number, (name, mistake))) = next() {
            let started = Instant::now();
            let verdict = trial(name, mistake, binaries, run)?;
            let took = started.elapsed();
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!(
                "sabotage {} of {}: {name}  {}  {verdict}",
                done.len() + 1,
                mistakes.len(),
                seconds(took)
            );
            done.insert(number, (verdict, took));
        }
        Ok::<_, anyhow::Error>(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(done.into_values().collect())
}

/// Makes one mistake and looks who notices.
fn trial(name: &str, mistake: &Mistake, binaries: &[&TestBinary], run: &Run) -> Result<Verdict> {
    let mut with_it = Run {
        quiet: true,
        stop_at_failure: true,
        ..run.clone()
    };
    with_it.environment.push((VARIABLE.to_owned(), name.to_owned()));
    let mut without = Run {
        quiet: true,
        ..run.clone()
    };
    let asked = match &mistake.witness {
        Some(witness) => {
            with_it.arguments.insert(0, witness.test.clone());
            without.arguments.insert(0, witness.test.clone());
            vec![suite(binaries, &mistake.package, witness)?]
        }
        None => in_order(binaries, &mistake.package),
    };
    let search = Search {
        with_it,
        without,
        deadline: Instant::now() + LIMIT,
    };
    search.among(&asked)
}

/// The binary in which the witness is.
fn suite<'a>(binaries: &[&'a TestBinary], package: &str, witness: &Witness) -> Result<&'a TestBinary> {
    let is_it = |binary: &TestBinary| {
        let kind = if witness.suite == BESIDE_THE_CODE {
            // Programs have unit tests as well, and other names.
            binary.kind == TestKind::Unit && binary.target == package.replace('-', "_")
        } else {
            binary.kind == TestKind::Integration && binary.target == witness.suite
        };
        kind && binary.package == package
    };
    match binaries.iter().find(|binary| is_it(binary)) {
        Some(binary) => Ok(binary),
        None => bail!(
            "{package} has no suite `{}` at these levels: mend its tests/sabotages.txt, or raise --level",
            witness.suite
        ),
    }
}

/// The binaries, the likeliest to notice a mistake of `package` first: its own, and those in `tests/` before those
/// beside the code.
fn in_order<'a>(binaries: &[&'a TestBinary], package: &str) -> Vec<&'a TestBinary> {
    let mut order = binaries.to_vec();
    order.sort_by_key(|binary| (binary.package != package, std::cmp::Reverse(binary.kind)));
    order
}
