//! The load balancer in front of a control plane: one HAProxy container per cluster.
//!
//! # Guarantees
//! - One at a time works on a cluster's load balancer, whichever reconciler asks.
//! - A configuration counts as in use only when it was read back and the master process said that it was loaded.
//! - A load balancer that stopped is started; one whose port was taken meanwhile is made anew on another, and so is one
//!   whose network is gone.
//! - A cluster stays on the network that it is on, whatever the default has become.
//! - One that is made anew gets the address that the endpoint names, if that is free; else what is wrong is told.
//! - Its servers are found by their labels, so a new InfraCluster, or a new management cluster, finds the same ones.

pub mod config;
mod container;
mod deviation;
pub mod home;
mod reload;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use kube::Resource as _;
use parking_lot::Mutex;
use reconcile::clock::Clock;

use crate::{
    contract::View,
    engine::{Container, ContainerState, Engine, EngineError, Failure},
    identity::{CLUSTER_LABEL, ClusterId, MACHINE_LABEL, NAMESPACE_LABEL, ROLE_LABEL, Role},
};
use config::Server;
use home::Home;

/// Label: the port on which the load balancer listens.
const PORT_LABEL: &str = "capdkc.cluster.x-k8s.io/port";
/// Label: the network that the load balancer was made for; people may connect it to others.
const HOME_LABEL: &str = "capdkc.cluster.x-k8s.io/home-network";
/// Label: the image that it was made from, as it was asked for.
const IMAGE_LABEL: &str = "capdkc.cluster.x-k8s.io/image";

/// The load balancer that a cluster should have.
#[derive(Clone, Debug)]
pub struct Request {
    /// The cluster.
    pub cluster: ClusterId,
    /// Image.
    pub image: String,
    /// Network.
    pub home: Home,
    /// The address that it should have, since others know it by that; none for any.
    pub address: Option<Ipv4Addr>,
    /// Port on which it listens.
    pub port: u16,
    /// Port of the host; none for one that is chosen.
    pub host_port: Option<u16>,
}

/// What a load balancer is made from.
struct Wanted<'a> {
    request: &'a Request,
    network: String,
    servers: Vec<Server>,
}

/// The load balancer that a cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Address on its network.
    pub address: Ipv4Addr,
    /// Port of the host's 127.0.0.1 that leads to it.
    pub host_port: Option<u16>,
    /// Why it does not serve those who look for it, although it runs.
    pub trouble: Option<String>,
    /// What people should know of it, although it serves.
    pub notes: Vec<String>,
}

/// Why a load balancer is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It runs and has no address.
    #[error("load balancer {0} runs and has no IPv4 address; check the network that it is attached to")]
    NoAddress(String),
    /// The configuration was refused.
    #[error("load balancer {name} refused its new configuration and goes on with the old one: {said}")]
    Refused {
        /// The container.
        name: String,
        /// What it said.
        said: String,
    },
    /// What was read back is not what was written.
    #[error("load balancer {0} does not hold the configuration that was just written; it is written again")]
    NotWritten(String),
    /// The cluster's endpoint is at a container that is not of this cluster, and the cluster has none.
    #[error(
        "controlPlaneEndpoint names {address}, which another container on network {network} has, and no machine of this \
         cluster is a container of this provider. If another provider has made the cluster, finish it there; if not, free \
         that address"
    )]
    Elsewhere {
        /// The address.
        address: Ipv4Addr,
        /// Its network.
        network: String,
    },
}

/// The load balancers of all clusters. Clones share what is known of them.
pub struct LoadBalancers<E> {
    engine: E,
    view: View,
    clock: Clock,
    known: Arc<Mutex<HashMap<ClusterId, Arc<tokio::sync::Mutex<Known>>>>>,
}

