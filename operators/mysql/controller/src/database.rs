//! The kind `MySQL`: one server in the cluster, with its backups.
//!
//! # How a `MySQL` comes, lives and goes
//! A pass of [`crate::controllers::mysql`] observes, plans, acts and reports:
//! - [`desired`] turns the spec into what can be carried out, or says what is wrong with it;
//! - [`volumes`], [`nodes`], [`job`], [`server`] and [`credentials`] say what the objects look like, and read what stands in them;
//! - [`plan`] decides, and is pure: when a data folder is filled, when a backup is taken, when a deletion may go on;
//! - [`report`] says what was observed;
//! - [`program`] is what runs inside the Pods.
//!
//! # Guarantees
//! - No server is started on a data volume that is to be restored and is not, and nothing is restored onto a volume
//!   that was ever handed to a server.
//! - A deletion that needs a backup removes nothing before that backup is there, whatever way of deleting was chosen.
//! - The volume with the backups belongs to nobody: neither the end of a `MySQL` nor that of the operator removes it.
//! - Objects that are not provably ours are never touched.

pub mod amounts;
pub mod confinement;
pub mod credentials;
pub mod desired;
pub mod former;
pub mod job;
pub mod names;
pub mod nodes;
pub mod plan;
pub mod pods;
pub mod program;
pub mod report;
pub mod schedule;
pub mod server;
pub mod size;
pub mod volumes;
