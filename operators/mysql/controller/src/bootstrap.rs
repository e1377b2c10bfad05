//! What a member finds on its disk when it boots first, by cloud-init's user data: my.cnf, the operator's authority, and
//! the script that makes a server of the machine. The image must have MySQL, openssl and cloud-init.
//!
//! # Guarantees
//! - The same member of the same cluster gets the same bytes, always.
//! - No secret is in it: anybody who may describe instances can read it.
//! - It stays below EC2's limit of 16 KB by the bounds of the spec.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    authority::{OPERATOR, SUBJECT},
    desired::Desired,
    identity::member_name,
    version::Version,
};

/// Where the options go. Debian's and Ubuntu's my.cnf includes this folder; to others the setup tells it. Whatever mysqld reads
/// lies below `/etc/mysql` or with its data: their AppArmor profile lets it read nothing else of `/etc`.
const PATH: &str = "/etc/mysql/mysql.conf.d/zz-cluster.cnf";

/// The options that replication and safety depend on.
///
/// Every boot is harmless: a member comes up read-only and follows nobody until it is told to. A committed transaction is on
/// disk, in the binary log and in InnoDB's. What a replica acknowledges is in its relay log, which is on disk then where nothing may
/// be lost: the operator sets `sync_relay_log` before a replica follows, for this file is part of what a launch is made with.
const OPTIONS: &[(&str, &str)] = &[
    ("gtid_mode", "ON"),
    ("enforce_gtid_consistency", "ON"),
    ("log_bin", "binlog"),
    ("log_replica_updates", "ON"),
    ("bind_address", "*"),
    ("datadir", "/var/lib/mysql"),
    // Where the operator puts the certificates of peers.
    ("secure_file_priv", "/var/lib/mysql-files"),
    ("ssl_ca", "/etc/mysql/member/authority.pem"),
    ("ssl_cert", "/var/lib/mysql/member-cert.pem"),
    ("ssl_key", "/var/lib/mysql/member-key.pem"),
    ("super_read_only", "ON"),
    ("skip_replica_start", "ON"),
    // With lossless semi-synchronous replication, dropping the relay log would drop what was acknowledged.
    ("relay_log_recovery", "OFF"),
    ("sync_binlog", "1"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("replica_preserve_commit_order", "ON"),
    ("require_secure_transport", "ON"),
];

/// Options that a user may set otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    ("mysqlx", "OFF"),
    ("replica_parallel_workers", "4"),
    ("skip_name_resolve", "ON"),
];

/// The first server id; members count up from it, so that none has 0, which means none.
const FIRST_SERVER_ID: i32 = 100;

/// What turns the machine into a member.
const SETUP: &str = include_str!("bootstrap/setup.sh");
/// Goes on with a setup that was cut off, which cloud-init does not, or prints the member's certificate, at each boot.
const UNIT: &str = "[Unit]
Description=This machine as a member of its cluster, and its certificate on the console
RequiresMountsFor=/var/lib/mysql

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/mysql-member-setup boot

[Install]
WantedBy=multi-user.target
";

/// The user data of a member.
pub fn user_data(desired: &Desired, ordinal: i32) -> String {
    let mut text = String::from("#cloud-config\nwrite_files:\n");
    let identity = format!(
        "member={}\nnames={}\n",
        member_name(&desired.name, ordinal),
        names(desired, ordinal)
    );
    for (path, mode, content) in [
        (PATH, "0644", my_cnf(desired, ordinal).as_str()),
        ("/etc/mysql/member/identity", "0644", &identity),
        ("/etc/mysql/member/authority.pem", "0644", &desired.authority),
        ("/etc/mysql/member/accounts.sql", "0644", &accounts()),
        ("/etc/systemd/system/mysql-member.service", "0644", UNIT),
        ("/usr/local/sbin/mysql-member-setup", "0755", SETUP),
    ] {
        let _ = writeln!(
            text,
            "  - path: {path}\n    permissions: '{mode}'\n    content: |"
        );
        for line in content.lines() {
            let _ = if line.is_empty() {
                writeln!(text)
            } else {
                writeln!(text, "      {line}")
            };
        }
    }
    text.push_str("runcmd:\n  - [/usr/local/sbin/mysql-member-setup]\n");
    text
}