impl<E: Clone> Clone for LoadBalancers<E> {
    fn clone(&self) -> Self {
        let (view, clock, known) = (self.view.clone(), self.clock.clone(), self.known.clone());
        Self {
            engine: self.engine.clone(),
            view,
            clock,
            known,
        }
    }
}

/// What is known of a cluster's load balancer.
#[derive(Debug, Default)]
struct Known {
    /// The container that was last seen with `configuration` in use.
    container: String,
    configuration: String,
    /// Containers that are about to go, by id: whoever else asks meanwhile does not put them back.
    leaving: BTreeSet<String>,
}

impl Known {
    /// The load balancer is made or started anew: what it has in use is not known.
    fn forget(&mut self) {
        self.container.clear();
        self.configuration.clear();
    }

    /// Takes note of `machine`'s end, and forgets the containers that are gone.
    fn note(&mut self, containers: &[Container], machine: Option<&str>) {
        let of = |container: &&Container| {
            machine.is_some() && container.labels.get(MACHINE_LABEL).map(String::as_str) == machine
        };
        let ids = containers.iter().filter(of).map(|container| container.id.clone());
        self.leaving.extend(ids);
        self.leaving
            .retain(|id| containers.iter().any(|container| container.id == *id));
    }
}

impl<E: Engine> LoadBalancers<E> {
    /// For the containers of `engine`, with the Machines of `view`.
    pub fn new(engine: E, view: View, clock: Clock) -> Self {
        Self {
            engine,
            view,
            clock,
            known: Arc::default(),
        }
    }

    fn lane(&self, cluster: &ClusterId) -> Arc<tokio::sync::Mutex<Known>> {
        self.known.lock().entry(cluster.clone()).or_default().clone()
    }

    /// Brings the load balancer of a cluster to what `request` says. Says also which containers the cluster has.
    pub async fn ensure(&self, request: &Request) -> Result<(LoadBalancer, Vec<Container>), Error> {
        let lane = self.lane(&request.cluster);
        let mut known = lane.lock().await;
        let mut containers = self.engine.containers(&request.cluster.labels()).await?;
        known.note(&containers, None);
        let network = request.home.beside(&containers);
        let servers = self.servers(&request.cluster, &containers, &network, &known.leaving);
        let wanted = Wanted {
            request,
            network,
            servers,
        };
        let existing = load_balancer_of(&containers);
        let is_other = match existing.map(|container| container.state) {
            None | Some(ContainerState::Created) => {
                self.refuse_elsewhere(&wanted, &containers).await?;
                self.launch(&wanted, existing, &mut known).await?;
                true
            }
            Some(ContainerState::Stopped) => {
                self.restart(&wanted, existing, &mut known).await?;
                true
            }
            Some(ContainerState::Running | ContainerState::Restarting) => false,
        };
        if is_other {
            containers = self.engine.containers(&request.cluster.labels()).await?;
        }
        let name = request.cluster.load_balancer_name();
        let Some(container) = load_balancer_of(&containers).cloned() else {
            return Err(Error::NoAddress(name));
        };
        // Where it is, and not where it would be made: those whom it cannot reach are no servers of it.
        let home = home::of(&container);
        let servers = self.servers(&request.cluster, &containers, &home, &known.leaving);
        self.configure(&container, &servers, &mut known).await?;
        let address = container
            .addresses
            .get(&home)
            .or_else(|| container.addresses.values().next());
        let address = *address.ok_or(Error::NoAddress(name))?;
        let balancer = LoadBalancer {
            address,
            host_port: container.ports.get(&request.port).copied(),
            trouble: self.trouble(request, &containers, &container, address).await?,
            notes: deviation::notes(request, &container),
        };
        Ok((balancer, containers))
    }

