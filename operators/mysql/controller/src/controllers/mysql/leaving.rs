//! The last steps of a `MySQL` that is being deleted: what nobody else removes, and letting it go.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::PersistentVolumeClaim};
use kube::{Api, Resource, ResourceExt as _};
use mysql_api::{
    MySQL,
    database::{BackupOnDelete, DeletionPolicy, FORMER_FINALIZER, Reason, SKIP_BACKUP},
};
use reconcile::{Progress, error::ApiError, finalizer};
use serde_json::json;

use super::{
    blocked::blocked,
    hand::{Hand, Stop},
    volumes,
};
use crate::database::{
    job::{Phase, Seen, Whose},
    names::{Names, Owned, owned},
    plan::Leave,
    pods,
    report::{self, Facts, Said},
    volumes::fixed_of,
};

/// With it the garbage collector leaves children.
const ORPHAN: &str = "orphan";

/// Ends a backup that is under way when the object goes without it: it would close the next server of the name to
/// writes. Says whether that takes time yet; a Pod on a node that is lost is not waited for.
pub(super) async fn still_ending(
    hand: &Hand<'_>,
    job: &Job,
    seen: &Seen,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    if seen.phase != Phase::Running || !matches!(seen.whose, Whose::Ours | Whose::Left) {
        return Ok(false);
    }
    if let Some(since) = seen.going {
        let waited = Duration::try_from(hand.pass.clock().now().duration_since(since));
        if waited.is_ok_and(|waited| waited >= pods::ENDING) {
            return Ok(false);
        }
    } else {
        hand.remove(job).await?;
    }
    let message = format!("Job {} is ended before this object goes", job.name_any());
    facts.summary = Some(Said::no(Reason::Deleting, message));
    Ok(true)
}

/// Lets an object go whose name or database is refused: nothing was made for it, unless by the kind's first operator. That goes
/// with it, and no backup can be taken: somebody has to say that it may.
pub(super) async fn go_refused(hand: &Hand<'_>, object: &MySQL, facts: &mut Facts) -> Result<Progress, Stop> {
    let (server, uid) = (object.name_any(), object.uid().unwrap_or_default());
    let data = format!("{server}-pvc");
    let claim = hand.get::<PersistentVolumeClaim>(&data).await?;
    let claim = claim.filter(|claim| belongs(claim, &uid));
    let what = match &claim {
        Some(_) => hand.what::<PersistentVolumeClaim>(&data),
        None => hand.what::<Deployment>(&server),
    };
    let live = hand.get::<Deployment>(&server).await?;
    if claim.is_none() && !live.is_some_and(|live| belongs(&live, &uid)) {
        return go(hand, object, None, Leave::Nothing).await;
    }
    let policy = object.spec.backup.clone().unwrap_or_default().on_delete;
    let leave = match policy {
        _ if object.annotations().get(SKIP_BACKUP) == Some(&uid) => Leave::Skipped,
        BackupOnDelete::Never => Leave::Policy,
        BackupOnDelete::BestEffort => Leave::Tried,
        BackupOnDelete::Required => {
            let why = format!(
                "{what} goes with this object, whose name or database is refused, so that nothing can be backed up"
            );
            facts.backup = Some(Said::no(Reason::BackupFailed, why));
            blocked(object, facts);
            return Ok(Progress::waiting(super::IDLE / 10));
        }
    };
    if let Some(claim) = claim.filter(|_| object.spec.deletion_policy == DeletionPolicy::Retain) {
        hand.may()?;
        let mut owners = claim.owner_references().to_vec();
        owners.retain(|owner| owner.uid != uid);
        let patch = json!({"metadata": {
            "uid": claim.metadata.uid,
            "resourceVersion": claim.metadata.resource_version,
            "ownerReferences": owners,
        }});
        hand.merge::<PersistentVolumeClaim>(&data, &patch).await?;
    }
    go(hand, object, None, leave).await
}

fn belongs(child: &impl Resource, uid: &str) -> bool {
    child.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Lets the object go, and what nobody else removes.
pub(super) async fn go(
    hand: &Hand<'_>,
    object: &MySQL,
    claim: Option<&PersistentVolumeClaim>,
    leave: Leave,
) -> Result<Progress, Stop> {
    hand.may()?;
    let mut left = None;
    if let Some(claim) = claim {
        if object.spec.deletion_policy == DeletionPolicy::Retain || is_orphaning(hand, object).await? {
            volumes::retain(hand, object, claim).await?;
        } else {
            hand.remove(claim).await?;
            if let Some(volume) = fixed_of(claim) {
                let (name, uid) = (claim.name_any(), claim.uid());
                left = volumes::remove_fixed(hand, volume, &name, uid.as_deref()).await?;
            }
        }
    }
    let text = match left {
        Some(folder) => format!("{}; nobody empties {folder}", report::leave(leave)),
        None => report::leave(leave).to_owned(),
    };
    if leave == Leave::Tried {
        hand.warn("DeletedWithoutBackup", "Delete", text).await;
    } else {
        hand.tell("Deleted", "Delete", text).await;
    }
    if finalizer::has(object, FORMER_FINALIZER) && finalizer::has(object, mysql_api::database::FINALIZER) {
        drop_finalizer(hand, FORMER_FINALIZER).await?;
    }
    Ok(Progress::Settled)
}

/// Whether the children are to outlive the object.
async fn is_orphaning(hand: &Hand<'_>, object: &MySQL) -> Result<bool, Stop> {
    if finalizer::has(object, ORPHAN) {
        return Ok(true);
    }
    let Ok(names) = Names::new(&object.name_any()) else {
        return Ok(false);
    };
    let server = hand.get::<Deployment>(names.name()).await?;
    let uid = object.uid().unwrap_or_default();
    Ok(server.is_some_and(|server| names.marked(&server) && owned(&server, &names, &uid) == Owned::Nobody))
}

pub(super) async fn drop_finalizer(hand: &Hand<'_>, name: &str) -> Result<(), Stop> {
    let api: Api<MySQL> = hand.api();
    let object = hand.pass.current();
    finalizer::remove(&api, object.as_ref(), name)
        .await
        .map_err(|error| {
            ApiError::new(
                format!("remove the finalizer {name} from {}", hand.pass.key()),
                error,
            )
        })?;
    hand.pass.live().await?;
    Ok(())
}
