//! The operator under faults, at both of its boundaries by one plan: Kubernetes' API and DynamoDB's.
//!
//! Whatever happens: no item is left, no foreign item is gone, requests are bounded, and `Succeeded` is True only when
//! another client finds the partition empty. Each suite prints how much it exercised; the line `REPLAY='…'` of a plan
//! that failed runs that plan alone. `TESTKIT_FULL=1` makes the loops dense and the schedules many.

#![allow(unreachable_pub, reason = "modules of a test are not a crate's surface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]
#![allow(dead_code, reason = "the bed is another suite's as well")]

#[path = "../job/bed.rs"]
mod bed;
mod crash;
mod dynamodb;
mod limits;
#[path = "../job/operator.rs"]
mod operator;
mod pair;
mod requests;
mod world;
#[path = "../job/writer.rs"]
mod writer;
