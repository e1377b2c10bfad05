//! What a user asks for.
#![expect(unreachable_pub, reason = "KubeSchema repeats the struct inside a function")]
#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns of the same type are no duplicates"
)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{aws::Aws, status::MySQLClusterStatus};

/// Options of my.cnf that the operator sets itself, because replication, identity or safety depend on them. A user
/// cannot set them, in any spelling that MySQL accepts.
pub const LOCKED_OPTIONS: &[&str] = &[
    "admin_address",
    "admin_port",
    "bind_address",
    "binlog_do_db",
    "binlog_error_action",
    "binlog_format",
    "binlog_ignore_db",
    "datadir",
    "enforce_gtid_consistency",
    "gtid_mode",
    "init_file",
    "innodb_data_home_dir",
    "innodb_doublewrite",
    "innodb_flush_log_at_trx_commit",
    "innodb_force_recovery",
    "innodb_log_group_home_dir",
    "log_bin",
    "log_replica_updates",
    "log_slave_updates",
    "plugin_load",
    "plugin_load_add",
    "port",
    "read_only",
    "relay_log",
    "relay_log_index",
    "relay_log_info_file",
    "relay_log_info_repository",
    "relay_log_purge",
    "relay_log_recovery",
    "replica_exec_mode",
    "replica_preserve_commit_order",
    "replica_skip_errors",
    "replicate_do_db",
    "replicate_do_table",
    "replicate_ignore_db",
    "replicate_ignore_table",
    "replicate_rewrite_db",
    "replicate_same_server_id",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "report_host",
    "require_secure_transport",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_master_timeout",
    "rpl_semi_sync_master_wait_for_slave_count",
    "rpl_semi_sync_master_wait_no_slave",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_replica_enabled",
    "rpl_semi_sync_slave_enabled",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_source_wait_for_replica_count",
    "rpl_semi_sync_source_wait_no_replica",
    "rpl_semi_sync_source_wait_point",
    "secure_file_priv",
    "server_id",
    "server_uuid",
    "skip_grant_tables",
    "skip_log_bin",
    "skip_networking",
    "skip_replica_start",
    "skip_slave_start",
    "slave_exec_mode",
    "slave_skip_errors",
    "socket",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
    "super_read_only",
    "sync_binlog",
];

/// MySQL servers that replicate one another: one takes writes, the others follow. With `aws` they run on EC2, each on
/// an instance of its own that is launched exactly once.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "mysql.alx.ke",
    version = "v1",
    kind = "MySQLCluster",
    plural = "mysqlclusters",
    singular = "mysqlcluster",
    shortname = "mysqlc",
    namespaced,
    status = "MySQLClusterStatus",
    derive = "PartialEq",
    doc = "MySQL servers that replicate one another: one takes writes, the others follow.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Members asked for, the primary included."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.ready",
        description = "Members that serve, of those asked for."
    ),
    printcolumn(
        name = "Primary",
        type_ = "string",
        json_path = ".status.primary",
        description = "The member that takes writes."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the cluster is in its life."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    ),
    printcolumn(
        name = "Region",
        type_ = "string",
        json_path = ".status.region",
        priority = 1,
        description = "The region of the members."
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoints.writeEndpoint",
        priority = 1,
        description = "Where writes go."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1,
        description = "The summary in words."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::absent_instead_of_null)]
