//! `limits` of a job whose operator dies: neither exceeded nor used up in vain.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use dynamodb_api::RunLimits;
use reconcile::{client::wire_layer, conditions};
use testkit::{
    dynamodb::KeyType,
    fault::{FaultPlan, Schedule, kube::FaultLayer},
};

use crate::{
    bed::{BYSTANDERS, Bed, server},
    operator::Operator,
    world::{ITEMS, JOB, SPEED, check, crash_at_every_request, full, harness, run},
    writer::writer,
};

/// Every other request, unless the long loops were asked for.
const STRIDE: u64 = 2;
/// Items that come to the partition while the job runs.
const MORE: u64 = 40;

/// A world whose job may delete just as many items as the partition has when it begins.
async fn limited(plan: FaultPlan) -> anyhow::Result<Bed> {
    let key = (KeyType::S, |table| table);
    let bed = Bed::planned(&plan, SPEED, server().await, ITEMS, key).await;
    let most = i64::try_from(ITEMS)?;
    let mut spec = bed.spec();
    spec.limits = Some(RunLimits {
        max_items: Some(most),
        max_wcu_total: Some(2 * most),
    });
    bed.create(JOB, spec).await;
    Ok(bed)
}

/// The same, and others write to the partition as soon as something is deleted.
async fn crowded(plan: FaultPlan) -> anyhow::Result<Bed> {
    let bed = limited(plan).await?;
    let more = writer(&bed, ITEMS..ITEMS + MORE);
    bed.faults.set(|settings| settings.hooks = vec![(1, more)]);
    Ok(bed)
}

/// One incarnation: runs the operator until the job has ended, in whatever way.
async fn run_to_the_end(world: Arc<Bed>, plan: FaultPlan) -> anyhow::Result<()> {
    let operator = Operator::start(
        world.plane.config().clone(),
        &[world.namespace.name()],
        &world.endpoint(),
        |options, _| {
            options.clock = world.clock.clone();
            options.wire = Some(wire_layer(FaultLayer::new(&plan)));
        },
    );
    let client = kube::Client::try_from(world.plane.config().clone())?;
    let jobs: kube::Api<dynamodb_api::DdbctlDpJob> = kube::Api::namespaced(client, world.namespace.name());
    loop {
        let status = jobs.get(JOB).await?.status.unwrap_or_default();
        let summary = conditions::find(&status.conditions, "Succeeded");
        if summary.is_some_and(|summary| summary.status != "Unknown") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    operator.stop().await;
    Ok(())
}

/// Just as many are deleted as the limit allows, counted by another client.
async fn check_limit(world: Arc<Bed>) -> anyhow::Result<()> {
    let (left, bystanders) = world.counts().await;
    let status = world.status(JOB).await;
    let summary = conditions::find(&status.conditions, "Succeeded").cloned();
    let reason = summary.map(|summary| summary.reason).unwrap_or_default();
    ensure!(
        (left, reason.as_str()) == (MORE, "LimitExceeded"),
        "{left} are left instead of {MORE}, {reason}: {:?}",
        status.allowance
    );
    ensure!(bystanders == BYSTANDERS, "foreign items are gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_just_enough_suffices_wherever_the_operator_dies() {
    let report = crash_at_every_request(harness("crash of a job with limits"), STRIDE, limited, run, check)
        .await
        .unwrap();
    assert!(report.replayed || report.injected >= 12, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_to_the_item_wherever_the_operator_dies() {
    let report = crash_at_every_request(
        harness("crash at a limit"),
        STRIDE,
        crowded,
        run_to_the_end,
        check_limit,
    )
    .await
    .unwrap();
    assert!(report.replayed || report.injected >= 12, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_to_the_item_whichever_answers_are_lost() {
    let seeds = if full() { 200 } else { 8 };
    let schedules = (0..seeds).map(|seed| Schedule::default().seeded(seed, 150, 3));
    let report = harness("faults at a limit")
        .schedules(schedules, crowded, run_to_the_end, check_limit)
        .await
        .unwrap();
    assert!(report.injected > 0, "{report}");
}
