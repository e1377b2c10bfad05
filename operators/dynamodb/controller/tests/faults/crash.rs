//! The operator dies, at any request, and another one finishes.

use testkit::fault::{CrashSite, Schedule};

use crate::world::{check, check_bounded, coverage, full, harness, run, sized, world};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_the_next_operator_finishes_and_proves_it() {
    let report = harness("crash at every request")
        .crash_at_every_request(world, run, check_bounded)
        .await
        .unwrap();
    report.at_least(coverage(60, 11, 30)).unwrap();
}

/// A crash, then another while the successor recovers, and a third.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_in_a_row_cost_no_item_and_no_stranger() {
    let rows = if full() { 200 } else { 6 };
    let schedules = (0..rows).map(|seed: u64| {
        // Spread over the run by steps that share no divisor with it.
        let site = |n: u64| CrashSite::ALL[usize::try_from((seed + n) % 3).unwrap()];
        (0..3).fold(Schedule::default(), |schedule, n| {
            schedule.crash(5 + (seed * 7 + n * 11) % 23, site(n))
        })
    });
    let report = harness("crashes in a row")
        .schedules(schedules, world, run, check_bounded)
        .await
        .unwrap();
    report.at_least(coverage(6, 11, 6)).unwrap();
}

/// A partition of several ranges, in which several requests are in flight when the operator dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_parallel_ranges_loses_none_of_them() {
    let points: Vec<u64> = if full() {
        (20..140).collect()
    } else {
        vec![25, 40, 60, 90]
    };
    let schedules = points.into_iter().map(|request| {
        let site = CrashSite::ALL[usize::try_from(request % 3).unwrap()];
        Schedule::default().crash(request, site)
    });
    let report = harness("crash in parallel ranges")
        .schedules(schedules, async |plan| sized(plan, 3000).await, run, check)
        .await
        .unwrap();
    report.at_least(coverage(4, 10, 1)).unwrap();
}
