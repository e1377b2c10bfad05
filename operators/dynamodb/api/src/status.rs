//! What the controller reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::AttributeType;

/// What was observed, last written by the controller.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::absent_instead_of_null)]
pub struct DdbctlDpJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The conditions of the job, `Succeeded` first. While work goes on `Succeeded` is Unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// When the work began; `activeDeadlineSeconds` counts from here. Renewed when a suspension ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the job ended, whatever its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// The target in use: both forms of the spec end up here, defaults filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ResolvedTarget>,

    /// DynamoDB's id of the table when the job began. A table that was dropped and created again has another one,
    /// and is then left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub table_id: Option<String>,

    /// The keys of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_schema: Option<KeySchema>,

    /// What the deletion was expected to take, before anything was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<DeletionPlan>,

    /// What was done so far. A restart of the operator keeps it; it may then lag by a few seconds of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<DeletionProgress>,

    /// Capacity consumed so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed: Option<ConsumedCapacity>,

    /// What counts against `limits`. It is written before keys are deleted, so that an operator that is killed takes
    /// no knowledge of it with it. Absent if the job has no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowance: Option<DeletionAllowance>,

    /// How fast the job works now. Absent while it is at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<DeletionRate>,
}

/// The target in use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedTarget {
    /// Name of the table.
    #[schemars(length(max = 1024))]
    pub table_name: String,
    /// Region of the table.
    #[schemars(length(max = 64))]
    pub region: String,
    /// Endpoint in use; absent means AWS itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
}

/// The keys of a table.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeySchema {
    /// The partition key.
    pub partition_key: KeySchemaElement,
    /// The sort key; absent if the table has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_key: Option<KeySchemaElement>,
}

/// One key attribute.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeySchemaElement {
    /// Name of the attribute.
    #[schemars(length(max = 255))]
    pub name: String,
    /// Type of the attribute.
    #[serde(rename = "type")]
    pub kind: AttributeType,
}

/// What the deletion is expected to take.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeletionPlan {
    /// Items in the partition (or the range asked for); at least so many if `complete` is false.
    #[schemars(range(min = 0))]
    pub items: i64,
    /// Their size in bytes, as DynamoDB counts it, rounded up to its capacity units.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// True if every item was counted; false if counting stopped early and the figures are extrapolated or a lower
    /// bound.
    #[serde(default)]
    pub complete: bool,
    /// Lower bound of the write capacity units that the deletion consumes.
    #[schemars(range(min = 0))]
    pub wcu_min: i64,
    /// Upper bound of the write capacity units that the deletion consumes, indexes included.
    #[schemars(range(min = 0))]
    pub wcu_max: i64,
    /// Lower bound of the price in millionths of a US dollar, at the on-demand list price of us-east-1.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cost_micro_usd_min: i64,
    /// Upper bound of the price in millionths of a US dollar, at the on-demand list price of us-east-1, replicas
    /// included.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cost_micro_usd_max: i64,
    /// Seconds that the deletion should take at the rate that the table or `maxWcuPerSecond` allows.
    #[schemars(range(min = 0))]
    pub estimated_seconds: i64,
    /// The indexes of the table; each deletion also writes to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub indexes: Vec<IndexSummary>,
    /// What a person should know before: streams, replicas, indexes and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub warnings: Vec<String>,
}

/// One index of the table.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IndexSummary {
    /// Name of the index.
    #[schemars(length(max = 255))]
    pub name: String,
    /// True for a local secondary index, false for a global one.
    pub local: bool,
}

/// What was done so far.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeletionProgress {
    /// Keys read from the partition, rounds added up.
    #[schemars(range(min = 0))]
    pub keys_read: i64,
    /// Items counted so far, while the partition is being measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub items_counted: Option<i64>,
    /// Keys whose deletion DynamoDB acknowledged. Keys that were gone already count too: DynamoDB does not tell.
    #[schemars(range(min = 0))]
    pub keys_acknowledged: i64,
    /// Keys that DynamoDB handed back unprocessed and that were sent again.
    #[schemars(range(min = 0))]
    pub unprocessed_retries: i64,
    /// Requests that DynamoDB refused as a whole because of throttling.
    #[schemars(range(min = 0))]
    pub throttles: i64,
    /// Share of the planned items that are deleted, such as `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub percent: Option<String>,
    /// Seconds until the end at the present rate. Absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub remaining_seconds: Option<i64>,
    /// Rounds in a row without a single deletion, which `backoffLimit` bounds. Absent if the last round deleted
    /// something. A restart of the operator keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub idle_rounds: Option<i64>,
}

/// Capacity consumed so far.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumedCapacity {
    /// Read capacity in thousandths of a unit.
    #[schemars(range(min = 0))]
    pub rcu_milli: i64,
    /// Write capacity in thousandths of a unit, indexes included.
    #[schemars(range(min = 0))]
    pub wcu_milli: i64,
}

/// What counts against `limits`: what is spent for good, and what is reserved for keys that are being deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeletionAllowance {
    /// Items that count as deleted for good.
    #[schemars(range(min = 0))]
    pub items_spent: i64,
    /// Write capacity that was consumed for good, in thousandths of a unit.
    #[schemars(range(min = 0))]
    pub wcu_milli_spent: i64,
    /// Write capacity that deleting the reserved keys is expected to take, in thousandths of a unit.
    #[schemars(range(min = 0))]
    pub wcu_milli_reserved: i64,
    /// The keys that may be deleted by now: six bytes of a digest each, from which no key can be read, as one string in
    /// base64. Absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 98_304))]
    pub reserved_keys: Option<String>,
}

/// How fast the job works now.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeletionRate {
    /// Items per second.
    #[schemars(range(min = 0))]
    pub items_per_second: i64,
    /// Write capacity units per second.
    #[schemars(range(min = 0))]
    pub wcu_per_second: i64,
}
