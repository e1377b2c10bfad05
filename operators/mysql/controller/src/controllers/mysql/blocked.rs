//! What is said of a deletion that waits for somebody.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::PersistentVolumeClaim};
use kube::ResourceExt as _;
use mysql_api::{
    MySQL, MySQLStatus,
    database::{ConditionType, Reason},
};
use reconcile::{Progress, conditions};
use serde_json::json;

use super::{
    hand::{Hand, Stop},
    life::at_once,
};
use crate::database::{
    desired::Desired,
    job::Seen,
    plan::Held,
    pods::Stuck,
    report::{self, Facts, Said},
};

/// Annotation on the claim of the data volume: for which object, and in which Job's place, the final backup does with less.
const LESSENED: &str = "otus.homework/lesser-backup";
/// What a person can do about a final backup that fails.
const WAYS: &str = "ways on: repair what fails, it is tried again every five minutes; or annotate this object with \
                    otus.homework/skip-backup=<its metadata.uid>; or set spec.backup.onDelete to BestEffort or Never";

/// Whether the final backup has been stuck for so long that a person is told.
pub(super) fn is_overdue(status: &MySQLStatus, stuck: &Stuck, now: Timestamp) -> bool {
    let said = conditions::find(&status.conditions, ConditionType::DeletionBlocked.as_str());
    let Some(said) = said else {
        return false;
    };
    let said_at = said.last_transition_time.0;
    let since = match said.status.as_str() {
        // A person was told of this or of another trouble; how long this one lasts the Job alone says.
        "True" if said.reason == Reason::FinalBackupFailed.as_str() => stuck.since,
        // Blocked by something else it has only begun to be stuck.
        "True" => None,
        _ => Some(stuck.since.map_or(said_at, |since| since.max(said_at))),
    };
    let lasts = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    lasts.is_some_and(|lasts| lasts >= stuck.patience)
}

/// What keeps the final backup from beginning, when a person is told of it.
pub(super) fn held(
    stuck: Option<&Stuck>,
    claim: Option<&PersistentVolumeClaim>,
    job: Option<&Seen>,
    wanted: &Desired,
) -> Held {
    let (Some(stuck), Some(job)) = (stuck, job) else {
        return Held::Nothing;
    };
    let before = claim.and_then(|claim| lessened(claim, &wanted.uid));
    // Once it is noted whose place the lesser one takes, that one may yet have to go.
    let tried = before.is_some_and(|before| before != job.uid);
    if stuck.room && wanted.resources.can_be_less() && !tried {
        Held::Room
    } else {
        Held::Trouble
    }
}

/// UID of the Job of this object whose place one takes that does with less, if there was one.
pub(super) fn lessened<'a>(claim: &'a PersistentVolumeClaim, uid: &str) -> Option<&'a str> {
    let note = claim.annotations().get(LESSENED)?;
    note.strip_prefix(uid)?.strip_prefix('/')
}

/// Makes room for a final backup that does with less, and notes it before: after a crash it is known.
pub(super) async fn lessen(
    hand: &Hand<'_>,
    claim: Option<&PersistentVolumeClaim>,
    job: &Job,
) -> Result<Progress, Stop> {
    if let Some(claim) = claim {
        let (object, job) = (hand.pass.current().uid(), job.uid());
        let note = format!("{}/{}", object.unwrap_or_default(), job.unwrap_or_default());
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": {LESSENED: note}}});
        hand.merge::<PersistentVolumeClaim>(&claim.name_any(), &patch)
            .await?;
    }
    hand.remove(job).await?;
    let note = format!(
        "{} finds no room; it is tried once more with the least that it can do with",
        job.name_any()
    );
    hand.warn("BackupWithLess", "Backup", note).await;
    Ok(at_once())
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

#[cfg(test)]
mod tests {
    use reconcile::conditions::DesiredCondition;
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn said(holds: bool, reason: Reason) -> MySQLStatus {
        let mut status = MySQLStatus::default();
        let blocked = ConditionType::DeletionBlocked.as_str();
        let condition = DesiredCondition::new(blocked, holds, reason.as_str(), "x");
        let _ = conditions::set(&mut status.conditions, condition, Some(1), at(10));
        status
    }

    /// Said in minute 10, with a patience of five minutes.
    #[rstest]
    #[case::young(said(false, Reason::BackupRunning), None, 14, false)]
    #[case::old(said(false, Reason::BackupRunning), None, 15, true)]
    #[case::another_job_than_was_said(said(false, Reason::BackupRunning), Some(14), 18, false)]
    #[case::that_job_at_last(said(false, Reason::BackupRunning), Some(14), 19, true)]
    #[case::told_of_and_refused_for_the_first_time(said(true, Reason::FinalBackupFailed), None, 60, false)]
    #[case::told_of_and_a_new_job(said(true, Reason::FinalBackupFailed), Some(58), 60, false)]
    #[case::told_of_and_that_job(said(true, Reason::FinalBackupFailed), Some(9), 60, true)]
    #[case::blocked_by_something_else(said(true, Reason::RequestRefused), Some(9), 60, false)]
    #[case::nothing_said(MySQLStatus::default(), Some(9), 60, false)]
    fn patience_is_counted_from_the_beginning_of_this_very_trouble(
        #[case] status: MySQLStatus,
        #[case] since: Option<i64>,
        #[case] now: i64,
        #[case] overdue: bool,
    ) {
        let stuck = Stuck {
            why: "x".to_owned(),
            patience: Duration::from_mins(5),
            since: since.map(at),
            room: false,
        };
        assert_eq!(is_overdue(&status, &stuck, at(now)), overdue);
    }

    #[test]
    fn less_is_tried_once_and_only_where_it_may_help() {
        let wanted = |resources: Value| {
            let spec =
                json!({"image": "mysql:9.7", "database": "d", "storage_size": "1Gi", "resources": resources});
            let owner = crate::database::desired::Owner {
                namespace: "ns",
                name: "m",
                uid: "u",
            };
            Desired::resolve(owner, &serde_json::from_value(spec).unwrap()).unwrap()
        };
        let job = Seen::at_work("job");
        let claim = |note: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(
                json!({"metadata": {"name": "m-pvc", "annotations": {LESSENED: note.unwrap_or("")}}}),
            )
            .unwrap()
        };
        let stuck = |room: bool| Stuck {
            why: "x".to_owned(),
            patience: Duration::ZERO,
            since: None,
            room,
        };
        let (much, none) = (wanted(json!({"limits": {"memory": "1Gi"}})), wanted(json!({})));
        let says = |room: bool, note: Option<&str>, wanted: &Desired| {
            held(Some(&stuck(room)), Some(&claim(note)), Some(&job), wanted)
        };
        assert_eq!(says(true, None, &much), Held::Room);
        assert_eq!(
            says(true, Some("u/job"), &much),
            Held::Room,
            "noted, and then a crash"
        );
        assert_eq!(
            says(true, Some("older/other"), &much),
            Held::Room,
            "another object's"
        );
        assert_eq!(says(true, Some("u/before"), &much), Held::Trouble, "it was tried");
        assert_eq!(says(false, None, &much), Held::Trouble, "no image, for instance");
        assert_eq!(says(true, None, &none), Held::Trouble, "there is no less");
        assert_eq!(held(None, None, Some(&job), &much), Held::Nothing);
    }
}
