//! Backups while the object lives, and what is the same for the last one.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::ResourceExt as _;
use mysql_api::{database::BACKUP_NOW, database::Reason};
use reconcile::Progress;
use serde_json::json;

use super::{
    going,
    hand::{Hand, Stop, sooner},
    life::{at_once, pods_of, server_pods},
    nodes,
};
use crate::database::{
    desired::Desired,
    job::{self, Phase, Request, Seen, Whose},
    plan::{self, Asked, Backup},
    pods::{self, Stuck},
    report::{self, Facts, Said},
    volumes::NEWEST,
};

/// Begins backups that are due, and follows the one under way; `claim` is where they go to.
pub(super) async fn tend(
    hand: &Hand<'_>,
    desired: &Desired,
    claim: Option<&PersistentVolumeClaim>,
    serving: bool,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let progress = see_to(hand, desired, claim, serving, facts).await?;
    facts.tended = true;
    Ok(progress)
}

async fn see_to(
    hand: &Hand<'_>,
    desired: &Desired,
    claim: Option<&PersistentVolumeClaim>,
    serving: bool,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let sight = look(hand, desired, facts).await?;
    let Some(claim) = claim else {
        let name = desired.names.backup_claim();
        let missing = || {
            Said::no(
                Reason::BackupFailed,
                format!("{name}, which backups go to, is not there"),
            )
        };
        facts.backup.get_or_insert_with(missing);
        return follow(hand, desired, sight, false, facts).await;
    };
    if going::since(claim).is_none() {
        return follow(hand, desired, sight, serving, facts).await;
    }
    facts.backup = Some(going::let_go(hand, desired).await?);
    let progress = follow(hand, desired, sight, false, facts).await?;
    Ok(sooner(progress, going::pace(hand, claim)))
}

/// Begins a backup that is due, if one can be taken, and goes on with the one that is there.
async fn follow(
    hand: &Hand<'_>,
    desired: &Desired,
    Sight { live, seen, .. }: Sight,
    serving: bool,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let object = hand.pass.current();
    let status = object.status.clone().unwrap_or_default();
    let schedule = match &desired.schedule {
        Some(Ok(schedule)) => Some(schedule),
        Some(Err(error)) => {
            facts.backup = Some(Said::no(Reason::ScheduleInvalid, error.to_string()));
            None
        }
        None => None,
    };
    let now = hand.pass.clock().now();
    // A schedule that is new is due from now on, however old the object is.
    let known = object
        .spec
        .backup
        .as_ref()
        .and_then(|backup| backup.schedule.clone())
        == status.schedule;
    let kept = status
        .schedule_since
        .as_ref()
        .filter(|_| known)
        .map_or(now, |time| time.0);
    let wanted = object.annotations().get(BACKUP_NOW).map(|value| job::told(value));
    let step = plan::backup(Asked {
        job: seen.as_ref(),
        recorded: status.recorded_job.as_deref(),
        wanted: wanted.as_deref(),
        acted: status.last_request.as_deref(),
        schedule,
        since: status
            .last_schedule_time
            .as_ref()
            .map_or(kept, |time| time.0.max(kept)),
        concurrency: desired.concurrency,
        serving,
        now,
    });
    let name = desired.names.backup_job();
    match (step, live) {
        (Backup::Rest, _) => Ok(plan::next_look(schedule, now).map_or(Progress::Settled, Progress::waiting)),
        (Backup::Create(request), _) => match begin(hand, desired, &request, facts).await {
            // The server serves on; only the backup is in want.
            Err(Stop::Failed(error)) if error.is_refusal() => {
                facts.backup = Some(Said::no(
                    Reason::BackupFailed,
                    format!("it cannot be begun: {}", error.words()),
                ));
                Ok(Progress::waiting(super::IDLE / 10))
            }
            begun => begun.map(|()| at_once()),
        },
        (Backup::Remove, Some(job)) => {
            remove(hand, &job, seen.as_ref()).await?;
            Ok(at_once())
        }
        (Backup::Wait | Backup::Remove, _) => Ok(Progress::waiting(job::pace(seen.as_ref(), now))),
        (Backup::Conflict, _) => {
            facts.backup = Some(taken(&name));
            Ok(Progress::Settled)
        }
    }
}

/// What is said when the Job's name is taken.
pub(super) fn taken(name: &str) -> Said {
    let message = format!("Job {name} exists and does not belong to this MySQL; rename it or delete it");
    Said::no(Reason::NameConflict, message)
}

/// What is seen of the Job for backups.
pub(super) struct Sight {
    pub(super) live: Option<Job>,
    pub(super) seen: Option<Seen>,
    /// What keeps it from doing its work.
    pub(super) stuck: Option<Stuck>,
}

