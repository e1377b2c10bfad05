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

/// What an instance takes to run, in the simulated EC2.
const BOOT: Duration = Duration::from_secs(20);

/// From `apply` to instances that run and to a cluster that serves; what of it is the operator's own; and how far the
/// launches of one cluster are apart.
pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) -> Result<()> {
    let mut site = Site::start(bed, 1).await?;
    site.until("the operator listens", async |site| {
        site.metrics().await.map(|_| true)
    })
    .await?;
    let (mut provisioned, mut ready, mut own, mut apart) = (vec![], vec![], vec![], vec![]);
    for number in 0..size.singles {
        let name = format!("single-{number}");
        let cluster = MySQLCluster::new(&name, serde_json::from_value(spec(number))?);
        let calls = site.ec2.world().audit().len();
        let applied = Instant::now();
        site.clusters.create(&PostParams::default(), &cluster).await?;
        let phase = async |site: &Site, wanted: &[Phase]| -> Result<bool> {
            let found = site.clusters.get(&name).await?;
            Ok(found
                .status
                .and_then(|status| status.phase)
                .is_some_and(|phase| wanted.contains(&phase)))
        };
        let running = [Phase::Provisioned, Phase::Running];
        site.until("instances run", async |site| phase(site, &running).await)
            .await?;
        provisioned.push(applied.elapsed().as_secs_f64());
        own.push(applied.elapsed().saturating_sub(BOOT).as_secs_f64());
        site.until("it serves", async |site| phase(site, &[Phase::Running]).await)
            .await?;
        ready.push(applied.elapsed().as_secs_f64());
        let audit = site.ec2.world().audit();
        let launches = || {
            audit[calls..]
                .iter()
                .filter(|call| call.action == "RunInstances")
                .map(|call| call.at)
        };
        let (first, last) = (launches().min(), launches().max());
        let (first, last) = first.zip(last).context("nothing was launched")?;
        apart.push(last.saturating_sub(first).as_secs_f64() * 1e3);
    }
    report.median("apply_to_provisioned", "s", &provisioned)?;
    report.median("apply_to_provisioned_beyond_boot", "s", &own)?;
    report.median("apply_to_ready", "s", &ready)?;
    report.median("launches_of_a_cluster_apart", "ms", &apart)
}
