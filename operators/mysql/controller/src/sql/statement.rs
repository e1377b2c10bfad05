//! The statements, in one place, in the words of the server's version. Run on MySQL 9.7; by documentation on others.

use super::{PORT, peer_file};
use crate::{
    authority::{APPLICATION, Authority, DATABASE, REPLICATION},
    server::{Address, Change},
    version::{ReplicationWords, Version},
};

/// How long a server waits for the statements that run before it closes, in seconds. A server that is not told waits for a
/// year, also when nobody waits for its answer any more.
const CLOSING: u64 = 3;

/// Whether a server is becoming a copy; the statement that makes it one runs until it is.
pub(super) const COPYING: &str =
    "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'CLONE INSTANCE%'";

/// Whether nobody writes. Asked before [`SURVEY`]: if it holds, the transactions shown there are the last.
pub(super) const CLOSED: &str = "SELECT @@global.super_read_only";

/// Everything about a server that variables show, in one row.
pub(super) fn survey(version: Version) -> String {
    let Semisync {
        source,
        replica,
        count,
    } = Semisync::of(version);
    format!(
        "SELECT @@server_uuid AS uuid, @@version AS version, \
         CONCAT(@@version_compile_os, ' ', @@version_compile_machine) AS platform, \
         @@global.character_set_server AS characters, @@global.collation_server AS collation, \
         @@global.character_set_filesystem AS filesystem, \
         @@global.gtid_executed AS executed, @@global.gtid_purged AS purged, \
         @@global.read_only AS read_only, @@global.super_read_only AS super_read_only, \
         @@global.{source}_enabled AS source_enabled, \
         @@global.{source}_{count} AS source_replicas, \
         @@global.{source}_timeout AS source_timeout, \
         @@global.{replica}_enabled AS replica_enabled, \
         @@global.sync_relay_log AS sync_relay_log"
    )
}

/// Shows how many replicas acknowledge to a server.
pub(super) fn acknowledging(version: Version) -> String {
    let Semisync { source, .. } = Semisync::of(version);
    format!("SHOW GLOBAL STATUS LIKE 'R{}_clients'", &source[1..])
}

/// What the variables of the semi-synchronous plugins begin with.
struct Semisync {
    source: String,
    replica: String,
    /// The rest of the name of the variable that says for how many a commit waits.
    count: String,
}

impl Semisync {
    fn of(version: Version) -> Self {
        let words = version.replication();
        let variables = |plugin: &str| format!("rpl_semi_sync_{}", plugin.trim_start_matches("semisync_"));
        let replica = variables(words.replica_plugin);
        let count = format!(
            "wait_for_{}_count",
            words.replica_plugin.trim_start_matches("semisync_")
        );
        Self {
            source: variables(words.source_plugin),
            replica,
            count,
        }
    }
}

/// The statements that carry out a change, in order.
pub(super) fn statements(change: &Change, authority: &Authority, version: Version) -> Vec<String> {
    let words = version.replication();
    let Semisync {
        source,
        replica,
        count,
    } = Semisync::of(version);
    let (start, stop) = (words.start.to_owned(), words.stop.to_owned());
    match change {
        Change::CreateAccounts => accounts(authority),
        Change::Acknowledge(how) => vec![
            format!("SET GLOBAL {source}_{count} = {}", how.replicas),
            format!("SET GLOBAL {source}_timeout = {}", how.timeout),
            format!("SET GLOBAL {source}_enabled = {}", u8::from(how.enabled)),
        ],
        Change::Sync => vec!["SET GLOBAL sync_relay_log = 1".into()],
        // Takes super_read_only back as well.
        Change::Open => vec!["SET GLOBAL read_only = OFF".into()],
        // It waits for every statement that runs, and all that come after wait for it: not for longer than its caller does.
        Change::Close => vec![
            format!("SET SESSION lock_wait_timeout = {CLOSING}"),
            "SET GLOBAL super_read_only = ON".into(),
        ],
        Change::Follow(leader) => vec![
            stop,
            follow(leader, authority, &words),
            format!("SET GLOBAL {replica}_enabled = ON"),
            start,
        ],
        Change::Apply => vec![format!("{start} SQL_THREAD")],
        Change::Detach => vec![format!("{stop} IO_THREAD")],
        Change::Lead => vec![stop, words.reset.to_owned()],
        // The collation last: a character set brings its own.
        Change::Resemble(characters) => vec![
            format!(
                "SET GLOBAL character_set_filesystem = {}",
                literal(&characters.filesystem)
            ),
            format!(
                "SET GLOBAL character_set_server = {}",
                literal(&characters.server)
            ),
            format!("SET GLOBAL collation_server = {}", literal(&characters.collation)),
        ],
        // It cannot be copied to while it is super_read_only; ordinary users cannot write all the same.
        Change::Copy(donor) => vec![
            "SET GLOBAL super_read_only = OFF".into(),
            format!(
                "SET GLOBAL clone_valid_donor_list = {}",
                literal(&format!("{}:{PORT}", donor.host))
            ),
            format!(
                "SET GLOBAL clone_ssl_ca = {}",
                literal(&peer_file(&donor.certificate))
            ),
            format!(
                "CLONE INSTANCE FROM {}@{}:{PORT} IDENTIFIED BY {} REQUIRE SSL",
                literal(REPLICATION),
                literal(&donor.host),
                literal(&authority.replication_password),
            ),
        ],
        // A replica tells at its connection that it acknowledges: it connects anew.
        Change::Resume(_) => vec![stop, format!("SET GLOBAL {replica}_enabled = ON"), start],
    }
}

