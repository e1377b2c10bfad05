//! `cargo xtask test`: builds once, starts one control plane and one cluster, runs the levels and sums up.
//!
//! | level | tests | what they need |
//! |---|---|---|
//! | 0 | beside the code, and the examples in its documentation | nothing |
//! | 1 | in `tests/` | the control plane, DynamoDB (embedded, and DynamoDB Local as second opinion) |
//! | 2 | in files `tests/process*.rs` | the shipped programs as processes |
//! | 3 | named `smoke_…` | a cluster with nodes in containers |
//!
//! Of level 3 runs what an operator does as a pod, one test for each; with `--smokes` all, as in CI.
//!
//! A test that takes minutes is `#[ignore = "takes …"]`d and runs with `--full` only, which also makes loops longer.

mod second;
mod smoke;

use std::time::Duration;

use anyhow::{Result, bail};

use self::smoke::{Smokes, Which};
use crate::{
    build::{self, Artifacts, TestBinary, TestKind},
    images, prerequisites, sabotage, servers,
    stage::Stages,
    suite::{Failed, Run, Tally},
    workspace,
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this, and all tests of a package or suite whose name does, as
    /// `dynamodb-controller/engine` (examples in the documentation are then left out)
    filter: Option<String>,
    /// The highest level to run, 0 to 3
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=3))]
    level: u8,
    /// All tests on a real cluster, and not only one for each operator; whoever gives a filter gets all that it matches
    #[arg(long)]
    smokes: bool,
    /// The tests that take minutes, too, and longer loops: more seeds, more schedules, bigger clusters
    #[arg(long)]
    full: bool,
    /// Let pods run the images that ship, and make those first; without a filter, --full does so, too
    #[arg(long, conflicts_with = "sabotage")]
    shipped: bool,
    /// Instead make each of the product's named mistakes (or those whose name contains NAME), and fail unless a test
    /// notices it that passes without
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "filter")]
    sabotage: Option<String>,
}

/// How many binaries of level 1 run at the same time. Their tests wait for servers most of the time, and each binary
/// runs as many of its own at once as the machine has cores.
const LEVEL_1_AT_ONCE: usize = 2;

/// How many tests of one binary of level 1 run at the same time, for the same reason.
const TESTS_AT_ONCE: &str = "4";

/// The suites of level 1 that take longest, in this order. Begun first they do not run alone at the end.
const LONGEST: &[&str] = &[
    "mysql-controller/database",
    "mysql-ec2/operator",
    "mysql-controller/simulation",
    "docker-controller/faults",
    "dynamodb-controller/job",
    "dynamodb-controller/faults",
];

