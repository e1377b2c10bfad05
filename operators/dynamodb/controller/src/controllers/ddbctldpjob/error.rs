//! Why a pass did not get through.

use std::time::Duration;

use reconcile::{Class, ReconcileError, error::ApiError};

use crate::partition::Failure;

/// After so long it is worth looking again at what was not ready.
const SOON: Duration = Duration::from_secs(5);

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
            // A table that is being made is there in a moment.
            Self::Run(failure) => (failure.class == Class::Waiting).then_some(SOON),
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamodb_api::Reason;

    use super::*;

    #[test]
    fn a_table_that_is_being_made_is_looked_at_every_few_seconds_and_others_at_the_frameworks_pace() {
        let after = |class| {
            let failure = Failure {
                class,
                reason: Reason::TableUnavailable,
                message: "m".into(),
            };
            JobError::from(failure).retry_after()
        };
        assert_eq!(after(Class::Waiting), Some(SOON));
        for class in [Class::Transient, Class::Denied, Class::Terminal] {
            assert_eq!(after(class), None, "{class:?}");
        }
    }
}
