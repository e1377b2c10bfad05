//! The provider dies, at any request to either side, and another one finishes.

use testkit::fault::{CrashSite, Schedule};

use crate::world::{check, coverage, full, harness, run, world};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_each_machine_was_made_and_bootstrapped_once() {
    // An odd stride, so that the sites of a loop are hit in turn.
    let stride = if full() { 1 } else { 11 };
    let report = harness("crash at every request")
        .stride(stride)
        .crash_at_every_request(world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(20, 20, 15)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_in_a_row_leave_neither_orphan_nor_second_bootstrap() {
    let rows = if full() { 200 } else { 6 };
    let schedules = (0..rows).map(|seed: u64| {
        let site = |n: u64| CrashSite::ALL[usize::try_from((seed + n) % 3).unwrap()];
        (0..3).fold(Schedule::default(), |schedule, n| {
            schedule.crash(8 + (seed * 11 + n * 17) % 60, site(n))
        })
    });
    let report = harness("crashes in a row")
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(6, 20, 6)).unwrap();
}
