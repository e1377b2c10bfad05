//! Runs test binaries, shows what they print and counts.
//!
//! The binaries are started directly and not through `cargo test`, because a stage is a selection of them that
//! cargo has no flags for, and because several may run at once: most tests wait for servers rather than compute.
//! What a binary prints is shown in one piece when it has ended, unless it is the only one that runs.

mod transcript;

use std::{
    fmt,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::transcript::Transcript;
use crate::build::{TestBinary, TestKind};

/// The code with which the test harness ends when tests failed; any other means that not all have run.
const FAILURES: i32 = 101;

/// What the tests of one or more binaries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) ignored: u64,
    pub(crate) failed: Vec<Failed>,
}

/// A test that failed, or a binary that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The binary's label.
    pub(crate) suite: String,
    /// What failed in it.
    pub(crate) what: What,
}

/// What of a suite failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The test of this name.
    Test(String),
    /// All of it, for this reason: it was killed, or ended without a result.
    Suite(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (What::Test(what) | What::Suite(what)) = &self.what;
        write!(f, "{}: {what}", self.suite)
    }
}

/// How the binaries are run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Only tests whose name contains this; of a binary whose label contains it, all.
    pub(crate) filter: Option<String>,
    /// Arguments for the test harness: names, `--skip`.
    pub(crate) arguments: Vec<String>,
    /// Variables for the tests.
    pub(crate) environment: Vec<(String, String)>,
    /// Show nothing, only count.
    pub(crate) quiet: bool,
    /// Kill a binary as soon as one of its tests has failed.
    pub(crate) stop_at_failure: bool,
    /// When a binary counts as hung and is killed.
    pub(crate) limit: Duration,
    /// How many binaries run at the same time; 0 is as 1. Each is parallel in itself.
    pub(crate) at_once: usize,
}

impl Tally {
    /// Adds another tally to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.ignored += other.ignored;
        self.failed.extend(other.failed);
    }
}

impl Run {
    /// The same, of these tests alone. By their exact names, since the harness cannot combine filters.
    pub(crate) fn exactly(&self, names: impl IntoIterator<Item = String>) -> Self {
        let flags = ["--exact", "--include-ignored"].map(str::to_owned);
        Self {
            filter: None,
            arguments: flags.into_iter().chain(names).collect(),
            ..self.clone()
        }
    }

    /// Runs `binaries`, as many at a time as `at_once` says, the next when one ends.
    pub(crate) fn all<'a>(
        &self,
        binaries: impl IntoIterator<Item = &'a TestBinary, IntoIter: Send>,
    ) -> Result<Tally> {
        self.each(binaries, |binary| self.binary(binary))
    }

    /// Does `one` with each of `all`, with as many at a time as `at_once` says, the next when one ends.
    pub(crate) fn each<T>(
        &self,
        all: impl IntoIterator<Item = T, IntoIter: Send>,
        one: impl Fn(T) -> Result<Tally> + Sync,
    ) -> Result<Tally> {
        let waiting = Mutex::new(all.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let mut total = Tally::default();
            while let Some(item) = next() {
                total.add(one(item)?);
            }
            Ok::<_, anyhow::Error>(total)
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.at_once.max(1)).map(|_| scope.spawn(work)).collect();
            let mut total = Tally::default();
            for worker in workers {
                match worker.join() {
                    Ok(tally) => total.add(tally?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(total)
        })
    }

    /// Runs one binary.
    pub(crate) fn binary(&self, binary: &TestBinary) -> Result<Tally> {
        let mut command = Command::new(&binary.executable);
        command
            .current_dir(&binary.folder)
            .env("CARGO_MANIFEST_DIR", &binary.folder)
            .env("CARGO_PKG_NAME", &binary.package)
            .args(binary.among_its_tests(self.filter.as_deref()))
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        self.one(&binary.label(), &mut command)
    }

    /// Runs one command that prints what the test harness prints.
    pub(crate) fn one(&self, label: &str, command: &mut Command) -> Result<Tally> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        if self.quiet {
            command.stderr(Stdio::null());
        }
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the tests of {label}"))?;
        let mut transcript = Transcript::new(label, self.quiet, self.at_once > 1);
        let end = self.listen(&mut child, &mut transcript)?;
        if end != End::Itself {
            child
                .kill()
                .with_context(|| format!("cannot kill the tests of {label}"))?;
        }
        let status = child.wait().context("cannot wait for a test binary")?;
        let mut tally = transcript.end(started.elapsed());
        let unfinished = match end {
            End::Late => Some(format!("killed, not finished after {} s", self.limit.as_secs())),
            End::Failure => None,
            End::Itself => (!status.success()
                && (tally.failed.is_empty() || status.code() != Some(FAILURES)))
            .then(|| format!("ended with {status}")),
        };
        tally.failed.extend(unfinished.map(|why| Failed {
            suite: label.to_owned(),
            what: What::Suite(why),
        }));
        Ok(tally)
    }

    /// Reads what `child` prints, until it ends or has to be killed.
    fn listen(&self, child: &mut Child, transcript: &mut Transcript<'_>) -> Result<End> {
        let output = child.stdout.take().context("a test binary has no output")?;
        let (sender, lines) = mpsc::channel();
        // Not joined: after a kill, whoever has inherited the pipe may keep it open.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + self.limit;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => transcript.take(&String::from_utf8_lossy(&line)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(End::Itself),
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(End::Late),
            }
            if self.stop_at_failure && transcript.has_failure() {
                return Ok(End::Failure);
            }
        }
    }
}

