//! A table that is dropped and made again in mid-run, in virtual time.

use std::time::Duration;

use dynamodb_api::Reason;
use dynamodb_controller::partition::{End, Engine, Failure, Finished};

use crate::simulation::{Layout, Looks, Simulation, timed};

/// Items of the table, deleted at 100 per second: a run takes 40 s.
const ITEMS: u64 = 4000;
const RATE: u32 = 100;

fn slow() -> Simulation {
    Simulation::new(Layout {
        items: ITEMS,
        rate: f64::from(RATE),
        ..Layout::default()
    })
}

async fn run(simulation: &Simulation) -> Result<Finished, Failure> {
    Engine::default()
        .delete_partition(&simulation.client(), Simulation::request(), Simulation::control())
        .await
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_for_long_while_nobody_can_say_whether_the_table_is_the_same() {
    for looks in [Looks::Failing, Looks::Hanging] {
        let simulation = slow();
        let steer = async {
            simulation.has_been_asked(20).await;
            simulation.looks(looks);
            simulation.recreate();
            tokio::time::sleep(Duration::from_secs(8)).await;
            let (left, asked) = (simulation.left(), simulation.asked().batches);
            tokio::time::sleep(Duration::from_secs(8)).await;
            assert_eq!(
                simulation.asked().batches,
                asked,
                "{looks:?}: sent on a look that is too old"
            );
            // Five seconds at most on the last look, and what is in flight.
            assert!(
                left >= ITEMS - u64::from(RATE) * 6,
                "{looks:?}: {left} of {ITEMS} left"
            );
            simulation.looks(Looks::Answered);
            left
        };
        let ((ended, took), left) = tokio::join!(timed(run(&simulation)), steer);
        assert_eq!(ended.unwrap_err().reason, Reason::TableReplaced, "{looks:?}");
        assert_eq!(
            simulation.left(),
            left,
            "{looks:?}: the new table was touched again"
        );
        assert!(took < Duration::from_secs(30), "{looks:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waited_for_a_look_goes_on_when_the_table_is_the_same() {
    let simulation = slow();
    let steer = async {
        simulation.has_been_asked(20).await;
        simulation.looks(Looks::Hanging);
        tokio::time::sleep(Duration::from_secs(15)).await;
        simulation.looks(Looks::Answered);
    };
    let (finished, ()) = tokio::join!(run(&simulation), steer);
    let finished = finished.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(finished.totals.keys_acknowledged, ITEMS);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_table_leads_to_a_look_at_once() {
    let simulation = slow();
    let steer = async {
        simulation.has_been_asked(20).await;
        // Writes do not see the new table yet when it is described already.
        simulation.hide_from_batches(u32::MAX);
        simulation.recreate();
        tokio::time::Instant::now()
    };
    let (ended, replaced) = tokio::join!(run(&simulation), steer);
    assert_eq!(ended.unwrap_err().reason, Reason::TableReplaced);
    assert!(
        replaced.elapsed() < Duration::from_secs(1),
        "{:?}",
        replaced.elapsed()
    );
    assert_eq!(simulation.left(), ITEMS, "the new table was touched");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_answer_that_there_is_no_table_does_not_end_the_job() {
    let simulation = slow();
    let steer = async {
        simulation.has_been_asked(20).await;
        simulation.hide_from_batches(1);
    };
    let (finished, ()) = tokio::join!(run(&simulation), steer);
    assert_eq!(finished.unwrap().end, End::Empty);
    assert_eq!(simulation.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_held_up_on_its_way_does_not_leave_on_a_look_that_is_too_old() {
    let simulation = slow();
    let steer = async {
        simulation.has_been_asked(20).await;
        // From here on nobody looks, and each batch leaves later than a look is good for.
        simulation.looks(Looks::Failing);
        simulation.hold_batches(Duration::from_secs(8));
        // Those that were past the delay.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = simulation.asked().batches;
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(
            simulation.asked().batches,
            asked,
            "left on a look that is too old"
        );
        simulation.looks(Looks::Answered);
        simulation.hold_batches(Duration::ZERO);
    };
    let (finished, ()) = tokio::join!(run(&simulation), steer);
    assert_eq!(finished.unwrap().end, End::Empty);
    assert_eq!(simulation.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_on_a_first_look_whose_answer_was_long_on_its_way() {
    let simulation = slow();
    // What it tells is six seconds old when it arrives.
    simulation.delay_looks(Duration::from_secs(6));
    let steer = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        simulation.delay_looks(Duration::ZERO);
        simulation.recreate();
    };
    let (ended, ()) = tokio::join!(run(&simulation), steer);
    assert_eq!(ended.unwrap_err().reason, Reason::TableReplaced);
    assert_eq!(simulation.left(), ITEMS, "the new table was touched");
}
