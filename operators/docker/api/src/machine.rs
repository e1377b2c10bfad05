//! `DockerMachine`: one container that is a Kubernetes node.
#![expect(unreachable_pub, reason = "KubeSchema repeats the struct inside a function")]
#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns of the same type are no duplicates"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::Initialization;

/// One container that is a Kubernetes node.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta2",
    kind = "DockerMachine",
    plural = "dockermachines",
    singular = "dockermachine",
    category = "cluster-api",
    namespaced,
    status = "DockerMachineStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Kubernetes node that is a container.",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = r#".metadata.labels['cluster\.x-k8s\.io/cluster-name']"#,
        description = "The Cluster that this belongs to."
    ),
    printcolumn(
        name = "Machine",
        type_ = "string",
        json_path = r#".metadata.ownerReferences[?(@.kind=="Machine")].name"#,
        description = "The Machine that owns this."
    ),
    printcolumn(
        name = "ProviderID",
        type_ = "string",
        json_path = ".spec.providerID",
        description = "The id that machine and Node share."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether everything is well."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1,
        description = "Why it is, or is not, ready."
    ),
    printcolumn(
        name = "Failure domain",
        type_ = "string",
        json_path = ".status.failureDomain",
        priority = 1,
        description = "Where it was placed."
    ),
    printcolumn(
        name = "IP",
        type_ = "string",
        json_path = r#".status.addresses[?(@.type=="InternalIP")].address"#,
        priority = 1,
        description = "Its address on the Docker network."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.mounts) && has(self.extraMounts))")
        .message("`mounts` is the older spelling of `extraMounts`: set one of them"),
    validation = Rule::new("(has(self.customImage) ? self.customImage : '') == (has(oldSelf.customImage) ? oldSelf.customImage : '')")
        .message("`customImage` must not change: replace the machine"),
    validation = Rule::new("!has(oldSelf.providerID) || (has(self.providerID) && self.providerID == oldSelf.providerID)")
        .message("`providerID` must not change once it is set: the Node carries the same"),
    validation = Rule::new("(has(self.extraMounts) ? self.extraMounts : []) == (has(oldSelf.extraMounts) ? oldSelf.extraMounts : []) && (has(self.mounts) ? self.mounts : []) == (has(oldSelf.mounts) ? oldSelf.mounts : [])")
        .message("mounts must not change: replace the machine")
)]
pub struct DockerMachineSpec {
    /// The id that this machine and its Node share: `docker:////` and the container's name. Set by the controller.
    /// An object that is created with one adopts the container of that name.
    #[serde(default, rename = "providerID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub provider_id: Option<String>,

    /// Image of the node, whole reference; by digest if it ends in `@sha256:…`. Absent or empty means `kindest/node` with
    /// the Machine's Kubernetes version as its tag. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub custom_image: Option<String>,

    /// When the image is pulled: `IfNotPresent`, `Always`, or `Never`. Default IfNotPresent. Looked at when the
    /// container is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// A Secret of this namespace, of type `kubernetes.io/dockerconfigjson`, with the registry's credentials. Absent
    /// means that the image is pulled without any. Looked at when the container is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<LocalSecretRef>,

    /// Images that are copied from the Docker host into the node before it is bootstrapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub pre_load_images: Vec<String>,

    /// Paths of the Docker host to mount into the container. The operator's policy must allow them. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub extra_mounts: Vec<Mount>,

    /// Older spelling of `extraMounts`, with which it cannot be combined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub mounts: Vec<Mount>,

    /// How long the bootstrap of the node may take, as a Go duration (`5m`, `90s`). Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 32),
        regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")
    )]
    pub bootstrap_timeout: Option<String>,

    /// How often the node is bootstrapped at most, each time in a fresh container. Default 1: a machine whose bootstrap
    /// failed stays as it is, to be looked at. A further control plane machine is never bootstrapped again, for it may
    /// have joined the cluster's etcd already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub bootstrap_attempts: Option<i32>,

    /// Accepted from older manifests and not used: whether a node was bootstrapped is recorded in the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrapped: Option<bool>,

    /// What the node may use of the Docker host. Absent means everything. Looked at when the container is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<NodeResources>,

    /// Labels of the container, beside the controller's own. Looked at when the container is created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,

    /// Kernel parameters of the container's own namespaces, such as `net.ipv4.ip_forward`. Looked at when the
    /// container is created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub sysctls: BTreeMap<String, String>,

    /// Ports of the node to publish on the Docker host. Looked at when the container is created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ports: Vec<PortMapping>,
}

impl DockerMachineSpec {
    /// The mounts, in whichever spelling they were given.
    pub fn all_mounts(&self) -> &[Mount] {
        if self.extra_mounts.is_empty() {
            &self.mounts
        } else {
            &self.extra_mounts
        }
    }
}

/// When an image is pulled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "When an image is pulled: `IfNotPresent`, `Always` or `Never`.")]
pub enum ImagePullPolicy {
    /// When the Docker host does not have it.
    #[default]
    IfNotPresent,
    /// Before every creation of a container.
    Always,
    /// Never; it must be there.
    Never,
}

/// A reference to a Secret of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocalSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A path of the Docker host that is mounted into the container.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Path within the container. Required in effect: a mount without one is reported as invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub container_path: Option<String>,

    /// Path on the Docker host. It must exist: it is never created. A symbolic link is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub host_path: Option<String>,

    /// Whether the container can only read it. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// What a node may use of the Docker host.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeResources {
    /// Processors, such as `2` or `1500m`. Absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Quantity>,

    /// Memory, such as `4Gi`. Absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,

    /// Processes and threads. Absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 128, max = 4_194_304))]
    pub pids: Option<i64>,
}

/// A port of the node that is published on the Docker host.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port of the node.
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: i32,

    /// Port of the Docker host. Absent means one that Docker chooses, and chooses again when the container restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,

    /// Address of the Docker host. Default 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    pub listen_address: Option<String>,

    /// Protocol. Default TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PortProtocol>,
}

/// A transport protocol.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "A transport protocol: TCP, UDP or SCTP.")]
pub enum PortProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

/// What was observed of the machine.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerMachineStatus {
    /// `Ready` sums up; `ContainerProvisioned`, `BootstrapCompleted` (also under its older name
    /// `BootstrapExecSucceeded`) and `Paused` say what it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::crd::conditions")]
    pub conditions: Vec<Condition>,

    /// How far the creation has come; read by Cluster API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,

    /// Older spelling of `initialization.provisioned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,

    /// Whether the load balancer knows this machine. Control plane machines only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_configured: Option<bool>,

    /// Names and addresses of the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub addresses: Vec<MachineAddress>,

    /// Which attempt at its bootstrap the machine is in; absent during the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub bootstrap_attempt: Option<i32>,

    /// The failure domain that the machine was placed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub failure_domain: Option<String>,
}

/// A name or address of a machine.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MachineAddress {
    /// What kind of address it is.
    #[serde(rename = "type")]
    pub kind: AddressType,

    /// The address.
    #[schemars(length(min = 1, max = 256))]
    pub address: String,
}

/// A kind of machine address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(description = "A kind of machine address.")]
pub enum AddressType {
    /// The host name.
    Hostname,
    /// An address reachable from outside.
    #[serde(rename = "ExternalIP")]
    ExternalIp,
    /// An address reachable from the cluster.
    #[serde(rename = "InternalIP")]
    InternalIp,
    /// A DNS name reachable from outside.
    #[serde(rename = "ExternalDNS")]
    ExternalDns,
    /// A DNS name reachable from the cluster.
    #[serde(rename = "InternalDNS")]
    InternalDns,
}
