//! A cluster that takes over the instances of an earlier one, in a world where that one has left them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use fake_ec2::State;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use mysql_api::{MySQLCluster, cluster::ADOPT};
use reconcile::manager::Options;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::{NAME, POLL, World};
use crate::bed::{manager, ready, sample, sdk};

/// Says that a Secret was taken over.
const TAKEN: &str = "mysql.alx.ke/taken-over-from";

/// What an earlier cluster has left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Estate {
    instances: Vec<String>,
    /// What is in the Secret without which nobody reaches them.
    key: BTreeMap<String, ByteString>,
}

impl World {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.plane.client(), self.namespace.name())
    }

    async fn key(&self) -> Result<Option<Secret>> {
        Ok(self.secrets().get_opt(&format!("{NAME}-operator")).await?)
    }

    /// Lets a cluster come and go whose instances stay, without any fault, and creates one that is to take them over.
    pub(crate) async fn inherit(&self) -> Result<Estate> {
        let mut options = Options::new("mysql-operator");
        options.namespaces = vec![self.namespace.name().to_owned()];
        options.clock = self.clock.clone();
        let (config, sdk) = (self.plane.config().clone(), sdk(&self.ec2.endpoint()));
        let shutdown = CancellationToken::new();
        let earlier = manager(options, config, &sdk, self.fleet.clone());
        let running = tokio::spawn(earlier.run(shutdown.clone()));
        let mut spec = sample(3);
        spec["deletionPolicy"] = json!("Retain");
        let clusters = self.clusters();
        let cluster = MySQLCluster::new(NAME, serde_json::from_value(spec)?);
        clusters.create(&PostParams::default(), &cluster).await?;
        self.until(ready).await?;
        let cluster = clusters.get(NAME).await?;
        clusters.delete(NAME, &DeleteParams::default()).await?;
        self.until(|cluster| cluster.is_none()).await?;
        shutdown.cancel();
        running.await??;
        let mut heir = MySQLCluster::new(NAME, serde_json::from_value(sample(3))?);
        let from = cluster.uid().unwrap_or_default();
        heir.annotations_mut().insert(ADOPT.to_owned(), from);
        clusters.create(&PostParams::default(), &heir).await?;
        let key = self.key().await?.and_then(|secret| secret.data);
        Ok(Estate {
            instances: cluster.status.unwrap_or_default().aws_instance_ids,
            key: key.context("the first cluster has left no key")?,
        })
    }

    /// Whether this cluster has everything that was left.
    pub(crate) fn has_inherited(&self, cluster: Option<&MySQLCluster>) -> bool {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        let estate = self.estate.as_ref();
        ready(cluster)
            && status
                .is_some_and(|status| estate.is_some_and(|left| left.instances == status.aws_instance_ids))
    }

    /// Whether a Secret was taken over.
    pub(crate) async fn is_taken(&self) -> Result<bool> {
        let key = self.key().await?;
        Ok(key.is_none_or(|key| key.annotations().contains_key(TAKEN)))
    }

    /// `kubectl delete --cascade=foreground`, until Kubernetes has removed what the cluster owned by then.
    pub(crate) async fn delete_in_foreground(&self) -> Result<()> {
        let Some(heir) = self.clusters().get_opt(NAME).await? else {
            return Ok(());
        };
        self.clusters().delete(NAME, &DeleteParams::foreground()).await?;
        let uid = heir.uid().unwrap_or_default();
        loop {
            let all = self.secrets().list(&ListParams::default()).await?;
            let owned = |secret: &Secret| secret.owner_references().iter().any(|owner| owner.uid == uid);
            if !all.iter().any(owned) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What was left is there with its key, or gone with it; says which.
    pub(crate) async fn is_left(&self, estate: &Estate) -> Result<bool> {
        let all = self.ec2.world().instances();
        ensure!(
            all.len() == estate.instances.len(),
            "an instance was launched beside those that are there: {all:#?}"
        );
        let live = all.iter().filter(|instance| instance.state.is_live()).count();
        let key = self.key().await?;
        if live == 0 {
            let secrets = self.secrets().list(&ListParams::default()).await?;
            let ours = secrets.iter().filter(|one| one.name_any().starts_with(NAME));
            let names: Vec<_> = ours.map(kube::ResourceExt::name_any).collect();
            ensure!(names.is_empty(), "Secrets are left: {names:?}");
            return Ok(false);
        }
        ensure!(
            all.iter().all(|instance| instance.state == State::Running),
            "some instances are gone: {all:#?}"
        );
        let key = key.context("nobody reaches the instances any more: the Secret is gone")?;
        ensure!(
            key.owner_references().is_empty() && key.data.as_ref() == Some(&estate.key),
            "the key is another one, or goes: {:?}",
            key.metadata
        );
        Ok(true)
    }
}
