//! Objects of Cluster API as they are now, past all caches: for what cannot be taken back.

use kube::{Api, api::ListParams};
use reconcile::{Kind, Pass, error::ApiError};

/// The object `name` in the namespace of the pass; nothing if there is none. By a list, which we have the right to anyway.
///
/// # Errors
/// If it could not be read.
pub async fn read<K: Kind, O: Kind>(name: &str, pass: &Pass<O>) -> Result<Option<K>, ApiError> {
    let namespace = &pass.key().namespace;
    let api: Api<K> = Api::namespaced(pass.client().clone(), namespace);
    let of_name = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = api.list(&of_name).await;
    let found =
        found.map_err(|error| ApiError::new(format!("read {} {namespace}/{name}", K::kind(&())), error))?;
    Ok(found.items.into_iter().next())
}