#[x_kube(
    validation = Rule::new("has(self.aws) == has(oldSelf.aws)")
        .message("`aws` cannot be added or removed: members do not move between EC2 and the cluster; create another MySQLCluster"),
    validation = Rule::new("!has(self.geoAffinity) == !has(oldSelf.geoAffinity) && (!has(self.geoAffinity) || self.geoAffinity == oldSelf.geoAffinity)")
        .message("`geoAffinity` must not change: members do not move between regions; create another MySQLCluster"),
    validation = Rule::new("!has(self.aws) || !has(oldSelf.aws) || (has(self.aws.region) == has(oldSelf.aws.region) && (!has(self.aws.region) || self.aws.region == oldSelf.aws.region))")
        .message("`aws.region` must not change: members do not move between regions; create another MySQLCluster"),
    validation = Rule::new("!has(oldSelf.storage) || !has(oldSelf.storage.storageClass) || (has(self.storage) && has(self.storage.storageClass) && self.storage.storageClass == oldSelf.storage.storageClass)")
        .message("`storage.storageClass` must not change"),
    validation = Rule::new("!has(self.aws) || has(self.aws.instanceType) || (has(self.cloudConfig) && has(self.cloudConfig.instanceClass))")
        .message("`aws.instanceType` or `cloudConfig.instanceClass` must be set: the instance type of the members")
)]
pub struct MySQLClusterSpec {
    /// Number of members, the primary included: 1 to 9. Three survive the loss of any one without losing anything; a lost
    /// replica stops nothing, a lost primary stops writes until a person decides, for none is promoted by itself. With
    /// two, the loss of one stops writes (see `durability`). Default 1. May be changed at any time, also with `kubectl
    /// scale`; members leave from the highest number down.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,

    /// Which cloud, and how big.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_config: Option<CloudConfig>,

    /// The data volume of each member. Default: 20Gi of the operator's default class. A change replaces members, as
    /// `aws` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Scheduled backups. Accepted for members on EC2 and reported as not implemented there for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,

    /// A place, by a name that the operator's configuration maps to a region; `nairobi` ships. Absent means `nairobi`.
    /// The region under `aws` takes precedence over it, and the zones are those of the subnets. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub geo_affinity: Option<String>,

    /// Members on EC2: what each is launched with. Absent: members inside the cluster, which is not available yet. Cannot
    /// be added or removed later. A change replaces the members that have an older spec, one at a time, replicas first, as
    /// long as everything works and there are three or more; `UpToDate` says how far that is. A change of subnets or
    /// termination protection replaces nobody: it applies to members that are launched after it. Tags are given to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Aws>,

    /// What happens to the instances when this object is deleted: `Delete` terminates them and removes their volumes,
    /// `Retain` leaves them running, for another cluster to take over. Default Delete. May be changed at any time.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// What a commit waits for. `Lossless`: until as many members as needed hold it that the loss of the primary loses
    /// nothing; writes stop when they are not there. `Available`: as above for ten seconds, then without. Default
    /// Lossless. May be changed at any time.
    #[serde(default)]
    pub durability: Durability,

    /// Options for the `[mysqld]` section of my.cnf, by name; 4 KiB in all. Options that replication, identity and safety depend on
    /// are the operator's and refused here. A change replaces members, as `aws` says; once the cluster was formed
    /// innodb_page_size and lower_case_table_names cannot change.
    #[serde(default, rename = "mySQLOptions", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::options")]
    #[x_kube(validation = Rule::new("['admin_address', 'admin_port', 'bind_address', 'binlog_do_db', 'binlog_error_action', 'binlog_format', 'binlog_ignore_db', 'datadir', 'enforce_gtid_consistency', 'gtid_mode', 'init_file', 'innodb_data_home_dir', 'innodb_doublewrite', 'innodb_flush_log_at_trx_commit', 'innodb_force_recovery', 'innodb_log_group_home_dir', 'log_bin', 'log_replica_updates', 'log_slave_updates', 'plugin_load', 'plugin_load_add', 'port', 'read_only', 'relay_log', 'relay_log_index', 'relay_log_info_file', 'relay_log_info_repository', 'relay_log_purge', 'relay_log_recovery', 'replica_exec_mode', 'replica_preserve_commit_order', 'replica_skip_errors', 'replicate_do_db', 'replicate_do_table', 'replicate_ignore_db', 'replicate_ignore_table', 'replicate_rewrite_db', 'replicate_same_server_id', 'replicate_wild_do_table', 'replicate_wild_ignore_table', 'report_host', 'require_secure_transport', 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_master_timeout', 'rpl_semi_sync_master_wait_for_slave_count', 'rpl_semi_sync_master_wait_no_slave', 'rpl_semi_sync_master_wait_point', 'rpl_semi_sync_replica_enabled', 'rpl_semi_sync_slave_enabled', 'rpl_semi_sync_source_enabled', 'rpl_semi_sync_source_timeout', 'rpl_semi_sync_source_wait_for_replica_count', 'rpl_semi_sync_source_wait_no_replica', 'rpl_semi_sync_source_wait_point', 'secure_file_priv', 'server_id', 'server_uuid', 'skip_grant_tables', 'skip_log_bin', 'skip_networking', 'skip_replica_start', 'skip_slave_start', 'slave_exec_mode', 'slave_skip_errors', 'socket', 'ssl_ca', 'ssl_cert', 'ssl_key', 'super_read_only', 'sync_binlog'].all(option, !(option in self))")
        .message("`mySQLOptions` must not contain options that the operator sets itself (server_id, gtid_mode, log_bin, read_only and others: see the documentation)"))]
    pub my_sql_options: BTreeMap<String, String>,

    /// True leaves everything as it is: nothing is launched, repaired or terminated until it is false again. A deletion
    /// goes on all the same. Default false. May be changed at any time.
    #[serde(default)]
    pub paused: bool,
}

