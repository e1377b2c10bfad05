//! What the framework costs: memory, time, processor and requests for ten thousand objects, and how long leadership
//! takes to change hands.
//!
//! ```text
//! cargo xtask bench framework                 all of it
//! cargo xtask bench framework -- --quick      small and soon over, to see that it works
//! ```
//!
//! The operator under measurement is a process of its own (this program, called as `operate`), with the defaults of
//! every operator: 4 passes at a time, JSON logs, probes off. The control plane is a real API server with etcd; the
//! backend behind each pass is an HTTP server in this process that answers after one millisecond.

mod backend;
mod first;
mod gadget;
mod handover;
mod load;
mod operator;
mod pass_times;
mod replica;

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
    Operate(Box<operator::Args>),
}

/// How much to measure.
#[derive(clap::Args, Clone, Copy, Debug)]
struct Size {
    /// A few objects and runs, to see that the benchmark works
    #[arg(long)]
    quick: bool,
    /// Objects
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Operator processes started one after the other, each of which is measured in every respect
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Changes of leadership of either sort
    #[arg(long, default_value_t = 20)]
    handovers: usize,
}

impl Size {
    fn or_quick(self) -> Self {
        if self.quick {
            Self {
                objects: 300,
                runs: 2,
                handovers: 2,
                ..self
            }
        } else {
            self
        }
    }
}

fn main() -> Result<()> {
    reconcile::cli::install_crypto_provider();
    let args: Args = reconcile::cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.role {
        Some(Role::Operate(args)) => runtime.block_on(operator::operate(*args)),
        None => runtime.block_on(measure(args.size.or_quick())),
    }
}

async fn measure(size: Size) -> Result<()> {
    let mut report = Report::new("framework");
    report.parameter("objects", size.objects);
    report.parameter("runs", size.runs);
    report.parameter("handovers", size.handovers);
    let bed = replica::Bed::start().await?;
    load::measure(&bed, size, &mut report).await?;
    handover::measure(&bed, size, &mut report).await?;
    report.write()?;
    Ok(())
}
