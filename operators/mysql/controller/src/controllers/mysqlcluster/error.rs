//! Why a pass did not get through.

use std::time::Duration;

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
    #[error("{what} is not usable: {why}; members that were launched with it cannot be reached without it")]
    Authority {
        /// Kind, namespace and name.
        what: String,
        /// Why.
        why: String,
    },
    /// The cloud could not be asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
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
            Self::Cloud(_) | Self::Lease(_) | Self::Authority { .. } => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::Records(error) => error.reason(),
            Self::Cloud(error) => verdict(error).reason().as_str(),
            Self::Authority { .. } => "AuthorityUnusable",
            Self::Lease(_) => "LeaseLost",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            Self::Records(error) => error.retry_after(),
            Self::Cloud(_) | Self::Lease(_) | Self::Authority { .. } => None,
        }
    }
}
