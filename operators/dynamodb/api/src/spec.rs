//! What a user asks for.
#![expect(unreachable_pub, reason = "KubeSchema repeats the struct inside a function")]
#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns of the same type are no duplicates"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::DdbctlDpJobStatus;

/// Deletes the items of one partition (all items with one partition key value) of a DynamoDB table, as fast as the
/// table and `maxWcuPerSecond` allow, and succeeds only when a strongly consistent read finds none left.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "dynamoctl.dp.operators.sanjivmadhavan.io",
    version = "v1alpha1",
    kind = "DdbctlDpJob",
    plural = "ddbctldpjobs",
    singular = "ddbctldpjob",
    shortname = "ddbjob",
    namespaced,
    status = "DdbctlDpJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Deletes one partition of a DynamoDB table, and proves that it is empty.",
    printcolumn(
        name = "Table",
        type_ = "string",
        json_path = ".status.target.tableName",
        description = "The table that the partition is deleted from."
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#,
        description = "What the job does, or how it ended."
    ),
    printcolumn(
        name = "Deleted",
        type_ = "integer",
        json_path = ".status.progress.keysAcknowledged",
        description = "Keys whose deletion DynamoDB acknowledged."
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress.percent",
        description = "Share of the planned items that are deleted."
    ),
    printcolumn(
        name = "WCU/s",
        type_ = "integer",
        json_path = ".status.rate.wcuPerSecond",
        description = "Write capacity units consumed per second, lately."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    ),
    printcolumn(
        name = "Planned",
        type_ = "integer",
        json_path = ".status.plan.items",
        priority = 1,
        description = "Items that the plan counted."
    ),
    printcolumn(
        name = "Region",
        type_ = "string",
        json_path = ".status.target.region",
        priority = 1,
        description = "The region of the table."
    ),
    printcolumn(
        name = "Throttled",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Throttled")].reason"#,
        priority = 1,
        description = "What slows the job down."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#,
        priority = 1,
        description = "The summary in words."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::absent_instead_of_null)]
#[x_kube(
    validation = Rule::new("has(self.ddbCtlDpJob) != (has(self.tableName) || has(self.partitionValue) || has(self.endpointURL) || has(self.awsRegion))")
        .message("the target must be given exactly once: either as `tableName`, `partitionValue`, `endpointURL` and `awsRegion` directly under `spec`, or as the same fields under `spec.ddbCtlDpJob`"),
    validation = Rule::new("has(self.ddbCtlDpJob) || (has(self.tableName) && has(self.partitionValue))")
        .message("`tableName` and `partitionValue` must both be set"),
    validation = Rule::new("(has(self.ddbCtlDpJob) ? self.ddbCtlDpJob.tableName : has(self.tableName) ? self.tableName : '') == (has(oldSelf.ddbCtlDpJob) ? oldSelf.ddbCtlDpJob.tableName : has(oldSelf.tableName) ? oldSelf.tableName : '')")
        .message("`tableName` must not change: create another DdbctlDpJob for another table"),
    validation = Rule::new("(has(self.ddbCtlDpJob) ? self.ddbCtlDpJob.partitionValue : has(self.partitionValue) ? self.partitionValue : '') == (has(oldSelf.ddbCtlDpJob) ? oldSelf.ddbCtlDpJob.partitionValue : has(oldSelf.partitionValue) ? oldSelf.partitionValue : '')")
        .message("`partitionValue` must not change: create another DdbctlDpJob for another partition"),
    validation = Rule::new("(has(self.ddbCtlDpJob) ? (has(self.ddbCtlDpJob.endpointURL) ? self.ddbCtlDpJob.endpointURL : '') : has(self.endpointURL) ? self.endpointURL : '') == (has(oldSelf.ddbCtlDpJob) ? (has(oldSelf.ddbCtlDpJob.endpointURL) ? oldSelf.ddbCtlDpJob.endpointURL : '') : has(oldSelf.endpointURL) ? oldSelf.endpointURL : '')")
        .message("`endpointURL` must not change: create another DdbctlDpJob for another endpoint"),
    validation = Rule::new("(has(self.ddbCtlDpJob) ? (has(self.ddbCtlDpJob.awsRegion) && self.ddbCtlDpJob.awsRegion != '' ? self.ddbCtlDpJob.awsRegion : 'us-east-1') : has(self.awsRegion) && self.awsRegion != '' ? self.awsRegion : 'us-east-1') == (has(oldSelf.ddbCtlDpJob) ? (has(oldSelf.ddbCtlDpJob.awsRegion) && oldSelf.ddbCtlDpJob.awsRegion != '' ? oldSelf.ddbCtlDpJob.awsRegion : 'us-east-1') : has(oldSelf.awsRegion) && oldSelf.awsRegion != '' ? oldSelf.awsRegion : 'us-east-1')")
        .message("`awsRegion` must not change: create another DdbctlDpJob for another region"),
    validation = Rule::new("has(self.sortKey) == has(oldSelf.sortKey) && (!has(self.sortKey) || self.sortKey == oldSelf.sortKey)")
        .message("`sortKey` must not change: create another DdbctlDpJob for another range"),
    validation = Rule::new("has(self.keyType) == has(oldSelf.keyType) && (!has(self.keyType) || self.keyType == oldSelf.keyType)")
        .message("`keyType` must not change: create another DdbctlDpJob")
)]
pub struct DdbctlDpJobSpec {
    /// Name of the table. Required in the flat form, immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub table_name: Option<String>,

