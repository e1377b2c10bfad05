//! What a cluster has made in its namespace goes before the cluster does.
//!
//! # Guarantees
//! - Kubernetes removes what a cluster owns when it is gone, but not if it was told to leave it (`--cascade=orphan`): then it
//!   takes the owner off, at any time during the deletion. Everything carries the cluster's UID besides, so that it is known
//!   by then: keys would stay behind, and the next cluster of the name would find them in its way.
//! - What belongs to anybody else, or carries another cluster's UID, stays. So do Secrets that were taken over with instances
//!   that were not.
//! - What the operator may not delete is left to Kubernetes where that removes it; where it does not, the deletion says so.

use k8s_openapi::{
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
};
use mysql_api::MySQLCluster;
use parking_lot::Mutex;
use reconcile::{Kind, Pass, error::ApiError, finalizer};

use super::retention::{RELEASED, TAKEN, operator_name};
use crate::{
    endpoints::{Side, binding_name},
    evidence::Evidence,
    identity::{CLUSTER_UID, frozen_name},
    ledger::Ledger,
};

/// The object, marked as one that the cluster of this UID has made.
pub(super) fn marked<K: Kind>(mut object: K, uid: &str) -> K {
    object
        .annotations_mut()
        .insert(CLUSTER_UID.to_owned(), uid.to_owned());
    object
}

/// How many members a cluster may have.
const MEMBERS: i32 = 9;

/// The finalizer by which Kubernetes takes the owner off what a cluster owns before the cluster goes.
const ORPHANING: &str = "orphan";

/// Removes what a cluster has made whose instances are gone, or were never launched.
pub(super) async fn withdraw(
    pass: &Pass<MySQLCluster>,
    ledger: &Ledger,
    evidence: &Mutex<Evidence>,
) -> Result<(), ApiError> {
    let name = &pass.key().name;
    let launched = !ledger.entries().is_empty();
    for secret in [binding_name(name), operator_name(name)] {
        // Where nothing was launched, what was taken over is the only way to the instances of another cluster.
        let its = |secret: &Secret| launched || !secret.annotations().contains_key(TAKEN);
        remove((pass, evidence), &secret, its).await?;
    }
    clear(pass, ledger, evidence).await
}

/// Removes what is of no use to who takes the instances over: all but the Secrets with which they are reached.
pub(super) async fn clear(
    pass: &Pass<MySQLCluster>,
    ledger: &Ledger,
    evidence: &Mutex<Evidence>,
) -> Result<(), ApiError> {
    let name = &pass.key().name;
    for (ordinal, incarnation) in frozen(ledger) {
        remove::<Secret>((pass, evidence), &frozen_name(name, ordinal, incarnation), |_| {
            true
        })
        .await?;
    }
    for side in Side::ALL {
        remove::<Service>((pass, evidence), &side.service(name), |_| true).await?;
        remove::<EndpointSlice>((pass, evidence), &side.service(name), |_| true).await?;
    }
    Ok(())
}

/// The launches whose parameters may be kept: of each member the last one, and the next, whose parameters are kept before the
/// ledger has it.
fn frozen(ledger: &Ledger) -> impl Iterator<Item = (i32, i32)> {
    (0..MEMBERS).flat_map(|ordinal| {
        let last = ledger.get(ordinal).map(|launch| launch.incarnation);
        last.into_iter()
            .chain([last.unwrap_or_default() + 1])
            .map(move |incarnation| (ordinal, incarnation))
    })
}

/// Removes an object of this name if the cluster has made it, and it is `its` to remove. Once is enough: they are many, and one
/// that fails is no reason to ask for all of them again.
async fn remove<K: Kind>(
    (pass, evidence): (&Pass<MySQLCluster>, &Mutex<Evidence>),
    name: &str,
    its: impl Fn(&K) -> bool,
) -> Result<(), ApiError> {
    let object = format!("{} {name}", K::kind(&()));
    if evidence.lock().is_withdrawn(&object) {
        return Ok(());
    }
    remove_now(pass, name, its).await?;
    evidence.lock().withdraw(object);
    Ok(())
}

async fn remove_now<K: Kind>(
    pass: &Pass<MySQLCluster>,
    name: &str,
    its: impl Fn(&K) -> bool,
) -> Result<(), ApiError> {
    let api: Api<K> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
    let what = |verb: &str| format!("{verb} {} {}/{name}", K::kind(&()), pass.key().namespace);
    let found = api.get_opt(name).await;
    let found = found.map_err(|error| ApiError::new(what("read"), error))?;
    let Some(found) = found.filter(|found| is_made_by(found.meta(), &pass.uid()) && its(found)) else {
        return Ok(());
    };
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: found.uid(),
        ..Preconditions::default()
    });
    match api.delete(name, &params).await {
        // Another one of the name is none of this cluster's.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 && goes_along(found.meta(), &pass.current()) => {
            let object = format!("{} {}/{name}", K::kind(&()), pass.key().namespace);
            tracing::warn!(object, error = %status, "Not deleted, and left to Kubernetes, which removes it after the cluster");
            Ok(())
        }
        Err(error) => Err(ApiError::new(what("delete"), error)),
        Ok(_) => Ok(()),
    }
}

/// Whether Kubernetes removes what the cluster has made when the cluster is gone.
fn goes_along(object: &ObjectMeta, cluster: &MySQLCluster) -> bool {
    let is_owned = object
        .owner_references
        .as_ref()
        .is_some_and(|all| !all.is_empty());
    is_owned && !finalizer::has(cluster, ORPHANING)
}

/// Whether the cluster of this UID has made it, and nobody else has taken it over.
fn is_made_by(object: &ObjectMeta, uid: &str) -> bool {
    let owners = object.owner_references.as_deref().unwrap_or_default();
    let says = |key: &str| {
        let annotations = object.annotations.as_ref();
        annotations
            .and_then(|all| all.get(key))
            .is_some_and(|by| by == uid)
    };
    if owners.is_empty() {
        says(CLUSTER_UID) || says(RELEASED)
    } else {
        owners.iter().all(|owner| owner.uid == uid)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use mysql_api::cluster::LaunchPhase;
    use rstest::rstest;

    use super::*;
    use crate::plan::tests::entry;

    #[test]
    fn parameters_that_were_kept_for_a_launch_that_is_in_no_ledger_go_as_well() {
        let ledger = Ledger::new(vec![entry(1, LaunchPhase::Over, None)]);
        let all: Vec<_> = frozen(&ledger).collect();
        assert_eq!(all[..4], [(0, 1), (1, 1), (1, 2), (2, 1)]);
        assert_eq!(
            all.last(),
            Some(&(8, 1)),
            "the spec may have asked for more before"
        );
    }

    #[rstest]
    #[case::owned(&["own"], None, true)]
    #[case::left(&[], Some("own"), true)]
    #[case::nobodys(&[], None, false)]
    #[case::anothers(&[], Some("other"), false)]
    #[case::taken_over(&["other"], Some("own"), false)]
    #[case::shared(&["own", "other"], Some("own"), false)]
    fn only_what_a_cluster_made_and_nobody_took_is_its_to_remove(
        #[case] owners: &[&str],
        #[case] mark: Option<&str>,
        #[case] its: bool,
    ) {
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).to_owned(),
            ..OwnerReference::default()
        };
        let mut secret = Secret::default();
        secret.metadata.owner_references = Some(owners.iter().map(owner).collect());
        let secret = mark.into_iter().fold(secret, marked);
        assert_eq!(is_made_by(&secret.metadata, "own"), its);
    }
}