/// How a binary came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By itself.
    Itself,
    /// It is to be killed because one of its tests failed.
    Failure,
    /// It is to be killed because it takes too long.
    Late,
}

impl TestBinary {
    /// `package` for unit tests, `package/target` for those in `tests/`.
    pub(crate) fn label(&self) -> String {
        match self.kind {
            TestKind::Unit => self.package.clone(),
            TestKind::Integration => format!("{}/{}", self.package, self.target),
        }
    }

    /// What is left of `filter` for the names of this binary's tests: nothing where the binary itself is meant.
    pub(crate) fn among_its_tests<'a>(&self, filter: Option<&'a str>) -> Option<&'a str> {
        filter.filter(|filter| !self.label().contains(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: Duration) -> Run {
        // What these commands print must not be taken for a result of this very suite.
        Run {
            limit,
            quiet: true,
            ..Run::default()
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn results_of_the_harness_are_counted() {
        let script = "printf 'running 3 tests\\ntest a::b ... ok\\ntest a::c ... FAILED\\n\
                      test result: FAILED. 12 passed; 1 failed; 4 ignored; 0 measured; 9 filtered out\\n'; exit 101";
        let tally = run(Duration::from_mins(1))
            .one("crate", &mut shell(script))
            .unwrap();
        assert_eq!(
            tally,
            Tally {
                passed: 12,
                ignored: 4,
                failed: vec![Failed {
                    suite: "crate".to_owned(),
                    what: What::Test("a::c".to_owned())
                }]
            }
        );
    }

    #[test]
    fn a_filter_means_tests_by_their_names_and_all_tests_of_a_suite_that_is_called_so() {
        let binary = TestBinary {
            package: "dynamodb-controller".to_owned(),
            kind: TestKind::Integration,
            target: "engine".to_owned(),
            folder: ".".into(),
            executable: "/bin/false".into(),
        };
        assert_eq!(binary.among_its_tests(None), None);
        for filter in ["dynamodb", "engine", "dynamodb-controller/engine"] {
            assert_eq!(binary.among_its_tests(Some(filter)), None, "{filter}");
        }
        assert_eq!(binary.among_its_tests(Some("a_promise")), Some("a_promise"));
    }

    #[test]
    fn a_binary_that_dies_without_a_result_has_failed() {
        let tally = run(Duration::from_mins(1))
            .one("crate", &mut shell("kill -ABRT $$"))
            .unwrap();
        assert!(
            tally.failed[0]
                .to_string()
                .contains("crate: ended with signal: 6"),
            "{tally:?}"
        );
    }

    #[test]
    fn a_binary_that_hangs_is_killed_and_has_failed() {
        let tally = run(Duration::from_millis(50))
            .one("crate", &mut shell("exec sleep 600"))
            .unwrap();
        assert!(tally.failed[0].to_string().contains("not finished"), "{tally:?}");
    }

    #[test]
    fn a_binary_is_not_waited_for_once_a_test_has_failed() {
        let run = Run {
            stop_at_failure: true,
            ..run(Duration::from_mins(5))
        };
        let script = "printf 'running 2 tests\\ntest a ... FAILED\\n'; exec sleep 600";
        let tally = run.one("crate", &mut shell(script)).unwrap();
        assert_eq!(tally.failed.len(), 1, "{tally:?}");
        assert_eq!(tally.failed[0].to_string(), "crate: a");
    }

    #[test]
    fn binaries_run_at_the_same_time_and_all_are_counted() {
        let folder = std::env::temp_dir().join(format!("xtask-suite-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let executable = folder.join("binary");
        // Each waits for the other: one after the other they would never end.
        let script = "#!/bin/sh\ntouch \"$CARGO_PKG_NAME\"\nwhile ! [ -e a ] || ! [ -e b ]; do :; done\n\
                      printf 'running 1 test\\ntest result: ok. 1 passed; 0 failed\\n'\n";
        std::fs::write(&executable, script).unwrap();
        std::fs::set_permissions(&executable, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let binaries = ["a", "b"].map(|package| TestBinary {
            package: package.to_owned(),
            kind: TestKind::Unit,
            target: package.to_owned(),
            folder: folder.clone(),
            executable: executable.clone(),
        });
        let run = Run {
            at_once: 2,
            ..run(Duration::from_mins(1))
        };
        let tally = run.all(&binaries).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((tally.passed, tally.failed), (2, Vec::new()));
    }
}
