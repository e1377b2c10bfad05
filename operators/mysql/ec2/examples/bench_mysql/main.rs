//! What a `MySQL` takes: from apply to Ready, from delete to gone, until its rows are back; beside the way of the kind's
//! first operator, on the same real cluster in the same run. And what a hundred of them cost the operator.
//!
//! ```text
//! cargo xtask bench mysql                        both
//! cargo xtask bench mysql -- --mib 1024 --runs 1 with a gibibyte of rows
//! cargo xtask bench mysql -- --runs 0            only the hundred
//! cargo xtask bench mysql -- --objects 0         only the real cluster
//! ```
//!
//! The operator is a process of its own: this program, called as `operate`, with the controllers that ship. The first
//! operator's way is taken step by step, with its own pauses, in this process: what is compared is what the two ways do
//! to a cluster, not the languages that they are written in.

#![recursion_limit = "256"]

mod crowd;
#[path = "../../../controller/tests/database/disks.rs"]
#[expect(dead_code, reason = "a suite of tests looks at what volumes hold")]
#[expect(clippy::unwrap_used, reason = "it is written for tests")]
mod disks;
mod first;
#[path = "../../../controller/tests/database/kubelet.rs"]
#[expect(dead_code, reason = "a suite of tests breaks programs")]
mod kubelet;
mod operator;
mod ours;
mod site;

use anyhow::Result;
use clap::{Parser, Subcommand};
use testkit::bench::{Report, median};

use site::Site;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Paired runs on the real cluster
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// MiB of rows in each database
    #[arg(long, default_value_t = 16)]
    mib: usize,
    /// Objects of which the operator's cost is measured
    #[arg(long, default_value_t = 100)]
    objects: usize,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the operator that is measured; what the benchmark starts
    Operate(operator::Args),
}

/// How long the parts of one life took, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// From the first apply until the server is known to be ready.
    ready: f64,
    /// From the deletion until the object is gone, its backup taken.
    gone: f64,
    /// From the second apply until the server is known to be ready, and every row is there.
    back: f64,
}

/// The name of a part and how long it took.
type Part = (&'static str, fn(&Life) -> f64);

fn main() -> Result<()> {
    reconcile::cli::install_crypto_provider();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.role {
        Some(Role::Operate(args)) => runtime.block_on(operator::operate(args)),
        None => runtime.block_on(measure(&args)),
    }
}

async fn measure(args: &Args) -> Result<()> {
    let mut report = Report::new("mysql");
    report.parameter("runs", args.runs);
    report.parameter("mib", args.mib);
    report.parameter("objects", args.objects);
    if args.runs > 0 {
        beside_the_first(args, &mut report).await?;
    }
    if args.objects > 0 {
        crowd::measure(args.objects, &mut report).await?;
    }
    report.write()?;
    Ok(())
}

/// Both ways in turns.
async fn beside_the_first(args: &Args, report: &mut Report) -> Result<()> {
    let site = Site::start().await?;
    let (mut own, mut firsts) = (Vec::new(), Vec::new());
    for run in 0..args.runs {
        own.push(ours::live(&site, &format!("ours-{run}"), args.mib).await?);
        firsts.push(first::live(&site, &format!("first-{run}"), args.mib).await?);
    }
    let parts: [Part; 3] = [
        ("apply_to_ready", |life| life.ready),
        ("delete_to_gone", |life| life.gone),
        ("apply_to_rows_back", |life| life.back),
    ];
    for (name, part) in parts {
        let [ours, first] = [&own, &firsts].map(|lives| lives.iter().map(part).collect::<Vec<_>>());
        report.median(&format!("{name}_ours"), "s", &ours)?;
        report.median(&format!("{name}_first"), "s", &first)?;
        let ratios: Vec<_> = ours
            .iter()
            .zip(&first)
            .map(|(ours, first)| ours / first)
            .collect();
        let from = format!("median over the runs of {name}_ours / {name}_first");
        report.figure(&format!("{name}_ratio"), median(&ratios), "", &from)?;
    }
    Ok(())
}
