//! Objects that may be stored in a version of the API that nobody converts.
//!
//! Upstream's provider stored these kinds as `v1beta1` before its release 1.11. Our definitions know that version, so
//! that the API server accepts them over upstream's, and do not serve it: an object that is stored so is read as if it
//! were of today's version, with what has another shape there missing. As long as a definition lists such a version
//! among those that were ever stored, nothing is done with the objects of its kind, nor with those that are made from
//! templates of it, except removing them.
//!
//! # Guarantees
//! - The message names the definition and the version, and has the command that cures it.
//! - A definition that is well is read once in the life of the process.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, Resource};
use reconcile::error::ApiError;
use tokio::sync::Mutex;

/// The versions with today's schema.
const CONVERTED: [&str; 2] = ["v1alpha1", "v1beta2"];

/// What is known of the definitions. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    well: Arc<Mutex<BTreeSet<String>>>,
}

/// Why objects of a kind are left alone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition could not be read.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It lists versions that are not converted.
    #[error(
        "CustomResourceDefinition {name} may have objects that are stored as {}, which is not converted; upstream's \
         provider rewrites them from its release 1.11 on, or you do: {}",
        .versions.join(", "), cure(name)
    )]
    MigrationNeeded {
        /// The definition's name.
        name: String,
        /// The versions.
        versions: Vec<String>,
    },
}

/// Rewrites every object in today's version, and then says that no other is stored.
fn cure(name: &str) -> String {
    format!(
        "kubectl get {name} --all-namespaces --output=json | kubectl replace --filename=- && \
         kubectl patch customresourcedefinitions {name} --subresource=status --type=merge \
         --patch='{{\"status\":{{\"storedVersions\":[\"v1beta2\"]}}}}'"
    )
}

impl Storage {
    /// Whether all objects of the kind can be relied on.
    ///
    /// # Errors
    /// If they cannot, or if that could not be found out.
    pub async fn check<K: Resource<DynamicType = ()>>(&self, client: &Client) -> Result<(), Error> {
        let name = format!("{}.{}", K::plural(&()), K::group(&()));
        let mut well = self.well.lock().await;
        if well.contains(&name) {
            return Ok(());
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let found = definitions.get(&name).await;
        let found = found.map_err(|e| ApiError::new(format!("read CustomResourceDefinition {name}"), e))?;
        let versions = unconverted(&found);
        if versions.is_empty() {
            well.insert(name);
            return Ok(());
        }
        Err(Error::MigrationNeeded { name, versions })
    }
}

fn unconverted(definition: &CustomResourceDefinition) -> Vec<String> {
    let stored = definition
        .status
        .as_ref()
        .and_then(|status| status.stored_versions.clone());
    let mut versions = stored.unwrap_or_default();
    versions.retain(|version| !CONVERTED.contains(&version.as_str()));
    versions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_with_todays_schema_need_no_migration_and_others_are_named() {
        let of = |stored: &[&str]| {
            let definition = json!({
                "metadata": {"name": "x"},
                "spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Namespaced", "versions": []},
                "status": {"storedVersions": stored},
            });
            unconverted(&serde_json::from_value(definition).unwrap())
        };
        assert_eq!(of(&["v1beta2"]), [] as [&str; 0]);
        assert_eq!(of(&["v1alpha1", "v1beta2"]), [] as [&str; 0]);
        assert_eq!(of(&["v1beta1", "v1beta2"]), ["v1beta1"]);
    }

    #[test]
    fn the_message_has_the_command() {
        let error = Error::MigrationNeeded {
            name: "ks.g".into(),
            versions: vec!["v1beta1".into()],
        };
        let text = error.to_string();
        assert!(text.contains("CustomResourceDefinition ks.g"), "{text}");
        assert!(text.contains("stored as v1beta1"), "{text}");
        assert!(text.contains("kubectl get ks.g --all-namespaces"), "{text}");
    }
}
