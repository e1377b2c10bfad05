//! The end of a machine: out of the load balancer's configuration, then its container with its volumes, and its network
//! where that is nobody else's to remove.

use std::{collections::BTreeSet, time::Duration};

use docker_api::DockerMachine;
use jiff::Timestamp;
use kube::ResourceExt as _;
use reconcile::Pass;

use super::{Error, Machines};
use crate::{
    contract::Cluster,
    engine::{Container, ContainerState, Engine},
    identity::{self, ROLE_LABEL, Role},
    load_balancer::{self, cluster_of},
    sabotage,
};

/// How long a load balancer that refuses its configuration may hold up the end of a machine. After that connections to
/// a machine that is gone are the lesser evil: HAProxy's own checks find out within seconds.
const REFUSAL_LIMIT: Duration = Duration::from_mins(2);

impl<E: Engine + Clone> Machines<E> {
    /// Removes what there is of `object`, whose Cluster is called `name`, and is `cluster` if that is there still.
    pub(super) async fn remove_containers(
        &self,
        object: &DockerMachine,
        name: Option<&str>,
        cluster: Option<&Cluster>,
        pass: &Pass<DockerMachine>,
    ) -> Result<(), Error> {
        let namespace = object.namespace().unwrap_or_default();
        let labels = identity::machine_labels(&namespace, name, &object.name_any());
        let mut networks = BTreeSet::new();
        for container in self.engine.containers(&labels).await? {
            match self.deregister(&object.name_any(), &container).await {
                Err(Error::LoadBalancer(error))
                    if is_refusal(&error) && !is_waited_for(object, cluster, pass.clock().now()) =>
                {
                    tracing::warn!(
                        container = container.name,
                        error = error.to_string(),
                        "Removing a machine that the load balancer has not let go"
                    );
                }
                other => other?,
            }
            if !sabotage::active(sabotage::KEEP_CONTAINER) {
                self.engine.remove(&container.id).await?;
            }
            networks.extend(container.addresses.into_keys());
        }
        self.remove_networks(networks, cluster, pass).await
    }

    /// Removes `networks`, and that of the machines of `cluster`, if they are ours and nobody is left on them. They go with
    /// their DockerCluster where we manage one.
    async fn remove_networks(
        &self,
        mut networks: BTreeSet<String>,
        cluster: Option<&Cluster>,
        pass: &Pass<DockerMachine>,
    ) -> Result<(), Error> {
        let found = match cluster.and_then(Cluster::docker_cluster) {
            Some(key) => Self::docker_cluster(&key, pass).await?,
            None => None,
        };
        if found.as_ref().is_some_and(|found| self.settings.manages(found)) {
            return Ok(());
        }
        // Asked for since a container that is gone cannot tell any more.
        networks.insert(self.settings.home(found.as_ref()).beside(&[]));
        for name in networks {
            self.load_balancers.remove_network(&name).await?;
        }
        Ok(())
    }

    /// Lets no new connection reach `container` of `machine`, where any could.
    pub(super) async fn deregister(&self, machine: &str, container: &Container) -> Result<(), Error> {
        let control_plane =
            container.labels.get(ROLE_LABEL).map(String::as_str) == Some(Role::ControlPlane.as_str());
        if control_plane
            && !sabotage::active(sabotage::SKIP_DEREGISTRATION)
            && container.state == ContainerState::Running
            && let Some(cluster) = cluster_of(&container.labels)
        {
            self.load_balancers.sync(&cluster, Some(machine)).await?;
        }
        Ok(())
    }
}

/// Whether the load balancer itself is at fault. Of a daemon that fails nothing can be asked, a removal included.
fn is_refusal(error: &load_balancer::Error) -> bool {
    matches!(
        error,
        load_balancer::Error::Refused { .. } | load_balancer::Error::NotWritten(_)
    )
}

/// Whether the end of `object` waits for a load balancer that refuses. Not where the whole cluster goes, nor for ever.
fn is_waited_for(object: &DockerMachine, cluster: Option<&Cluster>, now: Timestamp) -> bool {
    let stays = cluster.is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_none());
    let since = object.metadata.deletion_timestamp.as_ref();
    let waited = since.and_then(|since| Duration::try_from(now.duration_since(since.0)).ok());
    stays && waited.unwrap_or_default() < REFUSAL_LIMIT
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_load_balancer_that_refuses_holds_up_a_machine_for_a_while_and_a_cluster_not_at_all() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut object = DockerMachine::default();
        object.metadata.deletion_timestamp = Some(Time(at(1_000)));
        let mut cluster = Cluster::default();
        assert!(is_waited_for(&object, Some(&cluster), at(1_119)));
        assert!(is_waited_for(&object, Some(&cluster), at(990)), "clocks differ");
        assert!(!is_waited_for(&object, Some(&cluster), at(1_120)));
        cluster.metadata.deletion_timestamp = Some(Time(at(1_000)));
        assert!(!is_waited_for(&object, Some(&cluster), at(1_001)));
        assert!(!is_waited_for(&object, None, at(1_001)));
    }
}
