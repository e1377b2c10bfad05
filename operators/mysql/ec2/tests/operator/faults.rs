//! The operator under faults, at both of its boundaries by one plan: Kubernetes' API and EC2's.
//!
//! Whatever happens: never two instances of a member at a time, no launch that is not in the ledger, and nothing left
//! when the object is gone. Each suite prints how much it exercised; the line `REPLAY='…'` of a plan that failed runs
//! that plan alone. `TESTKIT_FULL=1` makes the loops dense and the schedules many.

mod heir;
mod protocol;
mod world;

use testkit::fault::{CrashSite, Fault, Schedule, schedule::Which};

use self::world::{Life, check, coverage, full, harness, run, world};

/// A prime, so that the sites of a loop are hit in turn.
fn stride() -> u64 {
    if full() { 1 } else { 11 }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_each_member_has_one_instance_and_then_none() {
    let report = harness("crash at every request")
        .stride(stride())
        .crash_at_every_request(async |plan| world(plan, Life::Whole).await, run, check)
        .await
        .unwrap();
    report.at_least(coverage(15, 10, 8)).unwrap();
}

/// The requests around each launch, with the object deleted before its instances are known.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_the_middle_of_a_launch_leaves_nothing_whatever_crashes() {
    let last = if full() { 40 } else { 16 };
    let first = if full() { 1 } else { 6 };
    let schedules = (first..=last).flat_map(|request| {
        let sites = if full() {
            &CrashSite::ALL[..]
        } else {
            &CrashSite::ALL[1..2]
        };
        sites
            .iter()
            .map(move |site| Schedule::default().crash(request, *site))
    });
    let report = harness("deleted while launching")
        .schedules(
            schedules,
            async |plan| world(plan, Life::CutShort).await,
            run,
            check,
        )
        .await
        .unwrap();
    report.at_least(coverage(11, 7, 5)).unwrap();
}

/// The adopting cluster lives on what an earlier one has left, then goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_of_an_adoption_all_is_taken_over_and_then_gone() {
    let stride = if full() { 1 } else { 23 };
    let report = harness("crash at every request of an adoption")
        .stride(stride)
        .crash_at_every_request(async |plan| world(plan, Life::Heir).await, run, check)
        .await
        .unwrap();
    report.at_least(coverage(9, 9, 6)).unwrap();
}

/// The operator dies at the requests around what is taken over, and before another one looks somebody deletes the cluster with
/// `--cascade=foreground`: Kubernetes removes what it owns by then.
#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_ends_half_way_leaves_instances_with_their_key_or_nothing() {
    let last = if full() { 40 } else { 22 };
    let first = if full() { 1 } else { 8 };
    let schedules = (first..=last).map(|request| Schedule::default().crash(request, CrashSite::ALL[1]));
    let report = harness("deleted while adopting")
        .schedules(
            schedules,
            async |plan| world(plan, Life::HeirCutShort).await,
            run,
            check,
        )
        .await
        .unwrap();
    report.at_least(coverage(15, 6, 5)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_refused_connections_at_ec2_are_asked_again() {
    let sites = [
        "EC2 RunInstances",
        "EC2 DescribeInstances",
        "EC2 TerminateInstances",
    ];
    let schedules = sites.into_iter().flat_map(|site| {
        let row = |fault| {
            (1..=3).fold(Schedule::default(), |schedule, nth| {
                schedule.at(site, Which::Nth(nth), fault)
            })
        };
        let failed = Fault::Status {
            code: 500,
            retry_after: None,
            applied: true,
        };
        [
            row(Fault::Lose),
            row(Fault::Refuse),
            row(Fault::status(503)),
            row(failed),
        ]
    });
    let report = harness("faults of EC2")
        .schedules(schedules, async |plan| world(plan, Life::Whole).await, run, check)
        .await
        .unwrap();
    report.at_least(coverage(12, 10, 0)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_drawn_from_a_seed_do_no_harm() {
    let seeds = if full() { 1000 } else { 10 };
    let schedules = (0..seeds).map(|seed: u64| {
        let often = 60 + u32::try_from(seed % 4).unwrap() * 60;
        let schedule = Schedule::default().seeded(seed, often, 3);
        // Every other plan dies on the way as well.
        if seed.is_multiple_of(2) {
            return schedule;
        }
        let site = CrashSite::ALL[usize::try_from(seed % 3).unwrap()];
        schedule.crash(8 + seed * 13 % 60, site)
    });
    let report = harness("seeded faults")
        .schedules(schedules, async |plan| world(plan, Life::Whole).await, run, check)
        .await
        .unwrap();
    report.at_least(coverage(10, 10, 0)).unwrap();
    assert!(report.injected >= 20, "{report}");
}
