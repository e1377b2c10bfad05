//! The controllers of the process, put together over one engine and one view of Cluster API's objects.

use kube::Config;
use reconcile::{
    Controller, Manager,
    client::{self, ClientOptions},
    manager::Options,
};

use crate::{
    contract::View,
    controllers::{Settings, cluster::Clusters, machine::Machines, template::Templates},
    engine::Engine,
    load_balancer::LoadBalancers,
};

/// The name of the operator: user agent, lease.
pub const NAME: &str = "capdkc";

/// The kinds that the process waits for: ours, and Cluster API's.
pub const CRDS: [&str; 6] = [
    "clusters.cluster.x-k8s.io",
    "machines.cluster.x-k8s.io",
    "dockerclusters.infrastructure.cluster.x-k8s.io",
    "dockermachines.infrastructure.cluster.x-k8s.io",
    "dockerclustertemplates.infrastructure.cluster.x-k8s.io",
    "dockermachinetemplates.infrastructure.cluster.x-k8s.io",
];

/// How many objects of a kind are reconciled at once.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    /// DockerClusters.
    pub clusters: usize,
    /// DockerMachines.
    pub machines: usize,
}

/// A manager of all controllers. Needs a tokio runtime: it begins to watch at once.
///
/// # Errors
/// If `config` cannot be used.
pub fn assemble<E: Engine + Clone>(
    engine: E,
    settings: Settings,
    concurrency: Concurrency,
    options: Options,
    config: Config,
) -> Result<Manager, client::Error> {
    let view = View::default();
    let clock = options.clock.clone();
    let balancers = LoadBalancers::new(engine.clone(), view.clone(), clock.clone());
    let clusters = Clusters::new(engine.clone(), view.clone(), balancers.clone(), settings.clone());
    let machines = Machines::new(engine.clone(), view.clone(), balancers, settings.clone(), clock);
    let (cluster_wakes, machine_wakes, tasks) =
        (clusters.wakes(), machines.wakes(), machines.tasks().clone());
    let templates = Templates::new(engine, settings);
    // Read-only, so it needs no fence; it watches on every replica, as the caches do.
    let mut reading = ClientOptions::new(NAME);
    reading.wire.clone_from(&options.wire);
    view.watch(&client::build(config.clone(), reading)?, &options.namespaces);
    Ok(Manager::new(options, config)
        .register(
            Controller::new(clusters)
                .wakes(cluster_wakes)
                .concurrency(concurrency.clusters),
        )
        .register(
            Controller::new(machines)
                .wakes(machine_wakes)
                .supervise(&tasks)
                .concurrency(concurrency.machines),
        )
        .register(Controller::new(templates)))
}
