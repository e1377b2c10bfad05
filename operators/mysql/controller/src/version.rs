//! What differs between versions of MySQL: the one table of it.
//!
//! | | 5.7 | 8.0 | 8.4 | 9.x | source |
//! |---|---|---|---|---|---|
//! | `--ignore-db-dir` | yes | no | no | no | 8.0.0 release notes: removed; run on 9.7: fatal |
//! | X Plugin listens by default | no | yes | yes | yes | reference manual, "X Plugin" |
//! | `PASSWORD HISTORY`, `PASSWORD REUSE INTERVAL` | no | yes | yes | yes | 8.0.3 release notes; run on 9.7 |
//! | `CHANGE REPLICATION SOURCE TO`, `START REPLICA`, `RESET REPLICA ALL`, `SHOW REPLICA STATUS` | no | yes | yes | yes | 8.0.22 and 8.0.23 release notes; run on 9.7 |
//! | `CHANGE MASTER TO`, `START SLAVE`, `RESET SLAVE ALL`, `SHOW SLAVE STATUS` | yes | yes | no | no | 8.4.0 release notes: removed; run on 9.7: an error |
//! | `SHOW BINARY LOG STATUS` instead of `SHOW MASTER STATUS` | no | no | yes | yes | 8.2.0 and 8.4.0 release notes; run on 9.7 |
//! | semi-synchronous plugins and their variables | `…_master`, `…_slave` | `…_source`, `…_replica` | the same | the same | 8.0.26 release notes; run on 9.7 |
//! | `CLONE INSTANCE` | no | yes | yes | yes | 8.0.17 release notes; run on 9.7 |
//! | what an account is made with | `mysql_native_password` | `caching_sha2_password` | the same | the same | 8.0.4 release notes; run on 9.7 |
//!
//! 9.7 is *run here*, by the tests of this repository; the others are *by documentation*. Of 8.0 the last patches are
//! meant, 8.0.26 and later; the innovation releases 8.1 to 8.3 have what 8.0 has.
//!
//! # Guarantees
//! What is said for [`Version::Unknown`] is understood by every version: options that only some know carry MySQL's own
//! prefix `loose-`, which turns a refusal into a warning.

use std::fmt;

/// A series of MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 5.7.
    V5_7,
    /// 8.0, and 8.1 to 8.3.
    V8_0,
    /// 8.4, with long-term support.
    V8_4,
    /// 9.0 and later.
    V9,
    /// Not to be told: an image by digest, `latest`, somebody's own tag.
    Unknown,
}

/// The words in which a version speaks of replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationWords {
    /// Begins the statement that points a replica at its source.
    pub change_source: &'static str,
    /// What the options of that statement begin with: `SOURCE`, of which `SOURCE_HOST` is made.
    pub source: &'static str,
    /// The column of [`ReplicationWords::status`] that names the source.
    pub source_column: &'static str,
    /// What the columns of [`ReplicationWords::status`] about a replica's threads begin with: `Replica_IO_Running`.
    pub replica: &'static str,
    /// Shows whom a replica follows, and how that goes.
    pub status: &'static str,
    /// Makes a server follow nobody any more.
    pub reset: &'static str,
    /// Starts replication.
    pub start: &'static str,
    /// Stops replication.
    pub stop: &'static str,
    /// Shows the position in the binary log.
    pub log_status: &'static str,
    /// The library of the semi-synchronous plugin for a source, without `.so`. Its variables begin with `rpl_semi_sync_`
    /// and what follows the underscore.
    pub source_plugin: &'static str,
    /// The library of the semi-synchronous plugin for a replica, without `.so`; its variables likewise.
    pub replica_plugin: &'static str,
}

impl Version {
    /// Every version that is told from others, oldest first.
    pub const ALL: [Self; 5] = [Self::V5_7, Self::V8_0, Self::V8_4, Self::V9, Self::Unknown];

    /// The version in an image of this name, by its tag: `mysql:5.7`, `registry:5000/mysql:8.0.36-debian@sha256:…`.
    /// A tag that moves between series (`8`, `latest`, `lts`) says nothing.
    pub fn of_image(image: &str) -> Self {
        tag(image).map_or(Self::Unknown, Self::parse)
    }

    /// The version that a server tells, `@@version`: `8.4.3-log`.
    pub fn of_server(version: &str) -> Self {
        Self::parse(version)
    }

