use rstest::rstest;

use super::*;
use crate::database::{
    job::Reached,
    program::{BackupMade, Failure, Reason},
};

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
        uid: UID.into(),
        whose: Whose::Ours,
        phase,
        reached: Reached::Nothing,
        id: request.as_ref().map(|request| request.id("u", now())),
        request,
        claim: Some("claim".into()),
        inputs: Some("inputs".into()),
        server: Some(SERVER.into()),
        made: None,
        going: None,
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

fn ending<'a>(content: Option<&'a Content>, job: Option<&'a Seen>) -> Ending<'a> {
    Ending {
        policy: BackupOnDelete::Required,
        skip: false,
        content,
        job,
        recorded: Some(UID),
        server: Some(SERVER),
        held: Held::Nothing,
        now: now(),
    }
}

fn last() -> Request {
    Request::Final(at("2026-11-21T11:00:00Z"))
}

#[test]
fn nothing_goes_before_its_final_backup() {
    let content = Some(&Content::Empty);
    assert_eq!(farewell(ending(content, None)), Farewell::Create);
    let running = job(Phase::Running, Some(last()));
    assert_eq!(farewell(ending(content, Some(&running))), Farewell::Wait);
    let done = job(Phase::Succeeded, Some(last()));
    assert_eq!(
        farewell(ending(content, Some(&done))),
        Farewell::Go(Leave::BackedUp)
    );
    // The volume was removed, and then the operator died.
    assert_eq!(farewell(ending(None, Some(&done))), Farewell::Go(Leave::BackedUp));
}

#[test]
fn a_server_that_has_started_since_its_final_backup_is_backed_up_again() {
    let content = Some(&Content::Empty);
    let done = job(Phase::Succeeded, Some(last()));
    for server in [Some("pod/2"), None] {
        let mut later = ending(content, Some(&done));
        later.server = server;
        assert_eq!(farewell(later), Farewell::Remove, "{server:?}");
        later.recorded = None;
        assert_eq!(farewell(later), Farewell::Wait, "first it is written down");
        // The volume was removed, and then the operator died.
        later.content = None;
        assert_eq!(farewell(later), Farewell::Go(Leave::BackedUp));
    }
    let mut unknown = done.clone();
    unknown.server = None;
    let mut nobody = ending(content, Some(&unknown));
    nobody.server = None;
    assert_eq!(farewell(nobody), Farewell::Remove, "nobody knows");
}

#[test]
fn a_backup_under_way_of_an_earlier_server_goes_before_it_closes_this_one() {
    let mut left = job(Phase::Running, Some(last()));
    left.whose = Whose::Left;
    let content = Some(&Content::Empty);
    assert_eq!(farewell(ending(content, Some(&left))), Farewell::Remove);
    assert_eq!(backup(asked(Some(&left), None)), Backup::Remove, "none is due");
    left.whose = Whose::Former;
    assert_eq!(farewell(ending(content, Some(&left))), Farewell::Wait);
}

#[test]
fn a_backup_that_cannot_begin_is_waited_for_unless_the_policy_asks_for_no_more() {
    let running = job(Phase::Running, Some(last()));
    let mut stuck = ending(Some(&Content::Empty), Some(&running));
    stuck.held = Held::Trouble;
    assert_eq!(farewell(stuck), Farewell::Wait);
    stuck.policy = BackupOnDelete::BestEffort;
    assert_eq!(farewell(stuck), Farewell::Go(Leave::Tried));
    stuck.held = Held::Room;
    assert_eq!(farewell(stuck), Farewell::Lessen, "less is tried first");
    stuck.held = Held::Nothing;
    assert_eq!(farewell(stuck), Farewell::Wait);
}

#[test]
fn an_earlier_backup_is_no_final_one() {
    let content = Some(&Content::Kept);
    let nightly = job(Phase::Succeeded, Some(tonight()));
    assert_eq!(farewell(ending(content, Some(&nightly))), Farewell::Remove);
    let mut unrecorded = ending(content, Some(&nightly));
    unrecorded.recorded = None;
    assert_eq!(farewell(unrecorded), Farewell::Wait);
    let mut before = job(Phase::Succeeded, Some(last()));
    before.whose = Whose::Left;
    assert_eq!(
        farewell(ending(content, Some(&before))),
        Farewell::Remove,
        "an earlier object's"
    );
}

#[test]
fn a_final_backup_that_fails_blocks_and_is_tried_again() {
    let content = Some(&Content::Empty);
    let recent = job(failed(JUST_NOW), Some(last()));
    let after = Duration::from_mins(4);
    assert_eq!(
        farewell(ending(content, Some(&recent))),
        Farewell::Blocked { after }
    );
    let old = job(failed(LONG_AGO), Some(last()));
    assert_eq!(farewell(ending(content, Some(&old))), Farewell::Remove);
    let mut unsaid = ending(content, Some(&old));
    unsaid.recorded = None;
    let after = Duration::ZERO;
    assert_eq!(farewell(unsaid), Farewell::Blocked { after });
}

#[test]
fn the_ways_on_without_a_backup() {
    let content = Some(&Content::Empty);
    let recent = job(failed(JUST_NOW), Some(last()));
    let mut skipped = ending(content, Some(&recent));
    skipped.skip = true;
    assert_eq!(farewell(skipped), Farewell::Go(Leave::Skipped));
    let mut effort = ending(content, Some(&recent));
    effort.policy = BackupOnDelete::BestEffort;
    assert_eq!(farewell(effort), Farewell::Go(Leave::Tried));
    let mut never = ending(content, None);
    never.policy = BackupOnDelete::Never;
    assert_eq!(farewell(never), Farewell::Go(Leave::Policy));
    for nothing in [None, Some(&Content::Awaited)] {
        assert_eq!(farewell(ending(nothing, None)), Farewell::Go(Leave::Nothing));
    }
    // It may be all that somebody has.
    assert_eq!(farewell(ending(Some(&Content::Unseen), None)), Farewell::Create);
}

#[rstest]
#[case(Version::V5_7, Version::V8_0, true)]
#[case(Version::V8_0, Version::V8_4, true)]
#[case(Version::V8_4, Version::V9, true)]
#[case(Version::V9, Version::V9, true)]
#[case(Version::V5_7, Version::V8_4, false)]
#[case(Version::V8_0, Version::V9, false)]
#[case(Version::V8_4, Version::V8_0, false)]
#[case(Version::V9, Version::V5_7, false)]
#[case(Version::Unknown, Version::V5_7, true)]
#[case(Version::V9, Version::Unknown, true)]
fn data_are_carried_one_series_at_a_time_and_never_back(
    #[case] from: Version,
    #[case] to: Version,
    #[case] fits: bool,
) {
    assert_eq!(is_step(from, to), fits);
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
