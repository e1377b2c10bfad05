//! What runs inside the Pods of the kind `MySQL`, in the user's own image: programs for its shell, their environment, the
//! files that they read, and what they say when they end.
//!
//! | Pod | what runs | mounted |
//! |---|---|---|
//! | Job `restore-<name>-job`, before a server's first start, backup or not | [`RESTORE`] with [`Restore::environment`] | data, backups (read-only is enough), Secret, configuration |
//! | the server: first container | [`GUARD`] | data |
//! | the server | the image's entrypoint with [`server_arguments`]; no password in its environment | data, Secret, configuration |
//! | Job `backup-<name>-job` | [`BACKUP`] with [`Backup::environment`] | backups, Secret |
//!
//! The Secret is mounted at [`CLIENT_FOLDER`] with the keys of [`secret_files`]; the volumes at [`DATA_FOLDER`] and
//! [`BACKUP_FOLDER`]; with a read-only root file system there is an emptyDir at `/tmp`, and at `/run/mysqld` for the
//! server. The programs run as the image's user or as any other: root gives what it makes to the image's `mysql`.
//!
//! # Guarantees
//! - A password is in no argument, no environment and nothing that is printed: programs read it from the Secret's files.
//! - A backup comes to be whole or not at all, is checked before it has its name, and takes no other's place; the newest K
//!   stay, beside them a last one, one that `restore.from` names, and K of earlier owners of which the data have nothing.
//! - The data folder is filled whole or not at all; what is there already is never written to. Killed at any moment a
//!   program goes on, when it is run again, where it was, or begins anew.
//! - Each program ends with one line of JSON, in the container's termination message and at the end of its output:
//!   [`Outcome`].
//! - The accounts of root are those of the Secret whenever a server has started: it runs [`ACCOUNTS_FILE`] itself.
//!
//! # Caveats
//! - Only the one database is backed up, with its routines, events and triggers: not other accounts, not other
//!   databases.
//! - Backups go over the network with TLS where the server offers it, which all since 5.7 do by default; its certificate
//!   is its own and is not checked.

mod order;
mod outcome;

use std::fmt::Write as _;

pub use self::{
    order::{Backup, Policy, Restore},
    outcome::{BackupMade, Failure, Origin, Outcome, Reason},
};
use crate::version::Version;

/// Takes a backup; `["/bin/sh", "-c", BACKUP]`, as [`command`] says.
pub const BACKUP: &str = concat!(
    include_str!("program/common.sh"),
    include_str!("program/backup.sh")
);
/// Fills the data folder of a new server.
pub const RESTORE: &str = concat!(
    include_str!("program/common.sh"),
    include_str!("program/restore.sh")
);
/// Keeps a server from starting on a data folder that is not filled: the first container of its Pod.
pub const GUARD: &str = concat!(
    include_str!("program/common.sh"),
    include_str!("program/guard.sh")
);

/// Where the Secret with [`secret_files`] is mounted.
pub const CLIENT_FOLDER: &str = "/etc/mysql-client";
/// Its key with the options of clients: user and password.
pub const CLIENT_FILE: &str = "client.cnf";
/// Its key with the statements that every server runs when it starts.
pub const ACCOUNTS_FILE: &str = "accounts.sql";
/// Where the data volume is mounted.
pub const DATA_FOLDER: &str = "/var/lib/mysql";
/// Where the backup volume is mounted.
pub const BACKUP_FOLDER: &str = "/backup";
/// The port of the server.
pub const PORT: u16 = 3306;
/// The exit status of a program when trying again is of no use; another is worth a retry.
pub const HOPELESS: i32 = 64;

/// The command of a container that runs one of the programs.
pub fn command(program: &str) -> Vec<String> {
    ["/bin/sh", "-c", program].map(str::to_owned).to_vec()
}

/// The arguments of the server's container; the image's entrypoint adds the program.
pub fn server_arguments(version: Version) -> Vec<String> {
    let accounts = format!("--init-file={CLIENT_FOLDER}/{ACCOUNTS_FILE}");
    let of_volume = version.volume_arguments().iter().copied().map(str::to_owned);
    std::iter::once(accounts).chain(of_volume).collect()
}

