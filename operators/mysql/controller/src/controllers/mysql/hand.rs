//! What the steps of a pass have in common: reading, making and removing objects.
//!
//! # Guarantees
//! What is removed is what was looked at: every removal carries the UID.

use std::time::Duration;

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use mysql_api::{MySQL, database::Reason};
use reconcile::{
    Pass, Progress, Reconciler as _,
    apply::{Applied, Applier, ApplyError},
    error::{ApiError, is_not_found},
    events::{EventKind, Notice},
    fence::LeaseLost,
    reconciler::Kind,
};
use serde_json::Value;

use super::{DatabaseError, Databases};
use crate::{database::report::Said, sabotage};

/// Why a pass ends before its last step.
pub(super) enum Stop {
    /// Something has to happen first.
    Held {
        /// What the summary says meanwhile.
        said: Said,
        /// When to look again.
        after: Duration,
    },
    /// It failed.
    Failed(DatabaseError),
}

impl<E: Into<DatabaseError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Holds the pass.
pub(super) fn held<T>(said: Said, after: Duration) -> Result<T, Stop> {
    Err(Stop::Held { said, after })
}

/// Holds the pass until something that is on its way has happened.
pub(super) fn soon<T>(reason: Reason, message: impl Into<String>) -> Result<T, Stop> {
    held(Said::pending(reason, message), super::SOON)
}

/// Acts on the children of one object.
pub(super) struct Hand<'a> {
    pub(super) pass: &'a Pass<MySQL>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(pass: &'a Pass<MySQL>) -> Self {
        Self { pass }
    }

    pub(super) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.pass.client().clone(), &self.pass.key().namespace)
    }

    /// Kind, namespace and name, for messages.
    pub(super) fn what<K: Kind>(&self, name: &str) -> String {
        format!("{} {}/{name}", K::kind(&()), self.pass.key().namespace)
    }

    /// The object of this name, if there is one.
    pub(super) async fn get<K: Kind>(&self, name: &str) -> Result<Option<K>, ApiError> {
        let found = self.api::<K>().get_opt(name).await;
        found.map_err(|error| ApiError::new(format!("read {}", self.what::<K>(name)), error))
    }

    /// The object of this name, if it is worth looking at.
    pub(super) async fn get_if<K: Kind>(&self, name: &str, worth: bool) -> Result<Option<K>, ApiError> {
        if worth || sabotage::active(sabotage::RESTORE_OVER_DATA) {
            self.get(name).await
        } else {
            Ok(None)
        }
    }

    /// The objects with these labels.
    pub(super) async fn list<K: Kind>(&self, selector: &str) -> Result<Vec<K>, ApiError> {
        let params = ListParams::default().labels(selector);
        let listed = self.api::<K>().list(&params).await;
        let what = || {
            format!(
                "list {} {}/* with {selector}",
                K::kind(&()),
                self.pass.key().namespace
            )
        };
        listed
            .map(|list| list.items)
            .map_err(|error| ApiError::new(what(), error))
    }

    /// Makes an object that is not applied later.
    pub(super) async fn create<K: Kind>(&self, object: &K) -> Result<K, ApiError> {
        let params = PostParams {
            field_manager: Some(Databases::NAME.to_owned()),
            ..PostParams::default()
        };
        let created = self.api().create(&params, object).await;
        created
            .map_err(|error| ApiError::new(format!("create {}", self.what::<K>(&object.name_any())), error))
    }

    /// Changes an object by a merge patch, which carries what has to hold.
    pub(super) async fn merge<K: Kind>(&self, name: &str, patch: &Value) -> Result<K, ApiError> {
        let params = PatchParams {
            field_manager: Some(Databases::NAME.to_owned()),
            ..PatchParams::default()
        };
        let patched = self.api().patch(name, &params, &Patch::Merge(patch)).await;
        patched.map_err(|error| ApiError::new(format!("change {}", self.what::<K>(name)), error))
    }

    /// Removes an object, its own children first. One that is gone, or is another by now, is no failure.
    pub(super) async fn remove<K: Kind>(&self, object: &K) -> Result<(), ApiError> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let name = object.name_any();
        match self.api::<K>().delete(&name, &params).await {
            Err(error) if !is_not_found(&error) => {
                Err(ApiError::new(format!("delete {}", self.what::<K>(&name)), error))
            }
            _ => Ok(()),
        }
    }

    /// Brings a child that the object owns to what it should be.
    pub(super) async fn apply<K: Kind>(&self, child: K) -> Result<(K, Applied), ApplyError> {
        let owner = self.pass.current();
        let applier = Applier::new(self.pass.client(), Databases::NAME, owner.as_ref());
        applier.apply(child).await
    }

    /// Asks whether the API server will have a child that the object owns as it should be, and changes nothing.
    pub(super) async fn rehearse<K: Kind>(&self, child: K) -> Result<(), ApplyError> {
        let owner = self.pass.current();
        let applier = Applier::new(self.pass.client(), Databases::NAME, owner.as_ref());
        applier.rehearse(child).await
    }

    /// Tells of a step.
    pub(super) async fn tell(&self, reason: &'static str, action: &'static str, note: impl Into<String>) {
        self.event(EventKind::Normal, reason, action, note.into()).await;
    }

    /// Tells of trouble.
    pub(super) async fn warn(&self, reason: &'static str, action: &'static str, note: impl Into<String>) {
        self.event(EventKind::Warning, reason, action, note.into()).await;
    }

    async fn event(&self, kind: EventKind, reason: &'static str, action: &'static str, note: String) {
        let notice = Notice {
            kind,
            reason,
            action,
            note,
        };
        self.pass.event(notice).await;
    }

    /// Checks that this replica may act; to be asked before what cannot be taken back.
    pub(super) fn may(&self) -> Result<(), LeaseLost> {
        self.pass.fence().check()
    }
}

/// The sooner of two looks.
pub(super) fn sooner(one: Progress, after: Duration) -> Progress {
    match one {
        Progress::Settled => Progress::waiting(after),
        Progress::Waiting { after: other } => Progress::waiting(after.min(other)),
    }
}
