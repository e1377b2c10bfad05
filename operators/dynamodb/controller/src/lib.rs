//! Deleting one partition of a DynamoDB table: fast, resumable, proven empty.
//!
//! One engine ([`partition`]) behind two doors: the operator for `DdbctlDpJob` resources ([`manager`],
//! [`controllers`]) and the command line ([`cli`]). Both are the binary `dynamoctl`.
//!
//! # What the operator promises
//! - `Succeeded=True` means that a strongly consistent read found the partition empty after the last deletion.
//! - Nothing outside the partition and the sort key condition is deleted, and nothing from a table that was created
//!   anew under the same name.
//! - It may be killed anywhere; another one finishes.
//! - A job reaches only the hosts that an administrator allows ([`endpoint`], [`policy`]), with its own credentials or
//!   those that it may use ([`credentials`]).

pub mod cli;
pub mod connection;
pub mod controllers;
pub mod credentials;
pub mod endpoint;
pub mod manager;
pub mod metrics;
pub mod partition;
pub mod policy;
mod sabotage;
pub mod table_name;
