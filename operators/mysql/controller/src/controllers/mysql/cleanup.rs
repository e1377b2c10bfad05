//! The steps of a `MySQL` that is being deleted.
//!
//! Nothing is removed before the final backup is there. A deletion in the foreground would have the garbage collector
//! remove the server first: it is turned into one in the background.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PersistentVolumeClaim};
use kube::ResourceExt as _;
use mysql_api::{
    MySQL, MySQLSpec,
    database::{BackupOnDelete, Reason, SKIP_BACKUP},
};
use reconcile::{Progress, finalizer};

use super::{
    DatabaseError,
    backups::{self, Sight},
    blocked::{blocked, held, is_overdue, lessen, lessened, still_blocked},
    desired, former,
    hand::{Hand, Stop},
    leaving::{drop_finalizer, go, go_refused, still_ending},
    life, secrets, standstill, version, volumes,
};
use crate::database::{
    amounts::Amounts,
    desired::Desired,
    job::{self, Request},
    nodes::tie,
    plan::{self, Ending, Farewell, Leave},
    pods::{self, Stuck},
    report::{Facts, Said},
    volumes::{Content, Role, goes_with},
};

/// With it the garbage collector removes children before their owner.
const FOREGROUND: &str = "foregroundDeletion";

/// Brings the deletion one step further; settled when the object may go.
pub(super) async fn run(hand: &Hand<'_>, object: &MySQL, facts: &mut Facts) -> Result<Progress, Stop> {
    facts.summary = Some(Said::no(Reason::Deleting, "it is being deleted"));
    if finalizer::has(object, FOREGROUND) {
        drop_finalizer(hand, FOREGROUND).await?;
        return Ok(life::at_once());
    }
    let Some((mut wanted, whole)) = reachable(object) else {
        return go_refused(hand, object, facts).await;
    };
    let claim = hand
        .get::<PersistentVolumeClaim>(&wanted.names.data_claim())
        .await?;
    let claim = claim.filter(|claim| goes_with(claim, &wanted.names, &wanted.uid));
    confine(hand, &mut wanted, claim.as_ref()).await?;
    let content = claim.as_ref().map(Content::of);
    let Sight { live, seen, stuck } = backups::look(hand, &wanted, facts).await?;
    let server = pods::running(&life::server_pods(hand, &wanted).await?);
    let status = object.status.clone().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let now = hand.pass.clock().now();
    let overdue = stuck.as_ref().filter(|stuck| is_overdue(&status, stuck, now));
    let step = plan::farewell(Ending {
        policy: policy(object),
        skip: object.annotations().get(SKIP_BACKUP) == Some(&uid),
        content: content.as_ref(),
        job: seen.as_ref(),
        recorded: status.recorded_job.as_deref(),
        server: server.as_deref(),
        held: held(overdue, claim.as_ref(), seen.as_ref(), &wanted),
        now,
    });
    if let Farewell::Go(leave) = step {
        if let (Some(job), Some(seen)) = (&live, &seen)
            && still_ending(hand, job, seen, facts).await?
            // One that never began has closed nothing, and once it is gone nobody knows that it was tried.
            && leave != Leave::Tried
        {
            return Ok(life::at_once());
        }
        return go(hand, object, claim.as_ref(), leave).await;
    }
    still_blocked(&status, facts);
    if whole {
        room(hand, &wanted, facts).await?;
    }
    match (step, live) {
        (Farewell::Create, _) => {
            if whole && let Some((said, after)) = heal(hand, &mut wanted, claim.as_ref(), facts).await? {
                if said.reason == Reason::DatabaseInvalid {
                    facts.backup = Some(said.clone());
                    blocked(object, facts);
                }
                return Err(Stop::Held { said, after });
            }
            create(hand, object, &wanted, claim.as_ref(), facts).await
        }
        (Farewell::Wait, _) => {
            if whole {
                heal(hand, &mut wanted, claim.as_ref(), facts).await?;
            }
            match &stuck {
                Some(_) if overdue.is_some() => blocked(object, facts),
                // From when on it is stuck stands in the condition.
                Some(stuck) if facts.blocked.is_none() => {
                    facts.blocked = Some(Said::no(Reason::BackupRunning, stuck.why.clone()));
                }
                _ => {}
            }
            Ok(Progress::waiting(job::pace(
                seen.as_ref(),
                hand.pass.clock().now(),
            )))
        }
        (Farewell::Lessen, Some(job)) => lessen(hand, claim.as_ref(), &job).await,
        (Farewell::Remove | Farewell::Lessen, job) => {
            if let Some(job) = job {
                backups::remove(hand, &job, seen.as_ref()).await?;
            }
            Ok(life::at_once())
        }
        (Farewell::Blocked { after }, _) => {
            blocked(object, facts);
            Ok(Progress::waiting(after))
        }
        (Farewell::Conflict, _) => {
            let said = backups::taken(&wanted.names.backup_job());
            let why = said.message.clone();
            facts.backup = Some(said);
            cannot_begin(hand, object, claim.as_ref(), why, facts).await
        }
        (Farewell::Go(_), _) => Ok(life::at_once()),
    }
}

