//! Runs that share their looks at a table, in virtual time: DynamoDB is asked as seldom as by one, and each run is as safe as
//! alone.

use std::time::Duration;

use dynamodb_api::{Reason, SortKeyBounds, SortKeyPredicate};
use dynamodb_controller::partition::{
    Control, End, Engine, Failure, Finished, Plan, Request, budget::TableKey,
};
use futures::future::join_all;
use tokio::sync::watch;

use crate::simulation::{Layout, Looks, Simulation, sort_key, timed};

/// Runs on one table, and what each deletes: one item per second.
const RUNS: u64 = 30;
const ITEMS: u64 = 20;

fn table() -> Simulation {
    Simulation::new(Layout {
        items: RUNS * ITEMS,
        ..Layout::default()
    })
}

/// A run on some of the items, slow, which shares its looks; it has a plan, so that nothing is measured.
async fn run(simulation: &Simulation, engine: &Engine, number: u64) -> Result<Finished, Failure> {
    let part = SortKeyBounds {
        from: sort_key(number * ITEMS),
        to: sort_key(number * ITEMS + ITEMS - 1),
    };
    let plan = Plan {
        items: ITEMS,
        bytes: ITEMS * 100,
        complete: true,
        ..Plan::default()
    };
    let request = Request {
        plan: Some(plan),
        sort_key: Some(SortKeyPredicate {
            between: Some(part),
            ..SortKeyPredicate::default()
        }),
        looks_with: Some(TableKey::default()),
        ..Simulation::request()
    };
    let control = Control {
        max_wcu: watch::channel(Some(1)).1,
        ..Simulation::control()
    };
    let client = simulation.client();
    engine.delete_partition(&client, request, control).await
}

#[tokio::test(start_paused = true)]
async fn thirty_runs_on_a_table_look_at_it_as_often_as_one() {
    let (simulation, engine) = (table(), Engine::default());
    let runs = (0..RUNS).map(|number| run(&simulation, &engine, number));
    let counted = async {
        // Each has looked once, before anything else.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = simulation.asked().looks;
        tokio::time::sleep(Duration::from_secs(12)).await;
        (before, simulation.asked().looks - before)
    };
    let (finished, (first, later)) = tokio::join!(join_all(runs), counted);
    assert_eq!(first, RUNS);
    assert!((5..=7).contains(&later), "{later} looks in twelve seconds");
    assert!(
        finished
            .into_iter()
            .all(|finished| finished.unwrap().end == End::Empty)
    );
    assert_eq!(simulation.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn none_of_thirty_runs_writes_for_long_to_a_table_that_took_the_place_of_theirs() {
    for looks in [Looks::Answered, Looks::Failing, Looks::Hanging] {
        let (simulation, engine) = (table(), Engine::default());
        let runs = (0..RUNS).map(|number| run(&simulation, &engine, number));
        let replaced = async {
            // In the middle between two looks.
            tokio::time::sleep(Duration::from_secs(5)).await;
            simulation.looks(looks);
            simulation.recreate();
            tokio::time::sleep(Duration::from_secs(6)).await;
            let (left, asked) = (simulation.left(), simulation.asked().batches);
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(
                simulation.asked().batches,
                asked,
                "{looks:?}: sent to the new table"
            );
            // Five seconds at most on the last look, of which one had passed.
            let most = RUNS * if looks == Looks::Answered { 2 } else { 5 };
            let all = RUNS * ITEMS;
            assert!(left >= all - most, "{looks:?}: {left} of {all} left");
            simulation.looks(Looks::Answered);
            left
        };
        let ((ended, took), left) = tokio::join!(timed(join_all(runs)), replaced);
        for run in ended {
            assert_eq!(run.unwrap_err().reason, Reason::TableReplaced, "{looks:?}");
        }
        assert_eq!(
            simulation.left(),
            left,
            "{looks:?}: the new table was touched again"
        );
        assert!(took < Duration::from_secs(25), "{looks:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_on_the_new_table_is_not_ended_by_what_a_run_on_the_old_one_saw() {
    let (simulation, engine) = (table(), Engine::default());
    let old = run(&simulation, &engine, 0);
    let new = async {
        // The next look of the other tells of the old table when this run has seen the new one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        simulation.delay_looks(Duration::from_millis(1500));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        simulation.delay_looks(Duration::ZERO);
        assert_eq!(simulation.asked().looks, 2, "it is on its way");
        simulation.recreate();
        run(&simulation, &engine, 1).await
    };
    let (old, new) = tokio::join!(old, new);
    assert_eq!(old.unwrap_err().reason, Reason::TableReplaced);
    assert_eq!(new.unwrap().end, End::Empty);
}
