//! The watches of a controller: its own kind, and its children's metadata.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource, ResourceExt as _,
    api::PartialObjectMeta,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tracing::warn;

use super::api;
use crate::{
    cache::{Change, differs_for_reconcile, slim},
    events::{EventKind, Notice},
    key::ObjectKey,
    pass::Context,
    queue::{Priority, Queue},
    reconciler::{Kind, Reconciler},
};

/// Objects per page of a list: bounds the memory of the first list.
const PAGE: u32 = 100;

/// Watches the controller's own kind in one namespace, or in all; fires `listed` after the first complete list.
pub(super) async fn objects<R: Reconciler>(
    reconciler: Arc<R>,
    context: Arc<Context<R::Kind>>,
    namespace: Option<String>,
    listed: oneshot::Sender<()>,
) {
    let api = api::<DeserializeGuard<R::Kind>>(&context.client, namespace.as_deref());
    let mut source = Source {
        reconciler,
        context,
        namespace,
        present: HashSet::new(),
        last_namespace: Arc::from(""),
        listed: Some(listed),
    };
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => source.take(event).await,
            Err(error) => {
                warn!(kind = %R::Kind::kind(&()), error = crate::error::chain(&error), "Watch failed");
            }
        }
    }
}

struct Source<R: Reconciler> {
    reconciler: Arc<R>,
    context: Arc<Context<R::Kind>>,
    namespace: Option<String>,
    /// What the list under way has shown so far.
    present: HashSet<ObjectKey>,
    /// The namespace of the last key, which most often is the next one's as well: they then share it.
    last_namespace: Arc<str>,
    listed: Option<oneshot::Sender<()>>,
}

impl<R: Reconciler> Source<R> {
    async fn take(&mut self, event: Event<DeserializeGuard<R::Kind>>) {
        match event {
            Event::Init => self.present.clear(),
            Event::InitApply(object) => {
                let key = self.key_of(&object);
                self.present.insert(key.clone());
                self.saw(key, object, Priority::Background).await;
            }
            Event::InitDone => {
                let present = std::mem::take(&mut self.present);
                for gone in self
                    .context
                    .cache
                    .missing_from(&present, self.namespace.as_deref())
                {
                    self.gone(&ObjectKey::of(gone.as_ref()), gone.uid());
                }
                if let Some(listed) = self.listed.take() {
                    let _ = listed.send(());
                }
            }
            Event::Apply(object) => {
                let key = self.key_of(&object);
                self.saw(key, object, Priority::User).await;
            }
            Event::Delete(object) => {
                // Also for one that is not cached, since it cannot be decoded: its task may still run.
                let key = ObjectKey::of(&object);
                let known = self.context.cache.remove(&key);
                self.gone(&key, known.map_or_else(|| object.uid(), |known| known.uid()));
            }
        }
    }

    fn key_of(&mut self, object: &impl Resource) -> ObjectKey {
        let mut key = ObjectKey::of(object);
        if key.namespace == self.last_namespace {
            key.namespace = self.last_namespace.clone();
        } else {
            self.last_namespace = key.namespace.clone();
        }
        key
    }

    async fn saw(&self, key: ObjectKey, object: DeserializeGuard<R::Kind>, priority: Priority) {
        let object = match object.0 {
            Ok(object) => object,
            Err(invalid) => {
                self.context.cache.remove(&key);
                return self.undecodable(&invalid.metadata, &invalid.error).await;
            }
        };
        let object = Arc::new(slim(object));
        let context = &self.context;
        match context.cache.saw_as(key.clone(), object.clone()) {
            Change::Known => {}
            Change::Stale => context.metrics.stale_skip(),
            Change::Added(replaced) => {
                if let Some(replaced) = replaced {
                    self.gone(&key, replaced.uid());
                }
                context.queue.add(key, priority);
            }
            Change::Updated(before) => {
                if differs_for_reconcile(before.as_ref(), object.as_ref(), R::FINALIZER) {
                    context.queue.add(key, Priority::User);
                }
            }
        }
    }

    /// The object is no longer there: everything that is kept about it goes too.
    fn gone(&self, key: &ObjectKey, uid: Option<String>) {
        let (context, uid) = (&self.context, uid.unwrap_or_default());
        context.backoff.forget(key);
        context.queue.forget(key);
        context.events.forget(&uid);
        for tasks in &context.supervised {
            tasks.abandon(&uid);
        }
        self.reconciler.forget(&uid);
    }

    async fn undecodable(&self, metadata: &kube::core::ObjectMeta, error: &str) {
        let key = ObjectKey::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let kind = R::Kind::kind(&());
        warn!(%kind, object = %key, error, "Object cannot be decoded");
        let note =
            format!("{kind} {key} cannot be decoded and is not reconciled until it is corrected: {error}");
        let regarding = ObjectReference {
            api_version: Some(R::Kind::api_version(&()).into_owned()),
            kind: Some(kind.into_owned()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let notice = Notice {
            kind: EventKind::Warning,
            reason: "InvalidObject",
            action: "Decode",
            note,
        };
        self.context.events.publish(&regarding, notice).await;
    }
}

/// Where children are watched, and who is woken.
pub(super) struct ChildScope {
    pub(super) client: Client,
    pub(super) namespace: Option<String>,
    pub(super) queue: Queue,
    pub(super) listed: oneshot::Sender<()>,
}

/// Watches the metadata of `C` and wakes the controlling `K` of each child that appears, changes or goes.
pub(super) async fn children<K, C>(scope: ChildScope)
where
    K: Kind,
    C: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    C: DeserializeOwned + Send + Sync + 'static,
{
    let api = api::<PartialObjectMeta<C>>(&scope.client, scope.namespace.as_deref());
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    pin_mut!(events);
    let mut listed = Some(scope.listed);
    while let Some(event) = events.next().await {
        let (child, priority) = match event {
            Ok(Event::InitApply(child)) => (child, Priority::Background),
            Ok(Event::Apply(child) | Event::Delete(child)) => (child, Priority::User),
            Ok(Event::Init) => continue,
            Ok(Event::InitDone) => {
                if let Some(listed) = listed.take() {
                    let _ = listed.send(());
                }
                continue;
            }
            Err(error) => {
                warn!(kind = %C::kind(&()), error = crate::error::chain(&error), "Watch failed");
                continue;
            }
        };
        if let Some(owner) = controller_of::<K>(&child) {
            scope.queue.add(owner, priority);
        }
    }
}

fn controller_of<K: Kind>(child: &impl Resource) -> Option<ObjectKey> {
    let owners = child.meta().owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    // The version may differ from ours: a child keeps the version under which it was made.
    let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let ours = owner.kind == K::kind(&()) && group == K::group(&());
    ours.then(|| {
        ObjectKey::new(
            child.meta().namespace.clone().unwrap_or_default(),
            owner.name.clone(),
        )
    })
}
