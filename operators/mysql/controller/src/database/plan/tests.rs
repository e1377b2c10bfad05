mod ending;

use rstest::rstest;

use super::*;
use crate::database::program::{BackupMade, Failure, Reason};

const UID: &str = "job-1";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

const SERVER: &str = "pod/1";

fn job(phase: Phase, request: Option<Request>) -> Seen {
    Seen {
        phase,
        id: request.as_ref().map(|request| request.id("u", now())),
        request,
        claim: Some("claim".into()),
        inputs: Some("inputs".into()),
        server: Some(SERVER.into()),
        ..Seen::at_work(UID)
    }
}

fn failed(at_: &str) -> Phase {
    Phase::Failed {
        at: Some(at(at_)),
        why: "BackoffLimitExceeded".into(),
    }
}

const LONG_AGO: &str = "2026-11-21T11:00:00Z";
const JUST_NOW: &str = "2026-11-21T11:59:00Z";

fn made() -> Outcome {
    Outcome::Filled(Origin::Backup(BackupMade {
        id: "b1".into(),
        time: now(),
        bytes: 1,
        sha256: "00".into(),
        version: "9.7".into(),
    }))
}

fn beginning<'a>(content: &'a Content, job: Option<&'a Seen>, outcome: Option<&'a Outcome>) -> Beginning<'a> {
    Beginning {
        content,
        claim: "claim",
        server: false,
        job,
        outcome,
        inputs: "inputs",
        astray: false,
        told: true,
        now: now(),
    }
}

#[rstest]
#[case(Content::Empty)]
#[case(Content::Kept)]
#[case(Content::Restored("b0".into()))]
fn a_volume_that_a_server_has_had_is_never_filled_again(#[case] content: Content) {
    for phase in [Phase::Running, Phase::Succeeded, failed(LONG_AGO)] {
        let job = job(phase, None);
        assert_eq!(start(beginning(&content, Some(&job), Some(&made()))), Start::Go);
    }
    assert_eq!(start(beginning(&content, None, None)), Start::Go);
}

#[test]
fn a_new_volume_is_filled_once_and_what_filled_it_is_written_down() {
    let awaited = &Content::Awaited;
    assert_eq!(start(beginning(awaited, None, None)), Start::Create);
    assert_eq!(start(beginning(&Content::Unseen, None, None)), Start::Create);
    let running = job(Phase::Running, None);
    assert_eq!(start(beginning(awaited, Some(&running), None)), Start::Wait);
    let done = job(Phase::Succeeded, None);
    let said = |outcome: Option<&Outcome>| start(beginning(awaited, Some(&done), outcome));
    assert_eq!(said(Some(&made())), Start::Record(Content::Restored("b1".into())));
    assert_eq!(
        said(Some(&Outcome::Filled(Origin::Empty))),
        Start::Record(Content::Empty)
    );
    assert_eq!(
        said(Some(&Outcome::Filled(Origin::Existing))),
        Start::Record(Content::Kept)
    );
    assert_eq!(said(None), Start::Record(Content::Kept), "its Pod is gone");
    let mut elsewhere = beginning(awaited, Some(&done), None);
    elsewhere.astray = true;
    assert_eq!(start(elsewhere), Start::Remove);
    for mut strange in [running.clone(), done.clone()] {
        strange.whose = Whose::Foreign;
        assert_eq!(start(beginning(awaited, Some(&strange), None)), Start::Conflict);
    }
}

#[test]
fn no_server_is_there_while_a_volume_is_filled() {
    let done = job(Phase::Succeeded, None);
    for job in [None, Some(&done)] {
        let mut seen = beginning(&Content::Awaited, job, None);
        seen.server = true;
        assert_eq!(start(seen), Start::RemoveServer);
    }
}

#[test]
fn a_job_that_filled_a_volume_that_is_gone_says_nothing_of_the_next_one() {
    for phase in [Phase::Running, Phase::Succeeded, failed(JUST_NOW)] {
        let mut job = job(phase, None);
        job.claim = Some("an earlier claim".into());
        let step = start(beginning(&Content::Awaited, Some(&job), Some(&made())));
        assert_eq!(step, Start::Remove);
    }
}

/// One that waited for it would wait for ever: some never end.
#[rstest]
#[case(Whose::Left)]
#[case(Whose::Former)]
fn a_job_that_was_left_makes_room_and_is_waited_for_while_it_goes(#[case] whose: Whose) {
    for content in [Content::Awaited, Content::Unseen] {
        for phase in [Phase::Running, Phase::Succeeded, failed(JUST_NOW)] {
            let mut left = job(phase, None);
            left.whose = whose;
            assert_eq!(start(beginning(&content, Some(&left), None)), Start::Remove);
            left.going = Some(now());
            assert_eq!(
                start(beginning(&content, Some(&left), None)),
                Start::Wait,
                "its Pods are not gone yet"
            );
        }
    }
}

