//! Events: one per transition, for people who watch.

use dynamodb_api::{ConditionType, DdbctlDpJobStatus, Reason};
use reconcile::{
    conditions::{self, ConditionStatus},
    events::{EventKind, Notice},
};

use super::{job::Job, step::Measured};
use crate::partition::Totals;

const ACTION: &str = "DeletePartition";

/// The plan was recorded; deletion is next.
pub(super) fn planned(job: &Job, measured: &Measured) -> Notice {
    let plan = &measured.plan;
    let at_least = if plan.complete { "" } else { "at least " };
    let note = format!(
        "The {} holds {at_least}{} items; deleting them takes {} to {} WCU, about {} s",
        job.extent(),
        plan.items,
        plan.wcu_min,
        plan.wcu_max,
        plan.estimated_seconds
    );
    Notice {
        kind: EventKind::Normal,
        reason: "Planned",
        action: ACTION,
        note,
    }
}

/// The object was deleted after its deletion had begun and before it ended.
pub(super) fn deleted_in_mid_run(totals: &Totals) -> Notice {
    let note = format!(
        "Deleted in mid-run: {} keys were read, {} deletions acknowledged, {} WCU consumed; what was deleted stays deleted",
        totals.keys_read,
        totals.keys_acknowledged,
        totals.wcu_milli / 1000
    );
    Notice {
        kind: EventKind::Normal,
        reason: "DeletedInMidRun",
        action: ACTION,
        note,
    }
}

/// What changed between two statuses that were written one after the other.
pub(super) fn of(before: &DdbctlDpJobStatus, after: &DdbctlDpJobStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let changed = |type_: ConditionType| {
        let find = |status| {
            conditions::find(status, type_.as_str())
                .map(|c| (c.status.as_str(), c.reason.as_str(), c.message.as_str()))
        };
        let (was, is) = (find(&before.conditions), find(&after.conditions));
        is.filter(|(status, reason, _)| was.is_none_or(|(s, r, _)| (s, r) != (*status, *reason)))
    };
    let mut tell = |kind, reason, note: String| {
        notices.push(Notice {
            kind,
            reason,
            action: ACTION,
            note,
        });
    };
    if let Some((status, reason, message)) = changed(ConditionType::Succeeded) {
        let known = Reason::named(reason).map_or("Changed", Reason::as_str);
        if status == ConditionStatus::True.as_str() {
            tell(EventKind::Normal, known, with_figures(message, after));
        } else if status == ConditionStatus::False.as_str() {
            tell(EventKind::Warning, known, with_figures(message, after));
        } else if reason == Reason::Suspended.as_str() {
            tell(EventKind::Normal, known, with_figures(message, after));
        } else if reason == Reason::Deleting.as_str() {
            tell(EventKind::Normal, known, message.to_owned());
        }
    }
    if let Some((status, reason, message)) = changed(ConditionType::Throttled)
        && status == ConditionStatus::True.as_str()
    {
        let known = Reason::named(reason).map_or("Throttled", Reason::as_str);
        tell(EventKind::Warning, known, message.to_owned());
    }
    notices
}

/// What was done so far, if there may be anything: before the plan stands nothing is deleted.
fn with_figures(message: &str, status: &DdbctlDpJobStatus) -> String {
    if status.plan.is_some() {
        format!("{message} ({})", figures(status))
    } else {
        message.to_owned()
    }
}

fn figures(status: &DdbctlDpJobStatus) -> String {
    let progress = status.progress.clone().unwrap_or_default();
    let wcu = status
        .consumed
        .as_ref()
        .map_or(0, |consumed| consumed.wcu_milli / 1000);
    format!(
        "{} deletions acknowledged, {} keys sent again, {wcu} WCU",
        progress.keys_acknowledged, progress.unprocessed_retries
    )
}
