//! The Secrets that outlive a cluster together with its instances: nobody can reach the members without them.
//!
//! # Guarantees
//! - They lose their owner before the cluster's finalizer goes: Kubernetes removes what a cluster that is gone still owns.
//! - The finalizer does not go without them.
//! - A cluster that takes the instances over takes them over as well; what belongs to somebody else is not touched. One that
//!   goes before it has taken any instance over gives the Secrets back: nobody could ever reach the instances otherwise.
//! - If the instances go after all, because the policy was changed meanwhile, the Secrets go as well: see [`super::remains`].

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
    identity::CLUSTER_UID,
};

/// Annotation of a Secret that was released: the UID of the cluster that it belonged to.
pub(super) const RELEASED: &str = "mysql.alx.ke/released-by";
/// Annotation of a Secret that was taken over: the UID of the cluster that it belonged to.
pub(super) const TAKEN: &str = "mysql.alx.ke/taken-over-from";

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

impl Released {
    fn and(self, later: Self) -> Self {
        if later == Self::Before { self } else { later }
    }
}

/// Takes the cluster off the owners of its Secrets. With `--cascade=foreground` Kubernetes removes what a cluster owns before
/// the cluster: what it was faster with is made again by who knows what was in it.
pub(super) async fn release(
    pass: &Pass<MySQLCluster>,
    authority: Option<&Authority>,
) -> Result<Released, ApiError> {
    let (cluster, name) = (pass.current(), &pass.key().name);
    let operator = operator_name(name);
    let found = find(pass, &operator).await?;
    let authority = match (authority, &found) {
        (Some(authority), _) => Some(authority.clone()),
        // Another process has read it. What cannot be read is nobody's way in, and stays as it is.
        (None, Some(secret)) => Authority::read(secret).ok(),
        (None, None) => return Ok(Released::Lost(operator)),
    };
    let again = authority.as_ref().map(|known| known.secret(&operator));
    let released = release_one(pass, found, again).await?;
    // What applications bind to is made of the rest, if they were told of it.
    let is_bound = cluster
        .status
        .as_ref()
        .is_some_and(|status| status.binding.is_some());
    let again = authority.as_ref().filter(|_| is_bound);
    let again = again.map(|known| binding(name, &pass.key().namespace, known, &certificates(&cluster)));
    let found = find(pass, &binding_name(name)).await?;
    Ok(released.and(release_one(pass, found, again).await?))
}

/// Takes the cluster off the owners of a Secret, or makes it `again` without one.
async fn release_one(
    pass: &Pass<MySQLCluster>,
    found: Option<Secret>,
    again: Option<Secret>,
) -> Result<Released, ApiError> {
    let uid = pass.uid();
    let Some(found) = found else {
        let Some(mut again) = again else {
            return Ok(Released::Before);
        };
        again.annotations_mut().insert(RELEASED.to_owned(), uid);
        let what = format!("create Secret {}/{}", pass.key().namespace, again.name_any());
        let made = secrets(pass).create(&PostParams::default(), &again).await;
        made.map_err(|error| ApiError::new(what, error))?;
        return Ok(Released::Now);
    };
    let mut owners = found.owner_references().to_vec();
    let before = owners.len();
    owners.retain(|owner| owner.uid != uid);
    if owners.len() == before {
        return Ok(Released::Before);
    }
    write(pass, &found, (json!(owners), json!({RELEASED: uid, TAKEN: null}))).await?;
    Ok(Released::Now)
}

/// Gives the Secrets back that were taken over from another cluster.
pub(super) async fn give_back(pass: &Pass<MySQLCluster>) -> Result<Released, ApiError> {
    let (name, uid) = (&pass.key().name, pass.uid());
    let mut given = Released::Before;
    for secret in [operator_name(name), binding_name(name)] {
        let Some(found) = find(pass, &secret).await? else {
            continue;
        };
        let mut owners = found.owner_references().to_vec();
        let before = owners.len();
        owners.retain(|owner| owner.uid != uid);
        // It is owned last; and with `--cascade=orphan` Kubernetes takes the cluster off the owners, and may have been faster.
        let is_orphaned = before == 0 && found.annotations().get(CLUSTER_UID) == Some(&uid);
        let from = found.annotations().get(TAKEN);
        if let Some(from) = from.filter(|_| owners.len() < before || is_orphaned) {
            write(
                pass,
                &found,
                (
                    json!(owners),
                    json!({RELEASED: from, TAKEN: null, CLUSTER_UID: from}),
                ),
            )
            .await?;
            given = Released::Now;
        }
    }
    Ok(given)
}

