//! The shipped program as processes: killed, frozen, terminated, in two replicas, and without what it needs.

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
mod command;
mod freeze;
mod lost;
#[path = "../job/operator.rs"]
mod operator;
mod replica;
mod replicas;
mod serving;
mod single;
mod steps;
