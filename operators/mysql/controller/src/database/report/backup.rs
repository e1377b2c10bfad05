//! What is said of backups.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mysql_api::{
    MySQL, MySQLStatus,
    database::{BackupRecord, ConditionType, Reason},
};
use reconcile::conditions;

use super::{
    super::{
        job::{Phase, Request, Seen, Whose, told},
        program::{BackupMade, Outcome},
    },
    Facts, Said,
};

/// What is said of a Job that failed begins with it, and no other `BackupFailed` does.
const FAILED: &str = "backup ";

/// What is to be said when a pass has observed nothing of backups; nothing leaves what was said. How a backup ended is
/// observed once and stays; what stood in the way of backups is over when a pass that has `tended` to them does not see it.
pub(super) fn unmoved(status: &MySQLStatus, facts: &Facts) -> Option<Said> {
    let before = conditions::find(&status.conditions, ConditionType::BackupTaken.as_str());
    let ended = |reason: &str, message: &str| {
        let lasting = [Reason::BackupDone, Reason::BackupsLost, Reason::NoBackupYet];
        let of_a_job = reason == Reason::BackupFailed.as_str() && message.starts_with(FAILED);
        of_a_job || lasting.iter().any(|lasting| lasting.as_str() == reason)
    };
    match before {
        Some(before) if !facts.tended || ended(&before.reason, &before.message) => None,
        _ if facts.failed.is_some() => facts
            .failed
            .as_ref()
            .map(|(job, words)| failed(job, words.as_ref())),
        _ => Some(status.last_backup.as_ref().map_or_else(
            || {
                let message = "no backup was asked for yet; one is taken when this object is deleted";
                Said::no(Reason::NoBackupYet, message)
            },
            |last| done(&last.id),
        )),
    }
}

fn failed(job: &Seen, words: Option<&Outcome>) -> Said {
    let id = job.id.as_deref().unwrap_or_default();
    let why = failure(job, words);
    Said::no(
        Reason::BackupFailed,
        format!("{FAILED}{id} failed: {why}; earlier backups are kept"),
    )
}

/// Whether the last thing that was said about backups is that a Job for one failed.
pub fn tells_of_a_failure(object: &MySQL) -> bool {
    last_word(object).starts_with(FAILED)
}

fn done(id: &str) -> Said {
    Said::yes(Reason::BackupDone, format!("backup {id} is there"))
}

/// Writes down what became of a Job for a backup, and says it.
pub(super) fn record(status: &mut MySQLStatus, job: &Seen, words: Option<&Outcome>) -> Said {
    if job.whose == Whose::Ours && status.recorded_job.as_deref() != Some(&job.uid) {
        status.recorded_job = Some(job.uid.clone());
    }
    match &job.request {
        Some(Request::Now(value)) => status.last_request = Some(told(value)),
        Some(Request::Scheduled(at)) => status.last_schedule_time = Some(Time(*at)),
        _ => {}
    }
    let id = job.id.clone().unwrap_or_default();
    match (&job.phase, words) {
        (Phase::Failed { .. }, words) => failed(job, words),
        (_, Some(Outcome::BackedUp(made))) => {
            status.last_backup = Some(entry(made));
            done(&made.id)
        }
        _ => {
            let known = status.last_backup.as_ref().is_some_and(|last| last.id == id);
            if let Some(time) = asked_at(job).filter(|_| !known) {
                status.last_backup = Some(BackupRecord {
                    id: id.clone(),
                    time: Time(time),
                    bytes: None,
                    sha256: None,
                    server_version: None,
                });
            }
            done(&id)
        }
    }
}

/// Why a Job failed: in the words of its program, else in Kubernetes'.
pub fn failure(job: &Seen, words: Option<&Outcome>) -> String {
    match (words, &job.phase) {
        (Some(Outcome::Failed(failure)), _) => format!("{}: {}", failure.reason, failure.error),
        (_, Phase::Failed { why, .. }) => why.clone(),
        _ => "it left no words".to_owned(),
    }
}

/// What was last said about backups.
pub fn last_word(object: &MySQL) -> String {
    let conditions = object
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let found = conditions::find(conditions, ConditionType::BackupTaken.as_str());
    found.map_or_else(|| "it failed".to_owned(), |condition| condition.message.clone())
}

/// For when a backup was asked for; where that is not said, when its Job was made.
fn asked_at(job: &Seen) -> Option<Timestamp> {
    match job.request {
        Some(Request::Scheduled(at) | Request::Final(at)) => Some(at),
        Some(Request::Now(_)) => job.made,
        None => None,
    }
}

fn entry(made: &BackupMade) -> BackupRecord {
    let text = |text: &str| Some(text.chars().take(64).collect::<String>()).filter(|text| !text.is_empty());
    BackupRecord {
        id: made.id.chars().take(128).collect(),
        time: Time(made.time),
        bytes: i64::try_from(made.bytes).ok(),
        sha256: text(&made.sha256),
        server_version: text(&made.version),
    }
}
