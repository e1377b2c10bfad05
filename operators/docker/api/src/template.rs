//! The templates that Cluster API clones objects from.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{cluster::DockerClusterSpec, machine::DockerMachineSpec, shared::TemplateMeta};

/// A template of DockerClusters, for use in a ClusterClass.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta2",
    kind = "DockerClusterTemplate",
    plural = "dockerclustertemplates",
    singular = "dockerclustertemplate",
    category = "cluster-api",
    namespaced,
    derive = "PartialEq",
    doc = "A template of DockerClusters, for use in a ClusterClass.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DockerClusterTemplateSpec {
    /// What is cloned.
    pub template: DockerClusterTemplateResource,
}

/// What is cloned into a DockerCluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerClusterTemplateResource {
    /// Labels and annotations of the DockerCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,

    /// Spec of the DockerCluster.
    pub spec: DockerClusterSpec,
}

/// A template of DockerMachines.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta2",
    kind = "DockerMachineTemplate",
    plural = "dockermachinetemplates",
    singular = "dockermachinetemplate",
    category = "cluster-api",
    namespaced,
    status = "DockerMachineTemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A template of DockerMachines.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DockerMachineTemplateSpec {
    /// What is cloned.
    pub template: DockerMachineTemplateResource,
}

/// What is cloned into a DockerMachine.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerMachineTemplateResource {
    /// Labels and annotations of the DockerMachine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,

    /// Spec of the DockerMachine.
    pub spec: DockerMachineSpec,
}

/// What a machine of this template will offer; read by the autoscaler to scale from zero.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerMachineTemplateStatus {
    /// Resources of a machine: its limits, and where it has none, what the Docker host has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub capacity: BTreeMap<String, Quantity>,

    /// Platform of a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_info: Option<NodeInfo>,
}

/// A platform.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// Architecture, such as `amd64` or `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub architecture: Option<String>,

    /// Operating system: `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub operating_system: Option<String>,
}
