use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::database::{
    job::{Phase, Request, Seen},
    program::{BackupMade, Failure, Outcome, Reason as Word},
};

fn object(spec: &Value) -> MySQL {
    let mut whole = json!({"image": "mysql:8.4.3", "database": "d", "storage_size": "1Gi"});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut object = MySQL::new("m", serde_json::from_value(whole).unwrap());
    object.metadata.generation = Some(3);
    object
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn says(status: &MySQLStatus, type_: ConditionType) -> (String, String) {
    let found = conditions::find(&status.conditions, type_.as_str()).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn serving() -> Facts {
    Facts {
        storage: Some(Said::yes(Reason::VolumeBound, "bound")),
        restore: Some(Said::yes(Reason::StartedEmpty, "empty")),
        server: Some(Said::yes(Reason::Serving, "ready")),
        applied: true,
        ..Facts::default()
    }
}

#[test]
fn ready_is_true_when_volume_data_and_server_are_there_and_no_backup_is_needed_for_that() {
    let status = status(&object(&json!({})), &serving(), now());
    assert_eq!(status.conditions[0].type_, "Ready");
    assert_eq!(
        says(&status, ConditionType::Ready),
        ("True".into(), "Serving".into())
    );
    assert_eq!(
        says(&status, ConditionType::BackupTaken),
        ("False".into(), "NoBackupYet".into())
    );
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.server_version.as_deref(), Some("8.4.3"));
}

#[test]
fn the_worst_part_is_the_summary() {
    let mut facts = serving();
    facts.restore = Some(Said::no(Reason::RestoreFailed, "the dump has no end"));
    let status = status(&object(&json!({})), &facts, now());
    assert_eq!(
        says(&status, ConditionType::Ready),
        ("False".into(), "RestoreFailed".into())
    );
}

fn ended(phase: Phase, request: Request) -> Seen {
    Seen {
        phase,
        id: Some(request.id("u", Timestamp::UNIX_EPOCH)),
        request: Some(request),
        ..Seen::at_work("job")
    }
}

fn made(id: &str) -> Outcome {
    Outcome::BackedUp(BackupMade {
        id: id.into(),
        time: now(),
        bytes: 42,
        sha256: "00ff".into(),
        version: "9.7.4".into(),
    })
}

#[test]
fn what_became_of_a_job_is_written_down_whole() {
    let mut facts = serving();
    facts.ended = Some((
        ended(Phase::Succeeded, Request::Now("1".into())),
        Some(made("b1")),
    ));
    let status = status(&object(&json!({})), &facts, now());
    let last = status.last_backup.clone().unwrap();
    assert_eq!((last.id.as_str(), last.bytes), ("b1", Some(42)));
    assert_eq!(last.server_version.as_deref(), Some("9.7.4"));
    assert_eq!(status.recorded_job.as_deref(), Some("job"));
    assert_eq!(status.last_request.as_deref(), Some("1"));
    assert_eq!(
        says(&status, ConditionType::BackupTaken),
        ("True".into(), "BackupDone".into())
    );
}

#[test]
fn a_backup_whose_pod_cannot_be_asked_any_more_counts_and_its_size_is_not_made_up() {
    let mut facts = serving();
    facts.ended = Some((ended(Phase::Succeeded, Request::Scheduled(now())), None));
    let status_ = status(&object(&json!({})), &facts, now());
    let last = status_.last_backup.clone().unwrap();
    assert_eq!((last.time, last.bytes, last.sha256), (Time(now()), None, None));
    assert_eq!(status_.last_schedule_time, Some(Time(now())));
    assert_eq!(says(&status_, ConditionType::BackupTaken).0, "True");
    // Of one that was asked for at once it is known when its Job was made.
    let mut before = object(&json!({}));
    before.status = Some(status_);
    let later: Timestamp = "2026-11-21T13:00:00Z".parse().unwrap();
    let mut job = ended(Phase::Succeeded, Request::Now("1".into()));
    (job.uid, job.id, job.made) = ("job-2".into(), Some("b2".into()), Some(later));
    facts.ended = Some((job, None));
    let last = status(&before, &facts, now()).last_backup.unwrap();
    assert_eq!(
        (last.id.as_str(), last.time, last.bytes),
        ("b2", Time(later), None)
    );
}

#[test]
fn a_backup_that_failed_takes_nothing_from_the_last_one() {
    let mut before = object(&json!({}));
    let mut facts = serving();
    facts.ended = Some((
        ended(Phase::Succeeded, Request::Now("1".into())),
        Some(made("b1")),
    ));
    before.status = Some(status(&before, &facts, now()));
    let why = "BackoffLimitExceeded".to_owned();
    let failure = Outcome::Failed(Failure {
        reason: Word::VolumeFull,
        error: "no space is left".into(),
    });
    let mut job = ended(Phase::Failed { at: None, why }, Request::Now("2".into()));
    job.uid = "job-2".into();
    facts.ended = Some((job, Some(failure)));
    let after = status(&before, &facts, now());
    assert_eq!(after.last_backup.unwrap().id, "b1");
    assert_eq!(
        after.last_request.as_deref(),
        Some("2"),
        "it is not tried for ever"
    );
    let said = conditions::find(&after.conditions, "BackupTaken").unwrap();
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("False", "BackupFailed")
    );
    assert!(
        said.message.contains("VolumeFull: no space is left"),
        "{}",
        said.message
    );
}

