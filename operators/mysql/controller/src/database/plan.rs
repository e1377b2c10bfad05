//! What is to be done next: three decisions, each a pure function of what was observed.
//!
//! # Guarantees
//! - [`start`] never lets a server have a volume whose folder is still to be filled.
//! - [`backup`] removes the Job of a backup only when what became of it is written down, and never begins two at a time.
//! - [`farewell`] lets a deletion go on only with the final backup, after which no server has started, with leave to go without, or where there is nothing
//!   to back up.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mysql_api::database::{BackupOnDelete, ConcurrencyPolicy};

use super::{
    former,
    job::{Phase, Request, Seen, Whose},
    program::{Origin, Outcome},
    schedule::Schedule,
    volumes::Content,
};
use crate::{release::is_step, sabotage};

/// When a Job that failed is made again, so that a repair needs no word to the operator.
pub const AGAIN: Duration = Duration::from_mins(5);

/// What is to be done about a data folder before a server may have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is filled: go on.
    Go,
    /// A server is there that must not be: remove it.
    RemoveServer,
    /// Begin to fill it.
    Create,
    /// It is being filled.
    Wait,
    /// Remove the Job: it was begun with something else, or is to be tried again.
    Remove,
    /// It was filled: write that down.
    Record(Content),
    /// It could not be filled.
    Failed {
        /// When it is tried again.
        after: Duration,
    },
    /// The Job's name is taken.
    Conflict,
}

/// What a decision about a new data folder depends on.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// What the claim says.
    pub content: &'a Content,
    /// UID of the claim.
    pub claim: &'a str,
    /// Whether a Deployment is there.
    pub server: bool,
    /// The Job.
    pub job: Option<&'a Seen>,
    /// Its last words.
    pub outcome: Option<&'a Outcome>,
    /// What a Job would be begun with now.
    pub inputs: &'a str,
    /// Whether it has filled a folder of a node, and not of that which the volume is tied to.
    pub astray: bool,
    /// Whether its failure was told.
    pub told: bool,
    /// Now.
    pub now: Timestamp,
}

/// What is to be done about a data folder before a server may have it.
pub fn start(seen: Beginning<'_>) -> Start {
    let open = seen.content.is_open() || sabotage::active(sabotage::RESTORE_OVER_DATA);
    if !open || sabotage::active(sabotage::SERVER_BEFORE_RESTORE) {
        return Start::Go;
    }
    if seen.server {
        return Start::RemoveServer;
    }
    let Some(job) = seen.job else { return Start::Create };
    match (&job.phase, job.whose) {
        _ if job.going.is_some() => Start::Wait,
        (_, Whose::Foreign) => Start::Conflict,
        // Of no use without the server that it was begun for, and not to write to the next one. It is gone when its Pods are.
        (_, Whose::Left | Whose::Former) => Start::Remove,
        // It filled a volume that is gone.
        (_, Whose::Ours) if job.claim.as_deref() != Some(seen.claim) => Start::Remove,
        (Phase::Succeeded, Whose::Ours) if seen.astray => Start::Remove,
        (Phase::Succeeded, Whose::Ours) => Start::Record(match seen.outcome {
            Some(Outcome::Filled(Origin::Backup(backup))) => Content::Restored(backup.id.clone()),
            Some(Outcome::Filled(Origin::Empty)) => Content::Empty,
            // Its Pod is gone and cannot be asked; that the folder is filled is certain.
            _ => Content::Kept,
        }),
        (_, Whose::Ours) if job.inputs.as_deref() != Some(seen.inputs) => Start::Remove,
        (Phase::Running, Whose::Ours) => Start::Wait,
        (Phase::Failed { at, .. }, Whose::Ours) => match left(*at, seen.now) {
            Some(after) => Start::Failed { after },
            // That it failed is said before its Job goes, however long ago it was.
            None if !seen.told => Start::Failed {
                after: Duration::ZERO,
            },
            None => Start::Remove,
        },
    }
}

/// What is left of the pause after a failure.
fn left(at: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let again = at?.checked_add(AGAIN).ok()?;
    let left = Duration::try_from(again.duration_since(now)).ok()?;
    (!left.is_zero()).then_some(left)
}

/// What is to be done about backups while the object lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backup {
    /// Nothing is due.
    Rest,
    /// One is under way, or ends.
    Wait,
    /// Begin one.
    Create(Request),
    /// Remove the Job of one that has ended, or that another takes the place of.
    Remove,
    /// The Job's name is taken.
    Conflict,
}

