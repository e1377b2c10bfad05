//! How fast a partition is emptied, beside what the same server gives to simpler programs, and in how much memory.
//!
//! ```text
//! cargo xtask bench dynamodb                              all of it
//! cargo xtask bench dynamodb -- --only latency,jobs       some of it
//! cargo xtask bench dynamodb -- --quick                   small and soon over, to see that it works
//! ```
//!
//! Whatever is compared runs in turns on the same server, in the same process, over the same items; a ratio is made
//! within a run, and the median of the runs is printed.

mod bed;
mod contender;
mod jobs;
mod race;
mod throttled;

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
    /// Runs the operator whose memory is measured; what the benchmark starts
    Operate(Box<dynamodb_controller::manager::ManagerArgs>),
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Items per second 10 ms away from the server
    Latency,
    /// Items per second on dynoxide, which the processor bounds
    Dynoxide,
    /// Items per second on DynamoDB Local, which the processor bounds
    Local,
    /// Time on 16 partitions of 1,000 WCU per second
    Throttled,
    /// Memory of the operator with 1, 100 and 1,000 jobs
    Jobs,
}

/// How much to measure.
#[derive(clap::Args, Clone, Debug)]
struct Size {
    /// Few items and runs, to see that the benchmark works
    #[arg(long)]
    quick: bool,
    /// What to measure; everything without
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Paired runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Items of the partition
    #[arg(long, default_value_t = 40_000)]
    items: u64,
}

impl Size {
    fn or_quick(self) -> Self {
        if self.quick {
            Self {
                runs: 2,
                items: 4000,
                ..self
            }
        } else {
            self
        }
    }

    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> Result<()> {
    reconcile::cli::install_crypto_provider();
    let args: Args = reconcile::cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.role {
        Some(Role::Operate(args)) => runtime.block_on(dynamodb_controller::manager::run(*args)),
        None => runtime.block_on(measure(&args.size.or_quick())),
    }
}

async fn measure(size: &Size) -> Result<()> {
    let mut report = Report::new("dynamodb");
    report.parameter("runs", size.runs);
    report.parameter("items", size.items);
    for part in Part::value_variants().iter().filter(|part| size.has(**part)) {
        match part {
            Part::Latency => race::latency(size, &mut report).await?,
            Part::Dynoxide => race::dynoxide(size, &mut report).await?,
            Part::Local => race::local(size, &mut report).await?,
            Part::Throttled => throttled::measure(size, &mut report).await?,
            Part::Jobs => jobs::measure(size, &mut report).await?,
        }
        report.write()?;
    }
    Ok(())
}
