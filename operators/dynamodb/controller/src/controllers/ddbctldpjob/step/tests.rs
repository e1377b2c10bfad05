use std::sync::Arc;

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobSpec, DeletionPlan, RunMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::conditions::DesiredCondition;
use rstest::rstest;

use super::*;

type Task = TaskState<Told, Output>;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn job(adjust: impl FnOnce(&mut DdbctlDpJobSpec)) -> Job {
    let mut spec = DdbctlDpJobSpec {
        table_name: Some("Orders".into()),
        partition_value: Some("tenant".into()),
        ..DdbctlDpJobSpec::default()
    };
    adjust(&mut spec);
    Job::parse(&DdbctlDpJob::new("x", spec)).unwrap()
}

fn fresh() -> DdbctlDpJobStatus {
    DdbctlDpJobStatus::default()
}

fn begun() -> DdbctlDpJobStatus {
    DdbctlDpJobStatus {
        plan: Some(DeletionPlan::default()),
        table_id: Some("id".into()),
        start_time: Some(Time(at(1000))),
        ..fresh()
    }
}

fn with(mut status: DdbctlDpJobStatus, type_: ConditionType, value: ConditionStatus) -> DdbctlDpJobStatus {
    let condition = DesiredCondition::new(type_.as_str(), value, "R", "");
    let _ = conditions::set(&mut status.conditions, condition, None, at(1));
    status
}

fn running() -> Task {
    TaskState::Running(Told::default())
}

fn finished(output: Output) -> Task {
    TaskState::Finished(Told::default(), Ended::Returned(Arc::new(output)))
}

fn failure(class: Class) -> Failure {
    Failure {
        class,
        reason: Reason::AccessDenied,
        message: "m".into(),
    }
}

fn measured() -> Measured {
    let partition_key = dynamodb_api::KeySchemaElement {
        name: "pk".into(),
        kind: dynamodb_api::AttributeType::S,
    };
    let key_schema = dynamodb_api::KeySchema {
        partition_key,
        sort_key: None,
    };
    Measured {
        table_id: "id".into(),
        key_schema,
        plan: DeletionPlan::default(),
        landmarks: Landmarks::default(),
    }
}

fn decide(job: &Job, status: &DdbctlDpJobStatus, task: impl Into<Option<Task>>) -> Step {
    let task = task.into();
    next(job, status, task.as_ref(), at(2000), false)
}

#[test]
fn a_job_is_measured_then_recorded_then_deleted_then_done() {
    let plain = job(|_| {});
    assert_eq!(decide(&plain, &fresh(), None), Step::Measure);
    assert_eq!(
        decide(&plain, &fresh(), running()),
        Step::Watch { deadline: None }
    );
    let measured = measured();
    let output = Ok(TaskOutput::Measured(Box::new(measured.clone())));
    assert_eq!(
        decide(&plain, &fresh(), finished(output)),
        Step::Record(Box::new(measured))
    );
    assert_eq!(decide(&plain, &begun(), None), Step::Delete);
    let step = decide(&plain, &begun(), finished(Ok(TaskOutput::Deleted(End::Empty))));
    assert!(
        matches!(
            step,
            Step::Finish(Ending {
                succeeded: true,
                reason: Reason::PartitionEmpty,
                ..
            })
        ),
        "{step:?}"
    );
}

#[test]
fn an_ended_job_is_left_alone_whatever_its_spec_says_now() {
    for value in [ConditionStatus::True, ConditionStatus::False] {
        let ended = with(begun(), ConditionType::Succeeded, value);
        for job in [
            job(|_| {}),
            job(|spec| spec.cancel = true),
            job(|spec| spec.suspend = true),
        ] {
            assert_eq!(decide(&job, &ended, None), Step::Leave);
        }
    }
}

#[rstest]
#[case::cancel(job(|spec| spec.cancel = true), Reason::Cancelled)]
#[case::deadline(job(|spec| spec.active_deadline_seconds = Some(999)), Reason::DeadlineExceeded)]
fn what_ends_a_job_stops_its_task_first(#[case] job: Job, #[case] reason: Reason) {
    assert_eq!(decide(&job, &begun(), running()), Step::Stop);
    let interrupted = finished(Ok(TaskOutput::Deleted(End::Interrupted)));
    for task in [Some(interrupted), None] {
        let Step::Finish(ending) = decide(&job, &begun(), task) else {
            panic!("not finished")
        };
        assert_eq!((ending.succeeded, ending.reason), (false, reason));
    }
}

#[test]
fn suspension_stops_rests_and_resumes_with_a_new_start_time() {
    let suspended = job(|spec| spec.suspend = true);
    assert_eq!(decide(&suspended, &begun(), running()), Step::Stop);
    assert_eq!(decide(&suspended, &begun(), None), Step::Rest);
    let resting = with(begun(), ConditionType::Suspended, ConditionStatus::True);
    // The deadline would have passed: it does not count while at rest.
    let resumed = job(|spec| spec.active_deadline_seconds = Some(10));
    assert_eq!(decide(&resumed, &resting, None), Step::Resume);
    assert_eq!(
        decide(&job(|spec| spec.suspend = true), &fresh(), None),
        Step::Rest
    );
}

#[test]
fn not_after_keeps_a_job_from_beginning_and_only_from_that() {
    let late = job(|spec| spec.not_after = Some(Time(at(1999))));
    let step = decide(&late, &fresh(), None);
    assert!(
        matches!(
            step,
            Step::Finish(Ending {
                succeeded: false,
                reason: Reason::Expired,
                ..
            })
        ),
        "{step:?}"
    );
    assert_eq!(decide(&late, &begun(), None), Step::Delete);
    assert_eq!(
        decide(&job(|spec| spec.not_after = Some(Time(at(2001)))), &fresh(), None),
        Step::Measure
    );
}

