//! Many clusters that have settled.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{ListParams, PostParams};
use mysql_api::{MySQLCluster, cluster::Phase};
use testkit::{
    audit::Filter,
    bench::{Exposition, Report},
};

use crate::{
    Size,
    operator::{Bed, Site, spec},
};

/// How many times faster than real time: a thousand clusters need 3,000 launches, at one a second.
const SPEED: u32 = 30;
/// Requests in flight while clusters are made.
const PARALLEL: usize = 8;
/// A cluster that has settled is looked at once in this time, the operator's.
const RESYNC: Duration = Duration::from_secs(60);

fn passes(metrics: &Exposition) -> f64 {
    metrics.sum("controller_runtime_reconcile_total", &[])
}

/// Brings all up, then watches what they cost when nothing happens.
pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) -> Result<()> {
    let mut site = Site::start(bed, SPEED).await?;
    stream::iter(0..size.clusters)
        .map(async |number| -> Result<()> {
            let cluster = MySQLCluster::new(&format!("c{number:04}"), serde_json::from_value(spec(number))?);
            site.clusters.create(&PostParams::default(), &cluster).await?;
            Ok(())
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    let all = size.clusters;
    site.until("every cluster serves", async |site| {
        // Seldom enough to cost next to nothing.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let listed = site.clusters.list(&ListParams::default()).await?;
        let serving = listed.iter().filter(|cluster| {
            cluster.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running)
        });
        Ok(serving.count() == all)
    })
    .await?;
    let wanted = u32::try_from(size.clusters * size.resyncs).context("too many passes")?;
    let audit = bed.plane.audit();
    let begin = audit.settle(&bed.plane.client()).await?;
    let (calls, before, cpu) = (
        site.ec2.world().audit().len(),
        site.metrics().await?,
        site.usage()?,
    );
    let (began, clock) = (Instant::now(), site.ec2.world().clock().elapsed());
    site.until("they are looked at again", async |site| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(passes(&site.metrics().await?) - passes(&before) >= f64::from(wanted))
    })
    .await?;
    let (took, after, usage) = (began.elapsed(), site.metrics().await?, site.usage()?);
    let minutes = site
        .ec2
        .world()
        .clock()
        .elapsed()
        .saturating_sub(clock)
        .as_secs_f64()
        / 60.0;
    let made = site.ec2.world().audit().len() - calls;
    let ended = passes(&after) - passes(&before);

    let namespace = Filter::writes().namespace(site.namespace.name());
    let writes = audit.query(&bed.plane.client(), begin, &namespace).await?;
    report.figure(
        "settled_writes",
        count(writes.len()),
        "requests",
        "audit log of the API server",
    )?;
    report.figure(
        "settled_ec2_calls",
        count(made) / minutes,
        "calls/min",
        "calls / minutes of EC2's time",
    )?;
    report.parameter("minutes", minutes);
    report.parameter("passes", ended);
    let time = |metrics: &Exposition| metrics.sum("controller_runtime_reconcile_time_seconds_sum", &[]);
    let wall = (time(&after) - time(&before)) / ended * 1e3;
    report.figure("settled_pass_wall_mean", wall, "ms", "sum of pass times / passes")?;
    for part in [0.5, 0.95, 0.99] {
        let name = format!("settled_pass_wall_p{:.0}_at_most", part * 100.0);
        report.figure(
            &name,
            bucket(&before, &after, part) * 1e3,
            "ms",
            "bucket of the histogram",
        )?;
    }
    let processor = usage.processor.saturating_sub(cpu.processor);
    report.figure(
        "settled_pass_cpu_mean",
        processor.as_secs_f64() / ended * 1e3,
        "ms",
        "processor time / passes",
    )?;
    let share = processor.as_secs_f64() / took.as_secs_f64() / f64::from(SPEED) * 100.0;
    report.figure(
        "settled_cpu_in_real_time",
        share,
        "% of a core",
        "processor time / wall time / speed",
    )?;
    report.figure(
        "rss_settled",
        usage.resident_mb(),
        "MB",
        "resident memory at the end",
    )?;
    report.figure("rss_peak", usage.peak_mb(), "MB", "the most that was resident")?;
    report.parameter("resync_seconds", RESYNC.as_secs());
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// The upper end of the bucket that holds this part of the passes.
fn bucket(before: &Exposition, after: &Exposition, part: f64) -> f64 {
    let bounds = [
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.4", "0.5", "1", "2.5", "5",
        "10", "60",
    ];
    let within = |bound: &str| {
        let of = |metrics: &Exposition| {
            metrics.sum(
                "controller_runtime_reconcile_time_seconds_bucket",
                &[("le", bound)],
            )
        };
        of(after) - of(before)
    };
    let all = within("+Inf");
    let found = bounds.into_iter().find(|bound| within(bound) >= all * part);
    found
        .and_then(|bound| bound.parse().ok())
        .unwrap_or(f64::INFINITY)
}
