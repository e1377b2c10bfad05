//! Ten thousand objects: memory, time, processor and requests.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use kube::Api;
use testkit::{
    audit::{Event, Filter, Position},
    bench::{Report, quantile},
};

use crate::{
    Size,
    backend::LATENCY,
    first,
    gadget::{Gadget, PLURAL, name},
    operator::NAME,
    pass_times::PassTime,
    replica::{Bed, Replica},
};

/// Resyncs per run without the backend: each is over within seconds.
const RESYNCS: usize = 3;
/// Calls of the backend without a pass around them, per run.
const BARE_CALLS: usize = 2000;
/// Memory has settled when it has stayed within a hundredth for so many looks, a second apart.
const LOOKS: usize = 3;

/// What the runs found, one sample per run or per resync.
#[derive(Default)]
struct Found {
    cold_start: Vec<f64>,
    settled: Vec<f64>,
    peak: Vec<f64>,
    idle: Vec<f64>,
    no_op_rate: Vec<f64>,
    no_op_processor: Vec<f64>,
    io_rate: Vec<f64>,
    hit_rate: Vec<f64>,
    no_op_calls: Vec<f64>,
    no_op_cpu: Vec<f64>,
    io_wall: Vec<f64>,
    io_cpu: Vec<f64>,
    bare: Vec<f64>,
}

/// Makes the objects, lets one operator reconcile them for the first time, then starts others that find nothing to do.
pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) -> Result<()> {
    let namespace = bed.plane.namespace().await?;
    let gadgets: Api<Gadget> = Api::namespaced(bed.plane.client(), namespace.name());
    first::create(&gadgets, size.objects).await?;
    first::measure(bed, namespace.name(), size, report).await?;
    let found = gadgets.get(&name(0)).await?;
    let bytes = serde_json::to_vec(&found)?.len();
    report.samples("object_size", "bytes", &[as_f64(bytes)]);
    report.figure(
        "object_size",
        as_f64(bytes),
        "bytes",
        "object_size, as JSON with managed fields",
    )?;

    let mut found = Found::default();
    for number in 0..size.runs {
        run(bed, namespace.name(), size, number, &mut found).await?;
    }
    found.report(report)
}

async fn run(bed: &Bed, namespace: &str, size: Size, number: usize, found: &mut Found) -> Result<()> {
    let objects = as_f64(size.objects);
    let mut replica = Replica::start(bed, &format!("run-{number}"), namespace, size.objects, &[])?;
    replica.until_ended(objects).await?;
    found
        .cold_start
        .push(since(replica.started, &replica.passes().await?));
    let (settled, idle) = settle(&replica).await?;
    found.settled.push(settled);
    found.idle.push(idle);
    found.peak.push(replica.usage()?.peak_mb());

    let before = bed.plane.audit().settle(&bed.plane.client()).await?;
    let mut ended = objects;
    for _ in 0..RESYNCS {
        let processor = replica.usage()?.processor;
        let passes = resync(&mut replica, false, &mut ended, objects).await?;
        let used = replica.usage()?.processor.saturating_sub(processor);
        found.no_op_rate.push(rate(&passes));
        found.no_op_processor.push(used.as_secs_f64() * 1e6 / objects);
        found
            .no_op_cpu
            .extend(passes.iter().map(|pass| micros(pass.cpu_ns)));
    }
    found
        .bare
        .extend(replica.bare_calls(BARE_CALLS).await?.into_iter().map(millis));
    let passes = resync(&mut replica, true, &mut ended, objects).await?;
    found.io_rate.push(rate(&passes));
    found
        .io_wall
        .extend(passes.iter().map(|pass| millis(pass.wall_ns)));
    found.io_cpu.extend(passes.iter().map(|pass| micros(pass.cpu_ns)));
    let calls = requests(bed, before).await?;
    found.no_op_calls.push(as_f64(of_objects(&calls)));

    let metrics = replica.metrics().await?;
    let reads = |result| metrics.sum("reconcile_cache_reads_total", &[("result", result)]);
    found
        .hit_rate
        .push(100.0 * reads("hit") / (reads("hit") + reads("miss")));
    replica.terminate().await
}

