//! Cluster API's side of the contract: the parts of its objects that an infrastructure provider reads.
//!
//! Only the fields that the contract names are known here; whatever else a Cluster or Machine says is skipped.

pub mod live;
pub mod moved;
pub mod view;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{CustomResource, Resource, ResourceExt as _};
use reconcile::ObjectKey;
use serde::{Deserialize, Serialize};

pub use view::View;

/// The group of Cluster and Machine.
pub const GROUP: &str = "cluster.x-k8s.io";
/// Label: the Cluster that an object belongs to.
pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Label: the object belongs to the control plane.
pub const CONTROL_PLANE: &str = "cluster.x-k8s.io/control-plane";
/// Annotation: the object is paused.
pub const PAUSED: &str = "cluster.x-k8s.io/paused";
/// Annotation: somebody else manages the object.
pub const MANAGED_BY: &str = "cluster.x-k8s.io/managed-by";
/// Label: which provider instance serves the object.
pub const WATCH_FILTER: &str = "cluster.x-k8s.io/watch-filter";

/// What is read of a Cluster's spec.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta2",
    kind = "Cluster",
    namespaced,
    schema = "disabled",
    status = "ClusterStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpec {
    /// Nothing of this cluster may be touched.
    pub paused: Option<bool>,
    /// The object that holds the infrastructure.
    pub infrastructure_ref: Option<ObjectRef>,
}

/// What is read of a Cluster's status.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// How far the creation has come.
    pub initialization: Option<ClusterInitialization>,
}

/// How far the creation of a cluster has come.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInitialization {
    /// What all machines share is there.
    pub infrastructure_provisioned: Option<bool>,
    /// The first control plane machine is up.
    pub control_plane_initialized: Option<bool>,
}

/// What is read of a Machine's spec.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta2",
    kind = "Machine",
    namespaced,
    schema = "disabled",
    status = "MachineStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineSpec {
    /// The Cluster.
    pub cluster_name: String,
    /// Where the bootstrap data is.
    pub bootstrap: Bootstrap,
    /// The object that is the machine.
    pub infrastructure_ref: ObjectRef,
    /// Kubernetes version.
    pub version: Option<String>,
    /// Where the machine is to be placed.
    pub failure_domain: Option<String>,
}

/// Where a Machine's bootstrap data is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Bootstrap {
    /// The Secret; none as long as there is no data.
    pub data_secret_name: Option<String>,
}

/// What is read of a Machine's status.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStatus {
    /// The Node, once it has registered.
    pub node_ref: Option<NodeRef>,
}

/// A Node.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRef {
    /// Name.
    pub name: String,
}

/// A reference to an object of the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Group.
    pub api_group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl Cluster {
    /// Whether this Cluster, or `object`, is paused.
    pub fn pauses(&self, object: &impl Resource) -> bool {
        self.spec.paused.unwrap_or(false) || reconcile::paused::is_paused_by(object, PAUSED)
    }

    fn initialization(&self) -> ClusterInitialization {
        self.status
            .as_ref()
            .and_then(|status| status.initialization)
            .unwrap_or_default()
    }

    /// Whether what all machines share is there.
    pub fn infrastructure_provisioned(&self) -> bool {
        self.initialization().infrastructure_provisioned.unwrap_or(false)
    }

    /// Whether workers can join.
    pub fn control_plane_initialized(&self) -> bool {
        self.initialization().control_plane_initialized.unwrap_or(false)
    }

    /// The DockerCluster of this Cluster.
    pub fn docker_cluster(&self) -> Option<ObjectKey> {
        let reference = self.spec.infrastructure_ref.as_ref()?;
        reference.key(self.namespace().as_deref(), "DockerCluster")
    }
}

impl Machine {
    /// The DockerMachine of this Machine.
    pub fn docker_machine(&self) -> Option<ObjectKey> {
        self.spec
            .infrastructure_ref
            .key(self.namespace().as_deref(), "DockerMachine")
    }

    /// Whether it belongs to the control plane.
    pub fn is_control_plane(&self) -> bool {
        self.labels().contains_key(CONTROL_PLANE)
    }

