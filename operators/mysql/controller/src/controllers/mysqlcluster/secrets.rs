//! The Secret by which a cluster's members know the operator: made before the first launch, and never made anew for members
//! that know another one.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
};
use mysql_api::{MySQLCluster, Reason, cluster::LaunchPhase};
use reconcile::{Pass, error::ApiError};

use super::{ClusterError, RecordsError, remains, retention};
use crate::authority::Authority;

/// The authority of a cluster: as it stands in its Secret, else a new one.
pub(super) async fn authority(pass: &Pass<MySQLCluster>) -> Result<Authority, ClusterError> {
    if has_adopted(&pass.current()) || has_members(&pass.current()) {
        // Nobody may have come to it; or somebody has brought it back without its owner.
        retention::own(pass).await?;
    }
    let secret = match read(pass).await? {
        Some(secret) => secret,
        None if has_members(&pass.current()) => {
            let why = "it is missing. Restore it, or delete the cluster and create it anew";
            return Err(unusable(pass, why));
        }
        None => {
            let made = Authority::generate().map_err(|error| unusable(pass, &error.to_string()))?;
            create(pass, &made).await?
        }
    };
    let uid = pass.uid();
    if !secret.owner_references().iter().any(|owner| owner.uid == uid) {
        return Err(RecordsError::NameConflict(what(pass)).into());
    }
    retention::mark(pass, &secret).await?;
    Authority::read(&secret).map_err(|why| unusable(pass, &why.to_string()))
}

/// Makes the Secret again that somebody has deleted, or put something else in, with what was in it; says what prevents that.
/// The operator has its own of memory alone: only if members answer to it is it known to be the right one.
pub(super) async fn restore(
    pass: &Pass<MySQLCluster>,
    authority: &Authority,
    is_answered: bool,
) -> Result<Option<(Reason, String)>, ApiError> {
    if let Some(found) = read(pass).await? {
        let (uid, owners) = (pass.uid(), found.owner_references());
        let is_ours = owners.iter().any(|owner| owner.uid == uid);
        let is_same = Authority::read(&found).as_ref() == Ok(authority);
        if is_same && is_ours {
            return Ok(None);
        }
        if !is_ours && !owners.is_empty() {
            let conflict = RecordsError::NameConflict(what(pass));
            return Ok(Some((Reason::NameConflict, conflict.to_string())));
        }
        if is_same {
            // Somebody has restored it. It is taken as it is: nobody would have what is in it, were this the last word.
            retention::take(pass, &found).await?;
            return Ok(None);
        }
        if !is_answered {
            let why = format!(
                "{} holds something else than the operator has read, and no member answers that would show which of both is right. If it is what it holds now, restart the operator; if not, delete it, and it is made again",
                what(pass)
            );
            return Ok(Some((Reason::AuthorityUnusable, why)));
        }
        remove(pass, &found).await?;
    }
    tracing::warn!(secret = what(pass), "Deleted or changed, and made again");
    create(pass, authority).await.map(|_| None)
}

async fn remove(pass: &Pass<MySQLCluster>, secret: &Secret) -> Result<(), ApiError> {
    let this_one = Preconditions {
        uid: secret.uid(),
        ..Preconditions::default()
    };
    let how = DeleteParams::default().preconditions(this_one);
    match api(pass).delete(&name(pass), &how).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(ApiError::new(format!("delete {}", what(pass)), error)),
        Ok(_) => Ok(()),
    }
}

fn has_adopted(cluster: &MySQLCluster) -> bool {
    let mut launches = cluster.status.iter().flat_map(|status| &status.launches);
    launches.any(|launch| launch.adopted_from.is_some())
}

/// Whether there are instances, or may be, that were launched with an authority.
fn has_members(cluster: &MySQLCluster) -> bool {
    let launches = cluster.status.iter().flat_map(|status| &status.launches);
    launches
        .into_iter()
        .any(|launch| launch.phase != LaunchPhase::Over)
}

fn name(pass: &Pass<MySQLCluster>) -> String {
    retention::operator_name(&pass.key().name)
}

fn what(pass: &Pass<MySQLCluster>) -> String {
    format!("Secret {}/{}", pass.key().namespace, name(pass))
}

fn unusable(pass: &Pass<MySQLCluster>, why: &str) -> ClusterError {
    ClusterError::Authority {
        what: what(pass),
        why: why.to_owned(),
    }
}

fn api(pass: &Pass<MySQLCluster>) -> Api<Secret> {
    Api::namespaced(pass.client().clone(), &pass.key().namespace)
}

async fn read(pass: &Pass<MySQLCluster>) -> Result<Option<Secret>, ApiError> {
    let found = api(pass).get_opt(&name(pass)).await;
    found.map_err(|error| ApiError::new(format!("read {}", what(pass)), error))
}

async fn create(pass: &Pass<MySQLCluster>, authority: &Authority) -> Result<Secret, ApiError> {
    let mut secret = remains::marked(authority.secret(&name(pass)), &pass.uid());
    secret.metadata.namespace = Some(pass.key().namespace.to_string());
    secret.metadata.owner_references = pass.current().controller_owner_ref(&()).map(|owner| vec![owner]);
    let created = api(pass).create(&PostParams::default(), &secret).await;
    created.map_err(|error| ApiError::new(format!("create {}", what(pass)), error))
}