async fn resync(replica: &mut Replica, io: bool, ended: &mut f64, objects: f64) -> Result<Vec<PassTime>> {
    replica.resync(io).await?;
    *ended += objects;
    replica.until_ended(*ended).await?;
    replica.passes().await
}

/// Waits until memory does not change any more; what it then is in MB, and the processor's use in percent meanwhile.
async fn settle(replica: &Replica) -> Result<(f64, f64)> {
    let (began, first) = (Instant::now(), replica.usage()?);
    let mut looks = vec![first.resident_mb()];
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let usage = replica.usage()?;
        looks.push(usage.resident_mb());
        let last = &looks[looks.len().saturating_sub(LOOKS + 1)..];
        let (low, high) = (quantile(last, 0.0), quantile(last, 1.0));
        if looks.len() > LOOKS && high - low < high / 100.0 {
            let used = usage.processor.saturating_sub(first.processor).as_secs_f64();
            return Ok((usage.resident_mb(), 100.0 * used / began.elapsed().as_secs_f64()));
        }
    }
}

/// The operators' requests since then.
pub(crate) async fn requests(bed: &Bed, before: Position) -> Result<Vec<Event>> {
    let filter = Filter::all().user_agent(NAME);
    Ok(bed
        .plane
        .audit()
        .query(&bed.plane.client(), before, &filter)
        .await?)
}

/// How many of them were for single objects; lists and watches are for all.
pub(crate) fn of_objects(calls: &[Event]) -> usize {
    let single = calls.iter().filter_map(|event| event.object_ref.as_ref());
    single
        .filter(|object| object.resource == PLURAL && !object.name.is_empty() || object.resource == "events")
        .count()
}

/// Seconds from then until the last pass ended.
pub(crate) fn since(started: SystemTime, passes: &[PassTime]) -> f64 {
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let last = passes.iter().map(|pass| pass.ended_us).max().unwrap_or(0);
    Duration::from_micros(last).saturating_sub(started).as_secs_f64()
}

/// Passes per second, from the first one's beginning to the last one's end.
fn rate(passes: &[PassTime]) -> f64 {
    let began = passes
        .iter()
        .map(|pass| pass.ended_us.saturating_sub(pass.wall_ns / 1000))
        .min();
    let ended = passes.iter().map(|pass| pass.ended_us).max();
    let took = ended.unwrap_or(0).saturating_sub(began.unwrap_or(0));
    as_f64(passes.len()) / Duration::from_micros(took).as_secs_f64()
}

impl Found {
    fn report(&self, report: &mut Report) -> Result<()> {
        report.median("cold_start_all_reconciled", "s", &self.cold_start)?;
        report.median("rss_settled", "MB", &self.settled)?;
        report.median("rss_peak", "MB", &self.peak)?;
        report.median("idle_processor", "%", &self.idle)?;
        report.median("no_op_passes", "1/s", &self.no_op_rate)?;
        report.median("no_op_process_cpu_per_pass", "us", &self.no_op_processor)?;
        report.distribution("no_op_pass_cpu", "us", &self.no_op_cpu)?;
        report.median("io_passes", "1/s", &self.io_rate)?;
        report.distribution("io_pass_wall", "ms", &self.io_wall)?;
        report.distribution("bare_call_wall", "ms", &self.bare)?;
        report.distribution("io_pass_cpu", "us", &self.io_cpu)?;
        for (name, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            let beyond = quantile(&self.io_wall, part) - LATENCY.as_secs_f64() * 1e3;
            let from = format!("{name} of io_pass_wall less the backend's 1 ms");
            report.figure(&format!("io_pass_beyond_backend_{name}"), beyond, "ms", &from)?;
        }
        report.median("cache_hit_rate", "%", &self.hit_rate)?;
        report.median("no_op_calls_per_run", "requests", &self.no_op_calls)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

fn millis(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}

fn micros(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6
}
