//! Children: objects inside the cluster that belong to the reconciled one.
//!
//! # Guarantees
//! - The first creation is a POST: an object of that name that somebody else made is never taken over, it is
//!   reported as [`ApplyError::NameConflict`] and left untouched.
//! - Later writes are server-side applies that carry the UID which was observed and found to be ours: an object
//!   that was replaced in between is not touched (the API server answers 409).
//! - Nothing is sent when nothing would change.
//! - [`Applier::prune`] deletes by owner UID, with the child's UID as precondition.
//!
//! # Assumptions
//! - One field manager per controller. `desired` is everything that this controller wants to say about the child.
//! - Parent and child are in the same namespace.

mod coverage;

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{
        DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams,
        Preconditions,
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::coverage::is_covered;
use crate::{
    error::{ApiError, Class, ReconcileError, is_not_found},
    reconciler::Kind,
    sabotage,
};

/// The annotation in which a child carries the digest of what was last applied. It shows removals, which a
/// comparison with the live object cannot.
pub const APPLIED: &str = "reconcile.dev/applied";

/// Why a child could not be brought to its desired state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of this name exists and is not ours. It is left untouched.
    #[error("{kind} {namespace}/{name} exists and does not belong to {owner}; rename it or delete it")]
    NameConflict {
        /// Kind of the child.
        kind: String,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The owner that wanted it, as `Kind name`.
        owner: String,
    },
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl ReconcileError for ApplyError {
    fn class(&self) -> Class {
        match self {
            // A person has to act, and deleting the other object sends us no event.
            Self::NameConflict { .. } => Class::Transient,
            Self::Api(error) => error.class(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NameConflict { .. } => "NameConflict",
            Self::Api(error) => error.reason(),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::NameConflict { .. } => None,
            Self::Api(error) => error.retry_after(),
        }
    }
}

/// What [`Applier::apply`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It did not exist.
    Created,
    /// It differed.
    Changed,
    /// It was as desired; nothing was sent.
    Unchanged,
}

/// Applies the children of one owner in the name of one controller.
pub struct Applier<'a> {
    client: &'a Client,
    manager: &'static str,
    namespace: String,
    owner: OwnerReference,
    /// Nothing is changed.
    dry_run: bool,
}

impl<'a> Applier<'a> {
    /// For children of `owner`, as field manager `manager` (the controller's name).
    pub fn new<K: Kind>(client: &'a Client, manager: &'static str, owner: &K) -> Self {
        let namespace = owner.namespace().unwrap_or_default();
        let owner = OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            name: owner.name_any(),
            uid: owner.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        Self {
            client,
            manager,
            namespace,
            owner,
            dry_run: false,
        }
    }

    /// Asks whether the API server will have one child as `desired`, as far as it can tell beforehand, and changes nothing.
    pub async fn rehearse<C: Kind>(mut self, desired: C) -> Result<(), ApplyError> {
        self.dry_run = true;
        self.apply(desired).await.map(drop)
    }

    /// Brings one child to `desired` and returns it as it now is. `desired` needs a name; namespace and owner
    /// reference are set here.
    pub async fn apply<C: Kind>(&self, mut desired: C) -> Result<(C, Applied), ApplyError> {
        let name = desired.name_any();
        let api: Api<C> = Api::namespaced(self.client.clone(), &self.namespace);
        self.adopt(desired.meta_mut());
        let digest =
            digest(&desired).map_err(|e| self.failed::<C>("serialize", &name, kube::Error::SerdeError(e)))?;
        desired.annotations_mut().insert(APPLIED.into(), digest.clone());
        let live = api
            .get_opt(&name)
            .await
            .map_err(|e| self.failed::<C>("read", &name, e))?;
        let Some(live) = live else {
            let params = PostParams {
                dry_run: self.dry_run,
                field_manager: Some(self.manager.into()),
            };
            let created = api.create(&params, &desired).await;
            return match created {
                Ok(created) => Ok((created, Applied::Created)),
                // Created between our read and now, by us before a crash or by somebody else: look again next pass.
                Err(error) => Err(self.failed::<C>("create", &name, error).into()),
            };
        };
        if live.controller_owner_uid() != Some(self.owner.uid.as_str())
            && !sabotage::active(sabotage::ADOPT_FOREIGN_CHILD)
        {
            return Err(ApplyError::NameConflict {
                kind: C::kind(&()).into_owned(),
                namespace: self.namespace.clone(),
                name,
                owner: format!("{} {}", self.owner.kind, self.owner.name),
            });
        }
        if live.annotations().get(APPLIED) == Some(&digest) && is_covered(&desired, &live) {
            return Ok((live, Applied::Unchanged));
        }
        if !self.dry_run {
            self.own_created_fields(&api, &live)
                .await
                .map_err(|e| self.failed::<C>("apply", &name, e))?;
        }
        desired.meta_mut().uid = live.uid();
        let mut params = PatchParams::apply(self.manager).force();
        params.dry_run = self.dry_run;
        let patch = Patch::Apply(typed(&desired));
        let changed = api
            .patch(&name, &params, &patch)
            .await
            .map_err(|e| self.failed::<C>("apply", &name, e))?;
        Ok((changed, Applied::Changed))
    }