/// The names in a member's certificate: its own, by which the operator knows it, and those of the Services, for any
/// member may stand behind them one day. A name that DNS has no room for is left out.
fn names(desired: &Desired, ordinal: i32) -> String {
    let (name, namespace) = (&desired.name, &desired.namespace);
    let mut all = vec![tls_name(&desired.uid, ordinal)];
    for service in [name.clone(), format!("{name}-ro")] {
        all.extend([
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]);
    }
    let all: Vec<_> = all
        .into_iter()
        .filter(|name| name.len() <= 253)
        .map(|name| format!("DNS:{name}"))
        .collect();
    all.join(",")
}

/// The name by which the operator knows a member's certificate. No other cluster has it: not one of the same name in
/// another namespace, nor one that was created again.
pub fn tls_name(cluster_uid: &str, ordinal: i32) -> String {
    format!("member-{ordinal}.{cluster_uid}.mysql.alx.ke")
}

/// What a new server runs before anybody can connect to it. Not logged, so that a new member has no transaction of
/// its own: with one it could never follow another.
fn accounts() -> String {
    format!(
        "SET SESSION sql_log_bin = 0;
CREATE USER '{OPERATOR}'@'%' IDENTIFIED BY '' REQUIRE SUBJECT '{SUBJECT}';
GRANT ALL ON *.* TO '{OPERATOR}'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' ACCOUNT LOCK;
"
    )
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
    // Which version the image has is not known before it boots.
    let plugins = Version::Unknown.member_plugins();
    options.insert("plugin_load_add", &plugins);
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
    fn it_fits_into_what_ec2_takes_and_is_yaml_that_holds_every_file_whole() {
        let mut desired = desired(9);
        desired.authority = crate::authority::Authority::generate().unwrap().certificate;
        desired.name = "n".repeat(253);
        desired.namespace = "s".repeat(63);
        for option in 0..30 {
            desired.options.insert(format!("{option:064}"), "v".repeat(64));
        }
        let text = user_data(&desired, 8);
        assert!(text.len() <= 16 << 10, "{} bytes", text.len());
        let setup = text
            .split("mysql-member-setup\n    permissions: '0755'\n    content: |\n")
            .nth(1)
            .unwrap();
        let setup: Vec<_> = setup
            .lines()
            .take(SETUP.lines().count())
            .map(|line| line.trim_start_matches("      "))
            .collect();
        let expected: Vec<_> = SETUP
            .lines()
            .map(|line| line.trim_start_matches("      "))
            .collect();
        assert_eq!(setup, expected);
    }

    /// What the AppArmor profile of MySQL's packages for Debian and Ubuntu, `/etc/apparmor.d/usr.sbin.mysqld`, lets mysqld read
    /// of what a member gives it: `/etc/mysql/** r`, `/var/lib/mysql/** rwk`, `/var/lib/mysql-files/** rwk`.
    const READABLE: [&str; 3] = ["/etc/mysql/", "/var/lib/mysql/", "/var/lib/mysql-files/"];

    #[test]
    fn mysqld_is_given_no_path_that_its_packages_apparmor_profile_keeps_from_it() {
        let options = my_cnf(&desired(3), 0);
        let mut paths: Vec<&str> = options.split(['=', '\n']).collect();
        let arguments = SETUP.split_whitespace().filter(|word| word.starts_with("--"));
        paths.extend(arguments.filter_map(|word| Some(word.split_once('=')?.1)));
        let peer = crate::sql::peer_file("PEM");
        paths.extend([PATH, &peer]);
        let given: Vec<&&str> = paths.iter().filter(|path| path.starts_with('/')).collect();
        for expected in [
            "accounts.sql",
            "authority.pem",
            "member-key.pem",
            "zz-cluster.cnf",
        ] {
            assert!(given.iter().any(|path| path.ends_with(expected)), "{expected}");
        }
        for path in given {
            let is_readable =
                |folder: &&str| path.starts_with(*folder) || **path == folder[..folder.len() - 1];
            assert!(READABLE.iter().any(is_readable), "{path}");
        }
    }

    #[test]
    fn a_users_option_replaces_a_default_and_never_one_of_ours() {
        let mut desired = desired(1);
        desired.options.insert("mysqlx".into(), "ON".into());
        desired.options.insert("super_read_only".into(), "OFF".into());
        let text = my_cnf(&desired, 0);
        assert!(text.contains("\nmysqlx=ON\n"), "{text}");
        assert!(text.contains("\nsuper_read_only=ON\n"), "{text}");
        let plugins = "\nplugin_load_add=mysql_clone.so;semisync_source.so;semisync_replica.so\n";
        assert!(text.contains(plugins), "{text}");
    }
}
