//! The operator dies, at any request, and another one finishes.

use testkit::fault::{CrashSite, Schedule};

use crate::world::{
    check, check_bounded, crashed_at_every_site, full, harness, never_crashed_at, reached_every_site, run,
    sized, world,
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_the_next_operator_finishes_and_proves_it() {
    let crashes = async || {
        harness("crash at every request")
            .crash_at_every_request(world, run, async |world| check_bounded(world, 2).await)
            .await
            .unwrap()
    };
    let mut report = crashes().await;
    // The request of a number is not the same in every run: what one loop of runs has not met, another meets.
    for _ in 0..2 {
        if never_crashed_at(&report).is_empty() {
            break;
        }
        report.crash_sites.extend(crashes().await.crash_sites);
    }
    crashed_at_every_site(&report);
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
        vec![25, 40, 60, 90]
    };
    let plans = points.len();
    let schedules = points.into_iter().map(|request| {
        let site = CrashSite::ALL[usize::try_from(request % 3).unwrap()];
        Schedule::default().crash(request, site)
    });
    let report = harness("crash in parallel ranges")
        .schedules(schedules, async |plan| sized(plan, 3000).await, run, check)
        .await
        .unwrap();
    assert_eq!(report.injected, plans, "each operator died: {report}");
}
