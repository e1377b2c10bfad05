//! Items per second, the engine and others in turns.

use anyhow::Result;
use testkit::{
    bench::Report,
    dynamodb::{Server, faults::Faults},
    fault::{
        FaultPlan, Schedule,
        proxy::{Options, Proxy},
    },
};

use crate::{
    Size,
    bed::{Bed, LATENCY, VICTIM, as_f64, client},
    contender::{Contender, Time},
};

/// Bytes of an item beside its keys.
const PAYLOAD: usize = 100;

/// Ten milliseconds away: what counts is how many requests are in flight.
pub(crate) async fn latency(size: &Size, report: &mut Report) -> Result<()> {
    let bed = Bed::new(Server::embedded()?).await?;
    let options = Options::new(&FaultPlan::new(Schedule::default())).latency(LATENCY);
    let faults = Faults::new(reconcile::clock::Clock::system());
    let proxy = Proxy::start(bed.server.address(), faults, options)?;
    let contenders = [Contender::Engine, Contender::Ceiling, Contender::Serial];
    race(&bed, &proxy.endpoint(), "latency", &contenders, size, report).await
}

/// Next door, where the server's processor is what counts.
pub(crate) async fn dynoxide(size: &Size, report: &mut Report) -> Result<()> {
    let bed = Bed::new(Server::embedded()?).await?;
    near("dynoxide", &bed, size, report).await
}

/// The same on DynamoDB Local.
pub(crate) async fn local(size: &Size, report: &mut Report) -> Result<()> {
    let bed = Bed::new(Server::local().await?).await?;
    near("local", &bed, size, report).await
}

async fn near(setting: &str, bed: &Bed, size: &Size, report: &mut Report) -> Result<()> {
    let contenders = [Contender::Engine, Contender::Loop, Contender::Ceiling];
    race(bed, &bed.server.endpoint(), setting, &contenders, size, report).await
}

/// Lets each contender empty the same partition in every run, another one first each time.
async fn race(
    bed: &Bed,
    endpoint: &str,
    setting: &str,
    contenders: &[Contender],
    size: &Size,
    report: &mut Report,
) -> Result<()> {
    let client = client(endpoint)?;
    // One round that does not count warms server, connections and allocator up.
    let mut times = vec![Vec::new(); contenders.len()];
    for run in 0..=size.runs {
        for turn in 0..contenders.len() {
            let number = (run + turn) % contenders.len();
            bed.fill(VICTIM, size.items, PAYLOAD).await?;
            let time = contenders[number]
                .run(&client, bed.table.name(), size.items)
                .await?;
            bed.check_empty(contenders[number].name()).await?;
            if run > 0 {
                times[number].push(time);
            }
        }
    }
    let rates = |times: &[Time], part: fn(&Time) -> f64| -> Vec<f64> {
        times.iter().map(|time| as_f64(size.items) / part(time)).collect()
    };
    let whole = |time: &Time| time.whole.as_secs_f64();
    let deleting = |time: &Time| time.deleting.as_secs_f64();
    for (contender, times) in contenders.iter().zip(&times) {
        report.median(
            &format!("{setting}_{}", contender.name()),
            "items/s",
            &rates(times, whole),
        )?;
    }
    let (engine, engine_deleting) = (rates(&times[0], whole), rates(&times[0], deleting));
    report.median(&format!("{setting}_engine_deleting"), "items/s", &engine_deleting)?;
    for (contender, times) in contenders.iter().zip(&times).skip(1) {
        let other = rates(times, whole);
        for (name, engine) in [("engine", &engine), ("engine_deleting", &engine_deleting)] {
            let ratios: Vec<_> = engine
                .iter()
                .zip(&other)
                .map(|(engine, other)| engine / other)
                .collect();
            report.median(
                &format!("{setting}_{name}_per_{}", contender.name()),
                "ratio",
                &ratios,
            )?;
        }
    }
    Ok(())
}
