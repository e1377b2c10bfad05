//! Our finalizer on an object: added before anything outside the cluster is made, removed after it is gone.
//!
//! # Expected flow
//! 1. The object is created without our finalizer; a pass adds it and goes on with the object as written.
//! 2. `apply` runs, as often as needed.
//! 3. The object is deleted; the API server only marks it. `cleanup` runs until it is settled.
//! 4. The finalizer is removed, and the API server deletes the object.
//!
//! # Guarantees
//! - Both writes carry the UID and resourceVersion that the pass saw: a lost race is a 409, never an overwrite of
//!   somebody's finalizer.
//! - An object that vanished meanwhile counts as removed.
//! - Before each `cleanup` the object is read from the API server: one that an older list shows once more is not cleaned
//!   up again, when its name may be another's.
//!
//! # Caveats
//! Deleting with `--grace-period=0 --force` does not skip finalizers, but removing them by hand does: then nobody
//! cleans up.
//!
//! # Example
//! A reconciler names its finalizer, and the framework adds and removes it: see [`Reconciler`](crate::Reconciler#example).
//! Who looks at objects of others can tell theirs:
//! ```
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use reconcile::finalizer;
//!
//! let mut object = ConfigMap::default();
//! object.metadata.finalizers = Some(vec!["example.com/bucket".to_owned()]);
//! assert!(finalizer::has(&object, "example.com/bucket") && !finalizer::has(&object, "foregroundDeletion"));
//! ```

use kube::{
    Api, Error, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{error::is_not_found, reconciler::Kind};

/// Whether `object` carries `finalizer`.
pub fn has(object: &impl Resource, finalizer: &str) -> bool {
    object
        .meta()
        .finalizers
        .as_ref()
        .is_some_and(|all| all.iter().any(|name| name == finalizer))
}

/// Adds `finalizer`, and returns the object as written.
pub async fn add<K: Kind>(api: &Api<K>, object: &K, finalizer: &str) -> Result<K, Error> {
    let mut all = object.finalizers().to_vec();
    all.push(finalizer.to_owned());
    write(api, object, &all).await
}

/// Removes `finalizer`, and returns the object as written, or nothing if it is gone.
pub async fn remove<K: Kind>(api: &Api<K>, object: &K, finalizer: &str) -> Result<Option<K>, Error> {
    let all: Vec<_> = object
        .finalizers()
        .iter()
        .filter(|name| *name != finalizer)
        .cloned()
        .collect();
    match write(api, object, &all).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `name` is one that the API server accepts as a finalizer of a custom resource: `domain/name`.
pub fn is_qualified(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, rest)| domain.contains('.') && !rest.is_empty() && rest.len() <= 63)
}

async fn write<K: Kind>(api: &Api<K>, object: &K, finalizers: &[String]) -> Result<K, Error> {
    let meta = object.meta();
    let patch = json!({ "metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "finalizers": finalizers,
    }});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_are_qualified_names() {
        assert!(is_qualified("mysql.example.com/finalizer"));
        assert!(!is_qualified("finalizer") && !is_qualified("localhost/") && !is_qualified("local/x"));
    }
}
