//! A framework for Kubernetes operators.

pub mod clock;
pub mod events;
pub mod metrics;
pub mod fence;
