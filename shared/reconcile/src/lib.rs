//! A framework for Kubernetes operators.
//!
//! An operator implements [`Reconciler`] for each of its kinds, binds it to its watches with a [`Controller`], and
//! runs its controllers under a [`Manager`]. Everything that every operator needs and none should write again is here:
//!
//! | what | where |
//! |---|---|
//! | which object is next | [`queue`]: dedup, priorities, fairness, delays |
//! | what is known of an object | [`cache`]: never older than our own last write |
//! | one pass | [`pass`]: gate, finalizer, panic guard, metrics, one event, one log line |
//! | when to try again | [`error`] classes, [`requeue`] backoff |
//! | what is written | [`status`] (reports and intent), [`apply`] (children), [`finalizer`], [`conditions`], [`events`] |
//! | work that outlives a pass | [`task`] |
//! | work that is of no object's | [`background`] |
//! | the process | [`manager`], [`leader`], [`fence`], [`server`], [`metrics`], [`telemetry`], [`cli`], [`client`], [`crd`] |
//! | time | [`clock`]: injected everywhere, so that tests can speed it up |
//!
//! A pass observes, plans, acts and reports: `docs/writing-an-operator.md` shows a whole operator, compiled with this
//! crate's tests. No cloud SDK and no product word belongs in here.

pub mod apply;
pub mod background;
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
mod installation;
pub mod key;
pub mod leader;
pub mod manager;
pub mod metrics;
pub mod pass;
pub mod paused;
pub mod queue;
pub mod reconciler;
pub mod requeue;
mod sabotage;
pub mod server;
pub mod status;
pub mod task;
pub mod telemetry;

pub use controller::Controller;
pub use error::{Class, ReconcileError};
pub use key::ObjectKey;
pub use manager::Manager;
pub use pass::Pass;
pub use reconciler::{Gate, Kind, Progress, Reconciler};

/// The guide's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-an-operator.md")]
pub struct WritingAnOperator;
