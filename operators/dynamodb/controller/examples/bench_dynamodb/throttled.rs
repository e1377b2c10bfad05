//! A partition key whose items lie on 16 physical partitions of 1,000 WCU per second: time, beside the least time
//! that these limits allow.
//!
//! Items cost 4 WCU each, so that the processor, which also plays the server, is not what limits. Each partition
//! begins with one second's worth of unused capacity; the ideal knows of that.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dynamodb_controller::partition::{Control, End, Engine, Progress, Request};
use reconcile::clock::Clock;
use serde_json::json;
use testkit::{
    bench::Report,
    dynamodb::{
        KeyType, Server,
        faults::{Faults, Limit},
    },
    fault::{
        FaultPlan, Schedule,
        proxy::{Options, Proxy},
    },
};
use tokio::sync::watch;

use crate::{
    Size,
    bed::{Bed, LATENCY, VICTIM, as_f64, client, partition_text},
};

/// Physical partitions.
const PARTITIONS: u64 = 16;
/// What each takes, in WCU per second.
const RATE: f64 = 1000.0;
/// Bytes of an item beside its keys: 4 WCU to delete.
const PAYLOAD: usize = 3200;

/// How often the rate is noted: longer than the engine takes between two reports of its progress.
const INTERVAL: Duration = Duration::from_millis(500);

/// Measures the time and its ratio to the ideal.
pub(crate) async fn measure(size: &Size, report: &mut Report) -> Result<()> {
    let per_partition: u64 = if size.quick { 500 } else { 2500 };
    report.parameter("throttled_items", PARTITIONS * per_partition);
    let bed = Bed::new(Server::embedded()?).await?;
    let (mut times, mut ideals, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut refused, mut unprocessed) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        bed.fill(VICTIM, PARTITIONS * per_partition, PAYLOAD).await?;
        // A clock and buckets of its own for every run.
        let clock = Clock::system();
        let boundaries = (1..PARTITIONS).map(|number| json!({"S": sort_key(number * per_partition)}));
        let limit = Limit::ranges(bed.table.name(), "sk", boundaries.collect(), RATE);
        let faults = Faults::new(clock.clone()).with(|settings| settings.limits = vec![limit]);
        let options = Options::new(&FaultPlan::new(Schedule::default())).latency(LATENCY);
        let proxy = Proxy::start(bed.server.address(), faults, options)?;
        let client = client(&proxy.endpoint())?;

        let request = Request::new(bed.table.name(), partition_text(VICTIM));
        let control = Control::unattended(clock.clone());
        let progress = control.progress.subscribe();
        let prepared = Engine::default().prepare(&client, request, control).await?;
        let began = clock.elapsed();
        let (finished, rates) = watched(prepared.execute(), &progress).await;
        let finished = finished?;
        let took = clock.elapsed().saturating_sub(began).as_secs_f64();
        report.samples(&format!("throttled_rate_of_run_{run}"), "WCU/s", &rates);
        ensure!(
            finished.end == End::Empty,
            "the engine ended with {:?}",
            finished.end
        );
        bed.check_empty("the engine").await?;

        let wcu = as_f64(finished.totals.wcu_milli) / 1000.0 / as_f64(PARTITIONS);
        let ideal = (wcu - RATE) / RATE;
        times.push(took);
        ideals.push(ideal);
        ratios.push(took / ideal);
        refused.push(as_f64(finished.totals.throttles));
        let keys = as_f64(finished.totals.unprocessed_retries);
        unprocessed.push(100.0 * keys / as_f64(finished.totals.keys_acknowledged));
    }
    report.median("throttled_time", "s", &times)?;
    report.median("throttled_ideal", "s", &ideals)?;
    report.median("throttled_time_per_ideal", "ratio", &ratios)?;
    report.median("throttled_refused_batches", "requests", &refused)?;
    report.median("throttled_unprocessed_keys", "%", &unprocessed)
}

/// Runs to the end; also how much was consumed per second in each interval until then.
async fn watched<T>(run: impl Future<Output = T>, progress: &watch::Receiver<Progress>) -> (T, Vec<f64>) {
    let (mut rates, mut before, mut since) = (Vec::new(), 0, Instant::now());
    tokio::pin!(run);
    loop {
        tokio::select! {
            result = &mut run => return (result, rates),
            () = tokio::time::sleep(INTERVAL) => {
                let wcu = progress.borrow().totals.wcu_milli;
                rates.push(as_f64(wcu - before) / 1000.0 / since.elapsed().as_secs_f64());
                (before, since) = (wcu, Instant::now());
            }
        }
    }
}

fn sort_key(number: u64) -> String {
    match KeyType::S.value(number) {
        aws_sdk_dynamodb::types::AttributeValue::S(text) => text,
        other => format!("{other:?}"),
    }
}
