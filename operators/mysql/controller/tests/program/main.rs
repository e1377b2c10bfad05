//! The programs of a database's Pods as they are, with the shell, mysqld and mysqldump of the image that they run in.
//!
//! Loops that kill are longer with `TESTKIT_FULL=1`; the line that they print replays one.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lints' own exceptions do not reach their helper functions"
)]

mod accounts;
mod backups;
mod folders;
mod kills;
mod retention;
mod site;
mod zones;
