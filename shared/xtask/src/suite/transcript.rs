//! What one test binary prints: passed on and counted.

use std::{io::Write as _, time::Duration};

use super::{Failed, Tally, What};
use crate::stage::seconds;

/// The output of one binary. Nothing is shown of a binary in which the filter leaves no test.
#[derive(Debug)]
pub(super) struct Transcript<'a> {
    label: &'a str,
    quiet: bool,
    /// Lines that wait until the binary has ended; `None` where each is shown as it comes.
    kept: Option<Vec<String>>,
    shown: bool,
    muted: bool,
    tally: Tally,
}

impl<'a> Transcript<'a> {
    /// Of the binary `label`: shown not at all if `quiet`, in one piece at the end if `together`.
    pub(super) fn new(label: &'a str, quiet: bool, together: bool) -> Self {
        Self {
            label,
            quiet,
            kept: together.then(Vec::new),
            shown: false,
            muted: false,
            tally: Tally::default(),
        }
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, line: &str) {
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
            self.tally.failed.push(Failed {
                suite: self.label.to_owned(),
                what: What::Test(name.trim_end_matches(" - should panic").to_owned()),
            });
        }
        if !self.quiet && !self.muted && (self.shown || !line.is_empty()) {
            if !self.shown {
                self.shown = true;
                self.pass_on(&format!("\n{}", self.label));
            }
            self.pass_on(line);
        }
    }

    fn pass_on(&mut self, line: &str) {
        match &mut self.kept {
            Some(kept) => kept.push(line.to_owned()),
            None => show(&[line]),
        }
    }

    /// Whether a test has failed so far.
    pub(super) fn has_failure(&self) -> bool {
        !self.tally.failed.is_empty()
    }

    /// Shows what waits, and how long the binary took.
    pub(super) fn end(mut self, took: Duration) -> Tally {
        if self.shown {
            let lines = self.kept.take().unwrap_or_default();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let time = format!("{}: {}", self.label, seconds(took));
            show(&[lines.as_slice(), &[&time]].concat());
        }
        self.tally
    }
}

fn show(lines: &[&str]) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        // Nobody listens any more: the run goes on, its exit code still counts.
        let _ = writeln!(out, "{line}");
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
