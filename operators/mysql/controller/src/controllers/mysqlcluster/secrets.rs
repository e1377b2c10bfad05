//! The Secret by which a cluster's members know the operator: made before the first launch, and never made anew for members
//! that know another one.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Resource as _, ResourceExt as _, api::PostParams};
use mysql_api::{MySQLCluster, cluster::LaunchPhase};
use reconcile::{Pass, error::ApiError};

use super::{ClusterError, RecordsError, remains, retention};
use crate::authority::Authority;

/// The authority of a cluster: as it stands in its Secret, else a new one.
pub(super) async fn authority(pass: &Pass<MySQLCluster>) -> Result<Authority, ClusterError> {
    if has_adopted(&pass.current()) {
        // Nobody may have come to it.
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

/// Makes the Secret again that somebody has deleted, with what was in it.
pub(super) async fn restore(pass: &Pass<MySQLCluster>, authority: &Authority) -> Result<(), ApiError> {
    if read(pass).await?.is_some() {
        return Ok(());
    }
    tracing::warn!(secret = what(pass), "Deleted, and made again");
    create(pass, authority).await.map(drop)
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
