//! What a long step shows on standard error while it runs.
//!
//! On a terminal it is a bar or a spinner that disappears when the step ends; elsewhere (CI, a pipe) it is a line
//! when the step starts, one every [`LINE_INTERVAL`] while it runs, and one when it ends, so that a log shows that
//! something is going on and what. Standard output is never written to: it belongs to results.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::{Condvar, Mutex};

/// How often a running step writes a line where there is no terminal.
pub const LINE_INTERVAL: Duration = Duration::from_secs(5);

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One step in progress. Dropping it without [`Step::done`] ends it as failed.
#[derive(Debug)]
pub struct Step {
    state: Arc<Shared>,
    bar: Option<ProgressBar>,
    finished: bool,
}

#[derive(Debug)]
struct Shared {
    label: String,
    started: Instant,
    detail: Mutex<Detail>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Detail {
    position: u64,
    length: Option<u64>,
    note: String,
    ended: bool,
}

impl Step {
    /// Starts a step called `label`, for instance "building kube-apiserver 1.34.4".
    pub fn start(label: impl Into<String>) -> Self {
        let state = Arc::new(Shared {
            label: label.into(),
            started: Instant::now(),
            detail: Mutex::default(),
            ended: Condvar::new(),
        });
        let bar = std::io::stderr().is_terminal().then(|| spinner(&state.label));
        if bar.is_none() {
            line(&format!("{} …", state.label));
            let watched = Arc::clone(&state);
            // Without the thread the step runs just the same, only without its lines.
            drop(
                thread::Builder::new()
                    .name("progress".to_owned())
                    .spawn(move || watched.write_lines()),
            );
        }
        Self {
            state,
            bar,
            finished: false,
        }
    }

    /// Says how many units the step has in all; until then it shows a spinner instead of a bar.
    pub fn length(&self, units: u64) {
        self.state.detail.lock().length = Some(units);
        if let Some(bar) = &self.bar {
            bar.set_length(units);
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {pos}/{len} {elapsed}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
        }
    }

    /// One unit more is done; `note` says which.
    pub fn advance(&self, note: &str) {
        let mut detail = self.state.detail.lock();
        detail.position += 1;
        note.clone_into(&mut detail.note);
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Ends the step well and says how long it took. Returns that time.
    pub fn done(mut self) -> Duration {
        self.finished = true;
        let took = self.state.started.elapsed();
        self.close();
        line(&format!(
            "{} done in {:.1} s",
            self.state.label,
            took.as_secs_f64()
        ));
        took
    }

    fn close(&self) {
        self.state.detail.lock().ended = true;
        self.state.ended.notify_all();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.close();
            line(&format!(
                "{} FAILED after {:.1} s",
                self.state.label,
                self.state.started.elapsed().as_secs_f64()
            ));
        }
    }
}

impl Shared {
    fn write_lines(&self) {
        let mut detail = self.detail.lock();
        while !detail.ended {
            let timed_out = self.ended.wait_for(&mut detail, LINE_INTERVAL).timed_out();
            if timed_out && !detail.ended {
                line(&self.describe(&detail));
            }
        }
    }

    fn describe(&self, detail: &Detail) -> String {
        let seconds = self.started.elapsed().as_secs();
        let count = match (detail.length, detail.position) {
            (Some(length), position) => format!(" {position}/{length}"),
            (None, 0) => String::new(),
            (None, position) => format!(" {position}"),
        };
        let note = if detail.note.is_empty() {
            String::new()
        } else {
            format!(" ({})", detail.note)
        };
        format!("{} … {seconds} s{count}{note}", self.label)
    }
}

fn spinner(label: &str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Writes one line to standard error, past the bars if there are any. An error (nobody listens) is ignored.
pub fn line(text: &str) {
    BARS.suspend(|| drop(writeln!(std::io::stderr(), "{text}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_step_is_and_with_what() {
        let state = Shared {
            label: "building x".to_owned(),
            started: Instant::now(),
            detail: Mutex::default(),
            ended: Condvar::new(),
        };
        let detail = Detail {
            position: 3,
            length: Some(10),
            note: "k8s.io/api".to_owned(),
            ended: false,
        };
        assert_eq!(state.describe(&detail), "building x … 0 s 3/10 (k8s.io/api)");
        assert_eq!(state.describe(&Detail::default()), "building x … 0 s");
    }
}
