//! Why a DockerCluster could not be reconciled.

use std::time::Duration;

use docker_api::Reason;
use reconcile::error::{ApiError, Class, ReconcileError};

use crate::{engine::EngineError, load_balancer};

/// Why a DockerCluster could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API failed.
    #[error(transparent)]
    Api(#[from] ApiError),
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
            Self::Api(error) => error.class(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => error.class(),
            Self::LoadBalancer(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::Engine(error) | Self::LoadBalancer(load_balancer::Error::Engine(error)) => error.reason(),
            Self::LoadBalancer(_) => Reason::NotAvailable.as_str(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            _ => None,
        }
    }
}
