//! Two operators that work on the same job at the same time. A lease keeps that from happening, and with it the status in
//! one hand; but what they do to the table is idempotent, so that even this costs no item and no stranger.

use std::sync::Arc;

use testkit::fault::{CrashSite, FaultPlan, Schedule};

use crate::{
    bed::Bed,
    world::{check_items, full, harness, reached_every_site, run, sized},
};

/// Enough for several ranges, and for both to be at it at once.
const ITEMS: u64 = 1000;

/// One incarnation of both; it ends when both see that the job has.
async fn both(world: Arc<Bed>, plan: FaultPlan) -> anyhow::Result<()> {
    let (one, other) = tokio::join!(run(world.clone(), plan.clone()), run(world, plan));
    one.and(other)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_under_crashes_and_lost_answers_leave_no_item_and_touch_no_other() {
    let plans: u64 = if full() { 60 } else { 3 };
    let crashes = (0..plans).map(|n| {
        let site = CrashSite::ALL[usize::try_from(n % 3).unwrap()];
        Schedule::default().crash(10 + n * 60 / plans, site)
    });
    let lost = (0..plans).map(|seed| Schedule::default().seeded(seed, 150, 3));
    let report = harness("two operators at once")
        .schedules(
            crashes.chain(lost),
            async |plan| sized(plan, ITEMS).await,
            both,
            async |world| check_items(&world).await,
        )
        .await
        .unwrap();
    reached_every_site(&report);
    assert!(
        u64::try_from(report.injected).unwrap() >= 2 * plans,
        "each plan was disturbed: {report}"
    );
}
