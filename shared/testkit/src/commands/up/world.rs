//! The backends, one for each operator.

use std::path::Path;

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Client, api::DynamicObject};
use serde_json::Value;
use testkit::control_plane::ControlPlane;

use super::{
    docker, dynamodb, mysql, mysql_in_cluster,
    operator::{Operator, Settings, Target},
    progress::SUCCEEDED,
    session::Session,
};

/// What an operator works on, and what of it is shown. It ends with the value.
pub(super) enum World {
    Dynamodb(Box<dynamodb::World>),
    Mysql(Box<mysql::World>),
    Docker(Box<docker::World>),
    MysqlInCluster(Box<mysql_in_cluster::World>),
}

impl World {
    /// Starts what `operator` needs. `None`, and a line that says why, where this machine cannot have it.
    pub(super) async fn start(operator: &Operator, session: &Session) -> anyhow::Result<Option<Self>> {
        Ok(match operator.name {
            "mysql" => Some(Self::Mysql(Box::new(mysql::World::start(session).await?))),
            "docker" => docker::World::start(session)
                .await?
                .map(Box::new)
                .map(Self::Docker),
            "mysql-in-cluster" => mysql_in_cluster::World::start()
                .await?
                .map(Box::new)
                .map(Self::MysqlInCluster),
            _ => Some(Self::Dynamodb(Box::new(
                dynamodb::World::start(session.items).await?,
            ))),
        })
    }

    /// Puts the kinds into the control plane that the operator is shown on, and what has to be there beside them.
    pub(super) async fn join(
        &mut self,
        plane: &ControlPlane,
        crds: &[CustomResourceDefinition],
    ) -> anyhow::Result<()> {
        if let Self::MysqlInCluster(world) = self {
            return world.install(crds).await;
        }
        plane.apply_crds(crds).await.context("the CRDs of this project")?;
        match self {
            Self::Docker(world) => world.join(plane).await,
            _ => Ok(()),
        }
    }

    /// The control plane that the operator is shown on: a client, and the file that leads there.
    pub(super) fn site<'a>(&'a self, plane: &'a ControlPlane) -> (Client, &'a Path) {
        match self {
            Self::MysqlInCluster(world) => world.site(),
            _ => (plane.client(), plane.kubeconfig_path()),
        }
    }

    /// What the operator must be told.
    pub(super) fn settings(&self) -> Settings {
        match self {
            Self::Dynamodb(world) => world.settings(),
            Self::Mysql(world) => world.settings(),
            Self::Docker(world) => world.settings(),
            Self::MysqlInCluster(_) => Settings::default(),
        }
    }

    /// The objects of the example, fitted to what there is here.
    pub(super) fn adapted(&self, mut objects: Vec<Value>) -> anyhow::Result<Vec<DynamicObject>> {
        match self {
            Self::Dynamodb(world) => objects.iter_mut().for_each(|object| world.adapt(object)),
            Self::Mysql(_) => objects.iter_mut().for_each(mysql::adapt),
            Self::Docker(world) => objects = world.adapted(objects)?,
            Self::MysqlInCluster(world) => objects.iter_mut().for_each(|object| world.adapt(object)),
        }
        let objects = objects.into_iter().map(serde_json::from_value);
        objects
            .collect::<Result<_, _>>()
            .context("an object of the example")
    }

    /// The namespace of the example.
    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Docker(world) => world.namespace(),
            // That of a plain `kubectl get`.
            _ => "default",
        }
    }

    /// The condition that says that the example is ready.
    pub(super) fn goal(&self) -> &'static str {
        match self {
            Self::Dynamodb(_) => SUCCEEDED,
            Self::Mysql(world) => world.goal(),
            Self::Docker(_) => "Available",
            Self::MysqlInCluster(_) => "Ready",
        }
    }

    /// What the example stands beside, in a few words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Dynamodb(world) => format!("DynamoDB at {}", world.endpoint()),
            Self::Mysql(world) => world.describe(),
            Self::Docker(world) => world.describe(),
            Self::MysqlInCluster(world) => world.describe(),
        }
    }

    /// What a client of our own finds; fails where that is not what the status says.
    pub(super) async fn verify(&self, client: &Client, target: &Target) -> anyhow::Result<String> {
        match self {
            Self::Dynamodb(world) => world.verify().await,
            Self::Mysql(world) => world.verify(client).await,
            Self::Docker(world) => world.verify(client).await,
            Self::MysqlInCluster(world) => world.verify(client, target).await,
        }
    }

    /// What a person may try next.
    pub(super) fn hints(&self, operator: &Operator) -> String {
        match self {
            Self::Dynamodb(world) => world.hints(operator),
            Self::Mysql(world) => world.hints(),
            Self::Docker(world) => world.hints(),
            Self::MysqlInCluster(world) => world.hints(),
        }
    }
}
