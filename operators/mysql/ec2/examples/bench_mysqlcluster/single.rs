//! One cluster at a time, in real time, with EC2's usual boot delays.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube::api::PostParams;
use mysql_api::{MySQLCluster, cluster::Phase};
use testkit::bench::Report;

use crate::{
    Size,
    operator::{Bed, Site, spec},
};

/// How long each stretch of one cluster's way took.
struct Way {
    /// From `apply` until its instances run and its status says so.
    provisioned: Duration,
    /// From `apply` until it serves.
    ready: Duration,
    /// From `apply` to the last of its launches.
    launched: Duration,
    /// From the first to the last of its launches.
    apart: Duration,
    /// From the moment in which its last instance ran until its status said so.
    noticed: Duration,
}

impl Way {
    /// What of the way to instances that run is the operator's: all but their boot.
    fn own(&self) -> Duration {
        self.launched + self.noticed
    }
}

/// From `apply` to instances that run and to a cluster that serves; what of it is the operator's own; and how far the
/// launches of one cluster are apart.
pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) -> Result<()> {
    let mut site = Site::start(bed, 1).await?;
    // How late EC2 shows what has happened is its share, as the boot is.
    site.ec2.world().set_lag(Duration::ZERO);
    site.until("the operator listens", async |site| {
        site.metrics().await.map(|_| true)
    })
    .await?;
    let mut ways = Vec::new();
    for number in 0..size.singles {
        ways.push(go(&mut site, number).await?);
    }
    let mut median = |name: &str, of: fn(&Way) -> Duration| {
        let seconds: Vec<_> = ways.iter().map(|way| of(way).as_secs_f64()).collect();
        report.median(name, "s", &seconds)
    };
    median("apply_to_provisioned", |way| way.provisioned)?;
    median("apply_to_last_launch", |way| way.launched)?;
    median("running_to_provisioned", |way| way.noticed)?;
    median("own_share_of_apply_to_provisioned", Way::own)?;
    median("apply_to_ready", |way| way.ready)?;
    median("launches_of_a_cluster_apart", |way| way.apart)
}

async fn go(site: &mut Site, number: usize) -> Result<Way> {
    let name = format!("single-{number}");
    let cluster = MySQLCluster::new(&name, serde_json::from_value(spec(number))?);
    let world = site.ec2.world().clone();
    let (calls, known) = (world.audit().len(), world.instances().len());
    // EC2's clock, which runs as fast as ours, tells when what happened there happened.
    let (applied, clock) = (Instant::now(), world.clock().elapsed());
    site.clusters.create(&PostParams::default(), &cluster).await?;
    let phase = async |site: &Site, wanted: &[Phase]| -> Result<bool> {
        let found = site.clusters.get(&name).await?;
        let phase = found.status.and_then(|status| status.phase);
        Ok(phase.is_some_and(|phase| wanted.contains(&phase)))
    };
    let run = [Phase::Provisioned, Phase::Running];
    site.until("instances run", async |site| phase(site, &run).await)
        .await?;
    let (provisioned, seen) = (applied.elapsed(), world.clock().elapsed());
    site.until("it serves", async |site| phase(site, &[Phase::Running]).await)
        .await?;
    let ready = applied.elapsed();
    let audit = world.audit();
    let launches = || {
        let calls = audit[calls..].iter();
        calls
            .filter(|call| call.action == "RunInstances")
            .map(|call| call.at)
    };
    let (first, last) = launches()
        .min()
        .zip(launches().max())
        .context("nothing was launched")?;
    let members = world.instances().split_off(known);
    let running = members.iter().filter_map(|member| member.running).max();
    let running = running.context("no instance has run")?;
    Ok(Way {
        provisioned,
        ready,
        launched: last.saturating_sub(clock),
        apart: last.saturating_sub(first),
        noticed: seen.saturating_sub(running),
    })
}