/// The command that succeeds when the server answers root, with the Secret's password, over the network.
pub fn server_probe() -> Vec<String> {
    let options = format!("--defaults-file={CLIENT_FOLDER}/{CLIENT_FILE}");
    [
        "mysql",
        &options,
        "--protocol=tcp",
        "--host=127.0.0.1",
        "--connect-timeout=5",
        "--execute=SELECT 1",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The files of the Secret by key. `password` must be free of NUL, as Kubernetes keeps it and MySQL cannot.
pub fn secret_files(database: &str, password: &str, version: Version) -> [(&'static str, String); 2] {
    [
        (CLIENT_FILE, client_options(password)),
        (ACCOUNTS_FILE, accounts(database, password, version)),
    ]
}

/// The file that clients read user and password from.
fn client_options(password: &str) -> String {
    let mut quoted = String::with_capacity(password.len() + 2);
    for character in password.chars() {
        match character {
            '\\' => quoted.push_str(r"\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str(r"\n"),
            '\r' => quoted.push_str(r"\r"),
            '\t' => quoted.push_str(r"\t"),
            other => quoted.push(other),
        }
    }
    // Without TLS a server since 8.0 wants the password encrypted with its key; 5.7 before .23 knows no such option.
    format!("[client]\nuser=root\npassword=\"{quoted}\"\nloose-get-server-public-key\n")
}

/// What a server does before it lets anybody in.
///
/// A server reads this file with a parser of its own, which gets lost in quotes (9.7 does) and, in 5.7, ends statements
/// with lines. So what carries a password or a name is written in digits.
fn accounts(database: &str, password: &str, version: Version) -> String {
    let password = literal(password);
    let options = version.account_options();
    // First of all the general log is kept from hearing it.
    let mut file =
        "SET SESSION sql_log_off = 1;\nSET SESSION sql_log_bin = 0;\nSET SESSION sql_mode = '';\nSET NAMES \
                    utf8mb4;\n"
            .to_owned();
    let mut add = |statement: &str| {
        file.push_str("SET @statement = CONVERT(X'");
        for byte in statement.bytes() {
            let _ = write!(file, "{byte:02x}");
        }
        file.push_str("' USING utf8mb4);\nPREPARE statement FROM @statement;\nEXECUTE statement;\n");
    };
    add(&format!(
        "CREATE DATABASE IF NOT EXISTS `{}`",
        database.replace('`', "``")
    ));
    for user in ["'root'@'localhost'", "'root'@'%'"] {
        // An account may come from a server whose way to log in this one has no more (`mysql_native_password`), and then
        // no statement about it is heard that does not name another. 5.7 does not know that other.
        let by = format!("IDENTIFIED /*!80000 WITH caching_sha2_password */ BY {password}");
        add(&format!("CREATE USER IF NOT EXISTS {user} {by}"));
        add(&format!("ALTER USER {user} {by} {options}"));
        add(&format!("GRANT ALL ON *.* TO {user} WITH GRANT OPTION"));
    }
    file.push_str("SET @statement = NULL;\nDEALLOCATE PREPARE statement;\n");
    file
}

/// A string as SQL writes it where `sql_mode` leaves backslashes their meaning.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAZARDS: &str = "a'b\"c\\d`e$f #g;h\n\r\ti%j=k🔑";

    #[test]
    fn kubernetes_leaves_the_programs_as_they_are() {
        for program in [BACKUP, RESTORE, GUARD] {
            assert!(!program.contains("$$"), "Kubernetes makes one of two");
            for name in [
                "BACKUP_ID",
                "DATABASE",
                "HOST",
                "KEEP",
                "OWNER",
                "POLICY",
                "FROM",
                "FINAL",
                "FRESH",
                "DATA_UID",
            ] {
                assert!(
                    !program.contains(&format!("$({name})")),
                    "Kubernetes fills in {name}"
                );
            }
        }
    }

    #[test]
    fn every_reason_of_the_programs_is_known() {
        let text = [BACKUP, RESTORE, GUARD].concat();
        let said: Vec<_> = text
            .split("fail ")
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next())
            .filter(|word| word.starts_with(|first: char| first.is_ascii_uppercase()))
            .filter(|word| *word != "REASON")
            .collect();
        assert!(said.len() > 20, "{said:?}");
        for reason in said {
            let outcome = Outcome::parse(&format!(r#"{{"reason":"{reason}","error":"x"}}"#));
            let Outcome::Failed(failure) = outcome else {
                panic!("{outcome:?}")
            };
            assert_ne!(failure.reason, Reason::Unexplained, "{reason}");
        }
    }

    #[test]
    fn the_programs_say_of_the_same_reasons_as_the_operator_that_trying_again_is_of_no_use() {
        let hopeless = BACKUP
            .split("case $1 in")
            .nth(1)
            .unwrap()
            .split(')')
            .next()
            .unwrap();
        let hopeless: Vec<_> = hopeless
            .split(|character: char| !character.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        for reason in Reason::ALL {
            let said = hopeless.contains(&reason.to_string().as_str());
            assert_eq!(said, reason.is_hopeless(), "{reason}");
        }
    }

    #[test]
    fn nothing_that_somebody_chose_is_read_by_the_servers_own_parser() {
        let file = accounts(HAZARDS, HAZARDS, Version::V9);
        for line in file.lines() {
            let digits = line.strip_prefix("SET @statement = CONVERT(X'");
            let Some(digits) = digits.and_then(|rest| rest.strip_suffix("' USING utf8mb4);")) else {
                let plain = line.replace("sql_mode = ''", "");
                assert!(
                    plain.ends_with(';') && !plain.contains(['\'', '"', '`', '\\']),
                    "{line}"
                );
                continue;
            };
            assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line}");
        }
    }

    #[test]
    fn no_password_leaves_its_place() {
        assert_eq!(literal("a'; DROP"), "'a''; DROP'");
        assert_eq!(literal(r"\' OR"), r"'\\'' OR'");
        assert!(client_options("a\"#b\\").contains(r##"password="a\"#b\\""##));
        assert_eq!(client_options(HAZARDS).lines().count(), 4);
        let arguments = [server_arguments(Version::V9), server_probe(), command(BACKUP)].concat();
        assert!(arguments.iter().all(|argument| !argument.contains("password=")));
    }

    #[test]
    fn accounts_are_nobody_elses_business() {
        for version in Version::ALL {
            let file = accounts("d", "p", version);
            let begin = "SET SESSION sql_log_off = 1;\nSET SESSION sql_log_bin = 0;\n";
            assert!(file.starts_with(begin), "{file}");
        }
    }

    #[test]
    fn only_5_7_is_told_to_ignore_a_folder() {
        let with = |version| {
            server_arguments(version)
                .iter()
                .any(|argument| argument == "--ignore-db-dir=lost+found")
        };
        assert!(with(Version::V5_7));
        assert!(
            ![Version::V8_0, Version::V8_4, Version::V9, Version::Unknown]
                .into_iter()
                .any(with)
        );
    }
}
