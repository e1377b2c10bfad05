//! Containers that carry a cluster's labels while no DockerMachine stands for them: somebody has taken the object away
//! together with its finalizer.
//!
//! They are told of and left alone as long as the cluster lives: an object may yet come, as after a restore. They go with
//! the cluster.

use std::collections::BTreeSet;

use docker_api::{DockerCluster, DockerMachine};
use kube::Api;
use reconcile::{
    Pass,
    error::ApiError,
    events::{EventKind, Notice},
};

use super::{Clusters, Error};
use crate::{
    contract,
    engine::{Container, Engine},
    identity::{ClusterId, MACHINE_LABEL},
};

impl<E: Engine + Clone> Clusters<E> {
    /// Tells of each such container among those of `cluster` once, by an event about the DockerCluster.
    pub(super) async fn tell_orphans(
        &self,
        cluster: &ClusterId,
        containers: Vec<Container>,
        pass: &Pass<DockerCluster>,
    ) -> Result<(), Error> {
        let machines = self.view.machines_of(&cluster.namespace, &cluster.name);
        let known: BTreeSet<_> = machines
            .iter()
            .filter_map(|machine| machine.docker_machine())
            .map(|key| key.name.to_string())
            .collect();
        for container in containers {
            let Some(name) = container.labels.get(MACHINE_LABEL) else {
                continue;
            };
            if !known.contains(name)
                && !self.told.lock().contains(&container.id)
                && self.is_orphan(name, &container, cluster, pass).await?
            {
                pass.event(notice(&container, name)).await;
                self.told.lock().insert(container.id);
            }
        }
        Ok(())
    }

    /// Whether this cluster has no DockerMachine `name`, and the container is there still: the last one goes first.
    async fn is_orphan(
        &self,
        name: &str,
        container: &Container,
        cluster: &ClusterId,
        pass: &Pass<DockerCluster>,
    ) -> Result<bool, Error> {
        let api: Api<DockerMachine> = Api::namespaced(pass.client().clone(), &cluster.namespace);
        let found = api.get_metadata_opt(name).await;
        let found = found.map_err(|error| {
            ApiError::new(format!("read DockerMachine {}/{name}", cluster.namespace), error)
        })?;
        if found.is_some_and(|object| contract::may_be_of(&object, &cluster.name)) {
            return Ok(false);
        }
        let still = self.engine.container(&container.name).await?;
        Ok(still.is_some_and(|still| still.id == container.id))
    }
}

fn notice(container: &Container, machine: &str) -> Notice {
    let name = &container.name;
    Notice {
        kind: EventKind::Warning,
        reason: "OrphanedContainer",
        action: "Observe",
        note: format!(
            "container {name} is of a DockerMachine {machine} that this cluster does not have; it goes with the cluster, or \
             remove it yourself: docker rm --force --volumes {name}"
        ),
    }
}
