//! Backups while the object lives, and what is the same for the last one.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use mysql_api::{database::BACKUP_NOW, database::Reason};
use reconcile::Progress;

use super::{
    hand::{Hand, Stop},
    life::{at_once, last_words, trouble},
};
use crate::database::{
    desired::Desired,
    job::{self, Phase, Request, Seen, Whose},
    plan::{self, Asked, Backup},
    report::{Facts, Said},
};

/// Begins backups that are due, and follows the one under way.
pub(super) async fn tend(
    hand: &Hand<'_>,
    desired: &Desired,
    serving: bool,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let object = hand.pass.current();
    let status = object.status.clone().unwrap_or_default();
    let (live, seen) = look(hand, desired, facts).await?;
    let schedule = match &desired.schedule {
        Some(Ok(schedule)) => Some(schedule),
        Some(Err(error)) => {
            facts.backup = Some(Said::no(Reason::ScheduleInvalid, error.to_string()));
            None
        }
        None => None,
    };
    let now = hand.pass.clock().now();
    let created = object
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let step = plan::backup(Asked {
        job: seen.as_ref(),
        recorded: status.recorded_job.as_deref(),
        wanted: object.annotations().get(BACKUP_NOW).map(String::as_str),
        acted: status.last_request.as_deref(),
        schedule,
        since: status.last_schedule_time.as_ref().map_or(created, |time| time.0),
        concurrency: desired.concurrency,
        serving,
        now,
    });
    let name = desired.names.backup_job();
    match (step, live) {
        (Backup::Rest, _) => Ok(plan::next_look(schedule, now).map_or(Progress::Settled, Progress::waiting)),
        (Backup::Create(request), _) => {
            begin(hand, desired, &request, facts).await?;
            Ok(at_once())
        }
        (Backup::Remove, Some(job)) => {
            hand.remove(&job).await?;
            Ok(at_once())
        }
        (Backup::Wait | Backup::Remove, _) => Ok(at_once()),
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

/// Looks at the Job for backups, and takes down what became of it.
pub(super) async fn look(
    hand: &Hand<'_>,
    desired: &Desired,
    facts: &mut Facts,
) -> Result<(Option<Job>, Option<Seen>), Stop> {
    let name = desired.names.backup_job();
    let live = hand.get::<Job>(&name).await?;
    let seen = live
        .as_ref()
        .map(|live| job::seen(live, &desired.names, &desired.uid));
    if let Some(seen) = seen.as_ref().filter(|seen| seen.whose == Whose::Ours) {
        let recorded = hand
            .pass
            .current()
            .status
            .as_ref()
            .and_then(|status| status.recorded_job.clone());
        match seen.phase {
            Phase::Running => {
                let id = seen.id.clone().unwrap_or_default();
                let said = trouble(hand, &format!("batch.kubernetes.io/job-name={name}")).await?;
                let message = said.unwrap_or_else(|| format!("{name} takes backup {id}"));
                facts.backup = Some(Said::pending(Reason::BackupRunning, message));
            }
            _ if recorded.as_deref() == Some(&seen.uid) => {}
            _ => facts.ended = Some((seen.clone(), last_words(hand, &seen.uid).await?)),
        }
    }
    Ok((live, seen))
}

/// Begins a backup.
pub(super) async fn begin(
    hand: &Hand<'_>,
    desired: &Desired,
    request: &Request,
    facts: &mut Facts,
) -> Result<(), Stop> {
    hand.may()?;
    hand.create(&job::backup(desired, request)).await?;
    let (name, id) = (desired.names.backup_job(), request.id(&desired.uid));
    facts.backup = Some(Said::pending(
        Reason::BackupRunning,
        format!("{name} takes backup {id}"),
    ));
    hand.tell("BackupStarted", "Backup", format!("{name} takes backup {id}"))
        .await;
    Ok(())
}
