//! The Secrets that outlive a cluster together with its instances: nobody can reach the members without them.
//!
//! # Guarantees
//! - They lose their owner before the cluster's finalizer goes: Kubernetes removes what a cluster that is gone still owns.
//! - A cluster that takes the instances over takes them over as well; what belongs to somebody else is not touched.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use mysql_api::MySQLCluster;
use reconcile::{Pass, error::ApiError};
use serde_json::json;

use crate::endpoints::binding_name;

/// The name of the Secret by which members know the operator.
pub(super) fn operator_name(cluster: &str) -> String {
    format!("{cluster}-operator")
}

/// Takes the cluster off the owners of its Secrets.
pub(super) async fn release(pass: &Pass<MySQLCluster>) -> Result<(), ApiError> {
    let (cluster, uid) = (&pass.key().name, pass.uid());
    for name in [operator_name(cluster), binding_name(cluster)] {
        let Some(secret) = find(pass, &name).await? else {
            continue;
        };
        let mut owners = secret.owner_references().to_vec();
        let before = owners.len();
        owners.retain(|owner| owner.uid != uid);
        if owners.len() != before {
            write(pass, &secret, json!(owners)).await?;
        }
    }
    Ok(())
}

/// Whose a Secret is that was to be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// This cluster's.
    Ours,
    /// Somebody else's still.
    Foreign,
    /// There is none.
    Missing,
}

/// Makes a Secret this cluster's that is nobody's, or that of the cluster `from`.
pub(super) async fn take_over(pass: &Pass<MySQLCluster>, name: &str, from: &str) -> Result<Taken, ApiError> {
    let Some(secret) = find(pass, name).await? else {
        return Ok(Taken::Missing);
    };
    let owners = secret.owner_references();
    if owners.iter().any(|owner| owner.uid == pass.uid()) {
        return Ok(Taken::Ours);
    }
    if owners.iter().any(|owner| owner.uid != from) {
        return Ok(Taken::Foreign);
    }
    let owner = pass.current().controller_owner_ref(&());
    write(pass, &secret, json!([owner])).await?;
    Ok(Taken::Ours)
}

fn secrets(pass: &Pass<MySQLCluster>) -> Api<Secret> {
    Api::namespaced(pass.client().clone(), &pass.key().namespace)
}

async fn find(pass: &Pass<MySQLCluster>, name: &str) -> Result<Option<Secret>, ApiError> {
    let found = secrets(pass).get_opt(name).await;
    found.map_err(|error| ApiError::new(format!("read Secret {}/{name}", pass.key().namespace), error))
}

/// Replaces the owners of the Secret as it was read.
async fn write(
    pass: &Pass<MySQLCluster>,
    secret: &Secret,
    owners: serde_json::Value,
) -> Result<(), ApiError> {
    let name = secret.name_any();
    let patch = json!({"metadata": {
        "uid": secret.uid(),
        "resourceVersion": secret.resource_version(),
        "ownerReferences": owners,
    }});
    let patched = secrets(pass)
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    let what = || format!("change the owner of Secret {}/{name}", pass.key().namespace);
    patched.map(drop).map_err(|error| ApiError::new(what(), error))
}
