//! The operator under faults: a crash at every n-th request, lost answers, refused requests.
//!
//! Whatever happens: no server on a folder that is not filled, no restore onto a volume that a server has had, no data
//! volume gone whose rows are in no backup; and an end. The line `REPLAY='…'` of a plan that failed runs that plan alone.
//! `TESTKIT_FULL=1` makes the loops dense.

mod stories;
mod world;

use rstest::rstest;
use testkit::fault::{
    Fault, Schedule,
    crash::Harness,
    plan::FaultPlan,
    report::{Coverage, Report},
    schedule::{CrashSite, Which},
};

use self::{
    stories::Story,
    world::{World, check, full, harness, run, world, world_of, world_of_folders},
};

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

/// A crash at every request; without `--full` two plans of six crashes each, where one incarnation after the other dies.
async fn crashes<M>(harness: &Harness, world: M) -> Report
where
    M: AsyncFn(FaultPlan) -> anyhow::Result<World>,
{
    if full() {
        return harness.crash_at_every_request(world, run, check).await.unwrap();
    }
    let several = |first: u64, step: u64| {
        let sites = CrashSite::ALL.into_iter().cycle().take(6);
        (0..)
            .zip(sites)
            .fold(Schedule::default(), |schedule, (nth, site)| {
                schedule.crash(first + nth * step, site)
            })
    };
    let schedules = [several(14, 6), several(21, 9)];
    harness.schedules(schedules, world, run, check).await.unwrap()
}

#[rstest]
#[case::what_the_first_operator_left(Story::Adopted)]
#[case::a_last_backup_that_fails(Story::Blocked)]
#[case::a_last_backup_that_is_given_up(Story::GivenUp)]
#[case::a_volume_that_is_kept(Story::Retained)]
#[case::a_volume_that_is_lost(Story::Lost)]
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_every_other_story_ends_as_it_should(#[case] story: Story) {
    let harness = harness(&format!("crash at every request, {story:?}"));
    let report = crashes(&harness, async |plan| world_of(story, plan).await).await;
    report.at_least(coverage(2, 20, 7)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_folders_of_nodes_are_tied() {
    let harness = harness("crash at every request, folders of nodes");
    let report = crashes(&harness, world_of_folders).await;
    report.at_least(coverage(2, 20, 7)).unwrap();
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