/// Lets Pods run as the volumes allow.
pub(super) async fn confine(
    hand: &Hand<'_>,
    wanted: &mut Desired,
    data: Option<&PersistentVolumeClaim>,
) -> Result<(), Stop> {
    let backups = hand
        .get::<PersistentVolumeClaim>(&wanted.names.backup_claim())
        .await?;
    for claim in data.into_iter().chain(&backups) {
        wanted.identity = wanted.identity.on(claim);
        wanted.ties.extend(tie(claim));
    }
    Ok(())
}

fn policy(object: &MySQL) -> BackupOnDelete {
    object.spec.backup.clone().unwrap_or_default().on_delete
}

/// What is asked for, and whether all of it can be carried out. Where only parts that a backup does not need are wrong
/// (options, sizes), they are left out.
pub(super) fn reachable(object: &MySQL) -> Option<(Desired, bool)> {
    if let Ok(desired) = desired(object) {
        return Some((desired, true));
    }
    let spec = MySQLSpec {
        storage_size: Some("1Gi".to_owned()),
        storage: None,
        resources: None,
        config: std::collections::BTreeMap::new(),
        backup: object.spec.backup.clone().map(|mut backup| {
            backup.storage = None;
            backup
        }),
        ..object.spec.clone()
    };
    let mut bare = object.clone();
    bare.spec = spec;
    desired(&bare).ok().map(|desired| (desired, false))
}

/// Keeps up the volume that the backup goes to, as large as it is asked for.
async fn room(hand: &Hand<'_>, wanted: &Desired, facts: &mut Facts) -> Result<(), Stop> {
    let said = match volumes::ensure(hand, wanted, Role::Backups, facts).await {
        Ok(_) => return Ok(()),
        Err(Stop::Held { said, .. }) => said,
        Err(Stop::Failed(error)) if is_namespace_going(&error) => return Ok(()),
        Err(Stop::Failed(error))
            if error.is_refusal() || error.is_failure() || error.is_conflict_of_names() =>
        {
            Said::no(Reason::BackupFailed, error.words())
        }
        Err(other) => return Err(other),
    };
    facts.backup.get_or_insert(said);
    Ok(())
}

