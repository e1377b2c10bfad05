//! The watch of a controller's children: their metadata alone.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt as _, pin_mut};
use kube::{
    Client, Resource,
    api::PartialObjectMeta,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tracing::warn;

use super::{api, watch::PAGE};
use crate::{
    key::ObjectKey,
    queue::{Priority, Queue},
    reconciler::Kind,
    sabotage,
};

/// Where children are watched, and who is woken.
pub(super) struct Scope {
    pub(super) client: Client,
    pub(super) namespace: Option<String>,
    pub(super) queue: Queue,
    pub(super) listed: oneshot::Sender<()>,
}

/// Watches the metadata of `C` and wakes the controlling `K` of each child that appears, changes or goes, also when it
/// went while the watch was interrupted.
pub(super) async fn watch<K, C>(scope: Scope)
where
    K: Kind,
    C: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    C: DeserializeOwned + Send + Sync + 'static,
{
    let api = api::<PartialObjectMeta<C>>(&scope.client, scope.namespace.as_deref());
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    pin_mut!(events);
    let mut listed = Some(scope.listed);
    let mut known = Known::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => known.listing(),
            Ok(Event::InitApply(child)) => {
                for owner in known.saw::<K>(&child) {
                    scope.queue.add(owner, Priority::Background);
                }
            }
            Ok(Event::InitDone) => {
                for owner in known.missing() {
                    scope.queue.add(owner, Priority::User);
                }
                if let Some(listed) = listed.take() {
                    let _ = listed.send(());
                }
            }
            Ok(Event::Apply(child)) => {
                for owner in known.saw::<K>(&child) {
                    scope.queue.add(owner, Priority::User);
                }
            }
            Ok(Event::Delete(child)) => {
                if let Some(owner) = known.lost::<K>(&child) {
                    scope.queue.add(owner, Priority::User);
                }
            }
            Err(error) => {
                warn!(kind = %C::kind(&()), error = crate::error::chain(&error), "Watch failed");
            }
        }
    }
}

/// Children and their owners, as far as the watch has shown.
#[derive(Default)]
struct Known {
    owners: HashMap<ObjectKey, ObjectKey>,
    /// What the list under way has shown so far.
    present: HashSet<ObjectKey>,
}

impl Known {
    fn listing(&mut self) {
        self.present.clear();
    }

    /// The owner of a child that is there, if it is ours, and the one that it had until now, if that is another.
    fn saw<K: Kind>(&mut self, child: &impl Resource) -> Vec<ObjectKey> {
        let (key, owner) = (ObjectKey::of(child), controller_of::<K>(child));
        let former = match &owner {
            Some(owner) => {
                self.present.insert(key.clone());
                self.owners.insert(key, owner.clone())
            }
            None => self.owners.remove(&key),
        };
        let former = former.filter(|former| owner.as_ref() != Some(former));
        [owner, former].into_iter().flatten().collect()
    }

    /// The owner of a child that has gone.
    fn lost<K: Kind>(&mut self, child: &impl Resource) -> Option<ObjectKey> {
        let known = self.owners.remove(&ObjectKey::of(child));
        controller_of::<K>(child).or(known)
    }

    /// The owners of those that a complete list did not show.
    fn missing(&mut self) -> Vec<ObjectKey> {
        let present = std::mem::take(&mut self.present);
        if sabotage::active(sabotage::MISS_NO_CHILD) {
            return Vec::new();
        }
        let gone = self.owners.extract_if(|child, _| !present.contains(child));
        gone.map(|(_, owner)| owner).collect()
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
