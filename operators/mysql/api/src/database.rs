//! `MySQL` (otus.homework/v1): one server inside the cluster.

mod reason;
mod spec;
mod status;

pub use reason::{ConditionType, Reason};
pub use spec::{
    BackupOnDelete, BackupSettings, ConcurrencyPolicy, DeletionPolicy, MySQL, MySQLSpec, ResourceAmounts,
    Resources, RestorePolicy, RestoreSettings, SecretKeyRef, ServiceSettings, ServiceType, VolumeSettings,
};
pub use status::{BackupRecord, Binding, MySQLStatus};

/// The group of the kind.
pub const GROUP: &str = "otus.homework";
/// The finalizer on every server whose data is to be backed up before it goes.
pub const FINALIZER: &str = "otus.homework/finalizer";
/// The finalizer that the operator which the kind comes from left on its objects; removed with ours.
pub const FORMER_FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
/// The annotation that lets a deletion go on without a backup: its value is the UID of the object.
pub const SKIP_BACKUP: &str = "otus.homework/skip-backup";
/// The annotation that asks for a backup now: a new value, a new backup.
pub const BACKUP_NOW: &str = "otus.homework/backup-now";
