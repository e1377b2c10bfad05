//! `DockerCluster`: load balancer, endpoint, failure domains.
//!
//! It goes after its machines, whatever the order in which they are deleted: they need the load balancer while they are
//! drained, and what they leave on the network would keep the network.

mod error;
mod orphans;
mod status;
mod staying;
mod successor;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use docker_api::{DEFAULT_ENDPOINT_PORT, DockerCluster, DockerClusterSpec, DockerClusterTemplate, Endpoint};
use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use reconcile::{Gate, ObjectKey, Pass, Progress, Reconciler, error::ApiError};
use serde_json::json;

pub use self::error::Error;
use self::successor::Successor;
use super::Settings;
use crate::{
    contract::{self, Cluster, View, live, moved},
    engine::{Container, ContainerEvent, Engine},
    identity::{ClusterId, ROLE_LABEL, Role},
    load_balancer::{LoadBalancer, LoadBalancers, Request, cluster_of},
};

/// How often a deletion looks again while machines stay. Cluster API deletes them first, so that it seldom has to.
const MACHINES_WAIT: Duration = Duration::from_secs(2);

/// Reconciles DockerClusters.
pub struct Clusters<E> {
    engine: E,
    view: View,
    load_balancers: LoadBalancers<E>,
    settings: Settings,
    /// Containers without an object that were told of, by id.
    told: Mutex<BTreeSet<String>>,
}

impl<E: Engine + Clone> Clusters<E> {
    /// With the Docker of `engine` and the Clusters of `view`.
    pub fn new(engine: E, view: View, load_balancers: LoadBalancers<E>, settings: Settings) -> Self {
        Self {
            engine,
            view,
            load_balancers,
            settings,
            told: Mutex::default(),
        }
    }

    /// What wakes a DockerCluster beside its own changes: its Cluster, the Machines of its control plane, what happens to
    /// the containers of either, and the end of a worker's.
    pub fn wakes(&self) -> BoxStream<'static, ObjectKey> {
        let view = self.view.clone();
        let of_changes = self
            .view
            .changes()
            .filter_map(move |change| std::future::ready(view.docker_cluster(&change)));
        let view = self.view.clone();
        let of_events = self.engine.events().flat_map(move |event| {
            let keys = match cluster_of(&event.labels) {
                Some(_) if !concerns(&event) => Vec::new(),
                Some(id) => view
                    .cluster(&id.namespace, &id.name)
                    .and_then(|cluster| cluster.docker_cluster())
                    .into_iter()
                    .collect(),
                None => view.all_docker_clusters(),
            };
            futures::stream::iter::<Vec<_>>(keys)
        });
        futures::stream::select(of_changes, of_events).boxed()
    }

    /// The Cluster that owns `object`, by its owner reference or, once that is gone, its label.
    fn id(object: &DockerCluster) -> Option<ClusterId> {
        let owner = contract::owner(object, "Cluster").map(|owner| owner.name.as_str());
        let name = owner.or_else(|| contract::label(object, contract::CLUSTER_NAME))?;
        Some(ClusterId::new(object.namespace()?, name))
    }

    fn request(&self, object: &DockerCluster, cluster: ClusterId) -> Request {
        let spec = &object.spec;
        let balancer = spec.load_balancer.clone().unwrap_or_default();
        let endpoint = spec.control_plane_endpoint.clone().unwrap_or_default();
        let port = u16::try_from(endpoint.port).ok().filter(|port| *port > 0);
        Request {
            cluster,
            image: image(&self.settings.load_balancer_image, spec),
            home: self.settings.home(Some(object)),
            address: endpoint.host.parse().ok(),
            port: port.unwrap_or(6443),
            host_port: balancer.host_port.and_then(|port| u16::try_from(port).ok()),
        }
    }

    async fn balancer(
        &self,
        object: &DockerCluster,
        cluster: ClusterId,
        pass: &Pass<DockerCluster>,
    ) -> Result<(LoadBalancer, Vec<Container>), Error> {
        let (storage, client) = (&self.settings.storage, pass.client());
        storage.check::<DockerCluster>(client).await?;
        storage.check::<DockerClusterTemplate>(client).await?;
        Ok(self.load_balancers.ensure(&self.request(object, cluster)).await?)
    }

    /// Writes the endpoint into the spec, where nobody has set one.
    async fn publish_endpoint(
        &self,
        object: &DockerCluster,
        balancer: &LoadBalancer,
        pass: &Pass<DockerCluster>,
    ) -> Result<(), Error> {
        let current = object.spec.control_plane_endpoint.clone().unwrap_or_default();
        if !current.host.is_empty() && current.port != 0 {
            return Ok(());
        }
        let host = if current.host.is_empty() {
            balancer.address.to_string()
        } else {
            current.host
        };
        let port = if current.port == 0 {
            DEFAULT_ENDPOINT_PORT
        } else {
            current.port
        };
        let patch = json!({
            "metadata": {"uid": pass.uid()},
            "spec": {"controlPlaneEndpoint": Endpoint { host, port }},
        });
        let api: Api<DockerCluster> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
        let written = api
            .patch(
                &pass.key().name,
                &PatchParams::apply(Self::NAME),
                &Patch::Merge(&patch),
            )
            .await;
        written
            .map(|_| ())
            .map_err(|e| ApiError::new(format!("set the endpoint of DockerCluster {}", pass.key()), e).into())
    }
}

