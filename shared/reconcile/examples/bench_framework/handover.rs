//! How long nobody acts when the leader ends, politely or not.
//!
//! Two operators, one lease, the fast preset. Measured is from the signal to the first request that the successor
//! sends to the backend: its first act, not just its name on the Lease.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::{Api, api::PostParams};
use rand::RngExt as _;
use testkit::bench::Report;

use crate::{
    Size,
    gadget::{Gadget, gadget},
    replica::{Bed, Replica},
};

/// Objects of the operators.
const OBJECTS: usize = 10;
/// How long a successor may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// The leader's renewals are half a second apart: a signal falls anywhere between two of them.
const PHASE: std::ops::Range<f64> = 1.0..1.5;

/// How the leader ends.
#[derive(Clone, Copy)]
enum End {
    Terminated,
    Killed,
}

/// Measures both ends, taking turns.
pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) -> Result<()> {
    let namespace = bed.plane.namespace().await?;
    let gadgets: Api<Gadget> = Api::namespaced(bed.plane.client(), namespace.name());
    for number in 0..OBJECTS {
        gadgets.create(&PostParams::default(), &gadget(number)).await?;
    }
    let (mut graceful, mut crash) = (Vec::new(), Vec::new());
    let mut leader = candidate(bed, namespace.name(), 0)?;
    first_act(bed, &leader).await?;
    for number in 0..2 * size.handovers {
        let mut standby = candidate(bed, namespace.name(), number + 1)?;
        standby
            .until("it is a standby with a cache", async |standby| {
                is_ready(standby).await
            })
            .await?;
        tokio::time::sleep(Duration::from_secs_f64(rand::rng().random_range(PHASE))).await;
        bed.backend.forget();
        let (end, times) = if number % 2 == 0 {
            (End::Terminated, &mut graceful)
        } else {
            (End::Killed, &mut crash)
        };
        let signalled = Instant::now();
        let ended = tokio::spawn(async move {
            match end {
                End::Terminated => leader.terminate().await,
                End::Killed => leader.kill().await,
            }
        });
        let acted = first_act(bed, &standby).await?;
        times.push(acted.saturating_duration_since(signalled).as_secs_f64());
        ended.await??;
        leader = standby;
    }
    leader.terminate().await?;
    report.distribution("handover_graceful", "s", &graceful)?;
    report.distribution("handover_after_sigkill", "s", &crash)
}

fn candidate(bed: &Bed, namespace: &str, number: usize) -> Result<Replica> {
    let flags = [
        "--leader-elect",
        "--leader-elect-preset=fast",
        "--leader-election-namespace",
        namespace,
    ];
    Replica::start(bed, &format!("candidate-{number}"), namespace, OBJECTS, &flags)
}

/// Every object of the first list is queued: the cache is full.
async fn is_ready(standby: &Replica) -> Result<bool> {
    let metrics = standby.metrics().await?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of objects")]
    Ok(metrics.sum("workqueue_adds_total", &[]) >= OBJECTS as f64)
}

async fn first_act(bed: &Bed, replica: &Replica) -> Result<Instant> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(at) = bed.backend.first_of(&replica.identity) {
            return Ok(at);
        }
        if Instant::now() > deadline {
            bail!("{} did not take over within {DEADLINE:?}", replica.identity);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
