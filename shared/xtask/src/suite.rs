//! Runs test binaries, shows what they print and counts.
//!
//! The binaries are started directly and not through `cargo test`, because a stage is a selection of them that
//! cargo has no flags for; their `test result` lines are passed on as they are.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::build::{TestBinary, TestKind};

/// The code with which the test harness ends when tests failed; any other means that not all have run.
const FAILURES: i32 = 101;

/// What the tests of one or more binaries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) ignored: u64,
    /// The names of those that failed, with their binary.
    pub(crate) failed: Vec<String>,
}

/// How the binaries are run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Arguments for the test harness: a filter, `--skip`.
    pub(crate) arguments: Vec<String>,
    /// Variables for the tests.
    pub(crate) environment: Vec<(String, String)>,
    /// Show nothing, only count.
    pub(crate) quiet: bool,
    /// Stop at the first binary that fails.
    pub(crate) fail_fast: bool,
    /// When a binary counts as hung and is killed.
    pub(crate) limit: Duration,
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
    /// Runs `binaries` one after the other: each is parallel in itself.
    pub(crate) fn all<'a>(&self, binaries: impl IntoIterator<Item = &'a TestBinary>) -> Result<Tally> {
        let mut total = Tally::default();
        for binary in binaries {
            let mut command = Command::new(&binary.executable);
            command.current_dir(&binary.folder);
            command
                .env("CARGO_MANIFEST_DIR", &binary.folder)
                .env("CARGO_PKG_NAME", &binary.package);
            command
                .args(&self.arguments)
                .envs(self.environment.iter().cloned());
            total.add(self.one(&binary.label(), &mut command)?);
            if self.fail_fast && !total.failed.is_empty() {
                break;
            }
        }
        Ok(total)
    }

    /// Runs one command that prints what the test harness prints.
    pub(crate) fn one(&self, label: &str, command: &mut Command) -> Result<Tally> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        if self.quiet {
            command.stderr(Stdio::null());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the tests of {label}"))?;
        let output = child.stdout.take().context("a test binary has no output")?;
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut transcript = Transcript {
            label,
            quiet: self.quiet,
            shown: false,
            muted: false,
            tally: Tally::default(),
        };
        let deadline = Instant::now() + self.limit;
        let ended = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => transcript.take(&String::from_utf8_lossy(&line)),
                Err(mpsc::RecvTimeoutError::Disconnected) => break true,
                Err(mpsc::RecvTimeoutError::Timeout) => break false,
            }
        };
        if !ended {
            child
                .kill()
                .with_context(|| format!("cannot kill the tests of {label}"))?;
        }
        let status = child.wait().context("cannot wait for a test binary")?;
        if ended {
            drop(reader.join());
        }
        let mut tally = transcript.tally;
        if !ended {
            let unfinished = format!("{label}: killed, not finished after {} s", self.limit.as_secs());
            tally.failed.push(unfinished);
        } else if !status.success() && (tally.failed.is_empty() || status.code() != Some(FAILURES)) {
            tally.failed.push(format!("{label}: ended with {status}"));
        }
        Ok(tally)
    }
}

impl TestBinary {
    /// `package` for unit tests, `package/target` for those in `tests/`.
    pub(crate) fn label(&self) -> String {
        match self.kind {
            TestKind::Unit => self.package.clone(),
            TestKind::Integration => format!("{}/{}", self.package, self.target),
        }
    }
}

/// Passes lines on and counts. Nothing is shown of a binary in which the filter leaves no test.
struct Transcript<'a> {
    label: &'a str,
    quiet: bool,
    shown: bool,
    muted: bool,
    tally: Tally,
}

impl Transcript<'_> {
    fn take(&mut self, line: &str) {
        if line == "running 0 tests" {
            self.muted = true;
        } else if line.starts_with("running ") {
            self.muted = false;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.tally.passed += count(result, " passed");
            self.tally.ignored += count(result, " ignored");
        }
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.tally.failed.push(format!(
                "{}: {}",
                self.label,
                name.trim_end_matches(" - should panic")
            ));
        }
        if !self.quiet && !self.muted && (self.shown || !line.is_empty()) {
            let mut out = std::io::stdout().lock();
            if !self.shown {
                self.shown = true;
                let _ = writeln!(out, "\n{}", self.label);
            }
            // Nobody listens any more: the run goes on, its exit code still counts.
            let _ = writeln!(out, "{line}");
        }
    }
}

/// The number before `what` in a line such as `ok. 12 passed; 0 failed`.
fn count(line: &str, what: &str) -> u64 {
    line.split(what)
        .next()
        .filter(|before| before.len() < line.len())
        .and_then(|before| before.rsplit([' ', '.']).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
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
                failed: vec!["crate: a::c".to_owned()]
            }
        );
    }

    #[test]
    fn a_binary_that_dies_without_a_result_has_failed() {
        let tally = run(Duration::from_mins(1))
            .one("crate", &mut shell("kill -ABRT $$"))
            .unwrap();
        assert!(
            tally.failed[0].contains("crate: ended with signal: 6"),
            "{tally:?}"
        );
    }

    #[test]
    fn a_binary_that_hangs_is_killed_and_has_failed() {
        let tally = run(Duration::from_millis(50))
            .one("crate", &mut shell("exec sleep 600"))
            .unwrap();
        assert!(tally.failed[0].contains("not finished"), "{tally:?}");
    }
}
