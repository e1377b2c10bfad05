//! The stages of a run: how long each took, and the summary at the end.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::suite::{Failed, Tally};

/// The stages that ran so far.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<Stage>,
    unsteady: Vec<Failed>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    took: Duration,
    tally: Option<Tally>,
}

impl Stages {
    /// Runs a stage that either works or fails the run.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = begin(name);
        let result = work();
        self.end(name, started, None);
        result
    }

    /// Runs a stage of tests, whose failures are counted and do not stop the stages that follow.
    pub(crate) fn tests(&mut self, name: &str, work: impl FnOnce() -> Result<Tally>) -> Result<()> {
        let started = begin(name);
        let result = work();
        self.end(name, started, Some(result.as_ref().cloned().unwrap_or_default()));
        result.map(drop)
    }

    fn end(&mut self, name: &str, started: Instant, tally: Option<Tally>) {
        let took = started.elapsed();
        eprintln!("── {name}: {}", seconds(took));
        self.done.push(Stage {
            name: name.to_owned(),
            took,
            tally,
        });
    }

    /// Counts `test` among those that failed beside others and passed alone, instead of those that failed.
    pub(crate) fn call_unsteady(&mut self, test: Failed) {
        self.unsteady.push(test);
    }

    /// The tests that failed beside others and passed alone.
    pub(crate) fn unsteady(&self) -> &[Failed] {
        &self.unsteady
    }

    /// The tests that failed, in all stages.
    pub(crate) fn failures(&self) -> Vec<Failed> {
        self.done
            .iter()
            .filter_map(|stage| stage.tally.as_ref())
            .flat_map(|tally| tally.failed.clone())
            .filter(|failed| !self.unsteady.contains(failed))
            .collect()
    }

    /// How many tests passed, in all stages.
    pub(crate) fn passed(&self) -> u64 {
        self.done
            .iter()
            .filter_map(|stage| stage.tally.as_ref())
            .map(|tally| tally.passed)
            .sum()
    }

    /// One line per stage, and the total.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "{:<34} {:>9} {:>7} {:>7} {:>8}\n",
            "stage", "time", "passed", "failed", "ignored"
        );
        for stage in &self.done {
            let (passed, failed, ignored) = match &stage.tally {
                Some(tally) => (
                    tally.passed.to_string(),
                    tally.failed.len().to_string(),
                    tally.ignored.to_string(),
                ),
                None => Default::default(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<34} {:>9} {passed:>7} {failed:>7} {ignored:>8}",
                stage.name,
                seconds(stage.took)
            );
        }
        let total = self.done.iter().map(|stage| stage.took).sum();
        let _ = write!(
            text,
            "{:<34} {:>9} {:>7} {:>7}",
            "total",
            seconds(total),
            self.passed(),
            self.failures().len()
        );
        text
    }
}

fn begin(name: &str) -> Instant {
    eprintln!("\n── {name} …");
    Instant::now()
}

/// A duration as `12.3 s` or `4 min 05 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(100) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::What;

    #[test]
    fn failures_of_every_stage_stand_in_the_summary() {
        let mut stages = Stages::default();
        stages.step("build", || Ok(())).unwrap();
        for failed in ["a", "b"] {
            let tally = Tally {
                passed: 2,
                failed: vec![Failed {
                    suite: "crate".to_owned(),
                    what: What::Test(failed.to_owned()),
                }],
                ..Tally::default()
            };
            stages.tests("unit", || Ok(tally)).unwrap();
        }
        let failures: Vec<_> = stages.failures().iter().map(ToString::to_string).collect();
        assert_eq!(failures, ["crate: a", "crate: b"]);
        let summary = stages.summary();
        let total: Vec<_> = summary.split_whitespace().rev().take(2).collect();
        assert_eq!(total, ["2", "4"]);
        let first = stages.failures().remove(0);
        stages.call_unsteady(first.clone());
        assert_eq!((stages.unsteady(), stages.failures().len()), (&[first][..], 1));
    }

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }
}