    /// Value of the partition key whose items are deleted, always written as a string: the text itself for a key of
    /// type S, decimal notation (up to 38 significant digits) for N, base64 for B. Required in the flat form,
    /// immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2732))]
    pub partition_value: Option<String>,

    /// Address of the DynamoDB API: scheme (http or https), host and optional port, nothing else. Empty or absent
    /// means AWS itself, in `awsRegion`. Other endpoints must be allowed by the operator's administrator.
    /// Immutable.
    #[serde(default, rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint_url: Option<String>,

    /// AWS region of the table. Empty or absent means us-east-1; the region in use is published in
    /// `status.target.region`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub aws_region: Option<String>,

    /// The target in its nested form; takes the place of the four fields above. Changing from one form to the other
    /// with the same values is allowed.
    #[serde(default, rename = "ddbCtlDpJob", skip_serializing_if = "Option::is_none")]
    pub ddb_ctl_dp_job: Option<DpJobTarget>,

    /// Type of the table's partition key, when it should be asserted: S, N or B. A table with another type is then
    /// refused. Absent means: whatever the table says. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<AttributeType>,

    /// Restricts the deletion to a range of sort keys. Absent means the whole partition. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_key: Option<SortKeyPredicate>,

    /// `Delete` deletes; `DryRun` only measures: it reads keys, publishes the plan and deletes nothing. Default
    /// Delete. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("`mode` must not change: create another DdbctlDpJob"))]
    pub mode: RunMode,

    /// While true the job is at rest: requests in flight are awaited, totals are kept, and setting it to false
    /// continues. Default false. May be changed at any time.
    #[serde(default)]
    pub suspend: bool,

    /// True ends the job for good: requests in flight are awaited, then it fails with reason `Cancelled`. Default
    /// false. May be set at any time, never taken back.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self || !oldSelf").message("`cancel` must not be taken back: create another DdbctlDpJob"))]
    pub cancel: bool,

    /// Upper bound, in write capacity units per second, of what this job consumes, indexes included. Absent means:
    /// as much as DynamoDB grants. May be changed at any time and takes effect within a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_wcu_per_second: Option<i32>,

    /// What the job may delete and consume at most. A plan above a limit ends the job before anything is deleted; a
    /// run that reaches one ends there. `maxItems` is exact, also if the operator is killed: keys are written down
    /// before they are deleted. May be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RunLimits>,

    /// True refuses to delete from a table without point-in-time recovery, so that the deletion can be undone by
    /// restoring. Default false.
    #[serde(default)]
    pub require_point_in_time_recovery: bool,

