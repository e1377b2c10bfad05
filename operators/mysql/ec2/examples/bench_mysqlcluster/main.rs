//! What clusters on EC2 cost: requests, time, processor and memory for a thousand of them, and how long one takes.
//!
//! ```text
//! cargo xtask bench mysqlcluster                 all of it
//! cargo xtask bench mysqlcluster -- --quick      small and soon over, to see that it works
//! ```
//!
//! The operator is a process of its own (this program, called as `operate`) with the controllers that ship, the real SDK,
//! and servers that answer from its memory in place of MySQL's. EC2 is simulated in this process, with AWS's documented
//! rates; its time and the operator's go faster than real time where many are measured, and as fast where one is.

#![recursion_limit = "256"]

mod crowd;
mod operator;
mod servers;
mod single;

use anyhow::Result;
use clap::{Parser, Subcommand};
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
    /// Runs the operator that is measured; what the benchmark starts
    Operate(operator::Args),
}

/// How much to measure.
#[derive(clap::Args, Clone, Copy, Debug)]
struct Size {
    /// A few clusters, to see that the benchmark works
    #[arg(long)]
    quick: bool,
    /// Clusters of three members
    #[arg(long, default_value_t = 1000)]
    clusters: usize,
    /// How often each of them is looked at again when it has settled
    #[arg(long, default_value_t = 50)]
    resyncs: usize,
    /// Clusters that are applied one after the other, in real time
    #[arg(long, default_value_t = 5)]
    singles: usize,
}

impl Size {
    fn or_quick(self) -> Self {
        if self.quick {
            Self {
                clusters: 20,
                resyncs: 5,
                singles: 1,
                ..self
            }
        } else {
            self
        }
    }
}

fn main() -> Result<()> {
    reconcile::cli::install_crypto_provider();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.role {
        Some(Role::Operate(args)) => runtime.block_on(operator::operate(args)),
        None => runtime.block_on(measure(args.size.or_quick())),
    }
}

async fn measure(size: Size) -> Result<()> {
    let mut report = Report::new("mysqlcluster");
    report.parameter("clusters", size.clusters);
    report.parameter("resyncs", size.resyncs);
    report.parameter("singles", size.singles);
    let bed = operator::Bed::start().await?;
    single::measure(&bed, size, &mut report).await?;
    crowd::measure(&bed, size, &mut report).await?;
    report.write()?;
    Ok(())
}