    /// The Secret with its bootstrap data.
    pub fn data_secret(&self) -> Option<&str> {
        self.spec
            .bootstrap
            .data_secret_name
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// Whether its Node has registered.
    pub fn has_node(&self) -> bool {
        let node = self.status.as_ref().and_then(|status| status.node_ref.as_ref());
        node.is_some_and(|node| !node.name.is_empty())
    }
}

impl ObjectRef {
    fn key(&self, namespace: Option<&str>, kind: &str) -> Option<ObjectKey> {
        let ours = self.api_group == docker_api::GROUP && self.kind == kind && !self.name.is_empty();
        ours.then(|| ObjectKey::new(namespace.unwrap_or_default(), self.name.as_str()))
    }
}

/// Whether `object`, or its Cluster as far as there is one, is paused.
pub fn is_paused(cluster: Option<&Cluster>, object: &impl Resource) -> bool {
    cluster.map_or_else(
        || reconcile::paused::is_paused_by(object, PAUSED),
        |cluster| cluster.pauses(object),
    )
}

/// The owner of `object` of this kind in Cluster API's group, whatever its version.
pub fn owner<'a>(object: &'a impl Resource, kind: &str) -> Option<&'a OwnerReference> {
    let owners = object.meta().owner_references.as_ref()?;
    owners
        .iter()
        .find(|owner| owner.kind == kind && owner.api_version.split('/').next() == Some(GROUP))
}

/// The value of a label of `object`.
pub fn label<'a>(object: &'a impl Resource, key: &str) -> Option<&'a str> {
    let labels: &BTreeMap<_, _> = object.meta().labels.as_ref()?;
    labels
        .get(key)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

/// Whether `object` belongs to the Cluster `name`, as far as it says.
pub fn may_be_of(object: &impl Resource, name: &str) -> bool {
    label(object, CLUSTER_NAME).is_none_or(|named| named == name)
}

/// Whether an object is served here: `filter` is the value of `--watch-filter`.
pub fn is_served(object: &impl Resource, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| label(object, WATCH_FILTER) == Some(filter))
}

#[cfg(test)]
#[path = "contract/documents.rs"]
mod documents;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_contract_names_is_read_and_the_rest_does_no_harm() {
        let machine: Machine = serde_json::from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
            "metadata": {"name": "m", "namespace": "ns", "labels": {"cluster.x-k8s.io/control-plane": ""}},
            "spec": {"clusterName": "c", "bootstrap": {"configRef": {"kind": "KubeadmConfig"}, "dataSecretName": "s"},
                     "infrastructureRef": {"apiGroup": docker_api::GROUP, "kind": "DockerMachine", "name": "other"},
                     "deletion": {"nodeDrainTimeoutSeconds": 3}},
            "status": {"nodeRef": {"name": "n"}, "phase": "Running", "conditions": []},
        }))
        .unwrap();
        assert!(machine.is_control_plane() && machine.has_node());
        assert_eq!(machine.data_secret(), Some("s"));
        assert_eq!(machine.docker_machine(), Some(ObjectKey::new("ns", "other")));
    }

    #[test]
    fn a_reference_to_another_provider_is_not_ours() {
        let mut cluster = Cluster::default();
        assert_eq!(cluster.docker_cluster(), None);
        cluster.metadata.namespace = Some("ns".into());
        let reference = |group: &str, kind: &str| ObjectRef {
            api_group: group.into(),
            kind: kind.into(),
            name: "c".into(),
        };
        cluster.spec.infrastructure_ref = Some(reference(docker_api::GROUP, "DevCluster"));
        assert_eq!(cluster.docker_cluster(), None);
        cluster.spec.infrastructure_ref = Some(reference(docker_api::GROUP, "DockerCluster"));
        assert_eq!(cluster.docker_cluster(), Some(ObjectKey::new("ns", "c")));
    }

    #[test]
    fn a_cluster_or_the_object_itself_can_pause() {
        let (mut cluster, mut object) = (Cluster::default(), Machine::default());
        assert!(!cluster.pauses(&object));
        object.annotations_mut().insert(PAUSED.into(), String::new());
        assert!(cluster.pauses(&object));
        object.annotations_mut().clear();
        assert!(!is_paused(None, &object) && !is_paused(Some(&cluster), &object));
        cluster.spec.paused = Some(true);
        assert!(cluster.pauses(&object) && is_paused(Some(&cluster), &object));
        object.annotations_mut().insert(PAUSED.into(), String::new());
        assert!(is_paused(None, &object), "whatever has become of the Cluster");
    }
}