    /// Seconds of work after which the job fails with reason `DeadlineExceeded`. As with Jobs, the clock starts when
    /// work begins (`status.startTime`), and starts again when a suspension ends. Absent means no deadline. May be
    /// changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub active_deadline_seconds: Option<i64>,

    /// How many rounds in a row may pass without a single deletion before the job fails with reason
    /// `BackoffLimitExceeded`. Throttling is no such round. Default 6. May be changed at any time.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: i32,

    /// Time after which the job must not begin (one that began goes on). It protects new data from a manifest that
    /// is applied again, by a GitOps tool or a restored backup, long after the deletion. Absent means no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,

    /// Whose AWS credentials are used. Absent means the operator's own, which are never sent to a host that is not
    /// AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// The target in its nested form.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DpJobTarget {
    /// Name of the table. Immutable.
    #[schemars(length(min = 1, max = 1024))]
    pub table_name: String,

    /// Value of the partition key whose items are deleted, always written as a string: the text itself for a key of
    /// type S, decimal notation (up to 38 significant digits) for N, base64 for B. Immutable.
    #[schemars(length(min = 1, max = 2732))]
    pub partition_value: String,

    /// Address of the DynamoDB API: scheme (http or https), host and optional port, nothing else. Empty or absent
    /// means AWS itself, in `awsRegion`. Immutable.
    #[serde(default, rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint_url: Option<String>,

    /// AWS region of the table. Empty or absent means us-east-1. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub aws_region: Option<String>,
}

/// What the job does with the partition.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "What the job does with the partition: `Delete` or `DryRun`.")]
pub enum RunMode {
    /// Plan, delete, verify.
    #[default]
    Delete,
    /// Plan only; nothing is deleted.
    DryRun,
}

/// A type that a key attribute can have.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(description = "A type that a key attribute can have: S (string), N (number) or B (binary).")]
pub enum AttributeType {
    /// String.
    S,
    /// Number.
    N,
    /// Binary.
    B,
}

impl AttributeType {
    /// The letter that DynamoDB uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
        }
    }
}

/// A condition on the sort key: exactly one of the fields. Values are written like `partitionValue`: as text for S,
/// decimal for N, base64 for B.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.eq), has(self.lt), has(self.le), has(self.gt), has(self.ge), has(self.between), has(self.beginsWith)].filter(x, x).size() == 1")
        .message("exactly one of `eq`, `lt`, `le`, `gt`, `ge`, `between` and `beginsWith` must be set")
)]
pub struct SortKeyPredicate {
    /// Sort keys equal to this value: one item at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1368))]
    pub eq: Option<String>,
    /// Sort keys below this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1368))]
    pub lt: Option<String>,
    /// Sort keys below or equal to this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1368))]
    pub le: Option<String>,
    /// Sort keys above this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1368))]
    pub gt: Option<String>,
    /// Sort keys above or equal to this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1368))]
    pub ge: Option<String>,
    /// Sort keys within two bounds, both included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<SortKeyBounds>,
    /// Sort keys that begin with this value (types S and B).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1368))]
    pub begins_with: Option<String>,
}

/// Two bounds of a sort key range, both included.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SortKeyBounds {
    /// The lowest sort key of the range; must not be above `to`.
    #[schemars(length(min = 1, max = 1368))]
    pub from: String,
    /// The highest sort key of the range.
    #[schemars(length(min = 1, max = 1368))]
    pub to: String,
}

/// What a job may delete and consume at most.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunLimits {
    /// Items that the job may delete. Absent means any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub max_items: Option<i64>,
    /// Write capacity units that the job may consume in all, indexes included. Absent means any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub max_wcu_total: Option<i64>,
}

/// Whose AWS credentials a job uses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// A Secret in the namespace of the job with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and for
    /// temporary credentials `AWS_SESSION_TOKEN`. It is read again whenever AWS refuses what it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalSecretRef>,
}

/// A Secret in the namespace of the job.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocalSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Rounds without progress that a job without `backoffLimit` survives.
pub const fn default_backoff_limit() -> i32 {
    6
}
