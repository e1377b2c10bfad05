//! Items per second, the engine and others in turns.

use anyhow::Result;
use dynamodb_controller::partition::Tuning;
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
    contender::Contender,
};

/// Bytes of an item beside its keys.
const PAYLOAD: usize = 100;

/// Ten milliseconds away: what counts is how many requests are in flight. With the engine's default the server, which
/// runs on the same processors, may not keep up; with four in flight it does, and the distance alone is measured.
pub(crate) async fn latency(size: &Size, report: &mut Report) -> Result<()> {
    let bed = Bed::new(Server::embedded()?).await?;
    let options = Options::new(&FaultPlan::new(Schedule::default())).latency(LATENCY);
    let faults = Faults::new(reconcile::clock::Clock::system());
    let proxy = Proxy::start(bed.server.address(), faults, options)?;
    let settings = Setting {
        bed: &bed,
        endpoint: &proxy.endpoint(),
        name: "latency",
        in_flight: Tuning::default().max_in_flight,
    };
    settings
        .race(
            &[
                Contender::Engine,
                Contender::Operator,
                Contender::Ceiling,
                Contender::Serial,
            ],
            size,
            report,
        )
        .await?;
    let few = Setting {
        name: "latency_4_in_flight",
        in_flight: 4,
        ..settings
    };
    few.race(
        &[Contender::Engine, Contender::Operator, Contender::Ceiling],
        size,
        report,
    )
    .await
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

async fn near(name: &str, bed: &Bed, size: &Size, report: &mut Report) -> Result<()> {
    let setting = Setting {
        bed,
        endpoint: &bed.server.endpoint(),
        name,
        in_flight: Tuning::default().max_in_flight,
    };
    setting
        .race(
            &[
                Contender::Engine,
                Contender::Operator,
                Contender::Loop,
                Contender::Ceiling,
            ],
            size,
            report,
        )
        .await
}

/// Where a race takes place.
#[derive(Clone, Copy)]
struct Setting<'a> {
    bed: &'a Bed,
    endpoint: &'a str,
    name: &'a str,
    in_flight: usize,
}

impl Setting<'_> {
    /// Lets each contender empty the same partition in every run, another one first each time; the engine, however it is
    /// called, is compared with the others.
    async fn race(self, contenders: &[Contender], size: &Size, report: &mut Report) -> Result<()> {
        let client = client(self.endpoint)?;
        let mut rates = vec![Vec::new(); contenders.len()];
        let mut deleting = vec![Vec::new(); contenders.len()];
        // One run that does not count warms server, connections and allocator up.
        for run in 0..=size.runs {
            for turn in 0..contenders.len() {
                let number = (run + turn) % contenders.len();
                let contender = contenders[number];
                let items = contender.items(size.items);
                self.bed.fill(VICTIM, items, PAYLOAD).await?;
                let time = contender
                    .run(&client, self.bed.table.name(), items, self.in_flight)
                    .await?;
                self.bed.check_empty(contender.name()).await?;
                if run > 0 {
                    rates[number].push(as_f64(items) / time.whole.as_secs_f64());
                    deleting[number].push(as_f64(items) / time.deleting.as_secs_f64());
                }
            }
        }
        for (contender, rates) in contenders.iter().zip(&rates) {
            report.median(&format!("{}_{}", self.name, contender.name()), "items/s", rates)?;
        }
        let ours = || (0..contenders.len()).filter(|one| contenders[*one].is_ours());
        let others = || (0..contenders.len()).filter(|one| !contenders[*one].is_ours());
        for one in ours() {
            let name = contenders[one].name();
            report.median(
                &format!("{}_{name}_deleting", self.name),
                "items/s",
                &deleting[one],
            )?;
            for other in others() {
                for (part, rate) in [("", &rates[one]), ("_deleting", &deleting[one])] {
                    let pairs = rate.iter().zip(&rates[other]);
                    let ratios: Vec<_> = pairs.map(|(one, other)| one / other).collect();
                    let name = format!("{}_{name}{part}_per_{}", self.name, contenders[other].name());
                    report.median(&name, "ratio", &ratios)?;
                }
            }
        }
        Ok(())
    }
}
