//! Why a pass did not get through.

use std::time::Duration;

use mysql_api::Reason;
use reconcile::{Class, ReconcileError, error::ApiError, fence::LeaseLost};

use super::records::RecordsError;
use crate::{
    act::PassError,
    cloud::CloudError,
    outcome::{Verdict, verdict},
};

/// A pass that did not get through.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A Kubernetes request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A name is taken by somebody else's object.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The Secret by which members know the operator is not usable.
    #[error("{what} cannot be used: {why}; members that were launched with it are not reached without it")]
    Authority {
        /// Kind, namespace and name.
        what: String,
        /// Why.
        why: String,
    },
    /// The cloud could not be asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The cloud could not be asked, and everything was done that can be done without.
    #[error("the instances are not shown, and MySQL is looked after as they were last: {error}")]
    OutOfSight {
        /// What the cloud answered.
        error: CloudError,
        /// When to look again.
        again: Duration,
    },
    /// The lease is lost.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
}

impl From<PassError<RecordsError>> for ClusterError {
    fn from(error: PassError<RecordsError>) -> Self {
        match error {
            PassError::Records(error) => Self::Records(error),
            PassError::Cloud(error) => Self::Cloud(error),
            PassError::Lease(error) => Self::Lease(error),
        }
    }
}

impl ReconcileError for ClusterError {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) => error.class(),
            Self::Records(error) => error.class(),
            Self::Cloud(error) if verdict(error) == Verdict::Denied => Class::Denied,
            Self::OutOfSight { .. } => Class::Waiting,
            Self::Cloud(_) | Self::Lease(_) | Self::Authority { .. } => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::Records(error) => error.reason(),
            Self::Cloud(error) | Self::OutOfSight { error, .. } => verdict(error).reason().as_str(),
            Self::Authority { .. } => Reason::AuthorityUnusable.as_str(),
            Self::Lease(_) => "LeaseLost",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            Self::Records(error) => error.retry_after(),
            Self::OutOfSight { again, .. } => Some(*again),
            Self::Cloud(_) | Self::Lease(_) | Self::Authority { .. } => None,
        }
    }
}
