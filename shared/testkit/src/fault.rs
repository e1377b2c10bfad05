//! Faults at the HTTP boundary: one plan for a run, applied wherever the operator talks to the world.
//!
//! - [`schedule`]: what goes wrong, as a value with a one-line notation that replays it.
//! - [`plan`]: a schedule in execution. It numbers every request of a run, decides what happens to it, fires the
//!   crash signal and remembers what was hit.
//! - [`boundary`]: carries out the plan's decision around one request. Everything that follows is built on it, and
//!   so is the next boundary that somebody needs.
//! - [`kube`]: a tower layer for kube's client.
//! - [`proxy`]: a loopback HTTP/1.1 proxy for AWS-like backends, with latency, counters and an audit log.
//! - [`crash`]: runs a scenario once for every request and crash site, and for every seed.
//! - [`report`]: how much a suite exercised. A suite that covers less than it did before has to fail.
//! - [`sabotage`]: mistakes that tests switch on to prove that they would be noticed.
//!
//! # Guarantees
//! - A decision depends on the schedule, the request's site and its running number at that site alone: the order in
//!   which concurrent requests of different sites arrive does not change a seeded run.
//! - After a crash fires, no further request of that incarnation is sent, at any boundary. One that was already on
//!   the wire may still take effect, as it would in a real crash.

pub mod boundary;
pub mod crash;
pub mod kube;
pub mod plan;
pub mod proxy;
pub mod report;
pub mod sabotage;
pub mod schedule;

pub use self::{
    boundary::Boundary,
    plan::FaultPlan,
    report::Report,
    schedule::{CrashSite, Fault, Schedule},
};

/// The body of a response that passed a boundary.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, tower::BoxError>;

/// A body that consists of these bytes.
pub fn full(bytes: impl Into<bytes::Bytes>) -> Body {
    use http_body_util::BodyExt as _;
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