    /// The version with these numbers: those that a server greets its clients with.
    pub const fn of_numbers(major: u16, minor: u16) -> Self {
        match (major, minor) {
            (5, 7) => Self::V5_7,
            (8, 0..=3) => Self::V8_0,
            (8, 4) => Self::V8_4,
            (9, _) => Self::V9,
            _ => Self::Unknown,
        }
    }

    /// Reads `MAJOR[.MINOR[.…]][-…]`; anything else, such as a hash, is no version.
    fn parse(text: &str) -> Self {
        let numbers = text.split('-').next().unwrap_or_default();
        let mut numbers = numbers.split('.').map(str::parse::<u16>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Self::of_numbers(major, minor),
            (Some(Ok(9)), _) => Self::V9,
            _ => Self::Unknown,
        }
    }

    /// Arguments of a server whose data folder is the root of a volume: the folder that ext4 keeps there for itself
    /// is no database.
    pub const fn volume_arguments(self) -> &'static [&'static str] {
        match self {
            Self::V5_7 => &["--ignore-db-dir=lost+found"],
            Self::Unknown => &["--loose-ignore-db-dir=lost+found"],
            Self::V8_0 | Self::V8_4 | Self::V9 => &[],
        }
    }

    /// Arguments of a server that nobody but its starter is to reach, beside `--skip-networking`.
    pub const fn private_arguments(self) -> &'static [&'static str] {
        match self {
            Self::V5_7 => &[],
            Self::V8_0 | Self::V8_4 | Self::V9 => &["--mysqlx=OFF"],
            Self::Unknown => &["--loose-mysqlx=OFF"],
        }
    }

    /// Options of mysqldump for one database, all of it and nothing of the server: consistent without locks where
    /// tables are transactional, with what a dump leaves out by default, without what would keep its restoration from
    /// being replicated (`--set-gtid-purged=OFF`) or needs rights on the whole server (`--no-tablespaces`).
    pub const fn dump_options(self) -> &'static [&'static str] {
        match self {
            // The same words from 5.7 to 9.7.
            Self::V5_7 | Self::V8_0 | Self::V8_4 | Self::V9 | Self::Unknown => &[
                "--single-transaction",
                "--quick",
                "--routines",
                "--events",
                "--triggers",
                "--hex-blob",
                "--no-tablespaces",
                "--set-gtid-purged=OFF",
                "--default-character-set=utf8mb4",
                "--max-allowed-packet=1073741824",
            ],
        }
    }

    /// What `ALTER USER` says to keep an account usable, whatever the server's settings for passwords are.
    pub const fn account_options(self) -> &'static str {
        match self {
            Self::V5_7 | Self::Unknown => "PASSWORD EXPIRE NEVER ACCOUNT UNLOCK",
            Self::V8_0 | Self::V8_4 | Self::V9 => {
                "PASSWORD EXPIRE NEVER PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY ACCOUNT UNLOCK"
            }
        }
    }

    /// How it speaks of replication; [`Version::Unknown`] like the newest.
    pub const fn replication(self) -> ReplicationWords {
        match self {
            Self::V5_7 => ReplicationWords {
                change_source: "CHANGE MASTER TO",
                source: "MASTER",
                source_column: "Master_Host",
                replica: "Slave",
                status: "SHOW SLAVE STATUS",
                reset: "RESET SLAVE ALL",
                start: "START SLAVE",
                stop: "STOP SLAVE",
                log_status: "SHOW MASTER STATUS",
                source_plugin: "semisync_master",
                replica_plugin: "semisync_slave",
            },
            Self::V8_0 => ReplicationWords {
                log_status: "SHOW MASTER STATUS",
                ..Self::V9.replication()
            },
            Self::V8_4 | Self::V9 | Self::Unknown => ReplicationWords {
                change_source: "CHANGE REPLICATION SOURCE TO",
                source: "SOURCE",
                source_column: "Source_Host",
                replica: "Replica",
                status: "SHOW REPLICA STATUS",
                reset: "RESET REPLICA ALL",
                start: "START REPLICA",
                stop: "STOP REPLICA",
                log_status: "SHOW BINARY LOG STATUS",
                source_plugin: "semisync_source",
                replica_plugin: "semisync_replica",
            },
        }
    }

    /// The plugins that members load, as `plugin_load_add` takes them.
    pub fn member_plugins(self) -> String {
        let words = self.replication();
        let clone = if self.can_clone() { "mysql_clone.so;" } else { "" };
        format!("{clone}{}.so;{}.so", words.source_plugin, words.replica_plugin)
    }

    /// Whether a server can be copied from another by `CLONE INSTANCE`.
    pub const fn can_clone(self) -> bool {
        !matches!(self, Self::V5_7)
    }
}

