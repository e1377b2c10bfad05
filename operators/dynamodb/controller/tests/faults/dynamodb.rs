//! What DynamoDB itself does under load, from preflight to proof.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use testkit::{
    dynamodb::faults::{Limit, Settings},
    fault::{CrashSite, FaultPlan, Schedule},
};

use crate::{
    bed::Bed,
    world::{JOB, check, full, harness, run, sized},
};

/// Enough items for several ranges of sort keys.
const ITEMS: u64 = 2000;

/// Requests between the crash of one plan and that of the next; the furthest is in the middle of the deletion still.
const STEP: u64 = 2;
/// Keys in one request at most.
const BATCH: u64 = 25;
/// Requests in flight at once, which a crash may cost.
const IN_FLIGHT: u64 = 16;

/// What may be sent in vain.
#[derive(Clone, Copy)]
struct Waste {
    /// Keys that are handed back unprocessed.
    keys: u64,
    /// Batches that are refused as a whole.
    batches: u64,
}

/// Runs the job under what `change` sets, without a crash and with one.
async fn under(name: &str, plans: usize, waste: Waste, change: impl Fn(&mut Settings, &str) + Copy) {
    let make = async |plan: FaultPlan| -> anyhow::Result<Bed> {
        let bed = sized(plan, ITEMS).await?;
        let table = bed.table.name().to_owned();
        bed.faults.set(|settings| change(settings, &table));
        Ok(bed)
    };
    // One without a crash, then one crash each, further and further into the deletion.
    let crashes = (1..plans).map(|n| {
        let site = CrashSite::ALL[n % 3];
        Schedule::default().crash(30 + STEP * u64::try_from(n).unwrap(), site)
    });
    let schedules = std::iter::once(Schedule::default()).chain(crashes);
    let many = async |world: Arc<Bed>| {
        let counts = world.proxy.audit().counts();
        let batches = counts.get("DynamoDB BatchWriteItem").copied().unwrap_or(0);
        // Full batches would do; the last of a range, and one of keys handed back, need not be full. Half full, over all.
        let most = (ITEMS + waste.keys).div_ceil(BATCH) * 2 + waste.batches + IN_FLIGHT;
        let progress = world.status(JOB).await.progress.unwrap_or_default();
        let refused = (
            u64::try_from(progress.unprocessed_retries)?,
            u64::try_from(progress.throttles)?,
        );
        testkit::progress::line(&format!(
            "{name}: {batches} batches of at most {most}; {} keys handed back, {} batches refused",
            refused.0, refused.1
        ));
        anyhow::ensure!(
            batches <= most && refused.0 <= waste.keys && refused.1 <= waste.batches,
            "{batches} batches, {most} are enough; {refused:?} refused: {counts:?}"
        );
        check(world).await
    };
    let report = harness(name).schedules(schedules, make, run, many).await.unwrap();
    assert_eq!(
        report.injected,
        plans - 1,
        "each operator but the first dies: {report}"
    );
}

fn plans() -> usize {
    if full() { 30 } else { 2 }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_percent_unprocessed_items_lose_no_key() {
    // A fifth of all, a fifth of these again, and so on: a quarter; and a tenth more for chance.
    let waste = Waste {
        keys: ITEMS / 4 * 11 / 10,
        // A small batch, none of whose keys may pass, is refused as a whole.
        batches: ITEMS.div_ceil(BATCH) / 4,
    };
    under("20 % unprocessed", plans(), waste, |settings, _| {
        settings.unprocessed = 20;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_with_little_capacity_is_waited_for_and_lost_nowhere() {
    // How little is wasted is measured in virtual time, by the engine's own suite. Here the clock runs on while the
    // machine is busy, so the bound only catches keys that are tried again and again until they pass.
    let waste = Waste {
        keys: 4 * ITEMS,
        batches: 4 * ITEMS.div_ceil(BATCH),
    };
    under("throttled range", plans(), waste, |settings, table| {
        let half = vec![json!({ "N": "1000" })];
        settings.limits = vec![Limit::ranges(table, "sk", half, 50.0)];
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_lag_behind_never_pass_for_proof() {
    let waste = Waste { keys: 0, batches: 0 };
    under("eventually consistent reads", plans(), waste, |settings, _| {
        settings.stale = Duration::from_secs(1);
    })
    .await;
}
