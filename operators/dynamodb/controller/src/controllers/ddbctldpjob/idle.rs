//! Rounds in a row that deleted nothing, counted over the operator's restarts.
//!
//! The engine counts those of one run, and a run lasts as long as the process at most. An operator that is restarted
//! now and then would try for ever, so the count is kept in the status (`progress.idleRounds`), and each run goes on
//! from there. A crash can cost one round that was not written down.

use std::{fmt, sync::Arc};

use dynamodb_api::Reason;

use crate::partition::{Failure, Progress, Reservation};

/// What a task tells its job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How far the run is.
    pub run: Progress,
    /// Rounds in a row without a deletion, earlier runs included.
    pub idle_rounds: u32,
    /// What a run with limits needs to have written down before it goes on; nothing if it has none.
    pub reservation: Option<Arc<Reservation>>,
}

/// Counts rounds without a deletion.
#[derive(Debug)]
pub(super) struct IdleRounds {
    /// Those of earlier runs, as long as this one deletes nothing either.
    earlier: u32,
    /// Keys acknowledged by them; more of them end the row.
    acknowledged: u64,
}

impl IdleRounds {
    /// Goes on from what the status says of earlier runs.
    pub(super) fn new(earlier: u32, acknowledged: u64) -> Self {
        Self {
            earlier,
            acknowledged,
        }
    }

    /// Takes in how far the run is, and returns the count. Steps that were not seen do no harm.
    pub(super) fn see(&mut self, progress: &Progress) -> u32 {
        if progress.totals.keys_acknowledged > self.acknowledged {
            self.earlier = 0;
        }
        self.earlier.saturating_add(progress.idle_rounds)
    }
}

/// Why a run ends whose count is above `limit`; `None` below.
pub(super) fn exceeded(
    count: u32,
    limit: u32,
    table: &str,
    trouble: Option<impl fmt::Display>,
) -> Option<Failure> {
    let trouble = trouble
        .map(|text| format!("; the last one: {text}"))
        .unwrap_or_default();
    (count > limit).then(|| {
        Failure::terminal(
            Reason::BackoffLimitExceeded,
            format!(
                "{count} rounds in a row deleted nothing from table '{table}', `backoffLimit` is {limit}{trouble}"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Totals;

    fn at(idle_rounds: u32, keys_acknowledged: u64) -> Progress {
        let totals = Totals {
            keys_acknowledged,
            ..Totals::default()
        };
        Progress {
            idle_rounds,
            totals,
            ..Progress::default()
        }
    }

    #[test]
    fn rounds_without_a_deletion_add_to_those_before_the_restart() {
        let mut idle = IdleRounds::new(2, 100);
        assert_eq!(idle.see(&Progress::default()), 2, "nothing is known yet");
        assert_eq!(idle.see(&at(0, 100)), 2);
        assert_eq!(idle.see(&at(1, 100)), 3);
        assert_eq!(idle.see(&at(1, 100)), 3, "once each");
        assert_eq!(idle.see(&at(3, 100)), 5, "one ended unseen");
    }

    #[test]
    fn a_deletion_ends_the_row() {
        let mut idle = IdleRounds::new(5, 100);
        assert_eq!(idle.see(&at(0, 101)), 0);
        assert_eq!(idle.see(&at(1, 101)), 1);
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert_eq!(exceeded(6, 6, "Orders", None::<&str>), None);
        let failure = exceeded(7, 6, "Orders", Some("503")).unwrap();
        assert!(failure.message.contains("7 rounds") && failure.message.contains("503"));
    }
}
