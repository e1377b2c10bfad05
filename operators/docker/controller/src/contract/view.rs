//! All Clusters and Machines, as last seen.
//!
//! # Guarantees
//! - Reading takes no request. What is not there yet is not there: [`View::is_complete`] tells whether the first
//!   lists are in, and nothing may be concluded from an absence before that.
//! - Every change wakes whoever subscribed before it.
//!
//! # Caveats
//! What is read may be older than what the API server has. Nothing that cannot be repeated depends on it alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use parking_lot::{Mutex, RwLock};
use reconcile::{Kind, ObjectKey};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::warn;

use super::{Cluster, Machine, owner};

/// Objects per page of a list.
const PAGE: u32 = 200;

/// A change of an object of Cluster API.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Cluster came, changed or went; this is how it last was.
    Cluster(Arc<Cluster>),
    /// A Machine came, changed or went; this is how it last was.
    Machine(Arc<Machine>),
}

/// All Clusters and Machines, as last seen. Clones share them.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

struct Shared {
    clusters: Store<Cluster>,
    machines: Store<Machine>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Change>>>,
    watches: Mutex<JoinSet<()>>,
}

struct Store<K> {
    objects: RwLock<HashMap<ObjectKey, Arc<K>>>,
    /// First lists that are not in yet.
    pending: AtomicUsize,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            pending: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Default for View {
    fn default() -> Self {
        let shared = Shared {
            clusters: Store::default(),
            machines: Store::default(),
            subscribers: Mutex::default(),
            watches: Mutex::new(JoinSet::new()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl View {
    /// Begins to watch, in `namespaces` or, if that is empty, in all. The watches end with the last clone.
    pub fn watch(&self, client: &Client, namespaces: &[String]) {
        let scopes: Vec<_> = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().map(|n| Some(n.as_str())).collect()
        };
        self.shared
            .clusters
            .pending
            .store(scopes.len(), Ordering::Release);
        self.shared
            .machines
            .pending
            .store(scopes.len(), Ordering::Release);
        let mut watches = self.shared.watches.lock();
        for scope in scopes {
            let shared = Arc::downgrade(&self.shared);
            watches.spawn(follow(
                client.clone(),
                scope.map(str::to_owned),
                shared.clone(),
                CLUSTERS,
            ));
            watches.spawn(follow(client.clone(), scope.map(str::to_owned), shared, MACHINES));
        }
    }

    /// Whether every first list is in.
    pub fn is_complete(&self) -> bool {
        self.shared.clusters.is_complete() && self.shared.machines.is_complete()
    }

    /// The Cluster of this name.
    pub fn cluster(&self, namespace: &str, name: &str) -> Option<Arc<Cluster>> {
        self.shared.clusters.get(&ObjectKey::new(namespace, name))
    }

    /// The Machine of this name.
    pub fn machine(&self, namespace: &str, name: &str) -> Option<Arc<Machine>> {
        self.shared.machines.get(&ObjectKey::new(namespace, name))
    }

    /// The Machine that owns `object`.
    pub fn owner_machine<K: Kind>(&self, object: &K) -> Option<Arc<Machine>> {
        let namespace = object.meta().namespace.as_deref()?;
        self.machine(namespace, &owner(object, "Machine")?.name)
    }

    /// The Machines of a Cluster.
    pub fn machines_of(&self, namespace: &str, cluster: &str) -> Vec<Arc<Machine>> {
        let machines = self.shared.machines.objects.read();
        let of_cluster = machines
            .iter()
            .filter(|(key, machine)| &*key.namespace == namespace && machine.spec.cluster_name == cluster);
        of_cluster.map(|(_, machine)| machine.clone()).collect()
    }

    /// The DockerMachines of all Machines.
    pub fn all_docker_machines(&self) -> Vec<ObjectKey> {
        self.shared
            .machines
            .objects
            .read()
            .values()
            .filter_map(|machine| machine.docker_machine())
            .collect()
    }

    /// The DockerClusters of all Clusters.
    pub fn all_docker_clusters(&self) -> Vec<ObjectKey> {
        self.shared
            .clusters
            .objects
            .read()
            .values()
            .filter_map(|cluster| cluster.docker_cluster())
            .collect()
    }

    /// The DockerMachines that a change concerns: the Machine's own, or all of the Cluster's.
    pub fn docker_machines(&self, change: &Change) -> Vec<ObjectKey> {
        match change {
            Change::Machine(machine) => machine.docker_machine().into_iter().collect(),
            Change::Cluster(cluster) => self
                .machines_of(&cluster.namespace().unwrap_or_default(), &cluster.name_any())
                .iter()
                .filter_map(|machine| machine.docker_machine())
                .collect(),
        }
    }

    /// The DockerCluster that a change concerns: the Cluster's, or that of a control plane Machine.
    pub fn docker_cluster(&self, change: &Change) -> Option<ObjectKey> {
        match change {
            Change::Cluster(cluster) => cluster.docker_cluster(),
            Change::Machine(machine) if machine.is_control_plane() => self
                .cluster(&machine.namespace()?, &machine.spec.cluster_name)?
                .docker_cluster(),
            Change::Machine(_) => None,
        }
    }

    /// All changes from now on.
    pub fn changes(&self) -> BoxStream<'static, Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.shared.subscribers.lock().push(sender);
        futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .boxed()
    }
}

impl Shared {
    fn tell(&self, change: &Change) {
        self.subscribers
            .lock()
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

impl<K> Store<K> {
    fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.read().get(key).cloned()
    }

    fn is_complete(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }
}

/// How one kind is kept.
struct Lane<K> {
    store: fn(&Shared) -> &Store<K>,
    change: fn(Arc<K>) -> Change,
}

const CLUSTERS: Lane<Cluster> = Lane {
    store: |shared| &shared.clusters,
    change: Change::Cluster,
};
const MACHINES: Lane<Machine> = Lane {
    store: |shared| &shared.machines,
    change: Change::Machine,
};

async fn follow<K: Kind + PartialEq>(
    client: Client,
    namespace: Option<String>,
    shared: Weak<Shared>,
    lane: Lane<K>,
) {
    let api: Api<K> = namespace.as_ref().map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    );
    let mut events =
        std::pin::pin!(watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff());
    let mut listed = HashMap::new();
    let mut first = true;
    while let Some(event) = events.next().await {
        let Some(shared) = shared.upgrade() else { return };
        let store = (lane.store)(&shared);
        let changed: Vec<Arc<K>> = match event {
            Ok(Event::Init) => {
                listed = HashMap::new();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(ObjectKey::of(&object), Arc::new(slim(object)));
                Vec::new()
            }
            Ok(Event::InitDone) => {
                let changed = store.replace(std::mem::take(&mut listed), namespace.as_deref());
                if std::mem::take(&mut first) {
                    store.pending.fetch_sub(1, Ordering::AcqRel);
                }
                changed
            }
            Ok(Event::Apply(object)) => {
                let object = Arc::new(slim(object));
                let before = store
                    .objects
                    .write()
                    .insert(ObjectKey::of(object.as_ref()), object.clone());
                if before.is_some_and(|before| is_same(before.as_ref(), object.as_ref())) {
                    Vec::new()
                } else {
                    vec![object]
                }
            }
            Ok(Event::Delete(object)) => {
                store.objects.write().remove(&ObjectKey::of(&object));
                vec![Arc::new(slim(object))]
            }
            Err(error) => {
                warn!(kind = %K::kind(&()), error = reconcile::error::chain(&error), "Watch failed");
                Vec::new()
            }
        };
        for object in changed {
            shared.tell(&(lane.change)(object));
        }
    }
}

impl<K: Kind + PartialEq> Store<K> {
    /// Takes over a complete list of `namespace` (of all, if none); what differs from before is returned.
    fn replace(&self, listed: HashMap<ObjectKey, Arc<K>>, namespace: Option<&str>) -> Vec<Arc<K>> {
        let mut objects = self.objects.write();
        let in_scope = |key: &ObjectKey| namespace.is_none_or(|namespace| &*key.namespace == namespace);
        let gone: Vec<_> = objects
            .keys()
            .filter(|key| in_scope(key) && !listed.contains_key(key))
            .cloned()
            .collect();
        let mut changed: Vec<_> = gone.iter().filter_map(|key| objects.remove(key)).collect();
        for (key, object) in listed {
            let before = objects.insert(key, object.clone());
            if before.is_none_or(|before| !is_same(before.as_ref(), object.as_ref())) {
                changed.push(object);
            }
        }
        changed
    }
}

/// Drops what nobody here reads and what takes most of the memory.
fn slim<K: Kind>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// Whether nothing that is read here differs. Most updates of a Machine are heartbeats of its conditions.
fn is_same<K: Kind + PartialEq>(before: &K, after: &K) -> bool {
    let mut before = before.clone();
    before
        .meta_mut()
        .resource_version
        .clone_from(&after.meta().resource_version);
    before == *after
}