#[test]
fn a_password_in_clear_is_named_with_the_way_out_and_never_shown() {
    let clear = object(&json!({"password": "s3cret"}));
    let said = status(&clear, &serving(), now());
    assert_eq!(says(&said, ConditionType::ClearTextPassword).0, "True");
    assert!(!serde_json::to_string(&said).unwrap().contains("s3cret"));
    let mut switched = object(&json!({}));
    switched.status = Some(said);
    let said = status(&switched, &serving(), now());
    assert!(conditions::find(&said.conditions, "ClearTextPassword").is_none());
}

#[test]
fn a_spec_that_cannot_be_carried_out_does_not_make_a_server_that_runs_unready() {
    let mut running = object(&json!({}));
    running.status = Some(status(&running, &serving(), now()));
    let said = prevented(&running, Reason::OptionsInvalid, "config: \"port\" …", now());
    assert_eq!(says(&said, ConditionType::Ready).0, "True");
    assert_eq!(
        says(&said, ConditionType::UpToDate),
        ("False".into(), "OptionsInvalid".into())
    );
    let said = prevented(
        &object(&json!({})),
        Reason::OptionsInvalid,
        "config: \"port\" …",
        now(),
    );
    assert_eq!(
        says(&said, ConditionType::Ready),
        ("False".into(), "OptionsInvalid".into())
    );
}

#[test]
fn a_pause_is_said_and_taken_back() {
    let mut object = object(&json!({}));
    object.status = Some(status(&object, &serving(), now()));
    object.status = Some(paused(&object, now()));
    let before = object.status.clone().unwrap();
    assert_eq!(says(&before, ConditionType::Paused).0, "True");
    assert_eq!(says(&before, ConditionType::Ready).0, "True");
    let after = status(&object, &serving(), now());
    assert!(conditions::find(&after.conditions, "Paused").is_none());
}

#[test]
fn what_was_not_looked_at_stays_as_it_was_said() {
    let mut object = object(&json!({}));
    let first = status(&object, &Facts::default(), now());
    assert_eq!(says(&first, ConditionType::Ready).0, "Unknown");
    object.status = Some(status(&object, &serving(), now()));
    let later = status(&object, &Facts::default(), now());
    assert_eq!(
        says(&later, ConditionType::Ready),
        ("True".into(), "Serving".into())
    );
}

#[rstest]
#[case("mysql:5.7", Some("5.7"))]
#[case("registry:5000/x/mysql:8.0.36-debian@sha256:00", Some("8.0.36"))]
#[case("mysql:8", None)]
#[case("mysql:latest", None)]
#[case("x/mysql:9.7abc", None)]
#[case("mysql@sha256:00", None)]
fn the_version_is_what_the_tag_says(#[case] image: &str, #[case] expected: Option<&str>) {
    assert_eq!(version(image).as_deref(), expected);
}

#[test]
fn the_version_is_that_of_the_server_that_answers_not_of_the_one_that_is_asked_for() {
    let mut object = object(&json!({"image": "mysql:9.7.0"}));
    let mut facts = serving();
    facts.image = Some("mysql:8.4.3".into());
    object.status = Some(status(&object, &facts, now()));
    assert_eq!(
        object.status.as_ref().unwrap().server_version.as_deref(),
        Some("8.4.3")
    );
    facts.image = None;
    let kept = status(&object, &facts, now());
    assert_eq!(
        kept.server_version.as_deref(),
        Some("8.4.3"),
        "until another one answers"
    );
}