/// The certificates that are pinned, as the binding has them.
fn certificates(cluster: &MySQLCluster) -> String {
    let members = cluster.status.iter().flat_map(|status| &status.members);
    members
        .filter_map(|member| member.certificate.as_deref())
        .collect()
}

/// Whose a Secret is that is to be taken over.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Held {
    /// This cluster's.
    Ours,
    /// Nobody's, or that of the cluster that is taken over from.
    Free(Box<Secret>),
    /// Somebody else's.
    Foreign,
    /// There is none.
    Missing,
}

/// Whose a Secret is that is to be taken over from the cluster `from`.
pub(super) async fn holder(pass: &Pass<MySQLCluster>, name: &str, from: &str) -> Result<Held, ApiError> {
    let Some(secret) = find(pass, name).await? else {
        return Ok(Held::Missing);
    };
    let owners = secret.owner_references();
    Ok(if owners.iter().any(|owner| owner.uid == pass.uid()) {
        Held::Ours
    } else if owners.iter().any(|owner| owner.uid != from) {
        Held::Foreign
    } else {
        Held::Free(Box::new(secret))
    })
}

/// Notes on a Secret that was free that it is this cluster's, and whose it was. Nobody owns it until the instances are recorded:
/// with `--cascade=foreground` Kubernetes removes what a cluster owns, and it is the only way to them.
pub(super) async fn take_over(
    pass: &Pass<MySQLCluster>,
    secret: &Secret,
    from: &str,
) -> Result<(), ApiError> {
    let marks = json!({RELEASED: null, TAKEN: from, CLUSTER_UID: pass.uid()});
    write(pass, secret, (json!([]), marks)).await
}

/// Makes the cluster the owner of the Secrets that it has taken over, once the instances are recorded as its own.
pub(super) async fn own(pass: &Pass<MySQLCluster>) -> Result<(), ApiError> {
    let (name, uid) = (&pass.key().name, pass.uid());
    for secret in [operator_name(name), binding_name(name)] {
        let found = find(pass, &secret).await?;
        let taken = found.filter(|found| {
            found.owner_references().is_empty() && found.annotations().get(CLUSTER_UID) == Some(&uid)
        });
        if let Some(taken) = taken {
            take(pass, &taken).await?;
        }
    }
    Ok(())
}

/// Makes a Secret that nobody owns this cluster's.
pub(super) async fn take(pass: &Pass<MySQLCluster>, secret: &Secret) -> Result<(), ApiError> {
    let owner = pass.current().controller_owner_ref(&());
    write(pass, secret, (json!([owner]), json!({CLUSTER_UID: pass.uid()}))).await
}

fn secrets(pass: &Pass<MySQLCluster>) -> Api<Secret> {
    Api::namespaced(pass.client().clone(), &pass.key().namespace)
}

/// Marks a Secret as this cluster's, whose it is: it was made by an operator that did not.
pub(super) async fn mark(pass: &Pass<MySQLCluster>, secret: &Secret) -> Result<(), ApiError> {
    let uid = pass.uid();
    if secret.annotations().get(CLUSTER_UID) == Some(&uid) {
        return Ok(());
    }
    let owners = json!(secret.owner_references());
    write(pass, secret, (owners, json!({CLUSTER_UID: uid}))).await
}

async fn find(pass: &Pass<MySQLCluster>, name: &str) -> Result<Option<Secret>, ApiError> {
    let found = secrets(pass).get_opt(name).await;
    found.map_err(|error| ApiError::new(format!("read Secret {}/{name}", pass.key().namespace), error))
}

/// Replaces the owners of the Secret as it was read, and sets annotations or takes them off (null).
async fn write(
    pass: &Pass<MySQLCluster>,
    secret: &Secret,
    (owners, marks): (serde_json::Value, serde_json::Value),
) -> Result<(), ApiError> {
    let name = secret.name_any();
    let patch = json!({"metadata": {
        "uid": secret.uid(),
        "resourceVersion": secret.resource_version(),
        "ownerReferences": owners,
        "annotations": marks,
    }});
    let patched = secrets(pass)
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    let what = || format!("change the owner of Secret {}/{name}", pass.key().namespace);
    patched.map(drop).map_err(|error| ApiError::new(what(), error))
}