    /// Brings the configuration up to date with the control plane's containers, less that of the DockerMachine
    /// `leaving`, which from now on stays out. Says whether the load balancer is there and was configured.
    pub async fn sync(&self, cluster: &ClusterId, leaving: Option<&str>) -> Result<bool, Error> {
        let lane = self.lane(cluster);
        let mut known = lane.lock().await;
        let containers = self.engine.containers(&cluster.labels()).await?;
        let Some(container) = load_balancer_of(&containers).filter(|c| c.state == ContainerState::Running)
        else {
            return Ok(false);
        };
        let network = home::of(container);
        known.note(&containers, leaving);
        let servers = self.servers(cluster, &containers, &network, &known.leaving);
        self.configure(container, &servers, &mut known).await?;
        Ok(true)
    }

    /// Removes the load balancer, and the networks that it was on, `network` at least, if they are ours and nobody is
    /// left on them. `network` is asked for since a load balancer that is gone cannot tell any more.
    pub async fn remove(&self, cluster: &ClusterId, network: &str) -> Result<(), Error> {
        let lane = self.lane(cluster);
        let _known = lane.lock().await;
        let mut networks = BTreeSet::from([network.to_owned()]);
        for container in self.engine.containers(&cluster.load_balancer_labels()).await? {
            self.engine.remove(&container.id).await?;
            networks.extend(container.addresses.into_keys());
        }
        self.known.lock().remove(cluster);
        for name in networks {
            self.remove_network(&name).await?;
        }
        Ok(())
    }

    /// Removes a network if it is ours and nobody is left on it.
    pub async fn remove_network(&self, name: &str) -> Result<(), Error> {
        if !self
            .engine
            .network(name)
            .await?
            .is_some_and(|network| network.ours && network.in_use.is_empty())
        {
            return Ok(());
        }
        // Those of others too, and stopped ones, which Docker does not count: none could be started again.
        let left = self.engine.containers(&BTreeMap::new()).await?;
        if left.iter().any(|container| container.networks.contains(name)) {
            return Ok(());
        }
        match self.engine.remove_network(name).await {
            // Somebody joined it in this moment: it is still needed.
            Err(error) if matches!(error.kind, Failure::Denied | Failure::NameTaken) => Ok(()),
            other => Ok(other?),
        }
    }

    /// The servers of the control plane, as far as they have an address.
    fn servers(
        &self,
        cluster: &ClusterId,
        containers: &[Container],
        network: &str,
        leaving: &BTreeSet<String>,
    ) -> Vec<Server> {
        let machines = self.view.machines_of(&cluster.namespace, &cluster.name);
        let of = |name: &str| {
            let mut of_docker = machines.iter().filter_map(|m| Some((m, m.docker_machine()?)));
            of_docker.find_map(|(m, key)| (&*key.name == name).then_some(m))
        };
        let is_complete = self.view.is_complete();
        let server = |container: &Container| {
            let machine = container.labels.get(MACHINE_LABEL)?;
            let control_plane =
                container.labels.get(ROLE_LABEL).map(String::as_str) == Some(Role::ControlPlane.as_str());
            let address = *container.addresses.get(network)?;
            let stays = control_plane && !leaving.contains(&container.id);
            let machine = of(machine);
            stays.then(|| Server {
                name: container.name.clone(),
                address,
                // One that no Machine stands for may be of an earlier cluster of this name.
                draining: machine.map_or(is_complete, |m| m.meta().deletion_timestamp.is_some()),
                joined: machine.is_some_and(|m| m.has_node()),
            })
        };
        containers.iter().filter_map(server).collect()
    }
}

fn load_balancer_of(containers: &[Container]) -> Option<&Container> {
    let is =
        |c: &&Container| c.labels.get(ROLE_LABEL).map(String::as_str) == Some(Role::LoadBalancer.as_str());
    containers.iter().find(is)
}

/// The cluster that a container with these labels belongs to.
pub fn cluster_of(labels: &BTreeMap<String, String>) -> Option<ClusterId> {
    Some(ClusterId::new(
        labels.get(NAMESPACE_LABEL)?,
        labels.get(CLUSTER_LABEL)?,
    ))
}
