//! A DockerCluster whose place another one has taken: its Cluster names that one now.
//!
//! Load balancer and network are the Cluster's, whichever DockerCluster stands for them, so that the one which goes
//! leaves them to the one which stays.

use docker_api::DockerCluster;
use kube::{Api, ResourceExt as _};
use reconcile::{Pass, error::ApiError};

use super::{Clusters, Error};
use crate::{
    contract::{self, Cluster, MANAGED_BY},
    engine::Engine,
};

impl<E: Engine + Clone> Clusters<E> {
    /// Whether `object` is for us to manage.
    pub(super) fn is_ours(&self, object: &DockerCluster) -> bool {
        contract::is_served(object, self.settings.watch_filter.as_deref())
            && !object.annotations().contains_key(MANAGED_BY)
    }

    /// Whether `owner` names another DockerCluster than that of the pass, which is there, ours, and stays.
    pub(super) async fn has_successor(
        &self,
        owner: &Cluster,
        pass: &Pass<DockerCluster>,
    ) -> Result<bool, Error> {
        let Some(key) = owner.docker_cluster().filter(|key| key != pass.key()) else {
            return Ok(false);
        };
        let api: Api<DockerCluster> = Api::namespaced(pass.client().clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let found = found.map_err(|error| ApiError::new(format!("read DockerCluster {key}"), error))?;
        Ok(found.is_some_and(|named| named.metadata.deletion_timestamp.is_none() && self.is_ours(&named)))
    }
}
