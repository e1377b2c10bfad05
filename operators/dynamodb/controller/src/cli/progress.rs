//! The progress bar. Without a terminal nothing is drawn.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{sync::watch, task::JoinHandle};

use crate::partition::{Progress, Stage};

/// Before the number of items is known there is nothing to be a share of.
const SPINNER: &str = "{spinner} {msg}";
const BAR: &str = "{msg} {bar:30} {pos}/{len} ({per_sec}, {eta} left)";

/// A bar that follows a run until it is dropped; then it is gone from the terminal, and nothing is drawn any more.
pub(super) struct Bar {
    bar: ProgressBar,
    following: JoinHandle<()>,
}

/// Characters of the reason for another round, which stands beside the bar on one line.
const LONGEST: usize = 80;

/// Shows what `progress` tells.
pub(super) fn show(progress: watch::Receiver<Progress>) -> Bar {
    show_on(ProgressDrawTarget::stderr(), progress)
}

fn show_on(target: ProgressDrawTarget, mut progress: watch::Receiver<Progress>) -> Bar {
    let bar = ProgressBar::with_draw_target(Some(0), target);
    draw(&bar, &progress.borrow_and_update());
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
    let done = progress.totals.keys_acknowledged;
    let length = progress
        .planned_items
        .unwrap_or(progress.totals.keys_read)
        .max(done);
    let template = if length == 0 { SPINNER } else { BAR };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let word = match progress.stage {
        Stage::Preflight => "Looking at the table",
        Stage::Planning => "Measuring",
        Stage::Deleting => "Deleting",
        Stage::Verifying => "Verifying",
        Stage::Retrying => "Retrying",
    };
    let retrying = progress.stage == Stage::Retrying;
    // Whatever it is, it may take minutes, and people want to know what for.
    let trouble = progress.trouble.as_ref().filter(|_| retrying);
    let notes: Vec<String> = if let Some(trouble) = trouble {
        vec![trouble.chars().take(LONGEST).collect()]
    } else {
        let counted = progress
            .counted_items
            .map(|counted| format!("{counted} items so far"));
        let throttled = progress.throttled.then(|| "throttled".to_owned());
        counted.into_iter().chain(throttled).collect()
    };
    bar.set_message(if notes.is_empty() {
        word.to_owned()
    } else {
        format!("{word} ({})", notes.join(", "))
    });
    bar.set_length(length);
    bar.set_position(done);
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.following.abort();
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use indicatif::TermLike;
    use parking_lot::Mutex;

    use super::*;

    /// A terminal that keeps what is written to it.
    #[derive(Clone, Debug, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.write_str("<clear>")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_bar_that_is_dropped_draws_nothing_over_what_follows() {
        let paper = Paper::default();
        let told = watch::Sender::new(Progress::default());
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let bar = show_on(target, told.subscribe());
        let (kept, drawn) = (bar.bar.clone(), || paper.0.lock().clone());
        assert!(drawn().contains("Looking at the table"), "{}", drawn());
        drop(bar);
        let before = drawn();
        // As the ticks and the follower would.
        kept.tick();
        told.send_modify(|progress| progress.stage = Stage::Planning);
        tokio::task::yield_now().await;
        kept.tick();
        assert_eq!(drawn(), before);
        assert!(before.ends_with("<clear>"), "{before}");
    }

    #[test]
    fn nothing_is_shown_as_a_share_of_nothing() {
        let paper = Paper::default();
        let target = || ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let drawn = |progress: &Progress| {
            paper.0.lock().clear();
            let bar = ProgressBar::with_draw_target(Some(0), target());
            draw(&bar, progress);
            bar.tick();
            paper.0.lock().clone()
        };
        let unknown = drawn(&Progress::default());
        assert!(unknown.contains("Looking") && !unknown.contains('/'), "{unknown}");
        let known = drawn(&Progress {
            stage: Stage::Deleting,
            planned_items: Some(7),
            ..Progress::default()
        });
        assert!(known.contains("0/7"), "{known}");
        let counting = drawn(&Progress {
            stage: Stage::Planning,
            counted_items: Some(7),
            ..Progress::default()
        });
        assert!(counting.contains("Measuring (7 items so far)"), "{counting}");
    }

    #[test]
    fn who_waits_for_another_round_is_told_what_for() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let progress = Progress {
            stage: Stage::Retrying,
            trouble: Some("Query failed: out of order".into()),
            ..Progress::default()
        };
        draw(&bar, &progress);
        bar.tick();
        let drawn = paper.0.lock().clone();
        assert!(drawn.contains("Retrying (Query failed: out of order)"), "{drawn}");
    }
}
