//! The two volumes: data, and backups.
//!
//! Neither claim has an owner reference, so no garbage collector decides over data: the operator removes the data volume
//! itself, after the final backup; the volume with the backups it never removes. Whose a claim is stands in its labels.
//!
//! Where a cluster has no StorageClass at all, volumes are folders of a node, whose names hold namespace and UID: two
//! objects of one name never share one, and no new object finds the folder of an old one.

mod content;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{
            HostPathVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
            PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeNodeAffinity, VolumeResourceRequirements,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{ResourceExt as _, api::ObjectMeta};
use mysql_api::database::{Reason, RestorePolicy, RestoreSettings};
use serde_json::{Value, json};

pub use self::content::{BEGAN_EMPTY, Content, DATA, Lineage};
use super::{
    desired::{Desired, SpecError, Volume},
    names::{MADE_FOR, Names, Owned, owned},
    size,
};
use crate::sabotage;

/// Annotation on the claim of a data volume that takes a lost one's place: how the spec wanted a first one to be filled.
const LOST: &str = "otus.homework/lost";
/// Annotation on the claim of a data volume: the image whose server last answered from it.
pub const SERVED: &str = "otus.homework/served-by";
/// Annotation on the claim of a data volume: the database whose rows are on it, and in the backups of whoever has it.
const DATABASE: &str = "otus.homework/database";
/// Annotation on the claim of the volume for backups: the id of the newest one.
pub const NEWEST: &str = "otus.homework/newest-backup";
/// Annotation on the claim of the volume for backups: UID of the object that has lost a data volume.
pub const BEREFT: &str = "otus.homework/lost-data-of";
/// Annotation with the volume of a node that was made for a claim.
const FIXED: &str = "otus.homework/volume";
/// Annotation on a claim of the kind's first operator, whose volume may be a folder of a node that is root's.
const ROOTS: &str = "otus.homework/roots-folder";
/// What provisioned a claim's volume, as Kubernetes notes it.
const PROVISIONERS: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
/// Where volumes are on a node.
const FOLDER: &str = "/var/lib/mysql-operator";
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the server has.
    Data,
    /// What backups go to.
    Backups,
}

impl Role {
    /// Name of the claim.
    pub fn claim(self, names: &Names) -> String {
        match self {
            Self::Data => names.data_claim(),
            Self::Backups => names.backup_claim(),
        }
    }

    /// What is asked for.
    pub fn wanted(self, desired: &Desired) -> &Volume {
        match self {
            Self::Data => &desired.data,
            Self::Backups => &desired.backups,
        }
    }
}

/// Whose a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This object's.
    Ours,
    /// To be marked as this object's: left for the next one of its name, or made by the kind's first operator.
    Inherited,
    /// Going away after an earlier object of this name.
    Leaving,
    /// Somebody else's.
    Foreign,
}

/// Whose `claim` is, for the object of these names and this UID.
///
/// The first operator left its volume of backups without any mark: one of that name that nobody owns and nothing manages
/// is taken as backups of this name. Data are never taken over so.
pub fn standing(claim: &PersistentVolumeClaim, role: Role, names: &Names, uid: &str) -> Standing {
    if sabotage::active(sabotage::TAKE_FOREIGN_VOLUME) {
        return Standing::Ours;
    }
    let going = claim.metadata.deletion_timestamp.is_some();
    let managed = claim.labels().contains_key("app.kubernetes.io/managed-by");
    let ours = claim
        .annotations()
        .get(MADE_FOR)
        .is_some_and(|made_for| made_for == uid);
    match owned(claim, names, uid) {
        Owned::Nobody if names.marked(claim) && ours => Standing::Ours,
        Owned::Foreign => Standing::Foreign,
        Owned::Nobody if !names.marked(claim) && (role == Role::Data || managed) => Standing::Foreign,
        Owned::Predecessor => Standing::Leaving,
        Owned::Ours | Owned::Nobody if going => Standing::Leaving,
        Owned::Ours | Owned::Nobody => Standing::Inherited,
    }
}

