//! `MySQLCluster` (mysql.alx.ke/v1).

mod aws;
mod spec;
mod status;

pub use aws::{Aws, HttpTokens, MetadataOptions, Tag};
pub use spec::{
    Backup, CloudConfig, DeletionPolicy, Durability, LOCKED_OPTIONS, MySQLCluster, MySQLClusterSpec, Storage,
};
pub use status::{
    Binding, Endpoints, Launch, LaunchData, LaunchPhase, Member, MySQLClusterStatus, Phase, Role, Topology,
};

/// The group of the kind.
pub const GROUP: &str = "mysql.alx.ke";
/// The finalizer on every cluster that has, or may have, instances.
pub const FINALIZER: &str = "mysql.alx.ke/finalizer";
/// Another spelling of the finalizer, on objects of the operator that the kind comes from; removed with ours.
pub const OTHER_FINALIZER: &str = "mysql.alx.ke/finaliser";
/// The annotation that lets a cluster take over the instances of an earlier one of its name: its value is the UID of
/// that one.
pub const ADOPT: &str = "mysql.alx.ke/adopt";
/// The annotation that lets a deletion end although instances could not be terminated: its value is the UID of the
/// cluster itself.
pub const ABANDON: &str = "mysql.alx.ke/abandon-cloud-resources";