#[test]
fn a_failed_restore_is_tried_again_after_a_pause_once_it_was_told_or_when_something_was_changed() {
    let (recent, old) = (job(failed(JUST_NOW), None), job(failed(LONG_AGO), None));
    let step = |job: &Seen, told: bool, inputs: &str| {
        let mut seen = beginning(&Content::Awaited, Some(job), None);
        (seen.told, seen.inputs) = (told, inputs);
        start(seen)
    };
    let failed = |after: Duration| Start::Failed { after };
    assert_eq!(step(&recent, true, "inputs"), failed(Duration::from_mins(4)));
    assert_eq!(step(&old, true, "inputs"), Start::Remove);
    assert_eq!(step(&old, false, "inputs"), failed(Duration::ZERO));
    assert_eq!(step(&recent, true, "others"), Start::Remove);
}

fn asked<'a>(job: Option<&'a Seen>, schedule: Option<&'a Schedule>) -> Asked<'a> {
    Asked {
        job,
        recorded: Some(UID),
        wanted: None,
        acted: None,
        schedule,
        since: at("2026-11-21T00:00:00Z"),
        concurrency: ConcurrencyPolicy::Forbid,
        serving: true,
        now: now(),
    }
}

fn nightly() -> Schedule {
    Schedule::parse("0 2 * * *", Duration::ZERO, "u").unwrap()
}

fn tonight() -> Request {
    Request::Scheduled(at("2026-11-21T02:00:00Z"))
}

#[test]
fn a_backup_is_begun_when_it_is_due_and_the_server_can_be_asked() {
    let nightly = nightly();
    assert_eq!(backup(asked(None, None)), Backup::Rest);
    assert_eq!(backup(asked(None, Some(&nightly))), Backup::Create(tonight()));
    let mut down = asked(None, Some(&nightly));
    down.serving = false;
    assert_eq!(backup(down), Backup::Rest);
    let mut person = asked(None, None);
    person.wanted = Some("1");
    assert_eq!(backup(person), Backup::Create(Request::Now("1".into())));
    person.acted = Some("1");
    assert_eq!(backup(person), Backup::Rest, "one value, one backup");
    person.wanted = Some("2");
    assert_eq!(backup(person), Backup::Create(Request::Now("2".into())));
}

#[test]
fn a_job_goes_only_when_what_became_of_it_is_written_down() {
    let nightly = nightly();
    for phase in [Phase::Succeeded, failed(JUST_NOW)] {
        let last = job(phase, Some(Request::Now("1".into())));
        let mut unrecorded = asked(Some(&last), Some(&nightly));
        unrecorded.recorded = None;
        assert_eq!(backup(unrecorded), Backup::Wait);
        assert_eq!(backup(asked(Some(&last), Some(&nightly))), Backup::Remove);
        assert_eq!(
            backup(asked(Some(&last), None)),
            Backup::Rest,
            "it stays to be looked at"
        );
    }
}

#[test]
fn a_backup_that_was_begun_is_not_begun_again() {
    let nightly = nightly();
    for phase in [Phase::Running, Phase::Succeeded, failed(JUST_NOW)] {
        let tonights = job(phase.clone(), Some(tonight()));
        let step = backup(asked(Some(&tonights), Some(&nightly)));
        let expected = if phase == Phase::Running {
            Backup::Wait
        } else {
            Backup::Rest
        };
        assert_eq!(step, expected);
    }
}

#[rstest]
#[case(ConcurrencyPolicy::Forbid, Backup::Wait)]
#[case(ConcurrencyPolicy::Replace, Backup::Remove)]
fn a_scheduled_backup_finds_one_under_way(#[case] policy: ConcurrencyPolicy, #[case] step: Backup) {
    let nightly = nightly();
    let last = job(
        Phase::Running,
        Some(Request::Scheduled(at("2026-11-20T02:00:00Z"))),
    );
    let mut asked = asked(Some(&last), Some(&nightly));
    asked.concurrency = policy;
    assert_eq!(backup(asked), step);
}

#[rstest]
#[case(Whose::Foreign, Phase::Succeeded, Backup::Conflict)]
#[case(Whose::Left, Phase::Running, Backup::Remove)]
#[case(Whose::Former, Phase::Running, Backup::Wait)]
#[case(Whose::Former, Phase::Succeeded, Backup::Remove)]
#[case(Whose::Left, Phase::Succeeded, Backup::Remove)]
fn a_job_that_is_not_ours(#[case] whose: Whose, #[case] phase: Phase, #[case] step: Backup) {
    let nightly = nightly();
    let mut other = job(phase, None);
    other.whose = whose;
    assert_eq!(backup(asked(Some(&other), Some(&nightly))), step);
    if whose == Whose::Foreign {
        assert_eq!(backup(asked(Some(&other), None)), Backup::Rest, "nothing is due");
    }
}

#[test]
fn a_restore_that_failed_says_nothing_of_a_volume() {
    let words = Outcome::Failed(Failure {
        reason: Reason::BackupDamaged,
        error: "x".into(),
    });
    let recent = job(failed(JUST_NOW), None);
    let step = start(beginning(&Content::Awaited, Some(&recent), Some(&words)));
    assert!(matches!(step, Start::Failed { .. }));
}
