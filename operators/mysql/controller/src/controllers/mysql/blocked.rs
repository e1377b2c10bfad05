//! What is said of a deletion that waits for somebody.

use std::time::Duration;

use jiff::Timestamp;
use mysql_api::{
    MySQL, MySQLStatus,
    database::{ConditionType, Reason},
};
use reconcile::{Progress, conditions};

use super::hand::Stop;
use crate::database::{
    pods::Stuck,
    report::{self, Facts, Said},
};

/// What a person can do about a final backup that fails.
const WAYS: &str = "ways on: repair what fails, it is tried again every five minutes; or annotate this object with \
                    otus.homework/skip-backup=<its metadata.uid>; or set spec.backup.onDelete to BestEffort or Never";

/// Whether the final backup has been stuck for so long that a person is told.
pub(super) fn is_overdue(status: &MySQLStatus, stuck: Option<&Stuck>, now: Timestamp) -> bool {
    let said = conditions::find(&status.conditions, ConditionType::DeletionBlocked.as_str());
    let (Some(stuck), Some(said)) = (stuck, said) else {
        return false;
    };
    if said.status == "True" {
        // Blocked by something else it has only begun to be stuck.
        return said.reason == Reason::FinalBackupFailed.as_str();
    }
    let since = now.duration_since(said.last_transition_time.0);
    Duration::try_from(since).is_ok_and(|since| since >= stuck.patience)
}

/// What the API server refuses of a deletion is told, and tried again soon: what refuses it (a policy, a webhook, a role)
/// sends no event when it is gone.
pub(super) fn told(outcome: Result<Progress, Stop>, facts: &mut Facts) -> Result<Progress, Stop> {
    match outcome {
        Err(Stop::Failed(error)) if error.is_refusal() => {
            let words = error.words();
            let message = format!("the deletion cannot go on: {words}; it is tried again every 30 seconds");
            facts.blocked = Some(Said::yes(Reason::RequestRefused, message.clone()));
            facts.summary = Some(Said::no(Reason::RequestRefused, message));
            Ok(Progress::waiting(super::IDLE / 10))
        }
        other => other,
    }
}

/// The final backup cannot be taken.
pub(super) fn blocked(object: &MySQL, facts: &mut Facts) {
    let why = match (&facts.ended, &facts.backup) {
        (Some((job, words)), _) => report::failure(job, words.as_ref()),
        (None, Some(said)) => said.message.clone(),
        (None, None) => report::last_word(object),
    };
    let message = format!("the final backup cannot be taken: {why}; {WAYS}");
    facts.blocked = Some(Said::yes(Reason::FinalBackupFailed, message.clone()));
    facts.summary = Some(Said::no(Reason::FinalBackupFailed, message));
}

/// A deletion that a failed backup blocks stays so while another one is tried: only one that is there ends it.
pub(super) fn still_blocked(status: &MySQLStatus, facts: &mut Facts) {
    let Some(before) = conditions::find(&status.conditions, ConditionType::DeletionBlocked.as_str()) else {
        return;
    };
    if before.status != "True" || before.reason != Reason::FinalBackupFailed.as_str() {
        return;
    }
    facts.blocked = Some(Said::yes(Reason::FinalBackupFailed, before.message.clone()));
    facts.summary = Some(Said::no(Reason::FinalBackupFailed, before.message.clone()));
}