/// What a decision about backups depends on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The Job.
    pub job: Option<&'a Seen>,
    /// UID of the Job whose end is written down.
    pub recorded: Option<&'a str>,
    /// Value of the annotation.
    pub wanted: Option<&'a str>,
    /// The last value that was acted on.
    pub acted: Option<&'a str>,
    /// The schedule.
    pub schedule: Option<&'a Schedule>,
    /// The last time of it that was acted on, or when the object was created.
    pub since: Timestamp,
    /// What a due backup does to one under way.
    pub concurrency: ConcurrencyPolicy,
    /// Whether the server can be backed up.
    pub serving: bool,
    /// Now.
    pub now: Timestamp,
}

/// What is to be done about backups while the object lives.
pub fn backup(asked: Asked<'_>) -> Backup {
    let due = due(asked);
    let Some(job) = asked.job else {
        return due.filter(|_| asked.serving).map_or(Backup::Rest, Backup::Create);
    };
    if job.going.is_some() {
        return Backup::Wait;
    }
    // What is under way for this very request is no reason to begin it again.
    let due = due.filter(|due| job.whose != Whose::Ours || job.request.as_ref() != Some(due));
    let recorded = asked.recorded == Some(job.uid.as_str()) || sabotage::active(sabotage::FORGET_RECORD);
    match (&job.phase, job.whose) {
        (_, Whose::Foreign) => due.map_or(Backup::Rest, |_| Backup::Conflict),
        (Phase::Running, Whose::Former) if !former::hangs(job, asked.now) => Backup::Wait,
        // It was begun for a server that is gone, and would close the one that is here to writes; or it never ends.
        (Phase::Running, Whose::Left | Whose::Former) => Backup::Remove,
        (_, Whose::Left | Whose::Former) => due.map_or(Backup::Rest, |_| Backup::Remove),
        (Phase::Running, Whose::Ours) => match due {
            Some(Request::Scheduled(_)) if asked.concurrency == ConcurrencyPolicy::Replace => Backup::Remove,
            _ => Backup::Wait,
        },
        (_, Whose::Ours) if !recorded => Backup::Wait,
        (_, Whose::Ours) => due.map_or(Backup::Rest, |_| Backup::Remove),
    }
}

fn due(asked: Asked<'_>) -> Option<Request> {
    if let Some(wanted) = asked
        .wanted
        .filter(|wanted| !wanted.is_empty() && Some(*wanted) != asked.acted)
    {
        return Some(Request::Now(wanted.to_owned()));
    }
    asked
        .schedule?
        .due(asked.since, asked.now)
        .map(Request::Scheduled)
}

/// What is to be done about an object that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Let it go.
    Go(Leave),
    /// Begin the final backup.
    Create,
    /// The final backup is under way, or another one is.
    Wait,
    /// What became of a Job is to be written down, and the Job to go.
    Remove,
    /// Another one, that does with less, is to take the Job's place.
    Lessen,
    /// The final backup failed.
    Blocked {
        /// When it is tried again.
        after: Duration,
    },
    /// The Job's name is taken.
    Conflict,
}

/// Why an object may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The final backup is there.
    BackedUp,
    /// There never was anything to back up.
    Nothing,
    /// The policy says that none is taken.
    Policy,
    /// The annotation says that none is taken.
    Skipped,
    /// It was tried, and the policy asks for no more.
    Tried,
    /// The namespace is being deleted, and the volume with the backups with it.
    NamespaceGone,
}

/// What has kept a Job's Pod from coming up for so long that a person is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// Perhaps what it asks for, and less was not tried.
    Room,
    /// Anything else.
    Trouble,
}

/// What a decision about a deletion depends on.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// The policy.
    pub policy: BackupOnDelete,
    /// Whether the annotation names this object.
    pub skip: bool,
    /// What is on the data volume; nothing if there is none.
    pub content: Option<&'a Content>,
    /// The Job for backups.
    pub job: Option<&'a Seen>,
    /// UID of the Job whose end is written down.
    pub recorded: Option<&'a str>,
    /// Which server is there.
    pub server: Option<&'a str>,
    /// Whether the data volume is going and no server has it: none ever will again.
    pub unserved: bool,
    /// What keeps the Job's Pod from coming up.
    pub held: Held,
    /// Whether the volume that the Job's backup has gone to stays.
    pub kept: bool,
    /// Now.
    pub now: Timestamp,
}

