//! What the provider costs, and how soon a cluster is there, beside Cluster API's own Docker provider.
//!
//! ```text
//! cargo xtask bench docker                              all of it
//! cargo xtask bench docker -- --only many               only the machines without real nodes
//! cargo xtask bench docker -- --quick                   small and soon over, to see that it works
//! ```
//!
//! *Real nodes*: in turns, a control plane of its own with Cluster API's managers and one of the providers, the same
//! objects, the same images of nodes and load balancers. Upstream's provider is built from its Go module.
//!
//! With `--program target/…/capdkc` what is measured of ours is that program, such as the one that images have.
//!
//! *Many machines*: our provider alone, over a stand-in of the Docker daemon whose nodes are bootstrapped at once. It
//! speaks Docker's API over a socket, so that everything on this side of it is real and is counted.

mod daemon;
mod life;
mod many;
mod objects;
mod provider;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use testkit::bench::Report;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    size: Size,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the provider that is measured; what the benchmark starts
    Operate(Box<docker_controller::cli::Args>),
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A cluster of real nodes, with either provider
    Nodes,
    /// Many machines over a stand-in of Docker
    Many,
}

/// How much to measure.
#[derive(clap::Args, Clone, Debug)]
struct Size {
    /// One run and few machines, to see that the benchmark works
    #[arg(long)]
    quick: bool,
    /// What to measure; everything without
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// The program to measure as ours; this one without, compiled as it is
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Paired runs
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Machines that are made at once over the stand-in
    #[arg(long, default_value_t = 200)]
    machines: usize,
    /// Machines whose rest is measured
    #[arg(long, default_value_t = 1000)]
    idle: usize,
}

impl Size {
    fn or_quick(self) -> Self {
        if self.quick {
            Self {
                runs: 1,
                machines: 20,
                idle: 40,
                ..self
            }
        } else {
            self
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> Result<()> {
    reconcile::cli::install_crypto_provider();
    let args: Args = reconcile::cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.role {
        Some(Role::Operate(args)) => runtime.block_on(provider::operate(*args)),
        None => runtime.block_on(measure(&args.size.or_quick())),
    }
}

async fn measure(size: &Size) -> Result<()> {
    let mut report = Report::new("docker");
    report.parameter("runs", size.runs);
    report.parameter("machines", size.machines);
    report.parameter("idle", size.idle);
    if size.wants(Part::Many) {
        many::measure(size, &mut report).await?;
    }
    if size.wants(Part::Nodes) {
        life::measure(size, &mut report).await?;
    }
    report.write()?;
    Ok(())
}
