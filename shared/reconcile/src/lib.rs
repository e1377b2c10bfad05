//! A framework for Kubernetes operators.

pub mod apply;
pub mod cache;
pub mod cli;
pub mod client;
pub mod clock;
pub mod conditions;
pub mod controller;
pub mod crd;
pub mod error;
pub mod events;
pub mod fence;
pub mod finalizer;
pub mod key;
pub mod leader;
pub mod metrics;
pub mod pass;
pub mod paused;
pub mod queue;
pub mod reconciler;
pub mod requeue;
pub mod server;
pub mod status;
pub mod task;
pub mod telemetry;

pub use controller::Controller;
pub use error::{Class, ReconcileError};
pub use key::ObjectKey;
pub use pass::Pass;
pub use reconciler::{Gate, Kind, Progress, Reconciler};
