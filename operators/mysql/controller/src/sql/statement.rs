//! The statements, in one place. Run on MySQL 9.7; by the documentation the same on 8.4, whose names for replication
//! and semi-synchronous plugins they use.

use super::{PORT, peer_file};
use crate::{
    authority::{APPLICATION, Authority, DATABASE, REPLICATION},
    server::Change,
};

/// Whether a server is becoming a copy; the statement that makes it one runs until it is.
pub(super) const COPYING: &str =
    "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'CLONE INSTANCE%'";

/// Whether nobody writes. Asked before [`SURVEY`]: if it holds, the transactions shown there are the last.
pub(super) const CLOSED: &str = "SELECT @@global.super_read_only";

/// Everything about a server that variables show, in one row.
pub(super) const SURVEY: &str = "SELECT @@server_uuid AS uuid, @@version AS version, \
    @@global.gtid_executed AS executed, @@global.gtid_purged AS purged, \
    @@global.read_only AS read_only, @@global.super_read_only AS super_read_only, \
    @@global.rpl_semi_sync_source_enabled AS source_enabled, \
    @@global.rpl_semi_sync_source_wait_for_replica_count AS source_replicas, \
    @@global.rpl_semi_sync_source_timeout AS source_timeout, \
    @@global.rpl_semi_sync_replica_enabled AS replica_enabled";

/// The statements that carry out a change, in order.
pub(super) fn statements(change: &Change, authority: &Authority) -> Vec<String> {
    match change {
        Change::CreateAccounts => accounts(authority),
        Change::Acknowledge(how) => vec![
            format!(
                "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = {}",
                how.replicas
            ),
            format!("SET GLOBAL rpl_semi_sync_source_timeout = {}", how.timeout),
            format!(
                "SET GLOBAL rpl_semi_sync_source_enabled = {}",
                u8::from(how.enabled)
            ),
        ],
        // Takes super_read_only back as well.
        Change::Open => vec!["SET GLOBAL read_only = OFF".into()],
        Change::Close => vec!["SET GLOBAL super_read_only = ON".into()],
        Change::Follow(source) => vec![
            "STOP REPLICA".into(),
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {}, SOURCE_PORT = {PORT}, SOURCE_USER = {}, SOURCE_PASSWORD = {}, SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, SOURCE_SSL_CA = {}, SOURCE_CONNECT_RETRY = 5, SOURCE_RETRY_COUNT = 86400",
                literal(&source.host),
                literal(REPLICATION),
                literal(&authority.replication_password),
                literal(&peer_file(&source.certificate)),
            ),
            "SET GLOBAL rpl_semi_sync_replica_enabled = ON".into(),
            "START REPLICA".into(),
        ],
        Change::Lead => vec!["STOP REPLICA".into(), "RESET REPLICA ALL".into()],
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
        Change::Resume(_) => vec![
            "STOP REPLICA".into(),
            "SET GLOBAL rpl_semi_sync_replica_enabled = ON".into(),
            "START REPLICA".into(),
        ],
    }
}

/// Made while the server is closed to everybody but the operator.
fn accounts(authority: &Authority) -> Vec<String> {
    let user = |name: &str, password: &str| {
        format!(
            "CREATE USER IF NOT EXISTS {}@'%' IDENTIFIED BY {} REQUIRE SSL",
            literal(name),
            literal(password)
        )
    };
    vec![
        "SET GLOBAL super_read_only = OFF".into(),
        user(REPLICATION, &authority.replication_password),
        format!("GRANT REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO '{REPLICATION}'@'%'"),
        format!("CREATE DATABASE IF NOT EXISTS `{DATABASE}`"),
        user(APPLICATION, &authority.application_password),
        format!("GRANT ALL ON `{DATABASE}`.* TO '{APPLICATION}'@'%'"),
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
    use crate::server::Address;

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
        let all = statements(&Change::Follow(source), &authority);
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
    fn a_copy_is_made_over_tls_from_the_pinned_certificate_alone() {
        let authority = Authority::generate().unwrap();
        let donor = Address {
            host: "10.0.0.5".into(),
            name: "c-1".into(),
            certificate: "PEM".into(),
        };
        let all = statements(&Change::Copy(donor), &authority);
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
        let all = statements(&Change::CreateAccounts, &authority);
        let users: Vec<_> = all
            .iter()
            .filter(|statement| statement.starts_with("CREATE USER"))
            .collect();
        assert_eq!(users.len(), 2);
        assert!(users.iter().all(|statement| statement.ends_with("REQUIRE SSL")));
    }
}