impl Ending<'_> {
    /// Whether nothing was written after this backup: it closed the server, and one that starts again is open.
    fn is_the_last(&self, job: &Seen) -> bool {
        // The data volume may be gone already, by our own hand before a crash.
        self.content.is_none()
            || self.unserved
            || (job.server.is_some() && job.server.as_deref() == self.server)
            || sabotage::active(sabotage::TRUST_EARLIER_BACKUP)
    }
}

/// What is to be done about an object that is being deleted.
pub fn farewell(ending: Ending<'_>) -> Farewell {
    let ours = ending
        .job
        .filter(|job| job.whose == Whose::Ours && job.going.is_none());
    let last = ours.filter(|job| matches!(job.request, Some(Request::Final(_))));
    // First what was achieved. A backup on a volume that is going is none.
    if last.is_some_and(|job| job.phase == Phase::Succeeded && ending.is_the_last(job) && ending.kept) {
        return Farewell::Go(Leave::BackedUp);
    }
    if ending.skip {
        return Farewell::Go(Leave::Skipped);
    }
    if ending.policy == BackupOnDelete::Never {
        return Farewell::Go(Leave::Policy);
    }
    if matches!(ending.content, None | Some(Content::Awaited)) {
        return Farewell::Go(Leave::Nothing);
    }
    if sabotage::active(sabotage::REMOVE_BEFORE_BACKUP) {
        return Farewell::Go(Leave::BackedUp);
    }
    let Some(job) = ending.job else {
        return Farewell::Create;
    };
    if let Some(Phase::Failed { at, .. }) = last.map(|job| &job.phase) {
        return match left(*at, ending.now) {
            _ if sabotage::active(sabotage::TRUST_FAILED_BACKUP) => Farewell::Go(Leave::BackedUp),
            _ if ending.policy == BackupOnDelete::BestEffort => Farewell::Go(Leave::Tried),
            Some(after) => Farewell::Blocked { after },
            // That it failed is said before its Job goes, however long ago it was.
            None if ending.recorded != Some(job.uid.as_str()) => Farewell::Blocked {
                after: Duration::ZERO,
            },
            None => Farewell::Remove,
        };
    }
    let best_effort = ending.policy == BackupOnDelete::BestEffort;
    match (&job.phase, job.whose) {
        // Nobody knows when a Job goes whose Pod does not end.
        _ if job.going.is_some() && best_effort && ending.held == Held::Trouble => Farewell::Go(Leave::Tried),
        _ if job.going.is_some() => Farewell::Wait,
        (_, Whose::Foreign) => Farewell::Conflict,
        (Phase::Running, Whose::Left) => Farewell::Remove,
        // Its dump is not ours, and what keeps it from beginning says nothing of ours.
        (Phase::Running, Whose::Former) => {
            if former::hangs(job, ending.now) || ending.held != Held::Nothing {
                Farewell::Remove
            } else {
                Farewell::Wait
            }
        }
        // It is not the final backup, and what keeps it from beginning is not to hold up that one.
        (Phase::Running, Whose::Ours) if last.is_none() && ending.held != Held::Nothing => Farewell::Remove,
        (Phase::Running, _) if best_effort => match ending.held {
            Held::Nothing => Farewell::Wait,
            // Nobody loses rows for amounts that need not be.
            Held::Room => Farewell::Lessen,
            Held::Trouble => Farewell::Go(Leave::Tried),
        },
        (Phase::Running, _) => Farewell::Wait,
        (_, Whose::Ours) if ending.recorded != Some(job.uid.as_str()) => Farewell::Wait,
        _ => Farewell::Remove,
    }
}

/// The image that is kept instead of `wanted`, if data of the one that last `served` cannot be carried to that: the one
/// that is `there`, if they can be carried to it. Nothing if `wanted` may be had.
pub fn kept_image<'a>(served: &'a str, there: Option<&'a str>, wanted: &str) -> Option<&'a str> {
    if is_step(served, wanted) {
        return None;
    }
    Some(there.filter(|there| is_step(served, there)).unwrap_or(served))
}

/// When a schedule is next to be looked at.
pub fn next_look(schedule: Option<&Schedule>, now: Timestamp) -> Option<Duration> {
    let next = schedule?.next(now)?;
    let wait = Duration::try_from(next.duration_since(now).max(SignedDuration::ZERO)).ok()?;
    Some(wait + Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