/// Looks at the Job for backups, and takes down what became of it.
pub(super) async fn look(hand: &Hand<'_>, desired: &Desired, facts: &mut Facts) -> Result<Sight, Stop> {
    let name = desired.names.backup_job();
    let live = hand.get::<Job>(&name).await?;
    let Some(seen) = live
        .as_ref()
        .map(|live| job::seen(live, &desired.names, &desired.uid))
    else {
        return Ok(Sight {
            live,
            seen: None,
            stuck: None,
        });
    };
    let mut stuck = None;
    let object = hand.pass.current();
    let recorded = object
        .status
        .as_ref()
        .and_then(|status| status.recorded_job.as_deref());
    match (seen.whose, &seen.phase) {
        (Whose::Ours, Phase::Running) => {
            let all = pods_of(hand, &seen.uid).await?;
            stuck = pods::stuck(&seen, &name, &all, hand.pass.clock().now());
            let trouble = all.iter().find_map(crate::database::server::trouble);
            let why = stuck.as_ref().map(|stuck| stuck.why.clone()).or(trouble);
            let why = nodes::explain(hand, desired, &all, why).await?;
            if let (Some(stuck), Some(why)) = (&mut stuck, &why) {
                stuck.why.clone_from(why);
            }
            let id = seen.id.clone().unwrap_or_default();
            let message = why.unwrap_or_else(|| format!("{name} takes backup {id}"));
            facts.backup = Some(Said::pending(Reason::BackupRunning, message));
        }
        (Whose::Left, Phase::Running) => {
            let message = format!("{name} of an earlier MySQL of this name has to end before another begins");
            facts.backup = Some(Said::pending(Reason::LeftoversGoing, message));
        }
        (Whose::Former, Phase::Running) => {
            let all = pods_of(hand, &seen.uid).await?;
            stuck = pods::stuck(&seen, &name, &all, hand.pass.clock().now());
            let message = format!(
                "{name} of an earlier operator has to end before another begins; if it never will, `kubectl delete job {name}`: it is ended six hours after it was made"
            );
            facts.backup = Some(Said::pending(Reason::LeftoversGoing, message));
        }
        (Whose::Ours, _) if recorded != Some(&seen.uid) => {
            let all = pods_of(hand, &seen.uid).await?;
            if seen.phase == Phase::Succeeded {
                note(hand, desired, &seen, &all).await?;
            }
            facts.ended = Some((seen.clone(), job::last_words(&all)));
        }
        // Something else was told of meanwhile, and may be over.
        (Whose::Ours, Phase::Failed { .. }) if !report::tells_of_a_failure(&object) => {
            let all = pods_of(hand, &seen.uid).await?;
            facts.failed = Some((seen.clone(), job::last_words(&all)));
        }
        _ => {}
    }
    let seen = Some(seen);
    Ok(Sight { live, seen, stuck })
}

/// Removes a Job for backups. That one is ended which is none of ours is told.
pub(super) async fn remove(hand: &Hand<'_>, job: &Job, seen: Option<&Seen>) -> Result<(), Stop> {
    hand.remove(job).await?;
    if seen.is_some_and(|seen| seen.whose == Whose::Former && seen.phase == Phase::Running) {
        let name = job.name_any();
        let note = format!("{name} of an earlier operator has not ended, and is ended");
        hand.warn("LeftoverEnded", "Backup", note).await;
    }
    Ok(())
}

/// Notes on the volume's claim which backup is the newest on it, and where it is, before anybody relies on that: a restore
/// that finds none on the volume that it has must not begin with an empty folder.
async fn note(hand: &Hand<'_>, desired: &Desired, seen: &Seen, pods: &[Pod]) -> Result<(), Stop> {
    let name = desired.names.backup_claim();
    let claim = hand.get::<PersistentVolumeClaim>(&name).await?;
    // On one in the place of that which it went to it is not.
    let begun_with = seen.claim.as_deref();
    let went_to = |claim: &PersistentVolumeClaim| {
        begun_with.is_none_or(|uid| claim.uid().as_deref() == Some(uid))
            || pods.iter().any(|pod| is_placed_with(pod, claim))
    };
    let claim = claim.filter(went_to);
    if let Some(claim) = &claim {
        // That it is tied is worth less than that the backup is known.
        nodes::mildly(nodes::taken(hand, claim, pods).await)?;
    }
    let noted = |claim: &PersistentVolumeClaim| claim.annotations().get(NEWEST) == seen.id.as_ref();
    if let Some(claim) = claim.filter(|claim| !noted(claim)) {
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": {NEWEST: seen.id}}});
        hand.merge::<PersistentVolumeClaim>(&name, &patch).await?;
    }
    Ok(())
}

/// Whether this Pod was given a node when the claim was there, and not an earlier one of its name: which claim a Pod has is
/// settled then.
fn is_placed_with(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let made = claim.metadata.creation_timestamp.as_ref();
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut placed =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "True");
    placed.any(|placed| {
        let at = placed.last_transition_time.as_ref();
        at.zip(made).is_some_and(|(at, made)| at.0 >= made.0)
    })
}

/// Begins a backup.
pub(super) async fn begin(
    hand: &Hand<'_>,
    desired: &Desired,
    request: &Request,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let server = pods::running(&server_pods(hand, desired).await?);
    hand.may()?;
    let now = hand.pass.clock().now();
    hand.create(&job::backup(desired, request, now, server.as_deref()))
        .await?;
    let (name, id) = (desired.names.backup_job(), request.id(&desired.uid, now));
    facts.backup = Some(Said::pending(
        Reason::BackupRunning,
        format!("{name} takes backup {id}"),
    ));
    hand.tell("BackupStarted", "Backup", format!("{name} takes backup {id}"))
        .await;
    Ok(())
}
