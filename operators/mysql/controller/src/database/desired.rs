//! What a spec asks for, once it is known to be possible.
//!
//! [`Desired::resolve`] is the one place where a spec is doubted: what comes out can be built without failing. A mistake
//! that needs no standstill (a schedule that cannot be read, a password whose Secret is missing) is carried along and
//! reported, while the rest works.

use std::{collections::BTreeMap, time::Duration};

use mysql_api::{
    MySQLSpec,
    database::{
        BackupSettings, ConcurrencyPolicy, DeletionPolicy, Reason, RestoreSettings, SecretKeyRef,
        ServiceType, VolumeSettings,
    },
};

use super::{
    amounts::Amounts,
    confinement::Identity,
    names::Names,
    nodes::Tie,
    schedule::{Schedule, ScheduleError},
    size,
    volumes::Lineage,
};
use crate::version::Version;

/// Default size of the volume for backups.
const BACKUP_SIZE: &str = "1Gi";
/// Databases that are MySQL's own.
const SYSTEM: [&str; 5] = [
    "mysql",
    "information_schema",
    "performance_schema",
    "sys",
    "ndbinfo",
];
/// Options that the operator's own Pods depend on. In `_` spelling.
const LOCKED: [&str; 20] = [
    "basedir",
    "bind_address",
    "daemonize",
    "datadir",
    "defaults_extra_file",
    "defaults_file",
    "init_file",
    "initialize",
    "initialize_insecure",
    "networking",
    "no_defaults",
    "pid_file",
    "plugin_dir",
    "port",
    "grant_tables",
    "skip_grant_tables",
    "skip_networking",
    "socket",
    "super_read_only",
    "user",
];

/// Options whose folders hold nothing that a server needs again; elsewhere than on the data volume they may be.
const PASSING: [&str; 8] = [
    "character_sets_dir",
    "innodb_tmpdir",
    "lc_messages_dir",
    "log_error",
    "replica_load_tmpdir",
    "secure_file_priv",
    "slave_load_tmpdir",
    "tmpdir",
];

/// A spec that cannot be carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// For the condition.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

/// Whose spec it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

/// Where the password of root comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The spec itself.
    Clear(String),
    /// A Secret of the user's.
    Secret(SecretKeyRef),
    /// Nobody gave one.
    Generated,
    /// The one that the server has; where nobody knows that any more, as it is asked for.
    Kept(Box<Self>),
}

/// A volume that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its size as it was written.
    pub size: String,
    /// The same in bytes.
    pub bytes: u128,
    /// Its class; the default one where there is none.
    pub class: Option<String>,
}

/// What a spec asks for.
#[derive(Clone)]
pub struct Desired {
    /// Namespace of the object.
    pub namespace: String,
    /// UID of the object.
    pub uid: String,
    /// Names of its children.
    pub names: Names,
    /// Image of the server, and of the Jobs.
    pub image: String,
    /// Its version, as far as its tag says.
    pub version: Version,
    /// As whom the Pods run.
    pub identity: Identity,
    /// The database.
    pub database: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// The volume for data.
    pub data: Volume,
    /// The volume for backups.
    pub backups: Volume,
    /// CPU and memory.
    pub resources: Amounts,
    /// Type of the Service.
    pub service: ServiceType,
    /// Options of the server, by canonical name.
    pub options: BTreeMap<String, String>,
    /// What a new server starts from.
    pub restore: RestoreSettings,
    /// The backup that the spec names to restore from, whatever the data began with: it is not removed.
    pub pinned: Option<String>,
    /// Where the data are from.
    pub lineage: Lineage,
    /// The newest backup that is known of: the volume for backups has one, or is the wrong one.
    pub expected: Option<String>,
    /// UID of the claim that backups go to, where there is one.
    pub backups_claim: Option<String>,
    /// Which of the volumes are folders of which node, where that is known.
    pub ties: Vec<Tie>,
    /// When backups are taken; what is wrong with that stops nothing else.
    pub schedule: Option<Result<Schedule, ScheduleError>>,
    /// What a due backup does to one under way.
    pub concurrency: ConcurrencyPolicy,
    /// How many backups are kept.
    pub keep: i32,
    /// What becomes of the data volume.
    pub deletion: DeletionPolicy,
}

impl Desired {
    /// Goes on with the password that the server has, whatever the spec says.
    pub fn keep_password(&mut self) {
        let asked = std::mem::replace(&mut self.password, PasswordSource::Generated);
        self.password = PasswordSource::Kept(Box::new(asked));
    }

