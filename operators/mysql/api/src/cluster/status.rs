//! What the controller reports, and what it intends.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was observed, last written by the controller; and, under `launches`, what it is about to do.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::absent_instead_of_null)]
pub struct MySQLClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The conditions, `Ready` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Where the cluster is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// Members that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,

    /// Members that serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas_ready: Option<i32>,

    /// Members that serve, of those asked for: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ready: Option<String>,

    /// The member that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub primary: Option<String>,

    /// The region of the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub region: Option<String>,

    /// Ids of the members' instances, in the order of the members.
    #[serde(default, rename = "awsInstanceIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 32)))]
    pub aws_instance_ids: Vec<String>,

    /// The members, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub members: Vec<Member>,

    /// Where clients connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// The Secret with everything that a client needs to connect (servicebinding.io).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,

    /// A label selector for the scale subresource; matches no pod, for members are machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub selector: Option<String>,

    /// Which server leads. Written once, before it takes its first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,

    /// The last launch of each member: written before the launch is made, so that after a crash it is
    /// repeated with the same client token and never made twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub launches: Vec<Launch>,
}

/// Where a cluster is in its life.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(
    description = "Where a cluster is in its life: Pending, Provisioned, ProvisioningFailed, Running or Terminating."
)]
pub enum Phase {
    /// Instances are missing or not running yet.
    Pending,
    /// Every instance runs; MySQL does not serve yet.
    Provisioned,
    /// Instances are missing and cannot be had at the moment; the conditions say why.
    ProvisioningFailed,
    /// It serves.
    Running,
    /// It is being deleted.
    Terminating,
}

/// One member.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name: the cluster's and its number.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its number, from 0. Stable: a replacement has the same.
    #[schemars(range(min = 0, max = 8))]
    pub ordinal: i32,
    /// How often it was launched, from 1: one more with each replacement.
    #[schemars(range(min = 1))]
    pub incarnation: i32,
    /// Id of its instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub instance_id: Option<String>,
    /// The zone of its instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub zone: Option<String>,
    /// The state of its instance, in EC2's words; `unknown` while it cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub state: Option<String>,
    /// Its address inside the VPC.
    #[serde(default, rename = "privateIP", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub private_ip: Option<String>,
    /// What it does in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The certificate that its server made and printed on its console, as PEM: the only one that is trusted for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub certificate: Option<String>,
}

/// Which server leads.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The number of the member that leads.
    #[schemars(range(min = 0, max = 8))]
    pub primary: i32,
    /// The identity of its server, which is made with its data: another server in its place does not lead.
    #[serde(rename = "serverUUID")]
    #[schemars(length(max = 36))]
    pub server_uuid: String,
}

/// What a member does in the cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(description = "What a member does in the cluster: Primary or Replica.")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows the primary.
    Replica,
}

/// Where clients connect.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// For reads: host and port, any replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub read_endpoint: Option<String>,
    /// For writes: host and port, the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub write_endpoint: Option<String>,
}

/// A Secret with everything that a client needs to connect.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the Secret, in the same namespace.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// One launch: decided, perhaps made, not proven over.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// The member's number.
    #[schemars(range(min = 0, max = 8))]
    pub ordinal: i32,
    /// The member's incarnation.
    #[schemars(range(min = 1))]
    pub incarnation: i32,
    /// The client token of the launch.
    #[schemars(length(max = 64))]
    pub token: String,
    /// The subnet that it goes to; it fixes the zone, and with it the scope of the token.
    #[schemars(length(max = 32))]
    pub subnet_id: String,
    /// Digest of the frozen launch parameters, which stand in a Secret.
    #[schemars(length(max = 64))]
    pub params_hash: String,
    /// When it was decided.
    pub decided_at: Time,
    /// How far it is.
    pub phase: LaunchPhase,
    /// Digest of what the spec asked for when it was decided: instance, volume and options. A member whose digest is not
    /// that of the spec is replaced. Absent for members of unknown origin, which are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// What the member's data were made with. Absent for members of unknown origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<LaunchData>,
    /// UID of the earlier cluster that the instance was adopted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub adopted_from: Option<String>,
    /// How many launches of this member in a row were accepted and then ended before they ran.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub failures: i32,
    /// The instance that came of it, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub instance_id: Option<String>,
}

/// What a member's data were made with: of a formed cluster nobody could take them over on less, or with other options.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LaunchData {
    /// The size of the volume, in GiB.
    #[schemars(range(min = 1, max = 65_536))]
    pub volume_gib: i32,
    /// Options that cannot change, as far as the spec has set them: innodb_page_size, lower_case_table_names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::options")]
    pub options: BTreeMap<String, String>,
}

/// How far a launch is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(description = "How far a launch is: Launching, Launched, Retiring or Over.")]
pub enum LaunchPhase {
    /// Decided; its outcome is not known. It is repeated with the same token until it is.
    Launching,
    /// Its instance is known.
    Launched,
    /// Its instance, if there is one, is to go; only then can the member be launched again.
    Retiring,
    /// Proven over, or never made: the next launch of this member has a higher incarnation.
    Over,
}
