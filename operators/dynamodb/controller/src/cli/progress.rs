//! The progress bar. Without a terminal nothing is drawn.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::watch, task::JoinHandle};

use crate::partition::{Progress, Stage};

const TEMPLATE: &str = "{msg} {bar:30} {pos}/{len} ({per_sec}, {eta} left)";

/// A bar that follows a run until it is dropped.
pub(super) struct Bar {
    bar: ProgressBar,
    following: JoinHandle<()>,
}

/// Shows what `progress` tells.
pub(super) fn show(mut progress: watch::Receiver<Progress>) -> Bar {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let drawn = bar.clone();
    let following = tokio::spawn(async move {
        while progress.changed().await.is_ok() {
            draw(&drawn, &progress.borrow_and_update());
        }
    });
    Bar { bar, following }
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    bar.set_message(match progress.stage {
        Stage::Preflight => "Looking at the table",
        Stage::Planning => "Measuring",
        Stage::Deleting if progress.throttled => "Deleting (throttled)",
        Stage::Deleting => "Deleting",
        Stage::Verifying => "Verifying",
        Stage::Retrying => "Retrying",
    });
    let done = progress.totals.keys_acknowledged;
    bar.set_length(
        progress
            .planned_items
            .unwrap_or(progress.totals.keys_read)
            .max(done),
    );
    bar.set_position(done);
}

impl Bar {
    /// Clears the bar if `outcome` is an error, so that the message stands alone.
    pub(super) fn around<T, E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        outcome.inspect_err(|_| self.bar.finish_and_clear())
    }

    /// Prints in peace.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.following.abort();
        self.bar.finish_and_clear();
    }
}
