//! A DockerCluster whose place another one has taken: its Cluster names that one now.
//!
//! Load balancer and network are the Cluster's, whichever DockerCluster stands for them, so that the one which goes
//! leaves them to the one which stays.

use docker_api::DockerCluster;
use kube::Api;
use reconcile::{Pass, Reconciler as _, error::ApiError};

use super::{Clusters, Error};
use crate::{
    contract::{self, Cluster},
    engine::Engine,
    identity::ClusterId,
};

/// Another DockerCluster in the place of the one of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Successor {
    /// There is none: what is the Cluster's goes with its DockerCluster.
    None,
    /// It is there, and would go without a cleanup: it is waited for.
    Comes,
    /// It stands for the Cluster, and cleans up when it goes.
    Stands,
}

impl<E: Engine + Clone> Clusters<E> {
    /// Whether `object` is for us to manage.
    pub(super) fn is_ours(&self, object: &DockerCluster) -> bool {
        self.settings.manages(object)
    }

    /// What has come of the DockerCluster that `owner`, which is `cluster`, names now.
    pub(super) async fn successor(
        &self,
        (owner, cluster): (&Cluster, &ClusterId),
        pass: &Pass<DockerCluster>,
    ) -> Result<Successor, Error> {
        let Some(key) = owner.docker_cluster().filter(|key| key != pass.key()) else {
            return Ok(Successor::None);
        };
        let api: Api<DockerCluster> = Api::namespaced(pass.client().clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let found = found.map_err(|error| ApiError::new(format!("read DockerCluster {key}"), error))?;
        let stays =
            |named: &DockerCluster| named.metadata.deletion_timestamp.is_none() && self.is_ours(named);
        Ok(match found.filter(stays) {
            None => Successor::None,
            // A copy that another Cluster owns stands for that one.
            Some(named) if Self::id(&named).is_some_and(|id| id != *cluster) => Successor::None,
            Some(named) if contract::owner(&named, "Cluster").is_some() && has(&named, Self::FINALIZER) => {
                Successor::Stands
            }
            Some(_) => Successor::Comes,
        })
    }
}

fn has(object: &DockerCluster, finalizer: Option<&str>) -> bool {
    finalizer.is_some_and(|name| reconcile::finalizer::has(object, name))
}
