//! What the watch has shown of a kind, and of our own writes to it.
//!
//! kube's reflector store is written by its watch alone: after a write of ours it keeps serving the object as it
//! was before, until the event arrives, and a relist may even take it back in time. This cache accepts the answers
//! to our own writes as well, and never goes back.
//!
//! # Guarantees
//! - **Read your writes**: once [`Cache::wrote`] returned, no pass sees the object as it was before that write.
//! - **No time travel**: an event or list entry with a lower resourceVersion than the cached one is ignored, also where
//!   it shows an earlier object of the same name, which a list of the past would bring back in the place of the present
//!   one.
//! - **No ghosts**: the answer to a write is dropped when the object has meanwhile been seen deleted.
//!
//! # Assumptions
//! resourceVersions of one resource are decimal numbers that grow (documented since Kubernetes 1.35, true of every
//! released API server on etcd). Where one is not, the newest arrival wins.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kube::Resource;
use parking_lot::RwLock;

use crate::{finalizer, key::ObjectKey, sabotage};

/// Objects of one kind by name.
#[derive(Debug)]
pub struct Cache<K> {
    objects: RwLock<HashMap<ObjectKey, Arc<K>>>,
}

/// What an arrival changed.
#[derive(Debug)]
pub enum Change<K> {
    /// Nothing: an echo of what is known.
    Known,
    /// Nothing: older than what is known, and ignored.
    Stale,
    /// The object was not known, or under another UID (then that one is given).
    Added(Option<Arc<K>>),
    /// The object was known as given.
    Updated(Arc<K>),
}

impl<K: Resource<DynamicType = ()>> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
        }
    }
}

impl<K: Resource<DynamicType = ()>> Cache<K> {
    /// The object of this name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.read().get(key).cloned()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.objects.read().keys().cloned().collect()
    }

    /// All objects.
    pub fn objects(&self) -> Vec<Arc<K>> {
        self.objects.read().values().cloned().collect()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in an object that the watch showed.
    pub fn saw(&self, object: Arc<K>) -> Change<K> {
        self.saw_as(ObjectKey::of(object.as_ref()), object)
    }

    /// [`Cache::saw`], for a caller that has the object's key already: keys are kept for as long as objects are, and
    /// two of one object would be memory for nothing.
    pub(crate) fn saw_as(&self, key: ObjectKey, object: Arc<K>) -> Change<K> {
        let mut objects = self.objects.write();
        let Some(known) = objects.get(&key) else {
            return Change::Added(objects.insert(key, object));
        };
        let same = same_uid(known.as_ref(), object.as_ref());
        if same && object.meta().resource_version == known.meta().resource_version {
            return Change::Known;
        }
        if !is_newer(object.as_ref(), known.as_ref()) && !sabotage::active(sabotage::GO_BACK_IN_TIME) {
            return Change::Stale;
        }
        match objects.insert(key, object) {
            Some(known) if same => Change::Updated(known),
            known => Change::Added(known),
        }
    }

    /// Takes in the answer to a write of ours; `None` when it tells nothing new, or the object is gone.
    pub fn wrote(&self, object: Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(object.as_ref());
        let mut objects = self.objects.write();
        let known = objects.get(&key)?;
        if !same_uid(known.as_ref(), object.as_ref()) || !is_newer(object.as_ref(), known.as_ref()) {
            return None;
        }
        objects.insert(key, object)
    }

    /// Forgets the object; returns it if it was known.
    pub fn remove(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.write().remove(key)
    }

    /// Forgets what a complete list of `namespace` (or of all) did not show, and returns it.
    pub fn missing_from(&self, listed: &HashSet<ObjectKey>, namespace: Option<&str>) -> Vec<Arc<K>> {
        let mut objects = self.objects.write();
        let in_scope = |key: &ObjectKey| namespace.is_none_or(|name| *key.namespace == *name);
        let gone: Vec<_> = objects
            .keys()
            .filter(|key| in_scope(key) && !listed.contains(*key))
            .cloned()
            .collect();
        gone.iter().filter_map(|key| objects.remove(key)).collect()
    }
}

fn same_uid<K: Resource>(a: &K, b: &K) -> bool {
    a.meta().uid == b.meta().uid
}

fn is_newer<K: Resource>(arrived: &K, known: &K) -> bool {
    let version = |object: &K| object.meta().resource_version.as_deref()?.parse::<u64>().ok();
    match (version(arrived), version(known)) {
        (Some(arrived), Some(known)) => arrived > known,
        _ => arrived.meta().resource_version != known.meta().resource_version,
    }
}

