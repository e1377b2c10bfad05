//! One world with one operator, and somebody who waits for what it says.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use testkit::{
    control_plane::ControlPlane,
    fault::{FaultPlan, Schedule},
};

use crate::{
    objects::{DEADLINE, Objects},
    world::{Operator, World, world_in},
};

pub struct Scene {
    pub world: Arc<World>,
    plan: FaultPlan,
    pub objects: Objects,
}

impl Scene {
    pub async fn set() -> Result<Self> {
        Self::set_in(ControlPlane::shared().await?).await
    }

    /// A scene in this control plane.
    pub async fn set_in(plane: &'static ControlPlane) -> Result<Self> {
        Self::planned(plane, FaultPlan::new(Schedule::default())).await
    }

    /// A scene whose operators meet these faults, which count over all of them.
    pub async fn planned(plane: &'static ControlPlane, plan: FaultPlan) -> Result<Self> {
        let world = Arc::new(world_in(plane, plan.clone()).await?);
        let objects = world.objects();
        Ok(Self { world, plan, objects })
    }

    /// A scene in another namespace, with the same daemon.
    pub async fn beside(other: &Self) -> Result<Self> {
        let plan = FaultPlan::new(Schedule::default());
        let mut world = world_in(other.world.plane, plan.clone()).await?;
        world.daemon = other.world.daemon.clone();
        let world = Arc::new(world);
        let objects = world.objects();
        Ok(Self { world, plan, objects })
    }

    /// The faults, and the requests so far.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    pub fn start(&self) -> Operator {
        Operator::start(&self.world, &self.plan)
    }

    /// Waits until an object is as `holds` says; returns it.
    pub async fn wait(&self, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        self.objects.wait(kind, name, holds).await
    }

    /// Waits until an event about the object has this reason; returns what it says.
    pub async fn event(&self, kind: &str, name: &str, reason: &str) -> Result<String> {
        let events: Api<Event> = Api::namespaced(self.objects.client.clone(), &self.objects.namespace);
        let wait = async {
            loop {
                let all = events.list(&ListParams::default()).await?.items;
                let found = all.into_iter().find(|event| {
                    let about = event.regarding.clone().unwrap_or_default();
                    event.reason.as_deref() == Some(reason)
                        && about.kind.as_deref() == Some(kind)
                        && about.name.as_deref() == Some(name)
                });
                if let Some(event) = found {
                    return Ok(event.note.unwrap_or_default());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.with_context(|| format!("no event {reason} about {kind} {name}"))?
    }

    /// Plays Cluster API's part before the cluster is ready for machines.
    pub async fn infrastructure_is_there(&self) -> Result<()> {
        let status = json!({"initialization": {"infrastructureProvisioned": true}});
        self.objects.status("Cluster", "c1", status).await
    }

    /// Plays Cluster API's part until the machines may be made.
    pub async fn open(&self) -> Result<()> {
        let provisioned = |object: &Value| object["status"]["initialization"]["provisioned"] == json!(true);
        self.wait("DockerCluster", "c1", provisioned).await?;
        self.infrastructure_is_there().await
    }
}
