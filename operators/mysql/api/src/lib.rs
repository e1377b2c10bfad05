//! The kinds of the MySQL operator: `MySQLCluster` (servers on EC2 that replicate one another) and `MySQL` (one
//! server inside the cluster, backed up when it goes and restored when it comes back).
//!
//! This crate is types and schema only. What a field means to a user stands in its doc comment, which is also what
//! `kubectl explain` prints. What can be checked without the outside world is checked by the schema (bounds, CEL); the
//! rest by the controller, which reports it as a condition with a reason out of a closed set.
//!
//! # Guarantees
//! - Every string, number and list has a bound.
//! - Manifests that were written for the operators that the kinds come from are accepted as they are.

pub mod cluster;
pub mod database;
mod reason;
mod schema;

pub use cluster::{MySQLCluster, MySQLClusterSpec, MySQLClusterStatus};
pub use database::{MySQL, MySQLSpec, MySQLStatus};
pub use reason::{ConditionType, Reason};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The CRDs of both kinds.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![MySQLCluster::crd(), MySQL::crd()]
}