/// Which cloud, and how big.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CloudConfig {
    /// The cloud: `aws`, `gcp` or `azure`. Only `aws` is available. Empty or absent means aws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub provider: Option<String>,

    /// The size of a member, as an EC2 instance type such as `t3.medium`. Used where `aws.instanceType` is absent; one of
    /// the two must be there. A change replaces members, as `aws` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance_class: Option<String>,

    /// CPU of a member inside the cluster, as a Kubernetes quantity. Without meaning on EC2, where the instance type says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub cpu_request: Option<String>,

    /// Memory of a member inside the cluster, as a Kubernetes quantity. Without meaning on EC2, where the instance type says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub memory_request: Option<String>,
}

/// The data volume of each member.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size: a number with `Gi` or `Ti`, such as `50Gi`. On EC2 between 1Gi and 64Ti. Once the cluster was formed it
    /// never shrinks.
    #[schemars(length(min = 3, max = 16), regex(pattern = r"^[1-9][0-9]*(Gi|Ti)$"))]
    pub size: String,

    /// Its class: on EC2 an EBS volume type (`gp3`, `gp2`, `io1`, `io2`) or a name that the operator's configuration maps
    /// to one (`nairobi-local-fast`, which is gp3, ships). Default gp3. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class: Option<String>,

    /// Its I/O operations per second. Absent means what the class has by itself. Required for io1 and io2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 256_000))]
    pub iops: Option<i64>,

    /// Whether EBS encrypts it, with the account's default key. Default true.
    #[serde(default = "enabled")]
    pub encrypted: bool,
}

/// Scheduled backups.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Whether backups are taken. Default false.
    #[serde(default)]
    pub enabled: bool,

    /// When, in the five fields of cron, UTC: `0 2 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100))]
    pub schedule: Option<String>,

    /// The S3 bucket that they go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 63))]
    pub s3_bucket: Option<String>,
}

/// What happens to the instances when the object is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "What happens to the instances when the object is deleted: `Delete` or `Retain`.")]
pub enum DeletionPolicy {
    /// They are terminated.
    #[default]
    Delete,
    /// They stay, and are no longer the operator's.
    Retain,
}

/// What a commit waits for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(description = "What a commit waits for: `Lossless` or `Available`.")]
pub enum Durability {
    /// For the replicas that make the loss of the primary harmless.
    #[default]
    Lossless,
    /// For ten seconds at most.
    Available,
}

const fn default_replicas() -> i32 {
    1
}

const fn enabled() -> bool {
    true
}
