//! The steps of a `MySQL` that is being deleted.
//!
//! Nothing is removed before the final backup is there. A deletion in the foreground would have the garbage collector
//! remove the server first: it is turned into one in the background.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim},
};
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
    desired, former, going,
    hand::{Hand, Stop},
    leaving::{drop_finalizer, go, go_refused, still_ending},
    life, nodes, secrets, standstill, version, volumes,
};
use crate::database::{
    amounts::Amounts,
    desired::Desired,
    job::{self, Request, Seen},
    nodes::tie,
    plan::{self, Ending, Farewell, Leave},
    pods::{self, Stuck},
    report::{Facts, Said},
    server,
    volumes::{Content, Lineage, goes_with, stays},
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
    let servers = life::server_pods(hand, &wanted).await?;
    let server = pods::running(&servers);
    // After the look at the Job: where its backup has gone to is to be there now.
    let backups = hand
        .get::<PersistentVolumeClaim>(&wanted.names.backup_claim())
        .await?;
    let begun_with = seen.as_ref().and_then(|seen| seen.claim.as_deref());
    let taken = seen.as_ref().and_then(|seen| seen.id.as_deref());
    let status = object.status.clone().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let now = hand.pass.clock().now();
    let late = stuck.as_ref().filter(|stuck| is_overdue(&status, stuck, now));
    let overdue = late.is_some();
    let step = plan::farewell(Ending {
        policy: policy(object),
        skip: object.annotations().get(SKIP_BACKUP) == Some(&uid),
        content: content.as_ref(),
        job: seen.as_ref(),
        recorded: status.recorded_job.as_deref(),
        server: server.as_deref(),
        unserved: claim
            .as_ref()
            .is_some_and(|claim| going::is_unserved(claim, &servers)),
        held: held(late, claim.as_ref(), seen.as_ref(), &wanted),
        kept: backups
            .as_ref()
            .is_some_and(|backups| stays(backups, begun_with, taken)),
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
    let mut scene = Scene {
        wanted,
        whole,
        data: claim,
        gone: None,
        seen,
        stuck,
        overdue,
    };
    let backups = if whole {
        let made = volumes::spare(hand, &scene.wanted, facts).await?;
        scene.wanted.backups_claim = made
            .as_ref()
            .or(backups.as_ref())
            .and_then(kube::ResourceExt::uid);
        made.or(backups)
    } else {
        backups
    };
    if let Some(backups) = backups.filter(|backups| going::since(backups).is_some()) {
        facts.backup = Some(going::let_go(hand, &scene.wanted).await?);
        scene.gone = Some(backups);
    }
    take(hand, object, step, live, scene, facts).await
}

/// What a step of a deletion goes by.
struct Scene {
    wanted: Desired,
    /// Whether all of the spec can be carried out.
    whole: bool,
    /// The claim of the data volume.
    data: Option<PersistentVolumeClaim>,
    /// The claim that backups go to, if it is being deleted.
    gone: Option<PersistentVolumeClaim>,
    /// The Job for backups.
    seen: Option<Seen>,
    /// What keeps it from its work.
    stuck: Option<Stuck>,
    /// Whether that has lasted for so long that a person is told.
    overdue: bool,
}

/// Takes one step.
async fn take(
    hand: &Hand<'_>,
    object: &MySQL,
    step: Farewell,
    live: Option<Job>,
    mut scene: Scene,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    match (step, live) {
        (Farewell::Create, _) => {
            let data = scene.data.as_ref();
            if scene.whole
                && let Some((said, after)) = heal(hand, &mut scene.wanted, data, facts).await?
            {
                if said.reason == Reason::DatabaseInvalid {
                    facts.backup = Some(said.clone());
                    blocked(object, facts);
                }
                return Err(Stop::Held { said, after });
            }
            match &scene.gone {
                Some(gone) => nowhere(hand, object, data, gone, facts).await,
                None => create(hand, object, &scene.wanted, data, facts).await,
            }
        }
        (Farewell::Wait, _) => {
            if scene.whole {
                heal(hand, &mut scene.wanted, scene.data.as_ref(), facts).await?;
            }
            match &scene.stuck {
                Some(_) if scene.overdue => blocked(object, facts),
                // From when on it is stuck stands in the condition.
                Some(stuck) if facts.blocked.is_none() => {
                    facts.blocked = Some(Said::no(Reason::BackupRunning, stuck.why.clone()));
                }
                _ => {}
            }
            let now = hand.pass.clock().now();
            Ok(Progress::waiting(job::pace(scene.seen.as_ref(), now)))
        }
        (Farewell::Lessen, Some(job)) => lessen(hand, scene.data.as_ref(), &job).await,
        (Farewell::Remove | Farewell::Lessen, job) => {
            if let Some(job) = job {
                backups::remove(hand, &job, scene.seen.as_ref()).await?;
            }
            Ok(life::at_once())
        }
        (Farewell::Blocked { after }, _) => {
            blocked(object, facts);
            Ok(Progress::waiting(after))
        }
        (Farewell::Conflict, _) => {
            let said = backups::taken(&scene.wanted.names.backup_job());
            let why = said.message.clone();
            facts.backup = Some(said);
            cannot_begin(hand, object, scene.data.as_ref(), why, facts).await
        }
        (Farewell::Go(_), _) => Ok(life::at_once()),
    }
}

/// Lets Pods run as the volumes allow, notes what the data began with, and returns the claim that backups go to.
pub(super) async fn confine(
    hand: &Hand<'_>,
    wanted: &mut Desired,
    data: Option<&PersistentVolumeClaim>,
) -> Result<Option<PersistentVolumeClaim>, Stop> {
    let backups = hand
        .get::<PersistentVolumeClaim>(&wanted.names.backup_claim())
        .await?;
    wanted.backups_claim = backups.as_ref().and_then(kube::ResourceExt::uid);
    wanted.lineage = data.map(Lineage::of).unwrap_or_default();
    for claim in data.into_iter().chain(&backups) {
        wanted.identity = wanted.identity.on(claim);
        wanted.ties.extend(tie(claim));
    }
    Ok(backups)
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

/// Keeps up the server that is to be backed up. One that serves stays as it is: what was changed in the spec is not to end it
/// before its last backup. What stands in its way is said, and is no reason not to try; but for what an
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
        let kept = live.as_ref().filter(|live| life::serves(live, wanted));
        if let Some(image) = kept.and_then(server::image_of) {
            version::stay(wanted, image);
            wanted.keep_password();
        }
        let passwords = secrets::ensure(hand, wanted, live.as_ref()).await?;
        let options = wanted.names.config();
        if kept.is_none() || hand.get::<ConfigMap>(&options).await?.is_none() {
            life::configure(hand, wanted).await?;
        }
        life::publish(hand, wanted, &passwords.now, facts).await?;
        match kept {
            Some(live) => {
                nodes::remember(hand, wanted, data, None, facts).await?;
                life::watch(hand, wanted, live, facts).await
            }
            None => life::go_on(hand, wanted, [data, None], live.as_ref(), &passwords, facts).await,
        }
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
        Err(Stop::Failed(error)) if error.is_namespace_going() => return Ok(None),
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
        Err(Stop::Failed(error)) if error.is_namespace_going() => {
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

/// Waits until the claim that backups go to is `gone`, for another to be made.
async fn nowhere(
    hand: &Hand<'_>,
    object: &MySQL,
    data: Option<&PersistentVolumeClaim>,
    gone: &PersistentVolumeClaim,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let why = facts.backup.as_ref().map(|said| said.message.clone());
    let progress = cannot_begin(hand, object, data, why.unwrap_or_default(), facts).await?;
    Ok(match progress {
        Progress::Settled => Progress::Settled,
        Progress::Waiting { .. } => Progress::waiting(going::pace(hand, gone)),
    })
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
