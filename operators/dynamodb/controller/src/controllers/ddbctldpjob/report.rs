//! The status that a job shows: a function of what is recorded and of what its task says.
//!
//! Nothing here reads a clock except for the times of transitions, and no message contains a figure that grows: the
//! same facts give the same status, and an unchanged status is not written.

use dynamodb_api::{
    ConditionType, ConsumedCapacity, DdbctlDpJobStatus, DeletionProgress, DeletionRate, Reason,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::conditions::{self, ConditionStatus, DesiredCondition};

use super::{idle::Told, step::Ending};
use crate::partition::{Failure, Progress, Stage, Totals};

/// What is to be told about the job now.
pub(super) enum News<'a> {
    /// Accepted; its task is about to start.
    Accepted,
    /// Its task works.
    Working(&'a Progress),
    /// Its task was told to stop and has requests in flight.
    Stopping,
    /// At rest on request; nothing runs.
    Resting,
    /// Its task failed, and will be started again.
    Failing(&'a Failure),
    /// It has ended.
    Ended(&'a Ending),
}

/// The status of `generation` with `news`, at `now`, following `before`.
pub(super) fn status(
    before: &DdbctlDpJobStatus,
    told: Option<&Told>,
    news: &News<'_>,
    generation: Option<i64>,
    now: Timestamp,
) -> DdbctlDpJobStatus {
    let mut status = before.clone();
    status.observed_generation = generation;
    if let Some(told) = told.filter(|told| knows(told)) {
        record(&mut status, told);
    }
    status.rate = match news {
        News::Working(progress) if progress.stage == Stage::Deleting => Some(DeletionRate {
            items_per_second: int(progress.items_per_second),
            wcu_per_second: int(progress.wcu_per_second),
        }),
        _ => None,
    };
    if matches!(news, News::Ended(_)) && status.completion_time.is_none() {
        status.completion_time = Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
    }
    for condition in wanted(before, news, status.plan.is_some()) {
        let _ = conditions::set(&mut status.conditions, condition, generation, now);
    }
    status
}

/// The totals as the status shows them; the status keeps them over restarts.
fn record(status: &mut DdbctlDpJobStatus, told: &Told) {
    let (progress, totals) = (&told.run, &told.run.totals);
    status.progress = Some(DeletionProgress {
        keys_read: int(totals.keys_read),
        items_counted: progress.counted_items.map(int),
        keys_acknowledged: int(totals.keys_acknowledged),
        unprocessed_retries: int(totals.unprocessed_retries),
        throttles: int(totals.throttles),
        percent: progress.percent().map(|percent| format!("{percent}%")),
        remaining_seconds: remaining_seconds(progress),
        idle_rounds: (told.idle_rounds > 0).then(|| told.idle_rounds.into()),
    });
    status.consumed = Some(ConsumedCapacity {
        rcu_milli: int(totals.rcu_milli),
        wcu_milli: int(totals.wcu_milli),
    });
}

fn remaining_seconds(progress: &Progress) -> Option<i64> {
    let left = progress
        .planned_items?
        .saturating_sub(progress.totals.keys_acknowledged);
    (progress.items_per_second > 0).then(|| int(left.div_ceil(progress.items_per_second)))
}

/// A run that has not come to its first request knows nothing of those before it.
fn knows(told: &Told) -> bool {
    told.run.totals != Totals::default() || told.idle_rounds > 0
}

/// The totals of the runs so far, the one under way included.
pub(super) fn totals_now(status: &DdbctlDpJobStatus, told: Option<&Told>) -> Totals {
    told.filter(|told| knows(told))
        .map_or_else(|| totals(status), |told| told.run.totals)
}

/// The totals of the runs so far, as the status has them.
pub(super) fn totals(status: &DdbctlDpJobStatus) -> Totals {
    let progress = status.progress.clone().unwrap_or_default();
    let consumed = status.consumed.clone().unwrap_or_default();
    let uint = |value: i64| u64::try_from(value).unwrap_or(0);
    Totals {
        keys_read: uint(progress.keys_read),
        keys_acknowledged: uint(progress.keys_acknowledged),
        unprocessed_retries: uint(progress.unprocessed_retries),
        throttles: uint(progress.throttles),
        rcu_milli: uint(consumed.rcu_milli),
        wcu_milli: uint(consumed.wcu_milli),
    }
}

/// Rounds in a row without a deletion, as earlier runs left them.
pub(super) fn idle_rounds(status: &DdbctlDpJobStatus) -> u32 {
    let count = status.progress.as_ref().and_then(|progress| progress.idle_rounds);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn wanted(before: &DdbctlDpJobStatus, news: &News<'_>, planned: bool) -> Vec<DesiredCondition> {
    use ConditionStatus::{False, True, Unknown};
    let condition = |type_: ConditionType, status, reason: Reason, message: &str| {
        DesiredCondition::new(type_.as_str(), status, reason.as_str(), message)
    };
    let (status, reason, message) = summary(before, news);
    let mut all = vec![DesiredCondition::new(
        ConditionType::Succeeded.as_str(),
        status,
        reason,
        message.clone(),
    )];
    all.push(match planned {
        true => condition(
            ConditionType::Planned,
            True,
            Reason::PlanReady,
            "the plan stands in `status.plan`",
        ),
        false if matches!(news, News::Ended(_)) => condition(
            ConditionType::Planned,
            False,
            Reason::Finished,
            "the job ended before there was a plan",
        ),
        false => condition(
            ConditionType::Planned,
            Unknown,
            Reason::Planning,
            "the partition is not measured yet",
        ),
    });
    all.push(match news {
        News::Working(progress) if progress.throttled => {
            let (reason, advice) = progress.bottleneck.as_ref().map_or_else(
                || {
                    (
                        Reason::TableThrottled,
                        "DynamoDB refuses some requests and does not say why".to_owned(),
                    )
                },
                |bottleneck| (bottleneck.reason(), bottleneck.advice()),
            );
            condition(ConditionType::Throttled, True, reason, &advice)
        }
        _ => condition(
            ConditionType::Throttled,
            False,
            Reason::NotThrottled,
            "no request is being refused",
        ),
    });
    all.push(match news {
        News::Resting => condition(
            ConditionType::Suspended,
            True,
            Reason::Suspended,
            "at rest: `spec.suspend` is true",
        ),
        News::Ended(_) => condition(
            ConditionType::Suspended,
            False,
            Reason::Finished,
            "the job has ended",
        ),
        News::Stopping => condition(
            ConditionType::Suspended,
            False,
            Reason::Running,
            "not at rest yet: requests in flight are being awaited",
        ),
        _ => condition(
            ConditionType::Suspended,
            False,
            Reason::Running,
            "`spec.suspend` is false",
        ),
    });
    let (works, stalled) = activity(before, news);
    all.push(DesiredCondition::new(
        ConditionType::Reconciling.as_str(),
        works,
        reason,
        message.clone(),
    ));
    all.push(DesiredCondition::new(
        ConditionType::Stalled.as_str(),
        stalled,
        reason,
        message,
    ));
    all
}

/// Whether only a person can end the failure, however soon it is looked at again.
fn asks_for_help(failure: &Failure) -> bool {
    failure.class == reconcile::Class::Denied || failure.reason == Reason::CredentialsMissing
}

/// Whether the job works, and whether only a person can help it.
fn activity(before: &DdbctlDpJobStatus, news: &News<'_>) -> (ConditionStatus, ConditionStatus) {
    use ConditionStatus::{False, True};
    // As long as it is told of the failure, the next attempt has not shown that it fares better.
    let still = || ConditionStatus::from(is_stalled(before) && kept(before).is_some());
    match news {
        News::Resting => (False, False),
        News::Failing(failure) if asks_for_help(failure) => (True, True),
        News::Accepted => (True, still()),
        News::Working(progress)
            if progress.stage == Stage::Preflight || denied(before, progress).is_some() =>
        {
            (True, still())
        }
        News::Working(_) | News::Stopping | News::Failing(_) => (True, False),
        News::Ended(ending) => (False, ConditionStatus::from(!ending.succeeded)),
    }
}

fn summary(before: &DdbctlDpJobStatus, news: &News<'_>) -> (ConditionStatus, &'static str, String) {
    let unknown =
        |reason: Reason, message: &str| (ConditionStatus::Unknown, reason.as_str(), message.to_owned());
    match news {
        News::Accepted => kept(before)
            .unwrap_or_else(|| unknown(Reason::Pending, "accepted; the table is about to be looked at")),
        News::Working(progress) if let Some(summary) = denied(before, progress) => summary,
        News::Working(progress) => match progress.stage {
            // A task that was started again after a failure has not shown yet that it fares better.
            Stage::Preflight => kept(before).unwrap_or_else(|| {
                unknown(
                    Reason::Preflight,
                    "the table is being looked at; nothing is deleted yet",
                )
            }),
            Stage::Planning => unknown(
                Reason::Planning,
                "the partition is being measured; nothing is deleted yet",
            ),
            Stage::Deleting => unknown(Reason::Deleting, "items are being deleted"),
            Stage::Verifying => unknown(
                Reason::Verifying,
                "every key was acknowledged; a consistent read decides whether any is left",
            ),
            Stage::Retrying => unknown(
                Reason::Retrying,
                progress
                    .trouble
                    .as_deref()
                    .unwrap_or("a round did not end well; the next one is about to begin"),
            ),
        },
        News::Stopping => unknown(Reason::Running, "stopping: requests in flight are being awaited"),
        News::Resting => unknown(
            Reason::Suspended,
            "at rest; what was deleted stays deleted. Set `spec.suspend` to false to go on",
        ),
        News::Failing(failure) => (
            ConditionStatus::Unknown,
            failure.reason.as_str(),
            failure.message.clone(),
        ),
        News::Ended(ending) => (
            ending.succeeded.into(),
            ending.reason.as_str(),
            ending.message.clone(),
        ),
    }
}

/// The summary of a failure that is still being retried: it stays until there is something better to tell.
fn kept(before: &DdbctlDpJobStatus) -> Option<(ConditionStatus, &'static str, String)> {
    let current = conditions::find(&before.conditions, ConditionType::Succeeded.as_str())?;
    let failing = [
        Reason::Retrying,
        Reason::EndpointUnreachable,
        Reason::AccessDenied,
        Reason::CredentialsInvalid,
        Reason::CredentialsMissing,
        Reason::TableUnavailable,
    ];
    let reason = failing
        .into_iter()
        .find(|reason| reason.as_str() == current.reason)?;
    Some((ConditionStatus::Unknown, reason.as_str(), current.message.clone()))
}

fn is_stalled(before: &DdbctlDpJobStatus) -> bool {
    conditions::is_true(&before.conditions, ConditionType::Stalled.as_str())
}

/// The summary of a denial stays until a run that may go on to delete has deleted something: what was denied may be the
/// last thing that it comes to.
fn denied(
    before: &DdbctlDpJobStatus,
    progress: &Progress,
) -> Option<(ConditionStatus, &'static str, String)> {
    let deleting = before.plan.is_some() && matches!(progress.stage, Stage::Planning | Stage::Deleting);
    let in_vain = progress.totals.keys_acknowledged <= totals(before).keys_acknowledged;
    kept(before).filter(|_| deleting && in_vain && is_stalled(before))
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
