//! `fake-ec2`: the server on its own.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use fake_ec2::{Account, FakeEc2, Faults, Limits, MachineOptions, Machines, Options, Timings};
use reconcile::clock::Clock;

/// Serves EC2's Query protocol with EC2's semantics, until it is interrupted
///
/// The account has us-east-1 (ami-0c02fb55956c7d316, subnet-12345678, sg-12345678) and eu-west-1
/// (ami-0e1111aaaa2222bbb, subnet-22345678, sg-22345678). Any credentials are accepted.
#[derive(Parser)]
#[command(name = "fake-ec2", version)]
struct Args {
    /// Address to listen on; port 0 for a free one
    #[arg(long, env = "FAKE_EC2_LISTEN", default_value = "127.0.0.1:4579")]
    listen: SocketAddr,
    /// How many times faster than real time everything happens
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// Seconds from a launch to `running`
    #[arg(long, default_value_t = 20)]
    boot_seconds: u64,
    /// How far reads may lag behind writes, in milliseconds
    #[arg(long, default_value_t = 2000)]
    lag_ms: u64,
    /// No limits on request rates
    #[arg(long)]
    no_throttling: bool,
    /// What goes wrong: `RunInstances#3=lose; *#7=RequestLimitExceeded`
    #[arg(long, default_value = "")]
    faults: String,
    /// Boot what is launched: a container of this image for each instance (systemd, cloud-init), on this Docker network
    #[arg(long, requires = "machine_network")]
    machine_image: Option<String>,
    /// Name of the Docker network to make for machines; it has the range of the account's subnets
    #[arg(long)]
    machine_network: Option<String>,
    /// N of the range 10.N.0.0/16 that the account's subnets are in
    #[arg(long, default_value_t = 0, value_name = "N")]
    range: u8,
    /// Ids and lags follow from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        account: Account::default().within(args.range),
        timings: Timings {
            boot: Duration::from_secs(args.boot_seconds),
            lag: Duration::from_millis(args.lag_ms),
            ..Timings::default()
        },
        limits: if args.no_throttling {
            Limits::Unlimited
        } else {
            Limits::Documented
        },
        faults: args.faults.parse::<Faults>().context("--faults")?,
        clock: Clock::accelerated(args.speed),
        seed: args.seed,
        listen: args.listen,
    };
    let server = FakeEc2::start(&options)?;
    let machines = args
        .machine_image
        .zip(args.machine_network)
        .map(|(image, network)| MachineOptions {
            docker: "docker".into(),
            image,
            network,
            range: format!("10.{}.0.0/16", args.range),
        });
    let _machines = machines
        .map(|options| Machines::start(server.world(), options))
        .transpose()?;
    // The line that whoever started this waits for.
    #[expect(clippy::print_stdout, reason = "a program's output")]
    {
        println!("EC2 at {}", server.endpoint());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(tokio::signal::ctrl_c())
        .context("cannot wait for an interrupt")
}
