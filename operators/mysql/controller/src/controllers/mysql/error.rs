//! Why a pass did not get through.

use std::time::Duration;

use reconcile::{Class, ReconcileError, apply::ApplyError, error::ApiError, fence::LeaseLost};

/// A pass that did not get through.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A child could not be brought to what it should be.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A Kubernetes request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A name that is needed is taken.
    #[error("{0} exists and does not belong to this MySQL; rename it or delete it")]
    NameConflict(String),
    /// The lease is lost.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
}

impl DatabaseError {
    /// Whether an object of a needed name is somebody else's.
    pub fn is_conflict_of_names(&self) -> bool {
        matches!(
            self,
            Self::NameConflict(_) | Self::Apply(ApplyError::NameConflict { .. })
        )
    }

    /// Whether the API server understood and will not have it (a quota, a webhook, what is invalid), as opposed to not
    /// being able to.
    pub fn is_refusal(&self) -> bool {
        self.answer()
            .is_some_and(|status| matches!(status.code, 400 | 403 | 422))
    }

    /// Whether the API server has answered that it could not do what it was asked for: a webhook that is down, for instance,
    /// or a conflict with somebody else's change.
    pub fn is_trouble(&self) -> bool {
        self.answer().is_some() && !self.is_refusal()
    }

    /// Whether the API server has failed at what it was asked for, as with a webhook that is down. That it was too slow says
    /// nothing of what became of it.
    pub fn is_failure(&self) -> bool {
        self.answer()
            .is_some_and(|status| status.code >= 500 && status.code != 504)
    }

    /// Whether what was asked for is something that no object may be.
    pub fn is_invalid(&self) -> bool {
        self.answer().is_some_and(|status| status.code == 422)
    }

    /// What happened, with what the API server said.
    pub fn words(&self) -> String {
        match self.answer() {
            Some(status) => format!("{self}: {}", status.message),
            None => self.to_string(),
        }
    }

    /// Whether nothing can be made any more, for the namespace is being deleted.
    pub fn is_namespace_going(&self) -> bool {
        let details = self.answer().and_then(|status| status.details.as_ref());
        let mut causes = details.into_iter().flat_map(|details| &details.causes);
        causes.any(|cause| cause.reason == "NamespaceTerminating")
    }

    fn answer(&self) -> Option<&kube::core::Status> {
        let (Self::Api(error) | Self::Apply(ApplyError::Api(error))) = self else {
            return None;
        };
        match error.source.as_ref() {
            kube::Error::Api(status) => Some(status.as_ref()),
            _ => None,
        }
    }
}

impl ReconcileError for DatabaseError {
    fn class(&self) -> Class {
        match self {
            Self::Apply(error) => error.class(),
            Self::Api(error) => error.class(),
            // A person has to act, and what they do sends us no event.
            Self::NameConflict(_) | Self::Lease(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Apply(error) => error.reason(),
            Self::Api(error) => error.reason(),
            Self::NameConflict(_) => "NameConflict",
            Self::Lease(_) => "LeaseLost",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Apply(error) => error.retry_after(),
            Self::Api(error) => error.retry_after(),
            Self::NameConflict(_) | Self::Lease(_) => None,
        }
    }
}
