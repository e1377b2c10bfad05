//! Why a pass did not get through.

use std::time::Duration;

use reconcile::{Class, ReconcileError, error::ApiError};

use crate::partition::Failure;

/// A pass that did not get through.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A Kubernetes request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The task failed for a reason that may pass, or that a person must mend.
    #[error(transparent)]
    Run(#[from] Failure),
}

impl ReconcileError for JobError {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) => error.class(),
            Self::Run(failure) => failure.class,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::Run(failure) => failure.reason.as_str(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            Self::Run(_) => None,
        }
    }
}
