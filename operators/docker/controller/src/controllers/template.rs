//! `DockerMachineTemplate`: what a machine made from it will offer, so that an autoscaler can scale from zero.

use std::{collections::BTreeMap, sync::Arc};

use docker_api::{DockerMachineSpec, DockerMachineTemplate, DockerMachineTemplateStatus, NodeInfo, Reason};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use reconcile::{
    Gate, Pass, Progress, Reconciler,
    error::{ApiError, Class, ReconcileError},
};

use super::Settings;
use crate::{
    contract,
    engine::{Engine, EngineError, Host},
    storage,
};

/// Reconciles DockerMachineTemplates.
pub struct Templates<E> {
    engine: E,
    settings: Settings,
}

impl<E: Engine> Templates<E> {
    /// With the Docker of `engine`.
    pub fn new(engine: E, settings: Settings) -> Self {
        Self { engine, settings }
    }
}

/// Why a DockerMachineTemplate could not be reconciled.
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
}

impl ReconcileError for Error {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.class(),
            // A migration is a person's, and wakes nobody here.
            Self::Storage(_) => Class::Transient,
            Self::Engine(error) => error.class(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) | Self::Storage(storage::Error::Api(error)) => error.reason(),
            Self::Storage(_) => Reason::StorageMigrationNeeded.as_str(),
            Self::Engine(error) => error.reason(),
        }
    }
}

impl<E: Engine> Reconciler for Templates<E> {
    type Kind = DockerMachineTemplate;
    type Error = Error;
    const NAME: &'static str = "dockermachinetemplate";
    const FINALIZER: Option<&'static str> = None;

    fn gate(&self, object: &DockerMachineTemplate) -> Gate {
        let served = contract::is_served(object, self.settings.watch_filter.as_deref());
        let paused = reconcile::paused::is_paused_by(object, contract::PAUSED);
        match (served, paused) {
            (false, _) => Gate::Foreign,
            (true, true) => Gate::Paused,
            (true, false) => Gate::Manage,
        }
    }

    async fn apply(
        &self,
        object: Arc<DockerMachineTemplate>,
        pass: &Pass<DockerMachineTemplate>,
    ) -> Result<Progress, Error> {
        let (storage, client) = (&self.settings.storage, pass.client());
        storage.check::<DockerMachineTemplate>(client).await?;
        let host = self.engine.host().await?;
        pass.write_status(&status(&object.spec.template.spec, &host))
            .await?;
        Ok(Progress::Settled)
    }
}

/// Limits, and where there are none, what the host has.
fn status(spec: &DockerMachineSpec, host: &Host) -> DockerMachineTemplateStatus {
    let limits = spec.resources.clone().unwrap_or_default();
    let or_host = |limit: Option<Quantity>, host: i64| limit.unwrap_or_else(|| Quantity(host.to_string()));
    let capacity = BTreeMap::from([
        ("cpu".to_owned(), or_host(limits.cpus, host.cpus)),
        ("memory".to_owned(), or_host(limits.memory, host.memory)),
    ]);
    let node_info = NodeInfo {
        architecture: Some(host.architecture.clone()).filter(|architecture| !architecture.is_empty()),
        operating_system: Some("linux".into()),
    };
    DockerMachineTemplateStatus {
        capacity,
        node_info: Some(node_info),
    }
}

#[cfg(test)]
mod tests {
    use docker_api::NodeResources;

    use super::*;

    #[test]
    fn a_limit_counts_and_the_host_fills_what_is_open() {
        let spec = DockerMachineSpec {
            resources: Some(NodeResources {
                cpus: Some(Quantity("1500m".into())),
                ..NodeResources::default()
            }),
            ..DockerMachineSpec::default()
        };
        let status = status(
            &spec,
            &Host {
                cpus: 8,
                memory: 16,
                architecture: "arm64".into(),
            },
        );
        assert_eq!(status.capacity["cpu"].0, "1500m");
        assert_eq!(status.capacity["memory"].0, "16");
        assert_eq!(status.node_info.unwrap().architecture.as_deref(), Some("arm64"));
    }
}
