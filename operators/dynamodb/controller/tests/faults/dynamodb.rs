//! What DynamoDB itself does under load, from preflight to proof.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use testkit::{
    dynamodb::faults::{Limit, Settings},
    fault::{CrashSite, FaultPlan, Schedule},
};

use crate::{
    bed::Bed,
    world::{check, coverage, full, harness, run, sized},
};

/// Enough items for several ranges of sort keys.
const ITEMS: u64 = 3000;

async fn under(name: &str, plans: usize, change: impl Fn(&mut Settings, &str) + Copy) {
    let make = async |plan: FaultPlan| -> anyhow::Result<Bed> {
        let bed = sized(plan, ITEMS).await?;
        let table = bed.table.name().to_owned();
        bed.faults.set(|settings| change(settings, &table));
        Ok(bed)
    };
    // One without a crash, then one crash each, further and further into the deletion.
    let crashes = (1..plans).map(|n| {
        let site = CrashSite::ALL[n % 3];
        Schedule::default().crash(20 + 15 * u64::try_from(n).unwrap(), site)
    });
    let schedules = std::iter::once(Schedule::default()).chain(crashes);
    let many = async |world: Arc<Bed>| {
        let counts = world.proxy.audit().counts();
        let batches = counts.get("DynamoDB BatchWriteItem").copied().unwrap_or(0);
        // A batch of one key for each item, twice over, would be the worst that retrying can come to.
        anyhow::ensure!(batches <= 2 * ITEMS, "too many requests: {counts:?}");
        check(world).await
    };
    let report = harness(name).schedules(schedules, make, run, many).await.unwrap();
    report
        .at_least(coverage(plans, 10, usize::from(plans > 1)))
        .unwrap();
}

fn plans() -> usize {
    if full() { 30 } else { 3 }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_percent_unprocessed_items_lose_no_key() {
    under("20 % unprocessed", plans(), |settings, _| {
        settings.unprocessed = 20;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_with_little_capacity_is_waited_for_and_lost_nowhere() {
    under("throttled range", plans(), |settings, table| {
        let half = vec![json!({ "N": "1500" })];
        settings.limits = vec![Limit::ranges(table, "sk", half, 200.0)];
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_lag_behind_never_pass_for_proof() {
    under("eventually consistent reads", plans(), |settings, _| {
        settings.stale = Duration::from_secs(1);
    })
    .await;
}
