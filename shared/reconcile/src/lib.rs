//! A framework for Kubernetes operators.

pub mod clock;
