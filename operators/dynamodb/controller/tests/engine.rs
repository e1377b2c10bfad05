//! The deletion engine against a real DynamoDB implementation, plain and through the fault proxy.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "engine/bed.rs"]
mod bed;
#[path = "engine/conditions.rs"]
mod conditions;
#[path = "engine/faults.rs"]
mod faults;
#[cfg(feature = "virtual-time")]
#[path = "engine/limits.rs"]
mod limits;
#[cfg(feature = "virtual-time")]
#[path = "engine/looks.rs"]
mod looks;
#[cfg(feature = "virtual-time")]
#[path = "engine/outage.rs"]
mod outage;
#[path = "engine/plain.rs"]
mod plain;
#[cfg(feature = "virtual-time")]
#[path = "engine/reading.rs"]
mod reading;
#[cfg(feature = "virtual-time")]
#[path = "engine/replaced.rs"]
mod replaced;
#[path = "engine/second_opinion.rs"]
mod second_opinion;
#[cfg(feature = "virtual-time")]
#[path = "engine/sharing.rs"]
mod sharing;
#[cfg(feature = "virtual-time")]
#[path = "engine/simulation.rs"]
mod simulation;
#[path = "engine/steering.rs"]
mod steering;
#[cfg(feature = "virtual-time")]
#[path = "engine/timing.rs"]
mod timing;
