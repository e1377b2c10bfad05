//! Memory of the operator: a process of its own, a real API server, and as many jobs at once.

use std::{
    env,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use dynamodb_api::{ConditionType, DdbctlDpJob, DdbctlDpJobSpec};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, CustomResourceExt as _,
    api::{ListParams, PostParams},
};
use testkit::{
    bench::{Exposition, Report, Usage},
    control_plane::{self, ControlPlane},
    dynamodb::{Server, faults::Faults},
    fault::{
        FaultPlan, Schedule,
        proxy::{Options, Proxy},
    },
    process::{ScratchFolder, Supervised, free_address},
};

use crate::{
    Size,
    bed::{Bed, LATENCY, as_f64, partition_text},
};

/// Bytes of an item beside its keys.
const PAYLOAD: usize = 100;
/// Requests in flight while jobs are made.
const PARALLEL: usize = 16;
/// How long all jobs may take.
const DEADLINE: Duration = Duration::from_mins(10);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Measures the operator at rest and with 1, 100 and 1,000 jobs; a single job has as many items as 100 others.
pub(crate) async fn measure(size: &Size, report: &mut Report) -> Result<()> {
    let options = control_plane::Options {
        without_controllers: true,
        ..control_plane::Options::default()
    };
    let plane = ControlPlane::start(options).await?;
    let mut crd = DdbctlDpJob::crd();
    reconcile::crd::tidy(&mut crd);
    plane.apply_crds(&[crd]).await?;
    let items = if size.quick { 20 } else { 200 };
    let scales: &[(u64, u64)] = if size.quick {
        &[(1, 100 * items), (20, items)]
    } else {
        &[(1, 100 * items), (100, items), (1000, items)]
    };
    for (jobs, items) in scales.iter().copied() {
        let mut found = Vec::new();
        for _ in 0..size.runs {
            found.push(run(&plane, jobs, items).await?);
        }
        let all = |part: fn(&Found) -> f64| found.iter().map(part).collect::<Vec<_>>();
        report.median(
            &format!("rss_at_rest_before_{jobs}_jobs"),
            "MB",
            &all(|found| found.at_rest),
        )?;
        report.median(&format!("rss_peak_{jobs}_jobs"), "MB", &all(|found| found.peak))?;
        report.median(&format!("rss_after_{jobs}_jobs"), "MB", &all(|found| found.after))?;
        report.median(
            &format!("running_at_once_{jobs}_jobs"),
            "jobs",
            &all(|found| found.at_once),
        )?;
        report.median(&format!("time_{jobs}_jobs"), "s", &all(|found| found.seconds))?;
    }
    Ok(())
}

struct Found {
    at_rest: f64,
    peak: f64,
    after: f64,
    at_once: f64,
    seconds: f64,
}

async fn run(plane: &ControlPlane, jobs: u64, items: u64) -> Result<Found> {
    let bed = Bed::new(Server::embedded()?).await?;
    let fills = stream::iter((0..jobs).map(|partition| bed.fill(partition, items, PAYLOAD)));
    fills.buffer_unordered(2).try_collect::<()>().await?;
    let options = Options::new(&FaultPlan::new(Schedule::default())).latency(LATENCY);
    let proxy = Proxy::start(
        bed.server.address(),
        Faults::new(reconcile::clock::Clock::system()),
        options,
    )?;
    let namespace = plane.namespace().await?;
    let mut operator = Operator::start(plane, namespace.name(), &proxy.endpoint())?;
    operator.until_listening().await?;
    let at_rest = operator.usage()?.resident_mb();

    let api: Api<DdbctlDpJob> = Api::namespaced(plane.client(), namespace.name());
    let began = Instant::now();
    let creation =
        stream::iter((0..jobs).map(|number| create(&api, number, bed.table.name(), proxy.endpoint())));
    let creation = creation.buffer_unordered(PARALLEL).try_collect::<()>();
    let (created, at_once) = tokio::join!(creation, operator.until_succeeded(&api, jobs, began));
    created?;
    let (at_once, seconds) = (at_once?, began.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let usage = operator.usage()?;
    Ok(Found {
        at_rest,
        peak: usage.peak_mb(),
        after: usage.resident_mb(),
        at_once,
        seconds,
    })
}

async fn create(api: &Api<DdbctlDpJob>, number: u64, table: &str, endpoint: String) -> Result<()> {
    let spec = DdbctlDpJobSpec {
        table_name: Some(table.to_owned()),
        partition_value: Some(partition_text(number)),
        endpoint_url: Some(endpoint),
        backoff_limit: 6,
        ..DdbctlDpJobSpec::default()
    };
    api.create(
        &PostParams::default(),
        &DdbctlDpJob::new(&format!("job-{number:04}"), spec),
    )
    .await?;
    Ok(())
}

/// The operator's process; killed when dropped.
struct Operator {
    process: Supervised,
    metrics: SocketAddr,
    _folder: ScratchFolder,
}

impl Operator {
    /// Starts it without a limit on requests to the API server, which would otherwise start jobs one after another.
    fn start(plane: &ControlPlane, namespace: &str, endpoint: &str) -> Result<Self> {
        let metrics = free_address()?;
        let mut command = Command::new(env::current_exe().context("cannot find this program")?);
        command
            .args([
                "operate",
                "--namespace",
                namespace,
                "--allowed-endpoints",
                endpoint,
            ])
            .args([
                "--metrics-bind-address",
                &metrics.to_string(),
                "--health-probe-bind-address",
                "0",
            ])
            .args(["--kube-api-qps", "0", "--kubeconfig"])
            .arg(plane.kubeconfig_path());
        let folder = ScratchFolder::create("bench-dynamodb")?;
        let process = Supervised::spawn("operator", &command, &folder.path().join("operator.log"))?;
        Ok(Self {
            process,
            metrics,
            _folder: folder,
        })
    }

    fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    async fn metrics(&self) -> Result<Exposition> {
        Exposition::scrape(self.metrics).await
    }

    async fn until_listening(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while self.metrics().await.is_err() {
            self.process.check()?;
            if Instant::now() > deadline {
                bail!("the operator does not serve metrics within {DEADLINE:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
        // Its cache is empty, its watch begins: a moment later it is at rest.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Waits until every job has succeeded; returns how many ran at once at most.
    async fn until_succeeded(&mut self, api: &Api<DdbctlDpJob>, jobs: u64, began: Instant) -> Result<f64> {
        let mut most: f64 = 0.0;
        loop {
            self.process.check()?;
            let running = self.metrics().await?.sum("dynamoctl_partition_tasks", &[]);
            most = most.max(running);
            let may_be_over = running < 1.0 && most > 0.0;
            if may_be_over && as_f64(succeeded(api).await?) >= as_f64(jobs) {
                return Ok(most);
            }
            if began.elapsed() > DEADLINE {
                bail!(
                    "{} of {jobs} jobs succeeded within {DEADLINE:?}",
                    succeeded(api).await?
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn succeeded(api: &Api<DdbctlDpJob>) -> Result<u64> {
    let all = api.list(&ListParams::default()).await?;
    let succeeded = all.iter().filter(|job| {
        let conditions = job.status.iter().flat_map(|status| &status.conditions);
        let mut summaries =
            conditions.filter(|condition| condition.type_ == ConditionType::Succeeded.as_str());
        summaries.any(|condition| condition.status == "True")
    });
    Ok(u64::try_from(succeeded.count())?)
}
