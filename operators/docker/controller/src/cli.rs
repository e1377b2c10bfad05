//! The command line of `capdkc`.

use clap::Parser;
use kube::Config;
use reconcile::{
    Controller, Manager,
    cli::CommonArgs,
    client::{self, ClientOptions},
    manager::Options,
};

use crate::{
    contract::View,
    controllers::{Settings, cluster::Clusters, machine::Machines, template::Templates},
    engine::docker::DockerEngine,
    load_balancer::LoadBalancers,
};

/// The name of the operator: user agent, lease.
pub const NAME: &str = "capdkc";

/// Cluster API infrastructure provider whose machines are containers.
#[derive(Parser, Clone, Debug)]
#[command(name = NAME, version)]
#[command(mut_arg("health_probe_bind_address", |arg| arg.default_value(":9440")))]
pub struct Args {
    /// Flags of every operator.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Address of the Docker daemon: unix:///path or tcp://host:port. TLS as DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say.
    #[arg(long, env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock")]
    pub docker_host: String,

    /// Docker network of clusters that name none.
    #[arg(long, env = "DOCKER_NETWORK", default_value = "kind")]
    pub network: String,

    /// Image of load balancers whose cluster names none.
    #[arg(long, env = "LOAD_BALANCER_IMAGE", default_value_t = Settings::default().load_balancer_image)]
    pub load_balancer_image: String,

    /// Serve only objects whose label cluster.x-k8s.io/watch-filter has this value.
    #[arg(long, default_value = "")]
    pub watch_filter: String,

    /// How many DockerClusters are reconciled at once.
    #[arg(long, default_value_t = 10)]
    pub dockercluster_concurrency: usize,

    /// How many DockerMachines are reconciled at once.
    #[arg(long, default_value_t = 20)]
    pub dockermachine_concurrency: usize,
}

/// The kinds that the process waits for: ours, and Cluster API's.
const CRDS: [&str; 6] = [
    "clusters.cluster.x-k8s.io",
    "machines.cluster.x-k8s.io",
    "dockerclusters.infrastructure.cluster.x-k8s.io",
    "dockermachines.infrastructure.cluster.x-k8s.io",
    "dockerclustertemplates.infrastructure.cluster.x-k8s.io",
    "dockermachinetemplates.infrastructure.cluster.x-k8s.io",
];

/// The options of the process, out of its flags.
pub fn options(args: &Args, config: &Config) -> Options {
    let mut options = Options::from_args(NAME, &args.common, config);
    options.crds = CRDS.map(str::to_owned).to_vec();
    options
}

/// The whole process: three controllers over one Docker and one view of Cluster API's objects.
///
/// # Errors
/// If `config` cannot be used.
pub fn manager(args: &Args, options: Options, config: Config) -> Result<Manager, client::Error> {
    let settings = Settings {
        network: args.network.clone(),
        load_balancer_image: args.load_balancer_image.clone(),
        watch_filter: Some(args.watch_filter.clone()).filter(|filter| !filter.is_empty()),
    };
    let engine = DockerEngine::new(args.docker_host.as_str());
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
                .concurrency(args.dockercluster_concurrency),
        )
        .register(
            Controller::new(machines)
                .wakes(machine_wakes)
                .supervise(&tasks)
                .concurrency(args.dockermachine_concurrency),
        )
        .register(Controller::new(templates)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_probes_are_where_the_manifests_look() {
        Args::command().debug_assert();
        let args = Args::parse_from([NAME, "--leader-elect"]);
        assert_eq!(args.common.health_probe_bind_address.to_string(), ":9440");
        assert!(args.common.leader_elect);
    }
}