/// Whether a DockerCluster has anything to do after this: of a worker it looks at whether it is gone, and that only when it
/// goes itself.
fn concerns(event: &ContainerEvent) -> bool {
    event.is_gone || event.labels.get(ROLE_LABEL).map(String::as_str) != Some(Role::Worker.as_str())
}

/// The image of a load balancer: what the spec says of it, and the rest as in `default`.
fn image(default: &str, spec: &DockerClusterSpec) -> String {
    if let Some(image) = &spec.loadbalancer_image {
        return image.clone();
    }
    let balancer = spec.load_balancer.clone().unwrap_or_default();
    // A host before the name may have a port.
    let last = default.rfind('/').map_or(0, |slash| slash + 1);
    let end = default[last..]
        .find([':', '@'])
        .map_or(default.len(), |length| last + length);
    let (name, version) = default.split_at(end);
    let name = balancer
        .image_repository
        .map_or_else(|| name.to_owned(), |repository| format!("{repository}/haproxy"));
    let version = balancer
        .image_tag
        .map_or_else(|| version.to_owned(), |tag| format!(":{tag}"));
    name + &version
}

impl<E: Engine + Clone> Reconciler for Clusters<E> {
    type Kind = DockerCluster;
    type Error = Error;
    const NAME: &'static str = "dockercluster";
    const FINALIZER: Option<&'static str> = Some("capdkc.cluster.x-k8s.io/dockercluster");

    fn gate(&self, object: &DockerCluster) -> Gate {
        if !self.is_ours(object) {
            return Gate::Foreign;
        }
        let Some(owner) = contract::owner(object, "Cluster") else {
            return Gate::NotYet("it has no owner Cluster yet");
        };
        match self
            .view
            .cluster(&object.namespace().unwrap_or_default(), &owner.name)
        {
            None => Gate::NotYet("its owner Cluster was not seen yet"),
            Some(cluster) if cluster.pauses(object) => Gate::Paused,
            Some(_) => Gate::Manage,
        }
    }

    async fn apply(&self, object: Arc<DockerCluster>, pass: &Pass<DockerCluster>) -> Result<Progress, Error> {
        self.engine.guard(pass.fence());
        let Some(cluster) = Self::id(&object) else {
            return Ok(Progress::Settled);
        };
        moved::take_back(object.as_ref(), &cluster.name, Self::NAME, pass).await?;
        let ensured = self.balancer(&object, cluster.clone(), pass).await;
        let balancer = ensured.as_ref().map(|(balancer, _)| balancer);
        if let Ok(balancer) = balancer {
            // Before the status says that it is there: Cluster API reads it only then, and once.
            self.publish_endpoint(&object, balancer, pass).await?;
        }
        pass.write_status(&status::observed(&object, balancer, pass.clock().now()))
            .await?;
        let (_, containers) = ensured?;
        self.tell_orphans(&cluster, containers, pass).await?;
        Ok(Progress::Settled)
    }

