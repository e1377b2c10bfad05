//! What a user asks for.
#![expect(unreachable_pub, reason = "KubeSchema repeats the struct inside a function")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::MySQLStatus;

/// One MySQL server with storage: backed up when this object is deleted, restored when one of the same name is created
/// again.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "otus.homework",
    version = "v1",
    kind = "MySQL",
    plural = "mysqls",
    singular = "mysql",
    shortname = "ms",
    namespaced,
    status = "MySQLStatus",
    derive = "PartialEq",
    validation = Rule::new("!has(self.spec.storage) || !has(oldSelf.spec.storage) || !has(self.spec.storage.storageClassName) || !has(oldSelf.spec.storage.storageClassName) || self.spec.storage.storageClassName == oldSelf.spec.storage.storageClassName || (has(oldSelf.status) && has(oldSelf.status.conditions) && oldSelf.status.conditions.exists(c, c.reason == 'StorageClassUnknown'))")
        .message("`storage.storageClassName` of a volume must not change: delete and create again, which goes by way of a backup"),
    doc = "One MySQL server with storage: backed up when it is deleted, restored when one of the same name is created again.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether it serves."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.serverVersion",
        description = "What the tag of the image that last answered says."
    ),
    printcolumn(
        name = "Storage",
        type_ = "string",
        json_path = ".status.storage",
        description = "Capacity of the data volume."
    ),
    printcolumn(
        name = "Last backup",
        type_ = "date",
        json_path = ".status.lastBackup.time",
        description = "When the newest backup was taken."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1,
        description = "The summary in words."
    )
)]
#[schemars(transform = crate::schema::absent_instead_of_null)]
#[x_kube(
    validation = Rule::new("!(has(self.password) && has(self.passwordSecretRef))")
        .message("at most one of `password` and `passwordSecretRef` may be set"),
    validation = Rule::new("has(self.storage) && has(self.storage.size) ? !has(self.storage_size) : has(self.storage_size)")
        .message("the size must be given exactly once: as `storage.size`, or as `storage_size`"),
    validation = Rule::new("self.database == oldSelf.database")
        .message("`database` must not change: create another MySQL"),
    validation = Rule::new("!has(self.storage_size) || !has(oldSelf.storage_size) || !isQuantity(self.storage_size) || !isQuantity(oldSelf.storage_size) || quantity(self.storage_size).compareTo(quantity(oldSelf.storage_size)) >= 0")
        .message("`storage_size` may grow and never shrink"),
    validation = Rule::new("!has(self.storage) || !has(oldSelf.storage) || !has(self.storage.size) || !has(oldSelf.storage.size) || !isQuantity(self.storage.size) || !isQuantity(oldSelf.storage.size) || quantity(self.storage.size).compareTo(quantity(oldSelf.storage.size)) >= 0")
        .message("`storage.size` may grow and never shrink")
)]
pub struct MySQLSpec {
    /// The image of the server, as of the official MySQL images: `mysql:8.4`. It must contain mysqld, mysql and mysqldump.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,

    /// Name of the database that is created, backed up and restored. Immutable.
    #[schemars(length(min = 1, max = 64))]
    pub database: String,

    /// The password of root, in clear. Better: `passwordSecretRef`; a condition says how to switch. It is copied to a
    /// Secret and stands in no other object. Without either a password is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub password: Option<String>,

    /// Where the password of root stands.
    #[serde(
        default,
        rename = "passwordSecretRef",
        skip_serializing_if = "Option::is_none"
    )]
    pub password_secret_ref: Option<SecretKeyRef>,

    /// Size of the data volume; the older way to say `storage.size`. May grow where the storage class allows, never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
    )]
    pub storage_size: Option<String>,

    /// The data volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<VolumeSettings>,

    /// CPU and memory of the server. Default: none requested, none limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// The Service. Default: headless, of type ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,

    /// Options for the `[mysqld]` section of my.cnf, by name. A change restarts the server.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::options")]
    pub config: BTreeMap<String, String>,

    /// The user by whose number everything in the Pods runs. Default: the one that the image has for its server, 999, or 27
    /// for the images that Oracle publishes itself. 0: as whom the image starts, for the official images root; the
    /// restricted Pod Security Standard refuses such Pods. A change restarts the server.
    #[serde(default, rename = "runAsUser", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,

    /// When backups are taken, how many are kept, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSettings>,

    /// What a new server starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSettings>,

    /// What happens to the data volume when this object is deleted: `Delete`, after the backup; or `Retain`. Backups stay
    /// in either case. Default Delete.
    #[serde(default, rename = "deletionPolicy")]
    pub deletion_policy: DeletionPolicy,

    /// True leaves everything as it is until it is false again. A deletion goes on all the same. Default false.
    #[serde(default)]
    pub paused: bool,
}

