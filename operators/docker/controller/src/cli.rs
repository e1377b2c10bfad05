//! The command line of `capdkc`.

use clap::Parser;
use kube::Config;
use reconcile::{Manager, cli::CommonArgs, client, manager::Options};

use crate::{
    controllers::Settings,
    engine::docker::DockerEngine,
    manager::{CRDS, Concurrency, NAME, assemble},
};

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

/// The options of the process, out of its flags.
pub fn options(args: &Args, config: &Config) -> Options {
    let mut options = Options::from_args(NAME, &args.common, config);
    options.crds = CRDS.map(str::to_owned).to_vec();
    options.shard = watch_filter(args);
    options
}

fn watch_filter(args: &Args) -> Option<String> {
    Some(args.watch_filter.clone()).filter(|filter| !filter.is_empty())
}

/// The manager that the flags ask for.
///
/// # Errors
/// If `config` cannot be used.
pub fn manager(args: &Args, options: Options, config: Config) -> Result<Manager, client::Error> {
    let settings = Settings {
        network: args.network.clone(),
        load_balancer_image: args.load_balancer_image.clone(),
        watch_filter: watch_filter(args),
        ..Settings::default()
    };
    let concurrency = Concurrency {
        clusters: args.dockercluster_concurrency,
        machines: args.dockermachine_concurrency,
    };
    assemble(
        DockerEngine::new(args.docker_host.as_str()),
        settings,
        concurrency,
        options,
        config,
    )
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

    /// A variable for the address would lead nowhere: only the socket is mounted, and certificates are not.
    #[test]
    fn clusterctls_components_lead_to_the_socket_that_they_mount() {
        let manifest = include_str!("../../config/manager.yaml");
        let hosts: Vec<_> = manifest
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- --docker-host=unix://"))
            .collect();
        assert_eq!(hosts.len(), 1, "{hosts:?}");
        for field in ["mountPath", "path"] {
            let mounted = format!(" {field}: {}\n", hosts[0]);
            assert!(manifest.contains(&mounted), "no{mounted}");
        }
    }

    #[test]
    fn a_watch_filter_is_the_part_that_an_installation_serves() {
        let config = Config::new("http://localhost".parse().unwrap());
        let shard = |words: &[&str]| {
            let args = Args::parse_from([&[NAME], words].concat());
            options(&args, &config).shard
        };
        assert_eq!(shard(&["--watch-filter=red"]).as_deref(), Some("red"));
        assert_eq!((shard(&[]), shard(&["--watch-filter="])), (None, None));
    }
}
