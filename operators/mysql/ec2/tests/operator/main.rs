//! The operator against a real API server and EC2's semantics, through the real SDK.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bed;
mod errors;
mod faults;
mod fence;
mod fleet;
mod forming;
mod lives;
mod metrics;
mod orphans;
mod refusals;
mod rights;
mod rollout;
mod smoke;