/// Whether a data volume goes with the object of this UID: it was made for it, or taken over by it. One that was left for
/// the next of its name, or that the next has by now, does not: a deletion may be looked at once more, from a past that
/// the API server still tells, when the object is gone and another has its name.
pub fn goes_with(claim: &PersistentVolumeClaim, names: &Names, uid: &str) -> bool {
    match standing(claim, Role::Data, names, uid) {
        Standing::Ours => true,
        Standing::Inherited => owned(claim, names, uid) == Owned::Ours,
        Standing::Leaving | Standing::Foreign => false,
    }
}

/// Whether the volume stays that a backup went to, or is to go to, which was begun with the claim of this UID; `taken` is its
/// id, which stands on another claim if it went to that.
pub fn stays(claim: &PersistentVolumeClaim, begun_with: Option<&str>, taken: Option<&str>) -> bool {
    let is_there = taken.is_some() && claim.annotations().get(NEWEST).map(String::as_str) == taken;
    claim.metadata.deletion_timestamp.is_none()
        && (is_there || begun_with.is_none_or(|uid| claim.uid().as_deref() == Some(uid)))
}

/// The database that a data volume holds, if its rows would be in no backup of `wanted`.
pub fn other_database<'a>(claim: &'a PersistentVolumeClaim, wanted: &str) -> Option<&'a str> {
    let held = claim.annotations().get(DATABASE)?;
    (Content::of(claim) != Content::Awaited && held != wanted).then_some(held)
}

/// What marks an inherited claim as this object's, as a merge patch. What is on a data volume is kept: the rows of this
/// database, if that is known.
pub fn inheritance(
    claim: &PersistentVolumeClaim,
    role: Role,
    names: &Names,
    uid: &str,
    database: Option<&str>,
) -> Value {
    let mut annotations = json!({ MADE_FOR: uid });
    let provisioned = PROVISIONERS
        .iter()
        .any(|by| claim.annotations().contains_key(*by));
    if !names.marked(claim) && !provisioned {
        annotations[ROOTS] = json!("true");
    }
    if role == Role::Data {
        annotations[DATA] = json!(Content::inherited(claim, names.marked(claim)).annotation());
        if let Some(database) = database {
            annotations[DATABASE] = json!(database);
        }
    }
    json!({ "metadata": {
        "uid": claim.metadata.uid,
        "resourceVersion": claim.metadata.resource_version,
        "labels": names.labels(),
        "annotations": annotations,
        "ownerReferences": [],
    }})
}

/// Marks the claim of a new data volume as one that takes a lost one's place.
pub fn mark_lost(claim: &mut PersistentVolumeClaim, restore: &RestoreSettings) {
    claim.annotations_mut().insert(LOST.to_owned(), manner(restore));
}

/// How the volume of this claim is filled: the first one as the spec says; one that takes a lost one's place from the
/// newest backup and not without one, until somebody says in the spec what else is to be done.
pub fn filling(claim: &PersistentVolumeClaim, restore: RestoreSettings) -> RestoreSettings {
    if is_set_aside(claim, &restore) {
        RestoreSettings {
            policy: RestorePolicy::Required,
            from: None,
        }
    } else {
        restore
    }
}

/// Whether what the spec says was for a volume that is lost, in whose place this one is, and does not count for this one.
pub fn is_set_aside(claim: &PersistentVolumeClaim, restore: &RestoreSettings) -> bool {
    let before = claim.annotations().get(LOST);
    before.is_some_and(|before| *before == manner(restore))
}

fn manner(restore: &RestoreSettings) -> String {
    let from = restore.from.as_deref().unwrap_or_default();
    format!("{:?} {from}", restore.policy)
}

/// Where a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// From a class; from the cluster's default one if none is named.
    Class(Option<String>),
    /// From a node, as a folder.
    Node,
}

/// Where a new volume comes from, in a cluster with these classes.
pub fn placement(wanted: Option<&str>, classes: &[StorageClass]) -> Result<Placement, SpecError> {
    let names = || {
        let names: Vec<_> = classes.iter().map(kube::ResourceExt::name_any).collect();
        names.join(", ")
    };
    let is_default = |class: &StorageClass| {
        class
            .annotations()
            .get(IS_DEFAULT)
            .is_some_and(|value| value == "true")
    };
    match wanted {
        Some(wanted) if classes.iter().any(|class| class.name_any() == wanted) => {
            Ok(Placement::Class(Some(wanted.to_owned())))
        }
        Some(wanted) => Err(SpecError {
            reason: Reason::StorageClassUnknown,
            message: format!("there is no StorageClass {wanted}; there are: {}", names()),
        }),
        None if classes.is_empty() => Ok(Placement::Node),
        None if classes.iter().any(is_default) => Ok(Placement::Class(None)),
        None => Err(SpecError {
            reason: Reason::NoDefaultStorageClass,
            message: format!(
                "no StorageClass is the default one; name one in storage.storageClassName: {}",
                names()
            ),
        }),
    }
}