#[test]
fn a_spec_that_a_pass_did_not_get_to_is_not_said_to_run() {
    let mut object = object(&json!({}));
    let mut facts = serving();
    object.status = Some(status(&object, &facts, now()));
    facts.applied = false;
    let same = status(&object, &facts, now());
    assert_eq!(
        says(&same, ConditionType::UpToDate),
        ("True".into(), "Applied".into())
    );
    object.metadata.generation = Some(4);
    let next = status(&object, &facts, now());
    assert_eq!(says(&next, ConditionType::UpToDate).0, "Unknown");
    object.status = Some(next);
    assert_eq!(
        says(&status(&object, &facts, now()), ConditionType::UpToDate).0,
        "Unknown"
    );
    facts.applied = true;
    assert_eq!(
        says(&status(&object, &facts, now()), ConditionType::UpToDate).0,
        "True"
    );
}

#[test]
fn a_schedule_is_kept_from_when_it_is_first_seen() {
    let later: Timestamp = "2026-11-21T13:00:00Z".parse().unwrap();
    let mut object = object(&json!({}));
    object.status = Some(status(&object, &serving(), now()));
    assert_eq!(object.status.as_ref().unwrap().schedule_since, None);
    object.spec.backup = serde_json::from_value(json!({"schedule": "0 2 * * *"})).unwrap();
    object.status = Some(status(&object, &serving(), now()));
    let again = status(&object, &serving(), later);
    assert_eq!(again.schedule_since, Some(Time(now())), "it stays");
    object.spec.backup = serde_json::from_value(json!({"schedule": "0 3 * * *"})).unwrap();
    let other = status(&object, &serving(), later);
    assert_eq!(
        (other.schedule.as_deref(), other.schedule_since),
        (Some("0 3 * * *"), Some(Time(later)))
    );
    object.spec.backup = None;
    assert_eq!(status(&object, &serving(), later).schedule_since, None);
}

#[test]
fn a_pause_that_is_over_is_told_no_more_also_of_a_spec_that_is_refused() {
    let mut object = object(&json!({}));
    object.status = Some(paused(&object, Timestamp::UNIX_EPOCH));
    let status = prevented(&object, Reason::SizeInvalid, "it is wrong", Timestamp::UNIX_EPOCH);
    assert!(conditions::find(&status.conditions, ConditionType::Paused.as_str()).is_none());
}

/// What stood in the way of backups is seen as long as it does; how a backup ended is seen once.
#[test]
fn trouble_with_backups_is_over_when_it_is_not_seen_any_more() {
    let mut before = object(&json!({}));
    let mut facts = serving();
    facts.tended = true;
    let wrong = Said::no(Reason::ScheduleInvalid, "no such minute");
    let missing = Said::no(Reason::BackupFailed, "backup-m-pvc is not there");
    let ended_in = |phase, words| Some((ended(phase, Request::Now("1".into())), Some(words)));
    let why = "BackoffLimitExceeded".to_owned();
    let failure = Outcome::Failed(Failure {
        reason: Word::VolumeFull,
        error: "no space is left".into(),
    });
    let failed = ended_in(Phase::Failed { at: None, why }, failure);
    let is_there = failed.clone();
    let steps = [
        (Some(wrong.clone()), None, "ScheduleInvalid"),
        (None, None, "NoBackupYet"),
        (None, ended_in(Phase::Succeeded, made("b1")), "BackupDone"),
        (Some(missing), None, "BackupFailed"),
        (None, None, "BackupDone"),
        (None, failed, "BackupFailed"),
        (None, None, "BackupFailed"),
        (Some(wrong.clone()), None, "ScheduleInvalid"),
    ];
    for (backup, ended, reason) in steps {
        (facts.backup, facts.ended) = (backup, ended);
        let after = status(&before, &facts, now());
        assert_eq!(says(&after, ConditionType::BackupTaken).1, reason);
        before.status = Some(after);
    }
    // The Job that failed before that is there yet.
    facts.ended = None;
    facts.failed = is_there;
    for (backup, reason) in [(None, "BackupFailed"), (Some(wrong), "ScheduleInvalid")] {
        facts.backup = backup;
        let after = status(&before, &facts, now());
        assert_eq!(says(&after, ConditionType::BackupTaken).1, reason);
        before.status = Some(after);
    }
    // A pass that did not come so far as to look has nothing to say.
    (facts.backup, facts.tended) = (None, false);
    let after = status(&before, &facts, now());
    assert_eq!(says(&after, ConditionType::BackupTaken).1, "ScheduleInvalid");
}
