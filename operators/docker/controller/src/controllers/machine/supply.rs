//! What a machine is made from that other objects hold: its network, the registry's credentials, the bootstrap data.

use docker_api::{DockerCluster, DockerMachine};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reconcile::{ObjectKey, Pass, error::ApiError};

use super::{Error, Machines, Scope};
use crate::{
    bootstrap::{self, Data},
    engine::{Engine, RegistryCredentials},
    node,
};

impl<E: Engine + Clone> Machines<E> {
    /// The network of the cluster; none if its DockerCluster is gone or on its way out, which takes the network along.
    /// Read live: it is needed once per machine, and nothing may be launched behind a deletion's back.
    pub(super) async fn network(
        &self,
        scope: &Scope,
        pass: &Pass<DockerMachine>,
    ) -> Result<Option<String>, Error> {
        let mut named = None;
        if let Some(key) = scope.cluster.docker_cluster() {
            let found = Self::docker_cluster(&key, pass).await?;
            let stays = found.filter(|cluster| cluster.metadata.deletion_timestamp.is_none());
            let Some(found) = stays else { return Ok(None) };
            named = Some(found);
        }
        let home = self.settings.home(named.as_ref());
        let mut neighbours = Vec::new();
        if home.named.is_none() {
            neighbours = self.engine.containers(&scope.id.labels()).await?;
        }
        Ok(Some(home.beside(&neighbours)))
    }

    pub(super) async fn docker_cluster(
        key: &ObjectKey,
        pass: &Pass<DockerMachine>,
    ) -> Result<Option<DockerCluster>, Error> {
        let api: Api<DockerCluster> = Api::namespaced(pass.client().clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        Ok(found.map_err(|e| ApiError::new(format!("read DockerCluster {key}"), e))?)
    }

    async fn secret(&self, name: &str, pass: &Pass<DockerMachine>) -> Result<Option<Secret>, Error> {
        let api: Api<Secret> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
        let found = api.get_opt(name).await;
        Ok(found.map_err(|e| ApiError::new(format!("read Secret {}/{name}", pass.key().namespace), e))?)
    }

    pub(super) async fn credentials(
        &self,
        object: &DockerMachine,
        pass: &Pass<DockerMachine>,
    ) -> Result<Option<RegistryCredentials>, Error> {
        let Some(reference) = &object.spec.image_pull_secret else {
            return Ok(None);
        };
        let unusable = || Error::PullSecret {
            name: reference.name.clone(),
        };
        let secret = self.secret(&reference.name, pass).await?.ok_or_else(unusable)?;
        let config = secret
            .data
            .unwrap_or_default()
            .remove(".dockerconfigjson")
            .ok_or_else(unusable)?;
        let registry = node::image(&object.spec, None).unwrap_or_default();
        bootstrap::registry::credentials(&config.0, &registry)
            .ok_or_else(unusable)
            .map(Some)
    }

    /// The bootstrap data, as far as it is to be had: only a node that was not bootstrapped before needs it, and whether
    /// it was is asked of the node.
    pub(super) async fn data_if_any(&self, scope: &Scope, pass: &Pass<DockerMachine>) -> Data {
        let read = self.data(scope, pass).await;
        read.unwrap_or_else(|error| Data {
            unread: Some(reconcile::error::chain(&error)),
            ..Data::default()
        })
    }

    pub(super) async fn data(&self, scope: &Scope, pass: &Pass<DockerMachine>) -> Result<Data, Error> {
        let Some(name) = scope.machine.data_secret() else {
            return Ok(Data::default());
        };
        let Some(secret) = self.secret(name, pass).await? else {
            let why = format!(
                "Secret {name}, which the Machine names for its bootstrap data, does not exist; the bootstrap provider must write it again"
            );
            return Ok(Data {
                missing: Some(why),
                ..Data::default()
            });
        };
        let text = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            Some(String::from_utf8_lossy(&bytes.0).into_owned())
        };
        Ok(Data {
            value: text("value").unwrap_or_default(),
            format: text("format").unwrap_or_default(),
            ..Data::default()
        })
    }
}
