use reconcile::Class;

use dynamodb_api::DeletionPlan;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deleting(acknowledged: u64) -> Progress {
    Progress {
        stage: Stage::Deleting,
        totals: Totals {
            keys_acknowledged: acknowledged,
            keys_read: acknowledged,
            ..Totals::default()
        },
        planned_items: Some(200),
        items_per_second: 50,
        ..Progress::default()
    }
}

fn told(progress: &Progress) -> Told {
    Told {
        run: progress.clone(),
        ..Told::default()
    }
}

fn show(before: &DdbctlDpJobStatus, progress: &Progress, news: &News<'_>) -> DdbctlDpJobStatus {
    status(before, Some(&told(progress)), news, Some(1), at(100))
}

fn reason(status: &DdbctlDpJobStatus, type_: ConditionType) -> (String, String) {
    let condition = conditions::find(&status.conditions, type_.as_str()).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn the_same_facts_give_the_same_status() {
    let progress = deleting(50);
    let once = show(
        &DdbctlDpJobStatus::default(),
        &progress,
        &News::Working(&progress),
    );
    let twice = status(
        &once,
        Some(&told(&progress)),
        &News::Working(&progress),
        Some(1),
        at(900),
    );
    assert_eq!(once, twice);
    assert_eq!(once.conditions[0].type_, "Succeeded");
    assert_eq!(
        reason(&once, ConditionType::Succeeded),
        pair("Unknown", "Deleting")
    );
    let shown = once.progress.unwrap();
    assert_eq!(
        (shown.percent.as_deref(), shown.remaining_seconds),
        (Some("25%"), Some(3))
    );
}

#[test]
fn totals_survive_a_new_task_that_has_done_nothing_yet() {
    let before = show(&DdbctlDpJobStatus::default(), &deleting(50), &News::Resting);
    let fresh = Progress::default();
    let after = show(&before, &fresh, &News::Working(&fresh));
    assert_eq!(totals(&after).keys_acknowledged, 50);
    assert_eq!(after.rate, None);
}

#[test]
fn a_failure_stays_until_there_is_better_news() {
    let failure = Failure {
        class: Class::Denied,
        reason: Reason::AccessDenied,
        message: "allow dynamodb:Query".into(),
    };
    let failing = status(
        &DdbctlDpJobStatus::default(),
        None,
        &News::Failing(&failure),
        Some(1),
        at(1),
    );
    assert_eq!(
        reason(&failing, ConditionType::Stalled),
        pair("True", "AccessDenied")
    );
    let fresh = Progress::default();
    let restarted = show(&failing, &fresh, &News::Working(&fresh));
    assert_eq!(
        reason(&restarted, ConditionType::Succeeded),
        pair("Unknown", "AccessDenied")
    );
    let progress = deleting(1);
    let better = show(&restarted, &progress, &News::Working(&progress));
    assert_eq!(
        reason(&better, ConditionType::Succeeded),
        pair("Unknown", "Deleting")
    );
    assert_eq!(reason(&better, ConditionType::Stalled).0, "False");
}

/// Deleting may be what is denied, and is the last thing that an attempt comes to.
#[test]
fn a_denial_stays_while_the_attempts_of_a_planned_job_delete_nothing() {
    let failure = Failure {
        class: Class::Denied,
        reason: Reason::AccessDenied,
        message: "allow dynamodb:BatchWriteItem".into(),
    };
    let planned = DdbctlDpJobStatus {
        plan: Some(DeletionPlan::default()),
        ..DdbctlDpJobStatus::default()
    };
    let failing = show(&planned, &deleting(50), &News::Failing(&failure));
    for stage in [Stage::Preflight, Stage::Planning, Stage::Deleting] {
        let progress = Progress {
            stage,
            ..deleting(50)
        };
        let again = show(&failing, &progress, &News::Working(&progress));
        assert_eq!(again.conditions, failing.conditions, "{stage:?}");
    }
    let progress = deleting(51);
    let better = show(&failing, &progress, &News::Working(&progress));
    assert_eq!(
        reason(&better, ConditionType::Succeeded),
        pair("Unknown", "Deleting")
    );
}

#[test]
fn the_end_is_dated_once_and_says_whether_it_was_good() {
    let ending = Ending::success(Reason::PartitionEmpty, "empty");
    let ended = show(
        &DdbctlDpJobStatus::default(),
        &deleting(200),
        &News::Ended(&ending),
    );
    assert_eq!(ended.completion_time, Some(Time(at(100))));
    assert_eq!(
        reason(&ended, ConditionType::Succeeded),
        pair("True", "PartitionEmpty")
    );
    assert_eq!(reason(&ended, ConditionType::Reconciling).0, "False");
    let again = status(&ended, None, &News::Ended(&ending), Some(1), at(500));
    assert_eq!(again, ended);
    let bad = show(
        &DdbctlDpJobStatus::default(),
        &deleting(1),
        &News::Ended(&Ending::failure(Reason::Cancelled, "")),
    );
    assert_eq!(reason(&bad, ConditionType::Stalled).0, "True");
}

#[test]
fn throttling_names_the_bottleneck() {
    let progress = Progress {
        throttled: true,
        bottleneck: Some(crate::partition::Bottleneck::Index("byStatus".into())),
        ..deleting(5)
    };
    let shown = show(
        &DdbctlDpJobStatus::default(),
        &progress,
        &News::Working(&progress),
    );
    assert_eq!(
        reason(&shown, ConditionType::Throttled),
        pair("True", "IndexThrottled")
    );
    let throttled = conditions::find(&shown.conditions, "Throttled").unwrap();
    assert!(
        throttled.message.contains("GSI byStatus is the bottleneck"),
        "{}",
        throttled.message
    );
}
