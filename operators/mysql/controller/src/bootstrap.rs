//! What a member finds on its disk when it boots first: my.cnf, by cloud-init's user data.
//!
//! # Guarantees
//! - The same member of the same cluster gets the same bytes, always.
//! - No secret is in it: anybody who may describe instances can read it.
//! - It stays below EC2's limit of 16 KB by the bounds of the spec.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::desired::Desired;

/// Where the options go; the distributions' my.cnf includes this folder.
const PATH: &str = "/etc/mysql/mysql.conf.d/zz-cluster.cnf";

/// The options that replication and safety depend on.
///
/// Every boot is harmless: a member comes up read-only and follows nobody until it is told to. An acknowledged
/// transaction is on disk, in the binary log and in InnoDB's.
const OPTIONS: &[(&str, &str)] = &[
    ("gtid_mode", "ON"),
    ("enforce_gtid_consistency", "ON"),
    ("log_bin", "binlog"),
    ("log_replica_updates", "ON"),
    ("super_read_only", "ON"),
    ("skip_replica_start", "ON"),
    // With lossless semi-synchronous replication, dropping the relay log would drop what was acknowledged.
    ("relay_log_recovery", "OFF"),
    ("sync_binlog", "1"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("replica_preserve_commit_order", "ON"),
    ("require_secure_transport", "ON"),
    (
        "plugin_load_add",
        "mysql_clone.so;semisync_source.so;semisync_replica.so",
    ),
];

/// Options that a user may set otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    ("mysqlx", "OFF"),
    ("replica_parallel_workers", "4"),
    ("skip_name_resolve", "ON"),
];

/// The first server id; members count up from it, so that none has 0, which means none.
const FIRST_SERVER_ID: i32 = 100;

/// The user data of a member.
pub fn user_data(desired: &Desired, ordinal: i32) -> String {
    let mut text = String::from("#cloud-config\nwrite_files:\n");
    let _ = writeln!(text, "  - path: {PATH}\n    permissions: '0644'\n    content: |");
    for line in my_cnf(desired, ordinal).lines() {
        let _ = writeln!(text, "      {line}");
    }
    text
}

/// The `[mysqld]` section of a member.
pub fn my_cnf(desired: &Desired, ordinal: i32) -> String {
    let mut options: BTreeMap<&str, &str> = DEFAULTS.iter().copied().collect();
    options.extend(
        desired
            .options
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    options.extend(OPTIONS.iter().copied());
    let mut text = format!("[mysqld]\nserver_id={}\n", FIRST_SERVER_ID + ordinal);
    for (name, value) in options {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::desired;

    #[test]
    fn members_differ_by_their_server_id_alone() {
        let desired = desired(3);
        let (zero, one) = (my_cnf(&desired, 0), my_cnf(&desired, 1));
        assert_eq!(zero.replace("server_id=100", "server_id=101"), one);
        assert_eq!(zero, my_cnf(&desired, 0));
    }

    #[test]
    fn a_users_option_replaces_a_default_and_never_one_of_ours() {
        let mut desired = desired(1);
        desired.options.insert("mysqlx".into(), "ON".into());
        desired.options.insert("super_read_only".into(), "OFF".into());
        let text = my_cnf(&desired, 0);
        assert!(text.contains("\nmysqlx=ON\n"), "{text}");
        assert!(text.contains("\nsuper_read_only=ON\n"), "{text}");
    }
}
