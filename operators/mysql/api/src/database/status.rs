//! What the controller reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was observed, last written by the controller.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::absent_instead_of_null)]
pub struct MySQLStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The conditions, `Ready` first; its parts are StorageReady, RestoreDone, ServerReady
    /// and BackupTaken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Version of the server that answers, as its image's tag says: `8.4.3`. Absent where the tag says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub server_version: Option<String>,

    /// Capacity of the data volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub storage: Option<String>,

    /// The backup that this server was restored from; absent if it started empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub restored_from: Option<String>,

    /// UID of the last Job for a backup whose end stands in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub recorded_job: Option<String>,

    /// The schedule that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub schedule: Option<String>,

    /// Since when it is kept: what would have been due before that is not caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_since: Option<Time>,

    /// For when the last scheduled backup that was started was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,

    /// Value of the annotation `otus.homework/backup-now` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_request: Option<String>,

    /// The newest backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<BackupRecord>,

    /// The Secret with everything that a client needs to connect (servicebinding.io).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
}

/// A backup that is complete.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupRecord {
    /// Its id, by which `restore.from` names it.
    #[schemars(length(max = 128))]
    pub id: String,
    /// When it was taken.
    pub time: Time,
    /// Its size in bytes; absent if the pod that took it was gone before it could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes: Option<i64>,
    /// SHA-256 of the dump, hexadecimal; absent as `bytes` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// The version of the server that it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub server_version: Option<String>,
}

/// A Secret with everything that a client needs to connect.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the Secret, in the same namespace.
    #[schemars(length(max = 253))]
    pub name: String,
}
