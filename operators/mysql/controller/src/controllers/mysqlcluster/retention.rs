//! The Secrets that outlive a cluster together with its instances: nobody can reach the members without them.
//!
//! # Guarantees
//! - They lose their owner before the cluster's finalizer goes: Kubernetes removes what a cluster that is gone still owns.
//! - The finalizer does not go without them.
//! - A cluster that takes the instances over takes them over as well; what belongs to somebody else is not touched.
//! - If the instances go after all, because the policy was changed meanwhile, the Secrets go as well.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use mysql_api::MySQLCluster;
use reconcile::{Pass, error::ApiError};
use serde_json::json;

use crate::{
    authority::Authority,
    endpoints::{binding, binding_name},
};

/// Annotation of a Secret that was released: the UID of the cluster that it belonged to.
const RELEASED: &str = "mysql.alx.ke/released-by";

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
    write(pass, &found, (json!(owners), Some(uid.as_str()))).await?;
    Ok(Released::Now)
}

/// Removes the Secrets that were released, for there is nothing left that they reach: the next cluster of the name would
/// find them in its way.
pub(super) async fn withdraw(pass: &Pass<MySQLCluster>) -> Result<(), ApiError> {
    let name = &pass.key().name;
    for secret in [operator_name(name), binding_name(name)] {
        let Some(found) = find(pass, &secret).await? else {
            continue;
        };
        let released = found.annotations().get(RELEASED) == Some(&pass.uid());
        if !released || !found.owner_references().is_empty() {
            continue;
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: found.uid(),
            resource_version: found.resource_version(),
        });
        match secrets(pass).delete(&secret, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                let what = format!("delete Secret {}/{secret}", pass.key().namespace);
                return Err(ApiError::new(what, error));
            }
            Ok(_) => {}
        }
    }
    Ok(())
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
    write(pass, &secret, (json!([owner]), None)).await?;
    Ok(Taken::Ours)
}

fn secrets(pass: &Pass<MySQLCluster>) -> Api<Secret> {
    Api::namespaced(pass.client().clone(), &pass.key().namespace)
}

async fn find(pass: &Pass<MySQLCluster>, name: &str) -> Result<Option<Secret>, ApiError> {
    let found = secrets(pass).get_opt(name).await;
    found.map_err(|error| ApiError::new(format!("read Secret {}/{name}", pass.key().namespace), error))
}

/// Replaces the owners of the Secret as it was read, and says who released it, if nobody owns it any more.
async fn write(
    pass: &Pass<MySQLCluster>,
    secret: &Secret,
    (owners, released): (serde_json::Value, Option<&str>),
) -> Result<(), ApiError> {
    let name = secret.name_any();
    let patch = json!({"metadata": {
        "uid": secret.uid(),
        "resourceVersion": secret.resource_version(),
        "ownerReferences": owners,
        "annotations": {RELEASED: released},
    }});
    let patched = secrets(pass)
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    let what = || format!("change the owner of Secret {}/{name}", pass.key().namespace);
    patched.map(drop).map_err(|error| ApiError::new(what(), error))
}