    async fn cleanup(
        &self,
        object: Arc<DockerCluster>,
        pass: &Pass<DockerCluster>,
    ) -> Result<Progress, Error> {
        self.engine.guard(pass.fence());
        if !self.view.is_complete() {
            return Ok(Progress::waiting(super::machine::VIEW_WAIT));
        }
        let Some(cluster) = Self::id(&object) else {
            return Ok(Progress::Settled);
        };
        let owner: Option<Cluster> = live::read(&cluster.name, pass).await?;
        if contract::is_paused(owner.as_ref(), object.as_ref()) {
            // It moves to another management cluster: what it stands for stays. Looked at live, since what was last seen
            // may be of before the move.
            pass.write_status(&status::paused(&object, pass.clock().now()))
                .await?;
            return Ok(Progress::waiting(super::machine::MOVE_WAIT));
        }
        if moved::is_moved(object.as_ref()) {
            // The move was broken off before it took the finalizer away: the target runs behind the load balancer.
            return Ok(Progress::Settled);
        }
        if let Some(owner) = &owner {
            match self.successor((owner, &cluster), pass).await? {
                Successor::None => {}
                Successor::Comes => return Ok(Progress::waiting(MACHINES_WAIT)),
                Successor::Stands => return Ok(Progress::Settled),
            }
        }
        let staying = self.staying_machines(&cluster, pass).await?;
        pass.write_status(&status::deleting(&object, &staying, pass.clock().now()))
            .await?;
        if !staying.is_empty() {
            return Ok(Progress::waiting(MACHINES_WAIT));
        }
        let network = self.settings.home(Some(object.as_ref())).beside(&[]);
        self.load_balancers.remove(&cluster, &network).await?;
        Ok(Progress::Settled)
    }

    async fn paused(
        &self,
        object: Arc<DockerCluster>,
        pass: &Pass<DockerCluster>,
    ) -> Result<Progress, Error> {
        pass.write_status(&status::paused(&object, pass.clock().now()))
            .await?;
        Ok(Progress::Settled)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("kindest/haproxy:v1", None, None, "kindest/haproxy:v1")]
    #[case("kindest/haproxy:v1", Some("reg:5000/team"), None, "reg:5000/team/haproxy:v1")]
    #[case("kindest/haproxy:v1", None, Some("v2"), "kindest/haproxy:v2")]
    #[case("kindest/haproxy:v1", Some("team"), Some("v2"), "team/haproxy:v2")]
    #[case("reg:5000/haproxy", None, None, "reg:5000/haproxy")]
    #[case("reg:5000/haproxy", None, Some("v2"), "reg:5000/haproxy:v2")]
    #[case("haproxy@sha256:00", None, Some("v2"), "haproxy:v2")]
    #[case("a/haproxy:v1@sha256:00", Some("team"), Some("v2"), "team/haproxy:v2")]
    #[case("a/haproxy:v1@sha256:00", Some("team"), None, "team/haproxy:v1@sha256:00")]
    #[case("haproxy", Some("team"), None, "team/haproxy")]
    fn what_is_said_of_an_image_replaces_that_part_of_the_default(
        #[case] default: &str,
        #[case] repository: Option<&str>,
        #[case] tag: Option<&str>,
        #[case] expected: &str,
    ) {
        let mut spec = DockerClusterSpec {
            load_balancer: Some(docker_api::LoadBalancer {
                image_repository: repository.map(str::to_owned),
                image_tag: tag.map(str::to_owned),
                ..docker_api::LoadBalancer::default()
            }),
            ..DockerClusterSpec::default()
        };
        assert_eq!(image(default, &spec), expected);
        spec.load_balancer = None;
        assert_eq!(image(default, &spec), default);
        spec.loadbalancer_image = Some("whole/reference:1".into());
        assert_eq!(image(default, &spec), "whole/reference:1");
    }

    #[test]
    fn of_a_worker_a_cluster_is_woken_by_its_end_alone() {
        let event = |role: Role, is_gone| ContainerEvent {
            labels: [(ROLE_LABEL.to_owned(), role.as_str().to_owned())].into(),
            is_gone,
        };
        assert!(!concerns(&event(Role::Worker, false)));
        assert!(concerns(&event(Role::Worker, true)));
        assert!(concerns(&event(Role::ControlPlane, false)));
        assert!(concerns(&event(Role::LoadBalancer, false)));
    }
}
