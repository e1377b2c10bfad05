//! The provider under faults, at both of its boundaries by one plan: Kubernetes' API and Docker.
//!
//! Kubernetes is real; Docker is a model of what a daemon promises ([`daemon`]; not in [`registry`]), which answers at once
//! and remembers every misdeed. Whatever happens: each machine is started once and bootstrapped once, a stranger's container is not
//! touched, the load balancer serves what it should, and a deletion leaves nothing. The line `REPLAY='…'` of a plan that
//! failed runs that plan alone; `TESTKIT_FULL=1` makes the loops dense.

#![allow(unreachable_pub, reason = "modules of a test are not a crate's surface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod addresses;
mod attempts;
mod crash;
mod daemon;
mod docker;
mod drain;
mod input;
mod moved;
mod neighbours;
mod networks;
mod objects;
mod refusals;
mod registry;
mod requests;
mod rights;
mod scene;
mod storage;
mod upgrade;
mod world;