/// A key of a Secret in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key. Default `password`.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A volume.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSettings {
    /// Its size, as a Kubernetes quantity. May grow where the storage class allows, never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
    )]
    pub size: Option<String>,
    /// Its StorageClass. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// CPU and memory of the server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What it can have at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of CPU and memory.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// CPU, as a Kubernetes quantity: `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub cpu: Option<String>,
    /// Memory, as a Kubernetes quantity: `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub memory: Option<String>,
}

/// The Service in front of the server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSettings {
    /// Its type. Default Headless.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
}

/// The type of a Service.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "The type of a Service: `Headless`, `ClusterIP`, `NodePort` or `LoadBalancer`.")]
pub enum ServiceType {
    /// A name for the Pod itself, without an address of its own.
    #[default]
    Headless,
    /// An address inside the cluster.
    ClusterIP,
    /// A port on every node.
    NodePort,
    /// An address of the cloud's load balancer.
    LoadBalancer,
}

/// Backups.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupSettings {
    /// Whether a deletion waits for a backup: `Required` waits until there is one, `BestEffort` tries for its deadline,
    /// `Never` takes none. Default Required.
    #[serde(default)]
    pub on_delete: BackupOnDelete,
    /// When, in the five fields of cron, UTC: `0 2 * * *`. Absent means no scheduled backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100))]
    pub schedule: Option<String>,
    /// What happens when a scheduled backup is due while another one is under way: `Forbid` has it wait for the
    /// end of that one, `Replace` ends the one under way. Default Forbid.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Scheduled backups start up to this many seconds later, each server's by as much every time, so that many with one
    /// schedule do not start at once. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 0, max = 86_400))]
    pub jitter_seconds: i32,
    /// How many backups are kept. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub keep: i32,
    /// The volume that they go to. Default 1Gi of the default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<VolumeSettings>,
}

impl Default for BackupSettings {
    /// What the schema fills in.
    fn default() -> Self {
        Self {
            on_delete: BackupOnDelete::default(),
            schedule: None,
            concurrency_policy: ConcurrencyPolicy::default(),
            jitter_seconds: five_minutes(),
            keep: three(),
            storage: None,
        }
    }
}

/// Whether a deletion waits for a backup.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "Whether a deletion waits for a backup: `Required`, `BestEffort` or `Never`.")]
pub enum BackupOnDelete {
    /// Until there is one.
    #[default]
    Required,
    /// For its deadline.
    BestEffort,
    /// It does not.
    Never,
}

/// What happens when a scheduled backup is due while another one is under way.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(
    description = "What happens when a scheduled backup is due while another one is under way: `Forbid` or `Replace`."
)]
pub enum ConcurrencyPolicy {
    /// It waits; one is taken for however many were due meanwhile.
    #[default]
    Forbid,
    /// The one under way is ended.
    Replace,
}

/// What a new server starts from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSettings {
    /// `IfBackupExists` restores when there is a backup, `Required` never starts without one, `Never` starts empty.
    /// Default IfBackupExists.
    #[serde(default)]
    pub policy: RestorePolicy,
    /// The id of a certain backup. Default: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub from: Option<String>,
}

/// Whether a new server is restored.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "Whether a new server is restored: `IfBackupExists`, `Required` or `Never`.")]
pub enum RestorePolicy {
    /// When there is a backup.
    #[default]
    IfBackupExists,
    /// It never starts without one.
    Required,
    /// It starts empty.
    Never,
}

/// What happens to the data volume when the object is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "What happens to the data volume when the object is deleted: `Delete` or `Retain`.")]
pub enum DeletionPolicy {
    /// It goes.
    #[default]
    Delete,
    /// It stays.
    Retain,
}

fn password_key() -> String {
    "password".to_owned()
}

const fn three() -> i32 {
    3
}

const fn five_minutes() -> i32 {
    300
}
