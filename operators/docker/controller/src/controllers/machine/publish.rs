//! The id that Cluster API, and others, know the container by.

use docker_api::DockerMachine;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use reconcile::{Pass, Reconciler as _, error::ApiError};
use serde_json::json;

use super::{Error, Machines, status};
use crate::{
    engine::{Container, Engine},
    identity,
};

impl<E: Engine + Clone> Machines<E> {
    /// Writes the id into the spec: Cluster API reads it from there, and status does not survive a move.
    pub(super) async fn publish_id(
        &self,
        object: &DockerMachine,
        container: &Container,
        pass: &Pass<DockerMachine>,
    ) -> Result<(), Error> {
        if status::is_published(object) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": pass.uid()},
            "spec": {"providerID": identity::provider_id(&container.name)},
        });
        let api: Api<DockerMachine> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
        let written = api
            .patch(
                &pass.key().name,
                &PatchParams::apply(Self::NAME),
                &Patch::Merge(&patch),
            )
            .await;
        written
            .map(|_| ())
            .map_err(|e| ApiError::new(format!("set the id of DockerMachine {}", pass.key()), e).into())
    }
}