/// The tag of an image, if its name has one.
pub(crate) fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map(|(_, tag)| tag)
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V5_7 => "5.7",
            Self::V8_0 => "8.0",
            Self::V8_4 => "8.4",
            Self::V9 => "9",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::seed("mysql:5.7", Version::V5_7)]
    #[case::patch_and_base("mysql:8.0.36-debian", Version::V8_0)]
    #[case::innovation("mysql:8.2", Version::V8_0)]
    #[case::long_term("mysql:8.4", Version::V8_4)]
    #[case::nine("mysql:9", Version::V9)]
    #[case::nine_seven("docker.io/library/mysql:9.7.4", Version::V9)]
    #[case::port_and_digest("registry:5000/x/mysql:8.4.3@sha256:00ff", Version::V8_4)]
    #[case::port_without_tag("registry:5000/mysql", Version::Unknown)]
    #[case::digest_alone("mysql@sha256:8400ff", Version::Unknown)]
    #[case::no_tag("mysql", Version::Unknown)]
    #[case::moves_between_series("mysql:8", Version::Unknown)]
    #[case::latest("mysql:latest", Version::Unknown)]
    #[case::long_gone("mysql:5.6", Version::Unknown)]
    #[case::a_hash("operators-testbed/mysql:5dcf4aa812986452", Version::Unknown)]
    #[case::a_hash_that_starts_like_one("operators-testbed/mysql:9f3b8a41dc55e001", Version::Unknown)]
    #[case::a_hash_of_digits("operators-testbed/mysql:9714441281298645", Version::Unknown)]
    #[case::nothing("", Version::Unknown)]
    fn an_image_is_known_by_its_tag(#[case] image: &str, #[case] version: Version) {
        assert_eq!(Version::of_image(image), version);
    }

    #[test]
    fn a_server_is_known_by_what_it_says() {
        assert_eq!(Version::of_server("9.7.4-2"), Version::V9);
        assert_eq!(Version::of_server("5.7.44-log"), Version::V5_7);
    }

    #[test]
    fn no_version_is_given_an_option_that_it_refuses() {
        for version in [Version::V8_0, Version::V8_4, Version::V9] {
            assert!(version.volume_arguments().is_empty(), "{version}");
        }
        assert!(Version::V5_7.private_arguments().is_empty());
        let unknown = Version::Unknown;
        for argument in unknown
            .volume_arguments()
            .iter()
            .chain(unknown.private_arguments())
        {
            assert!(argument.starts_with("--loose-"), "{argument}");
        }
        for version in [Version::V5_7, Version::Unknown] {
            assert!(!version.account_options().contains("HISTORY"), "{version}");
        }
    }

    #[test]
    fn a_dump_is_consistent_whole_and_restored_as_ordinary_writes() {
        for version in Version::ALL {
            let options = version.dump_options();
            for needed in [
                "--single-transaction",
                "--routines",
                "--events",
                "--set-gtid-purged=OFF",
            ] {
                assert!(options.contains(&needed), "{version}: {needed}");
            }
            assert!(options.iter().all(|option| !option.contains(' ')), "{version}");
        }
    }

    #[test]
    fn newer_versions_know_no_masters() {
        for version in [Version::V8_4, Version::V9, Version::Unknown] {
            let words = format!("{:?}", version.replication()).to_lowercase();
            assert!(!words.contains("master") && !words.contains("slave"), "{words}");
            assert!(version.can_clone());
        }
        assert_eq!(Version::V8_0.replication().log_status, "SHOW MASTER STATUS");
        assert_eq!(Version::V5_7.replication().source_plugin, "semisync_master");
    }

    #[test]
    fn members_load_what_their_version_calls_the_plugins() {
        let plugins = "mysql_clone.so;semisync_source.so;semisync_replica.so";
        for version in [Version::V8_0, Version::V8_4, Version::V9, Version::Unknown] {
            assert_eq!(version.member_plugins(), plugins, "{version}");
        }
        assert_eq!(
            Version::V5_7.member_plugins(),
            "semisync_master.so;semisync_slave.so"
        );
    }

    #[test]
    fn a_server_is_known_by_the_numbers_that_it_greets_with() {
        assert_eq!(Version::of_numbers(9, 7), Version::V9);
        assert_eq!(Version::of_numbers(8, 4), Version::V8_4);
        assert_eq!(Version::of_numbers(8, 3), Version::V8_0);
        assert_eq!(Version::of_numbers(10, 0), Version::Unknown);
    }
}
