//! `DockerCluster`: what the machines of one cluster share.
#![expect(unreachable_pub, reason = "KubeSchema repeats the struct inside a function")]
#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns of the same type are no duplicates"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::Initialization;

/// A host is an IPv6 address without brackets (by its shape), an IPv4 address, or a host name, whose last label is no
/// number; an empty one is as good as none.
const HOST_RULE: &str = r"!has(self.controlPlaneEndpoint) || !has(self.controlPlaneEndpoint.host) || self.controlPlaneEndpoint.host.matches('^([0-9A-Fa-f]{0,4}:){2,7}([0-9A-Fa-f]{0,4}|[0-9.]{7,15})$') || self.controlPlaneEndpoint.host.matches('^((25[0-5]|(2[0-4]|1[0-9]|[1-9])?[0-9])([.]|$)){4}$') || (self.controlPlaneEndpoint.host.matches('^([0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?([.]|$))+$') && !self.controlPlaneEndpoint.host.matches('(^|[.])[0-9]+[.]?$'))";

/// What the machines of one cluster share: the load balancer in front of the control plane, the network, and the
/// failure domains.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta2",
    kind = "DockerCluster",
    plural = "dockerclusters",
    singular = "dockercluster",
    category = "cluster-api",
    namespaced,
    status = "DockerClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The infrastructure of a cluster whose nodes are containers.",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = r#".metadata.labels['cluster\.x-k8s\.io/cluster-name']"#,
        description = "The Cluster that this belongs to."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether everything is well."
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".spec.controlPlaneEndpoint.host",
        description = "Address of the control plane."
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
        name = "Host port",
        type_ = "integer",
        json_path = ".status.hostPort",
        priority = 1,
        description = "Port of 127.0.0.1, on the Docker host, that leads to the control plane."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.loadbalancerImage) || !has(self.loadBalancer) || !(has(self.loadBalancer.imageRepository) || has(self.loadBalancer.imageTag))")
        .message("`loadbalancerImage` and `loadBalancer.imageRepository`/`imageTag` name the same image: set one of them"),
    validation = Rule::new("!has(oldSelf.controlPlaneEndpoint) || !has(oldSelf.controlPlaneEndpoint.host) || (has(self.controlPlaneEndpoint) && has(self.controlPlaneEndpoint.host) && self.controlPlaneEndpoint.host == oldSelf.controlPlaneEndpoint.host)")
        .message("`controlPlaneEndpoint.host` must not change once it is set: certificates and kubeconfigs name it"),
    validation = Rule::new("!has(oldSelf.controlPlaneEndpoint) || !has(oldSelf.controlPlaneEndpoint.port) || (has(self.controlPlaneEndpoint) && has(self.controlPlaneEndpoint.port) && self.controlPlaneEndpoint.port == oldSelf.controlPlaneEndpoint.port)")
        .message("`controlPlaneEndpoint.port` must not change once it is set: kubeconfigs name it, and the load balancer listens on it"),
    validation = Rule::new("(has(self.network) && has(self.network.name) ? self.network.name : '') == (has(oldSelf.network) && has(oldSelf.network.name) ? oldSelf.network.name : '')")
        .message("`network.name` must not change: create another cluster for another network"),
    validation = Rule::new(HOST_RULE)
        .message("`controlPlaneEndpoint.host` must be a host name or an IP address and nothing else: the port belongs into `controlPlaneEndpoint.port`, a scheme or path nowhere")
)]
pub struct DockerClusterSpec {
    /// Where the control plane is reached. Absent means: the load balancer's address on its network, port 6443; the
    /// controller then fills it in. Neither host nor port can be changed once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<Endpoint>,

    /// The failure domains that machines are spread over. They are published as given, sorted by name; the domain
    /// of a machine becomes a label of its container and is reported in the machine's status. Absent means none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub failure_domains: Vec<FailureDomain>,

    /// The load balancer in front of the control plane. Absent means the defaults of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,

    /// Image of the load balancer, whole reference. Older spelling of `loadBalancer.imageRepository` and
    /// `imageTag`, with which it cannot be combined. Absent means the default image.
    #[serde(
        default,
        rename = "loadbalancerImage",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 1, max = 512))]
    pub loadbalancer_image: Option<String>,

    /// The Docker network that load balancer and machines are attached to. Absent means the controller's default
    /// (`--network`, `kind` unless set). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// An address and a port.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Endpoint {
    /// A host name or an IP address: no port, no scheme, no brackets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub host: String,

    /// Port. Absent means 6443.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(port: &i32) -> bool {
    *port == 0
}

/// A failure domain: a name that machines are spread over.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FailureDomain {
    /// Name, unique within the cluster.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,

    /// Whether control plane machines may be placed here. Absent means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<bool>,

    /// Free-form attributes, for people and other tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub attributes: BTreeMap<String, String>,
}

/// The load balancer in front of the control plane: one HAProxy container.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Repository of the image, without its last component, which is `haproxy`. Absent means `kindest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image_repository: Option<String>,

    /// Tag of the image. Absent means the controller's default tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub image_tag: Option<String>,

    /// A ConfigMap of this namespace whose key `value` holds a template of HAProxy's configuration. Accepted for
    /// compatibility; such a template is a Go template, which this controller does not evaluate: it reports so in
    /// the condition `LoadBalancerAvailable` and uses its own configuration.
    #[serde(
        default,
        rename = "customHAProxyConfigTemplateRef",
        skip_serializing_if = "Option::is_none"
    )]
    pub custom_ha_proxy_config_template_ref: Option<CustomTemplateRef>,

    /// Port of 127.0.0.1, on the Docker host, that leads to the control plane. Absent means a free port that is
    /// chosen once and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
}

/// A reference to a ConfigMap of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CustomTemplateRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Docker network.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Name of the network. One that does not exist is created, with a subnet of its own, and removed with the last
    /// cluster on it.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub name: String,
}

/// What was observed of the infrastructure of the cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerClusterStatus {
    /// `Ready` sums up; `LoadBalancerAvailable` and `Paused` say what it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::crd::conditions")]
    pub conditions: Vec<Condition>,

    /// How far the creation has come; read by Cluster API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,

    /// Older spelling of `initialization.provisioned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,

    /// The failure domains, sorted by name; read by Cluster API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub failure_domains: Vec<FailureDomain>,

    /// Port of 127.0.0.1, on the Docker host, that leads to the control plane: what a kubeconfig must name where
    /// container addresses cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
}