/// Points a replica at its source, over TLS, with the source's pinned certificate as the only root of trust.
fn follow(leader: &Address, authority: &Authority, words: &ReplicationWords) -> String {
    let options = [
        ("HOST", literal(&leader.host)),
        ("PORT", PORT.to_string()),
        ("USER", literal(REPLICATION)),
        ("PASSWORD", literal(&authority.replication_password)),
        ("AUTO_POSITION", "1".to_owned()),
        ("SSL", "1".to_owned()),
        ("SSL_CA", literal(&peer_file(&leader.certificate))),
        ("CONNECT_RETRY", "5".to_owned()),
        ("RETRY_COUNT", "86400".to_owned()),
    ];
    let options = options.map(|(name, value)| format!("{}_{name} = {value}", words.source));
    format!("{} {}", words.change_source, options.join(", "))
}

/// The accounts that are complete, of those that the operator makes.
pub(super) fn complete_accounts() -> String {
    format!(
        "SELECT user FROM mysql.user WHERE user IN ('{REPLICATION}', '{APPLICATION}') AND account_locked = 'N'"
    )
}

/// Made while the server is closed to everybody but the operator. An account is locked until it has its rights: one that is
/// not is known to be complete, whatever came in between.
fn accounts(authority: &Authority) -> Vec<String> {
    let user = |name: &str, password: &str| {
        format!(
            "CREATE USER IF NOT EXISTS {}@'%' IDENTIFIED BY {} REQUIRE SSL ACCOUNT LOCK",
            literal(name),
            literal(password)
        )
    };
    vec![
        "SET GLOBAL super_read_only = OFF".into(),
        user(REPLICATION, &authority.replication_password),
        format!("GRANT REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO '{REPLICATION}'@'%'"),
        format!("ALTER USER '{REPLICATION}'@'%' ACCOUNT UNLOCK"),
        format!("CREATE DATABASE IF NOT EXISTS `{DATABASE}`"),
        user(APPLICATION, &authority.application_password),
        format!("GRANT ALL ON `{DATABASE}`.* TO '{APPLICATION}'@'%'"),
        format!("ALTER USER '{APPLICATION}'@'%' ACCOUNT UNLOCK"),
    ]
}

