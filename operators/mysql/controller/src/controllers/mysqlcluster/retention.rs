//! The Secrets that outlive a cluster together with its instances: nobody can reach the members without them.
//!
//! # Guarantees
//! - They lose their owner before the cluster's finalizer goes: Kubernetes removes what a cluster that is gone still owns.
//! - The finalizer does not go without them.
//! - A cluster that takes the instances over takes them over as well; what belongs to somebody else is not touched.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use mysql_api::MySQLCluster;
use reconcile::{Pass, error::ApiError};
use serde_json::json;

use crate::{
    authority::Authority,
    endpoints::{binding, binding_name},
};

/// The name of the Secret by which members know the operator.
pub(super) fn operator_name(cluster: &str) -> String {
    format!("{cluster}-operator")
}

/// What became of the Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// Nobody owns them, and that was so before.
    Before,
    /// Nobody owns them now. It has to be seen once more: Kubernetes may have been about to remove one.
    Now,
    /// This one is gone, and nobody here knows what was in it.
    Lost(String),
}

/// Takes the cluster off the owners of its Secrets. With `--cascade=foreground` Kubernetes removes what a cluster owns before
/// the cluster: what it was faster with is made again by who knows what was in it.
pub(super) async fn release(
    pass: &Pass<MySQLCluster>,
    authority: Option<&Authority>,
) -> Result<Released, ApiError> {
    let cluster = pass.current();
    let (name, namespace) = (&pass.key().name, &pass.key().namespace);
    let bound = cluster
        .status
        .as_ref()
        .is_some_and(|status| status.binding.is_some());
    let wanted = [(operator_name(name), true), (binding_name(name), bound)];
    let mut released = Released::Before;
    for (secret, is_needed) in wanted {
        match (find(pass, &secret).await?, authority) {
            (Some(found), _) => {
                let mut owners = found.owner_references().to_vec();
                let before = owners.len();
                owners.retain(|owner| Some(&owner.uid) != cluster.metadata.uid.as_ref());
                if owners.len() != before {
                    write(pass, &found, json!(owners)).await?;
                    released = Released::Now;
                }
            }
            (None, Some(authority)) if is_needed => {
                let again = if secret == operator_name(name) {
                    authority.secret(&secret)
                } else {
                    binding(name, namespace, authority, &certificates(&cluster))
                };
                let made = secrets(pass).create(&PostParams::default(), &again).await;
                made.map_err(|error| ApiError::new(format!("create Secret {namespace}/{secret}"), error))?;
                released = Released::Now;
            }
            (None, None) if is_needed => return Ok(Released::Lost(secret)),
            (None, _) => {}
        }
    }
    Ok(released)
}

/// The certificates that are pinned, as the binding has them.
fn certificates(cluster: &MySQLCluster) -> String {
    let members = cluster.status.iter().flat_map(|status| &status.members);
    members
        .filter_map(|member| member.certificate.as_deref())
        .collect()
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
