//! What a program is asked for: its environment.

use k8s_openapi::api::core::v1::EnvVar;

use crate::version::Version;

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup<'a> {
    /// Its id, the same however often the Job runs: letters, digits, `.`, `_` and `-`; a letter or digit first.
    pub id: &'a str,
    /// What is backed up.
    pub database: &'a str,
    /// Whose it is: namespace and name, with a `/` between.
    pub owner: &'a str,
    /// The UID of the claim that the data are on, which stays with them when another object inherits it.
    pub data_uid: &'a str,
    /// Where the server is reached: the Service's name.
    pub host: &'a str,
    /// How many backups stay, 1 or more; one more when this is the last one.
    pub keep: u32,
    /// The id of a backup that stays whatever its age.
    pub from: Option<&'a str>,
    /// Whether the data began with nothing: as many backups of other data stay then beside those of these.
    pub is_fresh: bool,
    /// Whether the server is closed to writes before the dump and stays closed after it: what is committed after a
    /// dump has begun is in no backup. For the last one before a server goes. A backup that fails opens it again.
    pub is_final: bool,
    /// The version of the image.
    pub version: Version,
}

/// Whether there is to be a backup to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The newest if there is one.
    IfBackupExists,
    /// No start without one.
    Required,
    /// Empty, whatever there is.
    Never,
}

/// A new server's data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore<'a> {
    /// What is backed up, and is made where there is no backup.
    pub database: &'a str,
    /// Whose it is: namespace and name, with a `/` between.
    pub owner: &'a str,
    /// Whether there is to be a backup.
    pub policy: Policy,
    /// The id of a certain backup. `original` is the dump that the kind's first operator left.
    pub from: Option<&'a str>,
    /// The id of the newest backup that is known of: a volume without it is the wrong volume.
    pub expected: Option<&'a str>,
    /// The argument by which mysqld reads the options, where it would not without.
    pub config: Option<&'a str>,
    /// The version of the image.
    pub version: Version,
}

impl Backup<'_> {
    /// The environment of the container.
    pub fn environment(&self) -> Vec<EnvVar> {
        vec![
            variable("BACKUP_ID", self.id),
            variable("DATABASE", self.database),
            variable("OWNER", self.owner),
            variable("DATA_UID", self.data_uid),
            variable("HOST", self.host),
            variable("KEEP", &self.keep.to_string()),
            variable("FINAL", answer(self.is_final)),
            variable("FROM", self.from.unwrap_or_default()),
            variable("FRESH", answer(self.is_fresh)),
            variable("DUMP_OPTIONS", &self.version.dump_options().join(" ")),
        ]
    }
}

const fn answer(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

impl Restore<'_> {
    /// The environment of the container.
    pub fn environment(&self) -> Vec<EnvVar> {
        let policy = match self.policy {
            Policy::IfBackupExists => "IfBackupExists",
            Policy::Required => "Required",
            Policy::Never => "Never",
        };
        vec![
            variable("DATABASE", self.database),
            variable("OWNER", self.owner),
            variable("POLICY", policy),
            variable("FROM", self.from.unwrap_or_default()),
            variable("EXPECTED", self.expected.unwrap_or_default()),
            variable("PRIVATE_ARGUMENTS", &self.version.private_arguments().join(" ")),
            variable("CONFIG_ARGUMENT", self.config.unwrap_or_default()),
        ]
    }
}

/// A variable with just this value: Kubernetes would fill in what looks like a reference to another.
fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.replace('$', "$$")),
        value_from: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_a_reference_stays_a_name() {
        let restore = Restore {
            database: "a$(OWNER)$",
            owner: "n/o",
            policy: Policy::Required,
            from: None,
            expected: None,
            config: None,
            version: Version::V9,
        };
        let environment = restore.environment();
        assert_eq!(environment[0].value.as_deref(), Some("a$$(OWNER)$$"));
        assert_eq!(environment[3].value.as_deref(), Some(""));
    }
}