/// The claim of a new volume.
pub fn claim(role: Role, desired: &Desired, placement: &Placement) -> PersistentVolumeClaim {
    let wanted = role.wanted(desired);
    let mut annotations = BTreeMap::from([(MADE_FOR.to_owned(), desired.uid.clone())]);
    if role == Role::Data {
        annotations.insert(DATA.to_owned(), Content::Awaited.annotation());
        annotations.insert(DATABASE.to_owned(), desired.database.clone());
    }
    let (class, volume) = match placement {
        Placement::Class(class) => (class.clone(), None),
        Placement::Node => {
            let volume = fixed_name(role, desired);
            annotations.insert(FIXED.to_owned(), volume.clone());
            (Some(String::new()), Some(volume))
        }
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(role.claim(&desired.names)),
            namespace: Some(desired.namespace.clone()),
            labels: Some(desired.names.labels()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(wanted.size.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: class,
            volume_name: volume,
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// The folder of a node that stands in for a volume; bound to its claim from the beginning, and to this node if it is known.
pub fn fixed(role: Role, desired: &Desired, node: Option<VolumeNodeAffinity>) -> PersistentVolume {
    let name = fixed_name(role, desired);
    PersistentVolume {
        metadata: ObjectMeta {
            labels: Some(desired.names.labels()),
            annotations: Some([(MADE_FOR.to_owned(), desired.uid.clone())].into()),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            capacity: Some([("storage".to_owned(), Quantity(role.wanted(desired).size.clone()))].into()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: Some(desired.namespace.clone()),
                name: Some(role.claim(&desired.names)),
                ..ObjectReference::default()
            }),
            host_path: Some(HostPathVolumeSource {
                path: format!("{FOLDER}/{name}"),
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            persistent_volume_reclaim_policy: Some("Retain".to_owned()),
            storage_class_name: Some(String::new()),
            node_affinity: node,
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    }
}

fn fixed_name(role: Role, desired: &Desired) -> String {
    let role = match role {
        Role::Data => "data",
        Role::Backups => "backups",
    };
    format!("mysql-{}-{role}", desired.uid)
}

/// The volume of a node that was made for `claim`, if one was.
pub fn fixed_of(claim: &PersistentVolumeClaim) -> Option<&String> {
    claim.annotations().get(FIXED)
}

/// Whether the volume is a folder of a node, or may be one, which the kubelet gives to no group.
pub fn is_roots(claim: &PersistentVolumeClaim) -> bool {
    fixed_of(claim).is_some() || claim.annotations().contains_key(ROOTS)
}

/// What is to be done about the size of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Nothing.
    None,
    /// Ask for more.
    Grow,
    /// It would have to shrink, which no volume does.
    Refused,
}

/// What is to be done about the size of a volume whose claim is there.
pub fn resize(claim: &PersistentVolumeClaim, wanted: &Volume) -> Resize {
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let asked = asked.and_then(|resources| resources.requests.as_ref()?.get("storage"));
    match asked.and_then(|quantity| size::bytes(&quantity.0)) {
        Some(bytes) if bytes < wanted.bytes => Resize::Grow,
        Some(bytes) if bytes > wanted.bytes => Resize::Refused,
        _ => Resize::None,
    }
}

/// The class that a claim has, if it is another one than is asked for.
pub fn other_class<'a>(claim: &'a PersistentVolumeClaim, wanted: &Volume) -> Option<&'a str> {
    let has = claim
        .spec
        .as_ref()?
        .storage_class_name
        .as_deref()
        .unwrap_or_default();
    let wanted = wanted.class.as_deref()?;
    (has != wanted).then_some(has)
}

/// How large the bound volume is.
pub fn capacity(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")
}

/// Whether the claim has its volume.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Bound")
}

#[cfg(test)]
mod tests;
