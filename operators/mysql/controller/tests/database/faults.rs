//! The operator under faults: a crash at every n-th request, lost answers, refused requests.
//!
//! Whatever happens: no server on a folder that is not filled, no restore onto a volume that a server has had, no data
//! volume gone whose rows are in no backup; and an end. The line `REPLAY='…'` of a plan that failed runs that plan alone.
//! `TESTKIT_FULL=1` makes the loops dense.

mod world;

use testkit::fault::{Fault, Schedule, report::Coverage, schedule::Which};

use self::world::{check, full, harness, run, world, world_of_folders};

fn coverage(plans: usize, sites: usize, crash_sites: usize) -> Coverage {
    Coverage {
        plans,
        sites,
        crash_sites,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_every_row_is_there_and_nothing_was_begun_twice() {
    let report = harness("crash at every request")
        .stride(if full() { 1 } else { 191 })
        .crash_at_every_request(world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(7, 15, 5)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_drawn_from_a_seed_do_no_harm() {
    let seeds = if full() { 300 } else { 3 };
    let schedules = (0..seeds).map(|seed: u64| {
        let often = 40 + u32::try_from(seed % 4).unwrap() * 40;
        Schedule::default().seeded(seed, often, 2)
    });
    let report = harness("seeded faults")
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(3, 15, 0)).unwrap();
    assert!(report.injected >= 8, "{report}");
}

/// The first two answers of a site are lost.
fn losing(site: &str) -> Schedule {
    (1..=2).fold(Schedule::default(), |schedule, nth| {
        schedule.at(site, Which::Nth(nth), Fault::Lose)
    })
}

/// Where a Pod that is put on another node would find nothing, or another life's folder.
#[tokio::test(flavor = "multi_thread")]
async fn folders_of_nodes_are_tied_although_answers_are_lost() {
    let sites = [
        "POST persistentvolumes",
        "GET persistentvolumes",
        "PATCH persistentvolumes",
        "GET nodes",
        "PATCH persistentvolumeclaims",
    ];
    let report = harness("lost answers, folders of nodes")
        .schedules(sites.map(losing), world_of_folders, run, check)
        .await
        .unwrap();
    report.at_least(coverage(5, 15, 0)).unwrap();
    assert!(report.injected >= 5, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_although_the_answer_was_lost_is_not_made_again() {
    let sites = [
        "POST jobs",
        "POST persistentvolumeclaims",
        "POST deployments",
        "POST secrets",
        "PATCH persistentvolumeclaims",
        "DELETE persistentvolumeclaims",
    ];
    let report = harness("lost answers")
        .schedules(sites.map(losing), world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(6, 15, 0)).unwrap();
    assert!(report.injected >= 6, "{report}");
}
