//! The mark that `clusterctl move` puts on what it is about to delete on the source: the target has it by then.
//!
//! # Guarantees
//! - What is deleted under the mark leaves everything that it stands for.
//! - A mark does not outlive its move. One that broke off and is tried again copies it to the target, whose deletions would
//!   then leave containers behind: an object that is reconciled loses it, unless its Cluster is paused by now.

use kube::{
    Api, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use reconcile::{Kind, Pass, error::ApiError};
use serde_json::json;

use super::{Cluster, is_paused, live};
use crate::sabotage;

/// Annotation: the object is deleted since it was moved to another management cluster.
pub const DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";

/// Whether what `object` stands for is another management cluster's by now.
pub fn is_moved(object: &impl Resource) -> bool {
    object.annotations().contains_key(DELETE_FOR_MOVE) && !sabotage::active(sabotage::TEAR_DOWN_MOVED)
}

/// Takes the mark back from an object that is to stay, which is of the Cluster `cluster`; `manager` writes.
///
/// # Errors
/// If the Cluster could not be read, or the object not be written.
pub async fn take_back<K: Kind>(
    object: &K,
    cluster: &str,
    manager: &str,
    pass: &Pass<K>,
) -> Result<(), ApiError> {
    if !is_moved(object) {
        return Ok(());
    }
    let cluster: Option<Cluster> = live::read(cluster, pass).await?;
    if cluster.is_none() || is_paused(cluster.as_ref(), object) {
        return Ok(());
    }
    let patch = json!({"metadata": {
        "uid": pass.uid(),
        "resourceVersion": object.resource_version(),
        "annotations": {DELETE_FOR_MOVE: null},
    }});
    let key = pass.key();
    let api: Api<K> = Api::namespaced(pass.client().clone(), &key.namespace);
    let written = api
        .patch(&key.name, &PatchParams::apply(manager), &Patch::Merge(&patch))
        .await;
    let action = || format!("take the mark of a move back from {} {key}", K::kind(&()));
    written
        .map(|_| ())
        .map_err(|error| ApiError::new(action(), error))
}
