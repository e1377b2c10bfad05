//! The operator dies, at any request, and another one finishes.

use std::sync::Arc;

use testkit::fault::{CrashSite, Fault, Schedule};

use crate::{
    bed::{Bed, servers},
    world::{
        ITEMS, check, check_bounded, crash_at_every_request, crash_at_first, crashed_at_every_site, full,
        harness, never_crashed_at, reached_every_site, run, sized, sized_on, world,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_the_next_operator_finishes_and_proves_it() {
    let proven = async |world: Arc<Bed>| check_bounded(world, 2).await;
    let crashes = harness("crash at every request");
    let mut report = crash_at_every_request(crashes.clone(), 1, world, run, proven)
        .await
        .unwrap();
    // The request of a number is not the same in every run: what one loop of runs has not met is met by its kind.
    let missed = never_crashed_at(&report).into_iter().flat_map(crash_at_first);
    report.merge(crashes.schedules(missed, world, run, proven).await.unwrap());
    if !report.replayed {
        crashed_at_every_site(&report);
    }
}

/// A sample, on each of the implementations of DynamoDB.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_and_lost_answers_do_no_harm_whichever_implementation_answers() {
    let step = if full() { 1 } else { 5 };
    for server in servers().await {
        let make = async |plan| Ok(sized_on(server.clone(), plan, ITEMS).await);
        let crashes = (0..).zip((4..30).step_by(step)).map(|(n, request)| {
            let site = CrashSite::ALL[n % CrashSite::ALL.len()];
            Schedule::default().crash(request, site)
        });
        let lost = (3..30)
            .step_by(2 * step)
            .map(|request| Schedule::default().at_request(request, Fault::Lose));
        let report = harness(&format!("sample on {}", server.name()))
            .schedules(crashes.chain(lost), make, run, async |world| {
                check_bounded(world, 2).await
            })
            .await
            .unwrap();
        reached_every_site(&report);
        assert!(report.injected >= 6, "{report}");
    }
}

/// A crash, then another while the successor recovers, and a third.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_in_a_row_cost_no_item_and_no_stranger() {
    let rows: u64 = if full() { 200 } else { 6 };
    let schedules = (0..rows).map(|seed| {
        // Anywhere in the first life; in the others soon enough that they come to it, whatever is left to do.
        let site = |n: u64| CrashSite::ALL[usize::try_from((seed + n) % 3).unwrap()];
        let points = [5 + seed * 7 % 19, 4 + seed % 7, 4 + seed * 3 % 7];
        (0..)
            .zip(points)
            .fold(Schedule::default(), |schedule, (n, request)| {
                schedule.crash(request, site(n))
            })
    });
    let report = harness("crashes in a row")
        .schedules(schedules, world, run, async |world| check_bounded(world, 4).await)
        .await
        .unwrap();
    reached_every_site(&report);
    assert!(
        u64::try_from(report.injected).unwrap() > 2 * rows,
        "most die three times: {report}"
    );
}

/// A partition of several ranges, in which several requests are in flight when the operator dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_parallel_ranges_loses_none_of_them() {
    let points: Vec<u64> = if full() {
        (20..140).collect()
    } else {
        vec![25, 40, 60]
    };
    let items = if full() { 3000 } else { 2000 };
    let plans = points.len();
    let schedules = points.into_iter().map(|request| {
        let site = CrashSite::ALL[usize::try_from(request % 3).unwrap()];
        Schedule::default().crash(request, site)
    });
    let report = harness("crash in parallel ranges")
        .schedules(schedules, async |plan| sized(plan, items).await, run, check)
        .await
        .unwrap();
    assert_eq!(report.injected, plans, "each operator died: {report}");
}