/// Drops what no reconciler reads and what makes up much of an object's size. Everything that enters a cache goes
/// through here, so that two states of an object can be compared.
pub fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    object
}

/// Whether the difference between two states of an object is one that a reconciler must look at: its spec
/// (generation), deletion, labels, annotations, or finalizers. Status is ours, and wakes nobody; so is the arrival of
/// our own finalizer `ours`, whose event may overtake the answer to the request that added it.
///
/// Kinds without a generation (some built-in ones) wake on every change.
pub fn differs_for_reconcile<K: Resource>(old: &K, new: &K, ours: Option<&str>) -> bool {
    let theirs = |object: &K| -> Vec<String> {
        let all = object.meta().finalizers.iter().flatten();
        all.filter(|name| Some(name.as_str()) != ours).cloned().collect()
    };
    let lost = |name| finalizer::has(old, name) && !finalizer::has(new, name);
    let taken = new.meta().deletion_timestamp.is_none() && ours.is_some_and(lost);
    taken
        || theirs(old) != theirs(new)
        || differs_beyond_own_writes(old, new)
        || sabotage::active(sabotage::WAKE_BY_OWN_WRITES)
}

/// As [`differs_for_reconcile`], finalizers aside.
fn differs_beyond_own_writes<K: Resource>(old: &K, new: &K) -> bool {
    let (a, b) = (old.meta(), new.meta());
    a.generation.is_none()
        || a.generation != b.generation
        || a.deletion_timestamp != b.deletion_timestamp
        || a.annotations != b.annotations
        || a.labels != b.labels
        || a.owner_references != b.owner_references
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    fn object(uid: &str, version: &str) -> Arc<ConfigMap> {
        let metadata = ObjectMeta {
            namespace: Some("ns".into()),
            name: Some("x".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        Arc::new(ConfigMap {
            metadata,
            ..ConfigMap::default()
        })
    }

    fn version(cache: &Cache<ConfigMap>) -> Option<String> {
        cache
            .get(&ObjectKey::new("ns", "x"))?
            .metadata
            .resource_version
            .clone()
    }

    #[test]
    fn the_cache_never_goes_back_in_time() {
        let cache = Cache::default();
        assert!(matches!(cache.saw(object("a", "9")), Change::Added(None)));
        assert!(cache.wrote(object("a", "12")).is_some());
        assert!(
            matches!(cache.saw(object("a", "10")), Change::Stale),
            "an event from before our write"
        );
        assert!(
            matches!(cache.saw(object("a", "12")), Change::Known),
            "the echo of our write"
        );
        assert!(
            matches!(cache.saw(object("a", "101")), Change::Updated(_)),
            "numbers, not strings"
        );
        assert_eq!(version(&cache).unwrap(), "101");
    }

    #[test]
    fn an_answer_to_a_write_never_brings_a_deleted_object_back() {
        let cache = Cache::default();
        let _ = cache.saw(object("a", "1"));
        cache.remove(&ObjectKey::new("ns", "x"));
        assert!(cache.wrote(object("a", "2")).is_none());
        assert_eq!(version(&cache), None);
        let _ = cache.saw(object("b", "3"));
        assert!(
            cache.wrote(object("a", "4")).is_none(),
            "an answer about its predecessor"
        );
        assert_eq!(version(&cache).unwrap(), "3");
    }

    #[test]
    fn our_own_finalizer_arriving_is_no_news_but_losing_it_is() {
        let with = |finalizers: &[&str]| {
            let mut object = object("a", "1").as_ref().clone();
            object.metadata.generation = Some(1);
            object.metadata.finalizers = Some(finalizers.iter().map(|&f| f.to_owned()).collect());
            object
        };
        let ours = Some("a.b/ours");
        assert!(!differs_for_reconcile(&with(&[]), &with(&["a.b/ours"]), ours));
        assert!(differs_for_reconcile(&with(&["a.b/ours"]), &with(&[]), ours));
        assert!(differs_for_reconcile(
            &with(&["a.b/ours", "c.d/x"]),
            &with(&["a.b/ours"]),
            ours
        ));
    }

    #[test]
    fn a_recreated_object_is_new_and_its_predecessor_never_comes_back() {
        let cache = Cache::default();
        let _ = cache.saw(object("a", "7"));
        assert!(matches!(cache.saw(object("b", "9")), Change::Added(Some(_))));
        assert!(matches!(cache.saw(object("a", "8")), Change::Stale));
        assert_eq!(version(&cache).unwrap(), "9");
    }
}