#[test]
fn a_result_counts_even_if_the_job_was_cancelled_meanwhile() {
    let cancelled = job(|spec| spec.cancel = true);
    let step = decide(
        &cancelled,
        &begun(),
        finished(Ok(TaskOutput::Deleted(End::Empty))),
    );
    assert!(
        matches!(step, Step::Finish(Ending { succeeded: true, .. })),
        "{step:?}"
    );
}

#[test]
fn failures_end_the_job_only_if_the_spec_must_change() {
    let plain = job(|_| {});
    assert!(matches!(
        decide(&plain, &begun(), finished(Err(failure(Class::Terminal)))),
        Step::Finish(_)
    ));
    for class in [Class::Transient, Class::Denied] {
        assert_eq!(
            decide(&plain, &begun(), finished(Err(failure(class)))),
            Step::Retry(failure(class))
        );
    }
    let panicked = TaskState::Finished(Told::default(), Ended::Panicked("boom".into()));
    assert!(matches!(decide(&plain, &begun(), panicked), Step::Retry(f) if f.class == Class::Transient));
}

#[test]
fn the_deadline_is_what_is_left_of_it() {
    let limited = job(|spec| spec.active_deadline_seconds = Some(1500));
    assert_eq!(
        decide(&limited, &begun(), running()),
        Step::Watch {
            deadline: Some(Duration::from_secs(500))
        }
    );
    let dry = job(|spec| spec.mode = RunMode::DryRun);
    assert!(dry.is_dry_run());
}

#[test]
fn a_change_of_what_the_task_depends_on_restarts_it() {
    let plain = job(|_| {});
    assert_eq!(
        next(&plain, &begun(), Some(&running()), at(2000), true),
        Step::Stop
    );
    let interrupted = finished(Ok(TaskOutput::Deleted(End::Interrupted)));
    assert_eq!(
        next(&plain, &begun(), Some(&interrupted), at(2000), true),
        Step::Delete
    );
}

#[test]
fn a_plan_that_comes_after_not_after_begins_nothing() {
    let late = job(|spec| spec.not_after = Some(Time(at(1999))));
    let step = decide(
        &late,
        &fresh(),
        finished(Ok(TaskOutput::Measured(Box::new(measured())))),
    );
    assert!(
        matches!(
            step,
            Step::Finish(Ending {
                reason: Reason::Expired,
                ..
            })
        ),
        "{step:?}"
    );
}

#[test]
fn the_deadline_also_ends_a_job_that_never_got_to_a_plan() {
    let limited = job(|spec| spec.active_deadline_seconds = Some(10));
    let waiting = with(fresh(), ConditionType::Suspended, ConditionStatus::False);
    let step = decide(&limited, &waiting, None);
    assert!(
        matches!(
            step,
            Step::Finish(Ending {
                reason: Reason::DeadlineExceeded,
                ..
            })
        ),
        "{step:?}"
    );
}

#[rstest]
#[case::cancel(job(|spec| spec.cancel = true), Reason::Cancelled)]
#[case::deadline(job(|spec| spec.active_deadline_seconds = Some(999)), Reason::DeadlineExceeded)]
fn what_ends_a_job_does_not_wait_for_another_attempt(#[case] job: Job, #[case] reason: Reason) {
    for class in [Class::Transient, Class::Denied] {
        let Step::Finish(ending) = decide(&job, &begun(), finished(Err(failure(class)))) else {
            panic!("not finished")
        };
        assert_eq!((ending.succeeded, ending.reason), (false, reason));
    }
}

#[test]
fn a_suspended_job_rests_instead_of_trying_again() {
    let suspended = job(|spec| spec.suspend = true);
    let failed = finished(Err(failure(Class::Denied)));
    assert_eq!(decide(&suspended, &begun(), failed), Step::Rest);
}

#[test]
fn other_settings_are_tried_at_once_after_a_failure() {
    let failed = finished(Err(failure(Class::Denied)));
    let again = |respecified| next(&job(|_| {}), &begun(), Some(&failed), at(2000), respecified);
    assert_eq!(again(true), Step::Delete);
    assert_eq!(again(false), Step::Retry(failure(Class::Denied)));
}

#[test]
fn a_run_that_settings_of_yesterday_have_ended_does_not_end_a_job_that_has_others() {
    let ended = finished(Err(failure(Class::Terminal)));
    let begins = |status: &DdbctlDpJobStatus, respecified| {
        next(&job(|_| {}), status, Some(&ended), at(2000), respecified)
    };
    assert_eq!(begins(&begun(), true), Step::Delete);
    assert_eq!(begins(&fresh(), true), Step::Measure);
    assert!(matches!(begins(&begun(), false), Step::Finish(ending) if !ending.succeeded));
    // What ends the job in any case still does.
    let cancelled = job(|spec| spec.cancel = true);
    assert!(matches!(
        next(&cancelled, &begun(), Some(&ended), at(2000), true),
        Step::Finish(ending) if ending.reason == Reason::Cancelled
    ));
    let empty = finished(Ok(TaskOutput::Deleted(End::Empty)));
    assert!(matches!(
        next(&job(|_| {}), &begun(), Some(&empty), at(2000), true),
        Step::Finish(ending) if ending.succeeded
    ));
}
