//! The machines that a DockerCluster waits for when it is deleted.

use std::collections::BTreeSet;

use docker_api::{DockerCluster, DockerMachine};
use kube::{Api, ResourceExt as _, api::ListParams};
use reconcile::{Pass, error::ApiError};

use super::{Clusters, Error};
use crate::{
    contract::{self, CLUSTER_NAME},
    controllers::machine,
    engine::Engine,
    identity::{self, ClusterId, MACHINE_LABEL},
};

impl<E: Engine + Clone> Clusters<E> {
    /// The machines of `cluster` that have or may get a container, sorted. Removes on the way the containers that no
    /// DockerMachine of this cluster stands for any more: nobody else would.
    ///
    /// Everything is read live: a machine that is overlooked here would lose its network.
    pub(super) async fn staying_machines(
        &self,
        cluster: &ClusterId,
        pass: &Pass<DockerCluster>,
    ) -> Result<BTreeSet<String>, Error> {
        let api: Api<DockerMachine> = Api::namespaced(pass.client().clone(), &cluster.namespace);
        let of_cluster = ListParams::default().labels(&format!("{CLUSTER_NAME}={}", cluster.name));
        let failed = |error| {
            ApiError::new(
                format!("list the machines of DockerCluster {}", pass.key()),
                error,
            )
        };
        let listed = api.list(&of_cluster).await.map_err(failed)?;
        let managed =
            |object: &DockerMachine| object.finalizers().iter().any(|own| own == machine::FINALIZER);
        let mut staying: BTreeSet<_> = listed
            .iter()
            .filter(|object| managed(object))
            .map(kube::ResourceExt::name_any)
            .collect();
        for container in self.engine.containers(&cluster.labels()).await? {
            let Some(name) = container.labels.get(MACHINE_LABEL) else {
                continue;
            };
            if staying.contains(name) {
                continue;
            }
            let failed =
                |error| ApiError::new(format!("read DockerMachine {}/{name}", cluster.namespace), error);
            let found = api.get_opt(name).await.map_err(failed)?;
            let id = identity::provider_id(&container.name);
            let is_its = |object: &DockerMachine| {
                contract::may_be_of(object, &cluster.name) || object.spec.provider_id.as_ref() == Some(&id)
            };
            if found.is_some_and(|object| is_its(&object)) {
                staying.insert(name.clone());
            } else {
                tracing::warn!(
                    container = container.name,
                    "Removing a container whose DockerMachine is gone"
                );
                self.engine.remove(&container.id).await?;
            }
        }
        Ok(staying)
    }
}
