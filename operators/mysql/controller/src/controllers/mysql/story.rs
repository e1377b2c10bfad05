//! Writing a status, and what `kubectl describe` tells of what has changed with it.

use mysql_api::{MySQL, MySQLStatus, database::ConditionType};
use reconcile::{
    Pass, conditions,
    error::ApiError,
    events::{EventKind, Notice},
};

/// Writes the status, and tells what it says that the last one did not.
pub(super) async fn tell(pass: &Pass<MySQL>, status: &MySQLStatus) -> Result<(), ApiError> {
    let before = pass.current();
    if pass.write_status(status).await? {
        for notice in turns(before.status.as_ref(), status) {
            pass.event(notice).await;
        }
    }
    Ok(())
}

fn turns(before: Option<&MySQLStatus>, after: &MySQLStatus) -> Vec<Notice> {
    let told = [
        (ConditionType::Ready, "True", EventKind::Normal, "Ready"),
        (ConditionType::Ready, "False", EventKind::Warning, "NotReady"),
        (
            ConditionType::RestoreDone,
            "False",
            EventKind::Warning,
            "RestoreFailed",
        ),
        (
            ConditionType::BackupTaken,
            "True",
            EventKind::Normal,
            "BackupTaken",
        ),
        (
            ConditionType::BackupTaken,
            "False",
            EventKind::Warning,
            "BackupFailed",
        ),
        (
            ConditionType::UpToDate,
            "False",
            EventKind::Warning,
            "ChangeRefused",
        ),
        (
            ConditionType::DeletionBlocked,
            "True",
            EventKind::Warning,
            "DeletionBlocked",
        ),
        (
            ConditionType::ClearTextPassword,
            "True",
            EventKind::Warning,
            "ClearTextPassword",
        ),
    ];
    let notices = told.into_iter().filter_map(|(type_, status, kind, reason)| {
        let find = |status: &MySQLStatus| conditions::find(&status.conditions, type_.as_str()).cloned();
        let now = find(after).filter(|now| now.status == status)?;
        let was = before.and_then(find);
        // A server that is only just starting, or is to go, is no trouble; neither is that nothing was asked for.
        let silent = matches!(now.reason.as_str(), "NoBackupYet" | "Deleting");
        let same = was.is_some_and(|was| was.status == now.status && was.message == now.message);
        (!silent && !same).then_some(Notice {
            kind,
            reason,
            action: "Observe",
            note: now.message,
        })
    });
    notices.collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use mysql_api::database::Reason;
    use reconcile::conditions::DesiredCondition;

    use super::*;

    fn status(parts: &[(ConditionType, bool, Reason, &str)]) -> MySQLStatus {
        let mut status = MySQLStatus::default();
        for (type_, holds, reason, message) in parts {
            let condition = DesiredCondition::new(type_.as_str(), *holds, reason.as_str(), *message);
            let _ = conditions::set(&mut status.conditions, condition, Some(1), Timestamp::UNIX_EPOCH);
        }
        status
    }

    fn reasons(before: Option<&MySQLStatus>, after: &MySQLStatus) -> Vec<&'static str> {
        turns(before, after)
            .into_iter()
            .map(|notice| notice.reason)
            .collect()
    }

    #[test]
    fn each_turn_is_told_once() {
        use ConditionType::{BackupTaken, Ready};
        let fresh = status(&[
            (Ready, true, Reason::Serving, "it answers"),
            (BackupTaken, false, Reason::NoBackupYet, "none was asked for"),
        ]);
        let backed = status(&[
            (Ready, true, Reason::Serving, "it answers"),
            (BackupTaken, true, Reason::BackupDone, "backup b1 is there"),
        ]);
        let again = status(&[
            (Ready, true, Reason::Serving, "it answers"),
            (BackupTaken, true, Reason::BackupDone, "backup b2 is there"),
        ]);
        assert_eq!(reasons(None, &fresh), ["Ready"]);
        assert_eq!(reasons(Some(&fresh), &fresh), [""; 0]);
        assert_eq!(reasons(Some(&fresh), &backed), ["BackupTaken"]);
        assert_eq!(reasons(Some(&backed), &again), ["BackupTaken"]);
        assert_eq!(reasons(Some(&again), &again), [""; 0]);
    }
}
