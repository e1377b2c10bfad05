//! The backends, one for each operator.

use anyhow::Context;
use kube::{Client, api::DynamicObject};
use serde_json::Value;
use testkit::control_plane::ControlPlane;

use super::{
    docker, dynamodb, mysql,
    operator::{Operator, Settings},
    progress::SUCCEEDED,
    session::Session,
};

/// What an operator works on, and what of it is shown. It ends with the value.
pub(super) enum World {
    Dynamodb(Box<dynamodb::World>),
    Mysql(Box<mysql::World>),
    Docker(Box<docker::World>),
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
            _ => Some(Self::Dynamodb(Box::new(
                dynamodb::World::start(session.items).await?,
            ))),
        })
    }

    /// Puts into the control plane what has to be there beside the operator.
    pub(super) async fn join(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        match self {
            Self::Docker(world) => world.join(plane).await,
            Self::Dynamodb(_) | Self::Mysql(_) => Ok(()),
        }
    }

    /// What the operator must be told.
    pub(super) fn settings(&self) -> Settings {
        match self {
            Self::Dynamodb(world) => world.settings(),
            Self::Mysql(world) => world.settings(),
            Self::Docker(world) => world.settings(),
        }
    }

    /// The objects of the example, fitted to what there is here.
    pub(super) fn adapted(&self, mut objects: Vec<Value>) -> anyhow::Result<Vec<DynamicObject>> {
        match self {
            Self::Dynamodb(world) => objects.iter_mut().for_each(|object| world.adapt(object)),
            Self::Mysql(_) => objects.iter_mut().for_each(mysql::adapt),
            Self::Docker(world) => objects = world.adapted(objects)?,
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
            Self::Dynamodb(_) | Self::Mysql(_) => "default",
        }
    }

    /// The condition that says that the example is ready.
    pub(super) fn goal(&self) -> &'static str {
        match self {
            Self::Dynamodb(_) => SUCCEEDED,
            Self::Mysql(world) => world.goal(),
            Self::Docker(_) => "Available",
        }
    }

    /// What the example stands beside, in a few words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Dynamodb(world) => format!("DynamoDB at {}", world.endpoint()),
            Self::Mysql(world) => world.describe(),
            Self::Docker(world) => world.describe(),
        }
    }

    /// What a client of our own finds; fails where that is not what the status says.
    pub(super) async fn verify(&self, client: &Client) -> anyhow::Result<String> {
        match self {
            Self::Dynamodb(world) => world.verify().await,
            Self::Mysql(world) => world.verify(client).await,
            Self::Docker(world) => world.verify(client).await,
        }
    }

    /// What a person may try next.
    pub(super) fn hints(&self, operator: &Operator) -> String {
        match self {
            Self::Dynamodb(world) => world.hints(operator),
            Self::Mysql(world) => world.hints(),
            Self::Docker(world) => world.hints(),
        }
    }
}
