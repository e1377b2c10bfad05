//! Why a DockerMachine could not be reconciled.

use std::time::Duration;

use docker_api::Reason;
use reconcile::error::{ApiError, Class, ReconcileError};

use crate::{engine::EngineError, load_balancer, node, storage};

/// Why a DockerMachine could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Objects may be stored in a version that is not converted.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Docker failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The spec cannot be used.
    #[error(transparent)]
    Spec(#[from] node::Error),
    /// The load balancer would not take the machine in, or let it go.
    #[error(transparent)]
    LoadBalancer(#[from] load_balancer::Error),
    /// What follows the bootstrap has panicked; the node goes on by itself.
    #[error("following the bootstrap failed, and is begun again: the task panicked: {0}")]
    Panicked(String),
    /// The node needs its bootstrap data, which could not be read.
    #[error("{0}")]
    Unread(String),
    /// The Secret with the registry's credentials cannot be used.
    #[error(
        "Secret {name} of spec.imagePullSecret does not exist, is not of type kubernetes.io/dockerconfigjson, or has nothing for the image's registry"
    )]
    PullSecret {
        /// Name of the Secret.
        name: String,
    },
}

impl Error {
    /// The reason as the conditions tell it.
    pub(super) fn condition_reason(&self) -> Reason {
        let reason = self.reason();
        let known = Reason::ALL.iter().find(|known| known.as_str() == reason);
        known.copied().unwrap_or(Reason::NotProvisioned)
    }
}

impl ReconcileError for Error {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.class(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => error.class(),
            Self::Spec(_) => Class::Terminal,
            // Cured by somebody's writing a Secret, or migrating what is stored, which wakes nobody here.
            Self::Storage(_)
            | Self::LoadBalancer(_)
            | Self::PullSecret { .. }
            | Self::Panicked(_)
            | Self::Unread(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.reason(),
            Self::Storage(_) => Reason::StorageMigrationNeeded.as_str(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => error.reason(),
            Self::Spec(node::Error::Mount { .. }) => Reason::MountInvalid.as_str(),
            Self::Spec(_) => Reason::SpecInvalid.as_str(),
            Self::LoadBalancer(_) => Reason::NotAvailable.as_str(),
            Self::Panicked(_) | Self::Unread(_) => Reason::Bootstrapping.as_str(),
            Self::PullSecret { .. } => Reason::ImageUnavailable.as_str(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.retry_after(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => {
                error.retry_after()
            }
            _ => None,
        }
    }
}
