//! Objects of any kind in one namespace.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

pub(crate) const CORE: &str = "cluster.x-k8s.io/v1beta2";
pub(crate) const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io/v1beta2";

/// Objects of any kind in one namespace.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Objects {
    pub(crate) fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Applies an object; returns it as it is then.
    pub(crate) async fn apply(&self, object: &Value) -> Result<DynamicObject> {
        let text = |pointer: &str| {
            let found = object.pointer(pointer).and_then(Value::as_str);
            found.with_context(|| format!("an object without {pointer}: {object}"))
        };
        let (version, kind, name) = (text("/apiVersion")?, text("/kind")?, text("/metadata/name")?);
        let params = PatchParams::apply("bench").force();
        let applied = self
            .api(version, kind)
            .patch(name, &params, &Patch::Apply(object))
            .await;
        applied.with_context(|| format!("apply {kind} {name}"))
    }

    /// Merges `status` into an object's.
    pub(crate) async fn status(&self, version: &str, kind: &str, name: &str, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        self.api(version, kind)
            .patch_status(name, &params, &patch)
            .await?;
        Ok(())
    }

    pub(crate) async fn delete(&self, version: &str, kind: &str, name: &str) -> Result<()> {
        self.api(version, kind)
            .delete(name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    pub(crate) async fn list(&self, version: &str, kind: &str) -> Result<Vec<DynamicObject>> {
        Ok(self.api(version, kind).list(&ListParams::default()).await?.items)
    }
}

/// Whether `object` has this condition with status `True`.
pub(crate) fn is(object: &DynamicObject, type_: &str) -> bool {
    let conditions = object.data.pointer("/status/conditions");
    conditions
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

/// Looks every `interval` until `found` finds something; fails after `limit`.
pub(crate) async fn until<T>(
    what: &str,
    interval: Duration,
    limit: Duration,
    mut found: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = found().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(interval).await;
    }
}
