//! The MySQL operator's controllers.
//!
//! # How a `MySQLCluster` gets its members
//! A pass observes, plans, acts and reports:
//! - [`desired`] turns the spec into what can be carried out, or says what is wrong with it;
//! - [`plan`] compares that with the ledger of launches (in status) and with what the cloud shows, and is pure;
//! - [`act`] carries out one step at a time through two seams: [`cloud::Instances`] (EC2) and [`records::Records`]
//!   (the object's status and the frozen launch parameters);
//! - [`report`] says what was observed.
//!
//! # Guarantees
//! - At most one live instance per member, at every moment, whatever crashes, lost answers and lagging reads there
//!   are: a launch is recorded before it is made, is repeated with the same token and the same frozen parameters until
//!   its outcome is known, and is succeeded by another only when it is proven over.
//! - Nothing is launched, and nothing replaced, because a listing does not show it.
//! - Instances that are not provably ours are never touched.

pub mod act;
pub mod authority;
pub mod bootstrap;
pub mod certificate;
pub mod cloud;
pub mod controllers;
pub mod database;
pub mod desired;
pub mod endpoints;
pub mod evidence;
pub mod gtid;
pub mod identity;
mod lasting;
pub mod ledger;
pub mod limiter;
pub mod lookout;
pub mod metrics;
pub mod orphans;
pub mod outcome;
pub mod parameters;
pub mod plan;
pub mod reader;
pub mod records;
pub mod release;
pub mod replication;
pub mod report;
pub mod rollout;
mod sabotage;
pub mod server;
pub mod sql;
pub mod topology;
pub mod version;
