//! Members on EC2.
#![expect(unreachable_pub, reason = "KubeSchema repeats the struct inside a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Members on EC2: what each is launched with. A change replaces the members that have an older spec, one at a time,
/// replicas first, as long as everything works and there are three or more; `UpToDate` says how far that is. A change of
/// tags is made on the members that run. One of subnets or termination protection applies to members that are launched
/// after it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Aws {
    /// The machine image, with MySQL installed on it.
    #[schemars(length(min = 12, max = 21), regex(pattern = r"^ami-[0-9a-f]{8,17}$"))]
    pub ami: String,

    /// The instance type, such as `t3.medium`. Absent means `cloudConfig.instanceClass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance_type: Option<String>,

    /// The subnet of the members, unless `subnetIds` lists several. It fixes zone and VPC.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^subnet-[0-9a-f]{8,17}$"))]
    pub subnet_id: String,

    /// Further subnets, of other zones. Members are spread over the zones of all subnets, and go elsewhere when a zone
    /// has no capacity. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 32), regex(pattern = r"^subnet-[0-9a-f]{8,17}$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub subnet_ids: Vec<String>,

    /// The security groups of the members: they must allow 3306 from the cluster's nodes and among the members.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = r"^sg-[0-9a-f]{8,17}$"))
    )]
    pub security_group_ids: Vec<String>,

    /// The key pair for SSH. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub key_name: Option<String>,

    /// The region. Default: the one that `geoAffinity` stands for, else the operator's. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 32), regex(pattern = r"^[a-z]{2,3}(-[a-z]+)+-[0-9]+$"))]
    pub region: Option<String>,

    /// Name of the IAM instance profile of the members. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub iam_instance_profile: Option<String>,

    /// Whether EC2 refuses to terminate the members. A deletion then waits until the protection is taken off. Default
    /// false.
    #[serde(default)]
    pub termination_protection: bool,

    /// How the instance metadata service answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<MetadataOptions>,

    /// Further tags for instances, volumes and interfaces. Those of running members follow, one member at a time; a tag
    /// that is taken out of the list stays where it is until the member is replaced. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["key".into()]),
        validation = Rule::new("self.all(tag, tag.key != 'Name' && !tag.key.startsWith('aws:') && !tag.key.startsWith('mysql.alx.ke/') && !tag.key.startsWith('kubernetes.io/cluster/') && tag.key != 'app.kubernetes.io/managed-by')")
            .message("tags named `Name`, `app.kubernetes.io/managed-by`, `kubernetes.io/cluster/…`, `mysql.alx.ke/…` and `aws:…` are not free to be set: the operator finds its instances by them")
    )]
    pub tags: Vec<Tag>,
}

/// How the instance metadata service answers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MetadataOptions {
    /// Whether it answers only requests with a session token (IMDSv2). Default Required.
    #[serde(default)]
    pub http_tokens: HttpTokens,

    /// How many network hops its answers survive. Default 1: no container on the member reaches it.
    #[serde(default = "one_hop")]
    #[schemars(range(min = 1, max = 64))]
    pub hop_limit: i32,
}

/// Whether the instance metadata service asks for session tokens.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(
    description = "Whether the instance metadata service asks for session tokens: `Required` or `Optional`."
)]
pub enum HttpTokens {
    /// It does.
    #[default]
    Required,
    /// It does not.
    Optional,
}

/// A tag.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// The key of the tag.
    #[schemars(length(min = 1, max = 127))]
    pub key: String,
    /// The value of the tag; may be empty. Default empty.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub value: String,
}

const fn one_hop() -> i32 {
    1
}
