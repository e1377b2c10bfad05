//! Why a DockerCluster could not be reconciled.

use std::time::Duration;

use docker_api::Reason;
use reconcile::error::{ApiError, Class, ReconcileError};

use crate::{engine::EngineError, load_balancer, storage};

/// Why a DockerCluster could not be reconciled.
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
    /// The load balancer is not as it should be.
    #[error(transparent)]
    LoadBalancer(#[from] load_balancer::Error),
}

impl ReconcileError for Error {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.class(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => error.class(),
            // A migration is a person's, and wakes nobody here.
            Self::LoadBalancer(_) | Self::Storage(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.reason(),
            Self::Storage(_) => Reason::StorageMigrationNeeded.as_str(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => error.reason(),
            Self::LoadBalancer(_) => Reason::NotAvailable.as_str(),
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