/// A string as SQL writes it. Quotes are doubled; a backslash is doubled too, so that no text can leave the literal
/// as long as the session's sql_mode is the default.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Acknowledgement;

    #[test]
    fn nothing_leaves_a_literal() {
        assert_eq!(literal(r"a'b\"), r"'a''b\\'");
    }

    #[test]
    fn a_replica_trusts_the_pinned_certificate_alone_and_never_without_tls() {
        let authority = Authority::generate().unwrap();
        let source = Address {
            host: "10.0.0.4".into(),
            name: "c-0".into(),
            certificate: "PEM".into(),
        };
        let all = statements(&Change::Follow(source), &authority, Version::V9);
        let follow = all
            .iter()
            .find(|statement| statement.starts_with("CHANGE"))
            .unwrap();
        assert!(
            follow.contains("SOURCE_SSL = 1")
                && follow.contains("SOURCE_SSL_CA = '/var/lib/mysql-files/peer-"),
            "{follow}"
        );
        assert_eq!(all.last().unwrap(), "START REPLICA");
    }

    #[test]
    fn each_version_is_spoken_to_in_its_own_words() {
        let authority = Authority::generate().unwrap();
        let address = Address {
            host: "10.0.0.4".into(),
            name: "c-0".into(),
            certificate: "PEM".into(),
        };
        let how = Acknowledgement {
            enabled: true,
            replicas: 2,
            timeout: 7,
        };
        let changes = [
            Change::Acknowledge(how),
            Change::Follow(address.clone()),
            Change::Resume(address),
            Change::Apply,
            Change::Detach,
            Change::Lead,
        ];
        let said = |version: Version| {
            let mut all: Vec<_> = changes
                .iter()
                .flat_map(|change| statements(change, &authority, version))
                .collect();
            all.extend([
                survey(version),
                acknowledging(version),
                version.replication().status.into(),
            ]);
            all.join("; ")
        };
        for version in [Version::V8_0, Version::V8_4, Version::V9, Version::Unknown] {
            let text = said(version);
            let lower = text.to_lowercase();
            assert!(
                !lower.contains("master") && !lower.contains("slave"),
                "{version}: {text}"
            );
            for word in [
                "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 2",
                "SET GLOBAL rpl_semi_sync_source_enabled = 1",
                "SET GLOBAL rpl_semi_sync_replica_enabled = ON",
                "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'",
                "RESET REPLICA ALL",
                "START REPLICA SQL_THREAD",
                "STOP REPLICA IO_THREAD",
            ] {
                assert!(text.contains(word), "{version}: {word}: {text}");
            }
        }
        let old = said(Version::V5_7);
        for word in [
            "SET GLOBAL rpl_semi_sync_master_wait_for_slave_count = 2",
            "CHANGE MASTER TO MASTER_HOST = '10.0.0.4'",
            "MASTER_SSL = 1, MASTER_SSL_CA = ",
            "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'",
            "SHOW SLAVE STATUS",
            "RESET SLAVE ALL",
            "START SLAVE SQL_THREAD",
            "STOP SLAVE IO_THREAD",
        ] {
            assert!(old.contains(word), "{word}: {old}");
        }
        for word in [
            "SOURCE_HOST",
            "START REPLICA",
            "rpl_semi_sync_replica",
            "rpl_semi_sync_source",
        ] {
            assert!(!old.contains(word), "{word}: {old}");
        }
    }

    #[test]
    fn a_server_that_cannot_close_gives_it_up_before_its_caller_does() {
        let authority = Authority::generate().unwrap();
        let all = statements(&Change::Close, &authority, Version::V9);
        let expected = [
            "SET SESSION lock_wait_timeout = 3",
            "SET GLOBAL super_read_only = ON",
        ];
        assert_eq!(all, expected);
        assert!(CLOSING * 2 < crate::sql::PATIENCE.as_secs());
    }

    #[test]
    fn a_copy_is_made_over_tls_from_the_pinned_certificate_alone() {
        let authority = Authority::generate().unwrap();
        let donor = Address {
            host: "10.0.0.5".into(),
            name: "c-1".into(),
            certificate: "PEM".into(),
        };
        let all = statements(&Change::Copy(donor), &authority, Version::V9);
        assert!(all.contains(&"SET GLOBAL clone_valid_donor_list = '10.0.0.5:3306'".to_owned()));
        assert!(
            all.iter()
                .any(|one| one.starts_with("SET GLOBAL clone_ssl_ca = '/var/lib/mysql-files/peer-"))
        );
        let copy = all.last().unwrap();
        assert!(
            copy.starts_with("CLONE INSTANCE FROM 'replication'@'10.0.0.5':3306 "),
            "{copy}"
        );
        assert!(copy.ends_with("REQUIRE SSL"), "{copy}");
    }

    #[test]
    fn every_account_needs_tls() {
        let authority = Authority::generate().unwrap();
        let all = statements(&Change::CreateAccounts, &authority, Version::V9);
        let users: Vec<_> = all
            .iter()
            .filter(|statement| statement.starts_with("CREATE USER"))
            .collect();
        assert_eq!(users.len(), 2);
        assert!(users.iter().all(|statement| statement.contains(" REQUIRE SSL ")));
    }

    #[test]
    fn an_account_counts_only_when_it_has_its_rights() {
        let authority = Authority::generate().unwrap();
        let all = statements(&Change::CreateAccounts, &authority, Version::V9);
        for name in [REPLICATION, APPLICATION] {
            let place = |word: &str| {
                let of = |statement: &String| {
                    statement.starts_with(word) && statement.contains(&format!("'{name}'@"))
                };
                all.iter().position(of).unwrap()
            };
            assert!(all[place("CREATE USER")].ends_with("ACCOUNT LOCK"));
            assert!(place("CREATE USER") < place("GRANT") && place("GRANT") < place("ALTER USER"));
        }
        assert!(complete_accounts().ends_with("account_locked = 'N'"));
    }
}
