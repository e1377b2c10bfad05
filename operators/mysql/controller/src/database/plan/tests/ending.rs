//! The end of an object.

use super::*;

fn ending<'a>(content: Option<&'a Content>, job: Option<&'a Seen>) -> Ending<'a> {
    Ending {
        policy: BackupOnDelete::Required,
        skip: false,
        content,
        job,
        recorded: Some(UID),
        server: Some(SERVER),
        unserved: false,
        held: Held::Nothing,
        kept: true,
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
        // The volume was removed, and then the operator died; a Pod that has ended holds it.
        let mut held = later;
        held.unserved = true;
        assert_eq!(farewell(held), Farewell::Go(Leave::BackedUp));
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
fn a_final_backup_on_a_volume_that_goes_is_taken_again() {
    let done = job(Phase::Succeeded, Some(last()));
    let mut lost = ending(Some(&Content::Empty), Some(&done));
    lost.kept = false;
    assert_eq!(farewell(lost), Farewell::Remove);
    lost.recorded = None;
    assert_eq!(farewell(lost), Farewell::Wait, "first it is written down");
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

/// It has no deadline of its own. What is in its way is not in ours.
#[test]
fn a_backup_of_the_first_operators_is_ended_when_it_hangs_or_never_begins() {
    let mut former = job(Phase::Running, None);
    former.whose = Whose::Former;
    let content = Some(&Content::Kept);
    for (made, policy, held, expected) in [
        ("06:01", BackupOnDelete::Required, Held::Nothing, Farewell::Wait),
        ("06:01", BackupOnDelete::BestEffort, Held::Nothing, Farewell::Wait),
        ("06:00", BackupOnDelete::Required, Held::Nothing, Farewell::Remove),
        (
            "06:00",
            BackupOnDelete::BestEffort,
            Held::Nothing,
            Farewell::Remove,
        ),
        ("11:00", BackupOnDelete::Required, Held::Trouble, Farewell::Remove),
        (
            "11:00",
            BackupOnDelete::BestEffort,
            Held::Trouble,
            Farewell::Remove,
        ),
        ("11:00", BackupOnDelete::BestEffort, Held::Room, Farewell::Remove),
    ] {
        former.made = Some(at(&format!("2026-11-21T{made}:00Z")));
        let mut asked = ending(content, Some(&former));
        (asked.policy, asked.held) = (policy, held);
        assert_eq!(farewell(asked), expected, "{made} {policy:?} {held:?}");
    }
    former.made = Some(at("2026-11-21T06:01:00Z"));
    assert_eq!(backup(asked(Some(&former), None)), Backup::Wait);
    former.made = Some(at("2026-11-21T06:00:00Z"));
    assert_eq!(backup(asked(Some(&former), None)), Backup::Remove);
    former.going = Some(now());
    assert_eq!(backup(asked(Some(&former), None)), Backup::Wait);
}

#[test]
fn a_job_of_somebody_elses_that_has_the_name_is_left_alone() {
    let content = Some(&Content::Empty);
    let mut job = job(Phase::Running, None);
    job.whose = Whose::Foreign;
    for phase in [Phase::Running, Phase::Succeeded] {
        job.phase = phase;
        let mut asked = ending(content, Some(&job));
        assert_eq!(farewell(asked), Farewell::Conflict);
        asked.policy = BackupOnDelete::BestEffort;
        assert_eq!(
            farewell(asked),
            Farewell::Conflict,
            "whoever waits for it knows how long"
        );
    }
}

#[test]
fn a_job_that_goes_and_does_not_end_is_waited_for_unless_the_policy_asks_for_no_more() {
    let mut going = job(Phase::Running, Some(last()));
    going.going = Some(now());
    for (policy, held, expected) in [
        (BackupOnDelete::Required, Held::Trouble, Farewell::Wait),
        (BackupOnDelete::BestEffort, Held::Nothing, Farewell::Wait),
        (
            BackupOnDelete::BestEffort,
            Held::Trouble,
            Farewell::Go(Leave::Tried),
        ),
    ] {
        let mut asked = ending(Some(&Content::Empty), Some(&going));
        (asked.policy, asked.held) = (policy, held);
        assert_eq!(farewell(asked), expected, "{policy:?} {held:?}");
    }
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
fn a_backup_that_cannot_begin_makes_way_for_the_final_one_which_is_tried() {
    let content = Some(&Content::Kept);
    for request in [tonight(), Request::Now("1".into())] {
        let nightly = job(Phase::Running, Some(request));
        for policy in [BackupOnDelete::Required, BackupOnDelete::BestEffort] {
            for (held, expected) in [
                (Held::Nothing, Farewell::Wait),
                (Held::Room, Farewell::Remove),
                (Held::Trouble, Farewell::Remove),
            ] {
                let mut asked = ending(content, Some(&nightly));
                (asked.policy, asked.held) = (policy, held);
                assert_eq!(farewell(asked), expected, "{policy:?} {held:?}");
            }
        }
    }
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