    /// Fields set by our POST belong to our manager as an *update*; a later apply that omits one would leave it. So
    /// before the first apply that entry is turned into an apply's, as client-go's `csaupgrade` does.
    async fn own_created_fields<C: Kind>(&self, api: &Api<C>, live: &C) -> Result<(), kube::Error> {
        let mut entries = live.managed_fields().to_vec();
        let created = entries.iter_mut().find(|entry| {
            entry.manager.as_deref() == Some(self.manager)
                && entry.operation.as_deref() == Some("Update")
                && entry.subresource.is_none()
        });
        let Some(created) = created else { return Ok(()) };
        created.operation = Some("Apply".into());
        let patch = json!({ "metadata": {
            "uid": live.uid(),
            "resourceVersion": live.resource_version(),
            "managedFields": entries,
        }});
        api.patch(&live.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    fn adopt(&self, meta: &mut ObjectMeta) {
        meta.namespace = Some(self.namespace.clone());
        meta.owner_references = Some(vec![self.owner.clone()]);
    }

    fn failed<C: Kind>(&self, verb: &str, name: &str, source: kube::Error) -> ApiError {
        ApiError::new(
            format!("{verb} {} {}/{name}", C::kind(&()), self.namespace),
            source,
        )
    }

    /// Deletes every `C` that matches `selector`, belongs to this owner, and is not named in `keep`. Returns how many.
    pub async fn prune<C: Kind>(&self, selector: &str, keep: &HashSet<String>) -> Result<usize, ApplyError> {
        let api: Api<PartialObjectMeta<C>> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().labels(selector);
        let listed = api
            .list(&params)
            .await
            .map_err(|e| self.failed::<C>("list", "*", e))?;
        let mut deleted = 0;
        for child in listed.items {
            let name = child.name_any();
            let ours = child.controller_owner_uid() == Some(self.owner.uid.as_str());
            if !ours || keep.contains(&name) || child.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let preconditions = Preconditions {
                uid: child.uid(),
                resource_version: None,
            };
            let params = DeleteParams::background().preconditions(preconditions);
            match api.delete(&name, &params).await {
                Ok(_) => deleted += 1,
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(self.failed::<C>("delete", &name, error).into()),
            }
        }
        Ok(deleted)
    }
}

trait ControllerOwner {
    fn controller_owner_uid(&self) -> Option<&str>;
}

impl<K: Resource> ControllerOwner for K {
    fn controller_owner_uid(&self) -> Option<&str> {
        let owners = self.meta().owner_references.as_ref()?;
        owners
            .iter()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.as_str())
    }
}

fn digest(desired: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    let hash = Sha256::digest(serde_json::to_vec(desired)?);
    let short = hash
        .iter()
        .take(8)
        .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    Ok(format!("{short:016x}"))
}

/// A server-side apply needs apiVersion and kind in its body; typed built-in objects serialize with them.
fn typed<C: Kind>(desired: &C) -> Value {
    let mut value = serde_json::to_value(desired).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".into(), C::api_version(&()).into());
        fields.insert("kind".into(), C::kind(&()).into());
    }
    value
}
