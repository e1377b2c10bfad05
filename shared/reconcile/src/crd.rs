//! CustomResourceDefinitions: what their generated schemas need before they are published, and waiting for them.
//!
//! # Guarantees
//! - [`tidy`] removes only what Kubernetes would warn about; bounds, rules and defaults stay.
//! - [`wait_established`] returns when every named definition is served, and not before. It never gives up, and logs
//!   each change of what it waits for once: missing, forbidden, or no connection are three different things to repair.
//!
//! # Assumptions
//! The operator may `get` `customresourcedefinitions` of the names that it waits for.
//!
//! # Example
//! ```
//! use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
//! use reconcile::crd;
//!
//! fn publishable(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
//!     crd::tidy(&mut definition);
//!     assert!(crd::undescribed(&definition).is_empty(), "`kubectl explain` would have nothing to say");
//!     definition
//! }
//! ```

mod schema;
mod wait;

pub use self::{
    schema::{tidy, undescribed},
    wait::wait_established,
};

#[cfg(test)]
mod tests;