/// Runs what the arguments select. Fails if a test fails, after all of them have run.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    let outcome = all_stages(args, &mut stages);
    eprintln!("\n{}", stages.summary());
    outcome?;
    if !stages.unsteady().is_empty() {
        eprintln!(
            "\n{} failed beside others and passed alone; what is wrong is still to be found:\n  {}",
            stages.unsteady().len(),
            lines(stages.unsteady())
        );
    }
    let failures = stages.failures();
    if !failures.is_empty() {
        bail!("{} failed:\n  {}", failures.len(), lines(&failures));
    }
    if stages.passed() == 0 {
        let hint = if args.full {
            ""
        } else {
            " (those that take minutes run with --full)"
        };
        bail!(
            "no test matches `{}`{hint}",
            args.filter.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

fn lines(failed: &[Failed]) -> String {
    let lines: Vec<_> = failed.iter().map(ToString::to_string).collect();
    lines.join("\n  ")
}

fn all_stages(args: &Args, stages: &mut Stages) -> Result<()> {
    stages.step("prerequisites", || {
        prerequisites::ensure(&prerequisites::COMPILER)?;
        prerequisites::ensure(if args.level > 0 && args.sabotage.is_none() {
            &prerequisites::DYNAMODB_LOCAL
        } else {
            &[]
        })
    })?;
    let artifacts = stages.step("build", build::everything)?;
    let mut run = Run {
        filter: args.filter.clone(),
        arguments: ["--skip", smoke::PREFIX]
            .into_iter()
            .chain(args.full.then_some("--include-ignored"))
            .map(str::to_owned)
            .collect(),
        environment: environment(args),
        limit: Duration::from_secs(if args.full { 4 * 3600 } else { 3600 }),
        ..Run::default()
    };
    if let Some(name) = &args.sabotage {
        return sabotages(args, name, &artifacts, run, stages);
    }
    stages.tests("level 0: unit tests", || run.all(at_level(&artifacts, 0)))?;
    if args.filter.is_none() {
        stages.tests("level 0: documentation", || documentation(&run))?;
    }
    // Held until the end of the run: dropping it stops the servers.
    let mut _control_plane = None;
    if args.level > 0 {
        let started = control_plane(&artifacts, stages)?;
        run.environment.extend(started.environment.iter().cloned());
        _control_plane = Some(started);
    }
    let smokes = if args.level > 2 {
        let which = match args.filter.as_deref() {
            None if !args.smokes && !args.full => Which::OfEachOperator,
            filter => Which::Matching(filter),
        };
        Smokes::among(&artifacts, which, args.full)?
    } else {
        Smokes::default()
    };
    let cluster = smokes.begin_cluster(&artifacts, args.filter.is_none())?;
    if args.level > 0 {
        let mut several = Run {
            at_once: LEVEL_1_AT_ONCE,
            ..run.clone()
        };
        several
            .environment
            .push(("RUST_TEST_THREADS".to_owned(), TESTS_AT_ONCE.to_owned()));
        let binaries = longest_first(at_level(&artifacts, 1));
        stages.tests("level 1: one controller", || several.all(binaries))?;
    }
    if args.level > 1 {
        stages.tests("level 2: processes", || run.all(at_level(&artifacts, 2)))?;
    }
    let mut _cluster = None;
    if let Some(begun) = cluster {
        let cluster = stages.step("cluster", || begun.ready())?;
        if args.shipped || (args.full && args.filter.is_none()) {
            run.environment.push(stages.step("images", images::shipped)?);
        }
        stages.tests("level 3: smoke", || smokes.run(&run, &cluster))?;
        run.environment.extend(cluster.environment.iter().cloned());
        _cluster = Some(cluster);
    }
    // Who asks for some tests watches them fail.
    if args.filter.is_none() {
        second::look(&artifacts, &run, stages)?;
    }
    Ok(())
}

/// Instead of the tests. Each mistake is held against the state without it, so nothing has to be run before.
fn sabotages(
    args: &Args,
    name: &str,
    artifacts: &Artifacts,
    mut run: Run,
    stages: &mut Stages,
) -> Result<()> {
    let mut _control_plane = None;
    if args.level > 0 {
        let started = control_plane(artifacts, stages)?;
        run.environment.extend(started.environment.iter().cloned());
        _control_plane = Some(started);
    }
    let binaries: Vec<_> = (0..=args.level.min(2))
        .flat_map(|level| at_level(artifacts, level))
        .collect();
    stages.tests("sabotages", || sabotage::run(name, &binaries, &run))
}

/// Starts what all tests of a run share; dropping it stops the servers.
fn control_plane(artifacts: &Artifacts, stages: &mut Stages) -> Result<servers::Shared> {
    let testkit = artifacts.program("testkit")?;
    stages.step("control plane", || servers::Shared::control_plane(testkit))
}

/// What every test finds in its environment.
fn environment(args: &Args) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    // A mistake is noticed on one server as well as on two.
    if args.level > 0 && args.sabotage.is_none() {
        environment.push(("TESTKIT_DYNAMODB_LOCAL".to_owned(), "1".to_owned()));
    }
    if args.full {
        environment.push(("TESTKIT_FULL".to_owned(), "1".to_owned()));
    }
    // Nor do as many seeds have to be drawn to notice one as to trust that there is none.
    if args.sabotage.is_some() {
        environment.push(("SCHEDULES".to_owned(), "50".to_owned()));
        // And what a mistake of ours makes fail is no regression to be kept beside the sources.
        environment.push(("PROPTEST_DISABLE_FAILURE_PERSISTENCE".to_owned(), "1".to_owned()));
    }
    environment
}

/// The binaries whose tests are of `level`; those of level 3 are picked by name from all of them.
fn at_level(artifacts: &Artifacts, level: u8) -> impl Iterator<Item = &TestBinary> {
    artifacts
        .tests
        .iter()
        .filter(move |binary| level_of(binary) == level)
}

/// What takes longest first, and all else as it came.
fn longest_first<'a>(binaries: impl Iterator<Item = &'a TestBinary>) -> Vec<&'a TestBinary> {
    let mut binaries: Vec<_> = binaries.collect();
    binaries.sort_by_key(|binary| {
        let place = LONGEST.iter().position(|suite| *suite == binary.label());
        place.unwrap_or(LONGEST.len())
    });
    binaries
}

fn level_of(binary: &TestBinary) -> u8 {
    match binary.kind {
        TestKind::Unit => 0,
        TestKind::Integration if binary.target.starts_with("process") => 2,
        TestKind::Integration => 1,
    }
}

fn documentation(run: &Run) -> Result<Tally> {
    let mut command = workspace::cargo("test");
    command
        .args(workspace::SELECTION)
        .args(["--quiet", "--doc", "--no-fail-fast"]);
    command.envs(run.environment.iter().cloned());
    run.one("documentation", &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(kind: TestKind, target: &str) -> TestBinary {
        let package = "package".to_owned();
        let target = target.to_owned();
        TestBinary {
            package,
            kind,
            target,
            folder: ".".into(),
            executable: "/bin/false".into(),
        }
    }

    #[test]
    fn what_takes_longest_is_begun_first() {
        let mut all = ["job", "database", "leader"].map(|target| binary(TestKind::Integration, target));
        for (binary, package) in all
            .iter_mut()
            .zip(["dynamodb-controller", "mysql-controller", "reconcile"])
        {
            package.clone_into(&mut binary.package);
        }
        let order: Vec<_> = longest_first(all.iter())
            .into_iter()
            .map(|binary| binary.target.as_str())
            .collect();
        assert_eq!(order, ["database", "job", "leader"]);
    }

    #[test]
    fn the_level_of_a_test_is_where_it_is_written() {
        assert_eq!(level_of(&binary(TestKind::Unit, "process")), 0);
        assert_eq!(level_of(&binary(TestKind::Integration, "engine")), 1);
        assert_eq!(level_of(&binary(TestKind::Integration, "process_restart")), 2);
    }
}
