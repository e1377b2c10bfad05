//! The watch of a controller's own kind.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::api;
use crate::{
    cache::{Change, differs_for_reconcile, slim},
    events::{EventKind, Notice},
    key::ObjectKey,
    pass::{Context, abandon},
    queue::Priority,
    reconciler::Reconciler,
};

/// Objects per page of a list: bounds the memory of the first list.
pub(super) const PAGE: u32 = 100;

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
        undecodable: HashMap::new(),
        last_namespace: Arc::from(""),
        listed: Some(listed),
    };
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => source.take(event),
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
    /// What is there and cannot be decoded: its UID, and the event about it on its way.
    undecodable: HashMap<ObjectKey, (Option<String>, AbortOnDropHandle<()>)>,
    /// The namespace of the last key, which most often is the next one's as well: they then share it.
    last_namespace: Arc<str>,
    listed: Option<oneshot::Sender<()>>,
}

impl<R: Reconciler> Source<R> {
    fn take(&mut self, event: Event<DeserializeGuard<R::Kind>>) {
        match event {
            Event::Init => self.present.clear(),
            Event::InitApply(object) => {
                let key = self.key_of(&object);
                self.present.insert(key.clone());
                self.saw(key, object, Priority::Background);
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
                let vanished: Vec<_> = self
                    .undecodable
                    .extract_if(|key, _| !present.contains(key))
                    .collect();
                for (key, (uid, _)) in vanished {
                    self.gone(&key, uid);
                }
                if let Some(listed) = self.listed.take() {
                    let _ = listed.send(());
                }
            }
            Event::Apply(object) => {
                let key = self.key_of(&object);
                self.saw(key, object, Priority::User);
            }
            Event::Delete(object) => {
                // Also for one that is not cached, since it cannot be decoded: its task may still run.
                let key = ObjectKey::of(&object);
                let known = self.context.cache.remove(&key);
                self.undecodable.remove(&key);
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

    fn saw(&mut self, key: ObjectKey, object: DeserializeGuard<R::Kind>, priority: Priority) {
        let object = match object.0 {
            Ok(object) => object,
            Err(invalid) => {
                self.context.cache.remove(&key);
                return self.cannot_decode(key, &invalid.metadata, &invalid.error);
            }
        };
        self.undecodable.remove(&key);
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
        self.context.backoff.forget(key);
        self.context.queue.forget(key);
        abandon(self.reconciler.as_ref(), &self.context, &uid.unwrap_or_default());
    }

    /// Nothing is done for an object that nobody understands: its task stops, and the replica that acts says so.
    fn cannot_decode(&mut self, key: ObjectKey, metadata: &kube::core::ObjectMeta, error: &str) {
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
        for tasks in &self.context.supervised {
            tasks.stop(regarding.uid.as_deref().unwrap_or_default());
        }
        // Beside the watch, which must not wait for the lease or for events.
        let (context, uid) = (self.context.clone(), regarding.uid.clone());
        let publish = tokio::spawn(async move {
            context.elected.cancelled().await;
            context.events.publish(&regarding, notice).await;
        });
        self.undecodable
            .insert(key, (uid, AbortOnDropHandle::new(publish)));
    }
}