    /// What `spec` asks for.
    ///
    /// # Errors
    /// The first thing in it that cannot be carried out.
    pub fn resolve(owner: Owner<'_>, spec: &MySQLSpec) -> Result<Self, SpecError> {
        let names = Names::new(owner.name)?;
        check_database(&spec.database)?;
        let backup = spec.backup.clone().unwrap_or_default();
        let given = spec.storage.clone().unwrap_or_default();
        let size = given.size.clone().or_else(|| spec.storage_size.clone());
        let password = match (&spec.password, &spec.password_secret_ref) {
            (_, Some(reference)) => PasswordSource::Secret(reference.clone()),
            (Some(password), None) => PasswordSource::Clear(password.clone()),
            (None, None) => PasswordSource::Generated,
        };
        Ok(Self {
            namespace: owner.namespace.to_owned(),
            uid: owner.uid.to_owned(),
            names,
            image: spec.image.clone(),
            version: Version::of_image(&spec.image),
            identity: Identity::new(spec.run_as_user, &spec.image),
            database: spec.database.clone(),
            password,
            data: volume("storage.size", size.as_deref().unwrap_or_default(), &given)?,
            backups: backups(&backup)?,
            resources: Amounts::of(spec.resources.as_ref())?,
            service: spec.service.clone().unwrap_or_default().type_,
            options: options(&spec.config)?,
            pinned: spec.restore.as_ref().and_then(|restore| restore.from.clone()),
            lineage: Lineage::default(),
            restore: spec.restore.clone().unwrap_or_default(),
            expected: None,
            backups_claim: None,
            ties: Vec::new(),
            schedule: schedule(&backup, owner.uid),
            concurrency: backup.concurrency_policy,
            keep: backup.keep,
            deletion: spec.deletion_policy,
        })
    }
}

fn backups(settings: &BackupSettings) -> Result<Volume, SpecError> {
    let given = settings.storage.clone().unwrap_or_default();
    let size = given.size.as_deref().unwrap_or(BACKUP_SIZE);
    volume("backup.storage.size", size, &given)
}

fn volume(field: &str, size: &str, given: &VolumeSettings) -> Result<Volume, SpecError> {
    match size::bytes(size) {
        Some(bytes) if bytes > 0 => Ok(Volume {
            size: size.to_owned(),
            bytes,
            class: given.storage_class_name.clone(),
        }),
        _ => Err(SpecError {
            reason: Reason::SizeInvalid,
            message: format!("{field}: {size:?} is no size of a volume; write one such as 10Gi"),
        }),
    }
}

fn schedule(settings: &BackupSettings, uid: &str) -> Option<Result<Schedule, ScheduleError>> {
    let jitter = Duration::from_secs(u64::try_from(settings.jitter_seconds).unwrap_or_default());
    let text = settings.schedule.as_deref()?;
    Some(Schedule::parse(text, jitter, uid))
}

/// What MySQL can make a database of.
fn check_database(name: &str) -> Result<(), SpecError> {
    let refused = |why: &str| SpecError {
        reason: Reason::DatabaseInvalid,
        message: format!("database: {name:?} {why}; create a MySQL with another one"),
    };
    if name.is_empty() || name.chars().count() > 64 {
        return Err(refused("does not have 1 to 64 characters"));
    }
    if name.contains(|c: char| c.is_control() || c as u32 > 0xffff) {
        return Err(refused("holds a character that no name in MySQL may have"));
    }
    if name.ends_with(' ') {
        return Err(refused("ends with a space"));
    }
    if SYSTEM.contains(&name.to_lowercase().as_str()) {
        return Err(refused("is MySQL's own"));
    }
    Ok(())
}

/// The options by canonical name.
fn options(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, SpecError> {
    let mut canonical = BTreeMap::new();
    for (name, value) in given {
        let refused = |why: &str| SpecError {
            reason: Reason::OptionsInvalid,
            message: format!("config: {name:?} {why}"),
        };
        let plain = name.replace('-', "_");
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.');
        if plain.len() > 64
            || !plain.starts_with(|c: char| c.is_ascii_lowercase())
            || !plain.bytes().all(legal)
        {
            return Err(refused("is no option's name"));
        }
        if value.chars().any(char::is_control) {
            return Err(refused(
                "has a value with a line break or another control character",
            ));
        }
        if is_locked(&plain) {
            return Err(refused("is set by the operator; remove it"));
        }
        if leaves_the_folder(&plain, value) {
            return Err(refused(
                "names a path of its own: files of the server stay in its data folder, for a backup to be restored in one \
                 step; give a name without / at its beginning and without ..",
            ));
        }
        if canonical.insert(plain, value.clone()).is_some() {
            return Err(refused("is given twice, in two spellings"));
        }
    }
    Ok(canonical)
}

/// mysqld accepts prefixes before an option's name, and any unambiguous beginning of it.
fn is_locked(plain: &str) -> bool {
    let bare = ["loose_", "skip_", "disable_", "enable_", "maximum_"]
        .iter()
        .fold(plain, |name, prefix| name.strip_prefix(prefix).unwrap_or(name));
    let locked = |name: &str| {
        LOCKED
            .iter()
            .any(|locked| name == *locked || (name.len() > 4 && locked.starts_with(name)))
    };
    locked(plain) || locked(bare)
}

/// Whether a server would have files elsewhere than in its data folder, which moves once while it is restored.
fn leaves_the_folder(plain: &str, value: &str) -> bool {
    let mut parts = value.split([';', ':']).map(str::trim);
    let leaves = parts.any(|part| part.starts_with('/') || part.split('/').any(|step| step == ".."));
    let bare = plain.strip_prefix("loose_").unwrap_or(plain);
    let passing = PASSING.contains(&bare) || bare.starts_with("ssl_") || bare.starts_with("admin_ssl_");
    let inside = value.contains("..") || value.split('/').any(|step| step == "mysql");
    leaves && (inside || !passing)
}

#[cfg(test)]
mod tests;