/// Keeps up the server that is to be backed up. What stands in its way is said, and is no reason not to try; but for what an
/// earlier operator has left that holds the backup, too, which is returned with when to look again.
async fn heal(
    hand: &Hand<'_>,
    wanted: &mut Desired,
    data: Option<&PersistentVolumeClaim>,
    facts: &mut Facts,
) -> Result<Option<(Said, Duration)>, Stop> {
    let attempt = async {
        let live = hand.get::<Deployment>(wanted.names.name()).await?;
        version::hold(wanted, live.as_ref(), data, facts);
        standstill::hold(wanted, live.as_ref(), data, facts);
        let credentials = secrets::ensure(hand, wanted).await?;
        life::configure(hand, wanted).await?;
        life::publish(hand, wanted, &credentials, facts).await?;
        life::go_on(hand, wanted, [data, None], live.as_ref(), &credentials, facts).await
    };
    let said = match attempt.await {
        Ok(_) => return Ok(None),
        Err(Stop::Held { said, after }) => {
            if former::holds(hand, wanted, &said).await? {
                return Ok(Some((said, after)));
            }
            said
        }
        Err(Stop::Failed(error)) if error.is_conflict_of_names() => {
            Said::no(Reason::NameConflict, error.to_string())
        }
        // Nothing can be made in a namespace that is going; what is there goes with it.
        Err(Stop::Failed(error)) if is_namespace_going(&error) => return Ok(None),
        Err(Stop::Failed(error @ DatabaseError::Lease(_))) => return Err(error.into()),
        Err(Stop::Failed(error)) => Said::no(Reason::ServerFailing, error.words()),
    };
    facts.server = Some(said);
    Ok(None)
}

async fn create(
    hand: &Hand<'_>,
    object: &MySQL,
    wanted: &Desired,
    claim: Option<&PersistentVolumeClaim>,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let since = object
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or_else(|| hand.pass.clock().now(), |time| time.0);
    let request = Request::Final(since);
    let mut lesser = wanted.clone();
    let best_effort = policy(object) == BackupOnDelete::BestEffort;
    if best_effort && claim.is_some_and(|claim| lessened(claim, &wanted.uid).is_some()) {
        lesser.resources = wanted.resources.least();
    }
    let begun = match backups::begin(hand, &lesser, &request, facts).await {
        Err(Stop::Failed(error)) if error.is_invalid() => {
            // Amounts that no Pod may have were never the server's, and are not to keep its rows from being saved.
            let mut bare = wanted.clone();
            bare.resources = Amounts::default();
            backups::begin(hand, &bare, &request, facts).await
        }
        begun => begun,
    };
    match begun {
        Ok(()) => Ok(life::at_once()),
        Err(Stop::Failed(error)) if is_namespace_going(&error) => {
            // The volume with the backups goes with the namespace, too: there is nowhere to keep one.
            go(hand, object, claim, Leave::NamespaceGone).await
        }
        Err(Stop::Failed(error)) if error.is_refusal() || error.is_failure() => {
            let why = format!("it cannot be begun: {}", error.words());
            facts.backup = Some(Said::no(Reason::BackupFailed, why.clone()));
            cannot_begin(hand, object, claim, why, facts).await
        }
        Err(other) => Err(other),
    }
}

/// Says what keeps the final backup from beginning; sees again whether it still does. One look is no effort: the best one is
/// made for as long as with a Job that does not begin.
async fn cannot_begin(
    hand: &Hand<'_>,
    object: &MySQL,
    claim: Option<&PersistentVolumeClaim>,
    why: String,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    if policy(object) == BackupOnDelete::BestEffort {
        let status = object.status.clone().unwrap_or_default();
        let refused = Stuck {
            why,
            patience: pods::REFUSED,
            // What was told of before is another matter: the condition counts anew from here.
            since: None,
            room: false,
        };
        if is_overdue(&status, &refused, hand.pass.clock().now()) {
            return go(hand, object, claim, Leave::Tried).await;
        }
        facts.summary = Some(Said::no(Reason::Deleting, refused.why.clone()));
        facts.blocked = Some(Said::no(Reason::BackupRunning, refused.why));
    } else {
        blocked(object, facts);
    }
    Ok(Progress::waiting(super::IDLE / 10))
}

fn is_namespace_going(error: &DatabaseError) -> bool {
    let source = match error {
        DatabaseError::Api(error) | DatabaseError::Apply(reconcile::apply::ApplyError::Api(error)) => {
            &error.source
        }
        _ => return false,
    };
    let kube::Error::Api(status) = source.as_ref() else {
        return false;
    };
    let causes = status.details.as_ref().map(|details| &details.causes);
    causes
        .into_iter()
        .flatten()
        .any(|cause| cause.reason == "NamespaceTerminating")
}
