//! Whole lives of clusters against EC2's semantics in simulated time, under seeded schedules of crashes at every
//! request, lost answers, broken connections, throttling, lag, missing capacity and instances killed behind our back.
//!
//! The world is the EC2 of the crate `fake-ec2`, asked without sockets; time is a paused runtime's, so that a seed
//! decides everything and hours take milliseconds. `SCHEDULES` sets how many seeds run (500; 10,000 with
//! `TESTKIT_FULL=1`), `REPLAY=<seed>` runs one. Another operator has an instance of the same cluster in the account.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod account;
mod chance;
mod cloud;
mod doubts;
mod life;
mod limits;
mod lookout;
mod notebook;
mod report;

use life::live;
use report::Report;

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("REPLAY") {
        return vec![seed.parse().unwrap()];
    }
    let full = std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1");
    let usual = if full { 10_000 } else { 500 };
    let count = std::env::var("SCHEDULES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(usual);
    (1..=count).collect()
}

fn run(seed: u64, trouble: u32) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    match runtime.block_on(live(seed, trouble)) {
        Ok(report) => report,
        Err(violation) => panic!("{violation}\nREPLAY={seed}"),
    }
}

#[test]
fn no_schedule_leads_to_two_instances_of_a_member_or_leaves_one_behind() {
    let (seeds, mut total) = (seeds(), Report::default());
    // Each life is its own thread's: nothing is shared between them.
    let halves = seeds.chunks(seeds.len().div_ceil(2));
    std::thread::scope(|scope| {
        let running: Vec<_> = halves
            .map(|half| scope.spawn(|| half.iter().map(|seed| run(*seed, 120)).collect::<Vec<_>>()))
            .collect();
        for half in running {
            let reports = half
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            for report in &reports {
                total.add(report);
            }
        }
    });
    testkit::progress::line(&format!("mysqlcluster simulation: {total}"));
    // A single one, replayed, need not have met everything.
    assert!(
        total.lives == 1
            || (total.crashes > 0
                && total.lost > 0
                && total.throttled > 0
                && total.crowded > 0
                && total.late > 0
                && total.kills > 0
                && total.retags > 0
                && total.keeps > 0
                && total.edits > 0),
        "nothing was tested: {total}"
    );
}

#[test]
fn without_trouble_each_member_is_launched_once_and_nothing_is_written_twice() {
    let report = run(0, 0);
    // 3, then 5, then 2, then 4 members: five launches and two more, no replacement, no repetition.
    assert_eq!((report.launches, report.instances), (7, 7), "{report}");
}
