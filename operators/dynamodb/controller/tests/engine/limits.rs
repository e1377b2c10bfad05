//! Limits over the ends of runs, in virtual time: runs that break off anywhere, and what they had written down.

use std::{sync::Arc, time::Duration};

use dynamodb_api::Reason;
use dynamodb_controller::partition::{
    Control, End, Engine, Failure, Finished, Journals, Plan, Request, Reservation,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::simulation::{Layout, Simulation};

const ITEMS: u64 = 1000;

/// What outlives a run.
type Notebook = Arc<Mutex<Option<Reservation>>>;

/// Writes down what a run wants to have written. It takes its time, and a run may be gone before it hears of it.
async fn write(
    mut wanted: watch::Receiver<Reservation>,
    confirm: watch::Sender<u64>,
    notebook: Notebook,
    takes: Duration,
) {
    while wanted.changed().await.is_ok() {
        let reservation = wanted.borrow_and_update().clone();
        tokio::time::sleep(takes).await;
        let number = reservation.number;
        *notebook.lock() = Some(reservation);
        tokio::time::sleep(takes).await;
        confirm.send_replace(number);
    }
    std::future::pending::<()>().await;
}

/// One life, which is broken off at the end of `lasts`, if it lasts so long.
async fn live(
    simulation: &Simulation,
    notebook: &Notebook,
    limit: u64,
    lasts: Duration,
) -> Option<Result<Finished, Failure>> {
    let request = Request {
        max_items: Some(limit),
        max_wcu_total: Some(2 * limit),
        // Items came to it since.
        plan: Some(Plan {
            items: limit,
            bytes: limit * 100,
            ..Plan::default()
        }),
        reservation: notebook.lock().clone(),
        ..Simulation::request()
    };
    let (journal, wanted, confirm) = Journals::default().open();
    let control = Control {
        journal: Some(journal),
        ..Simulation::control()
    };
    let (client, engine) = (simulation.client(), Engine::default());
    let takes = Duration::from_millis(7);
    tokio::select! {
        ended = engine.delete_partition(&client, request, control) => Some(ended),
        () = write(wanted, confirm, notebook.clone(), takes) => None,
        () = tokio::time::sleep(lasts) => None,
    }
}

/// Lives one after the other until one comes to its end; each is broken off at another moment.
async fn lives(simulation: &Simulation, limit: u64, seed: u64) -> (Result<Finished, Failure>, usize) {
    let notebook = Notebook::default();
    for life in 0..1000 {
        let lasts = Duration::from_millis(30 + seed * 13 % 50 + life * (7 + seed) % 90);
        let ended = live(simulation, &notebook, limit, lasts).await;
        let deleted = ITEMS - simulation.left();
        assert!(
            deleted <= limit,
            "{deleted} deleted in life {life}, {limit} allowed"
        );
        if let Some(ended) = ended {
            return (ended, usize::try_from(life).unwrap());
        }
    }
    unreachable!("no life gets anywhere");
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_kept_and_used_up_by_runs_that_break_off_anywhere() {
    let mut broken = 0;
    for seed in 0..12 {
        let simulation = Simulation::new(Layout {
            items: ITEMS,
            rate: 2000.0,
            ..Layout::default()
        });
        let (ended, lives) = lives(&simulation, 700, seed).await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.reason, Reason::LimitExceeded, "{failure}");
        assert_eq!(
            simulation.left(),
            300,
            "seed {seed}: nothing of it is lost either"
        );
        broken += lives;
    }
    assert!(broken > 15, "only {broken} runs broke off");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_just_enough_lets_runs_that_break_off_finish() {
    for seed in 0..12 {
        let simulation = Simulation::new(Layout {
            items: ITEMS,
            rate: 2000.0,
            ..Layout::default()
        });
        let (ended, _) = lives(&simulation, ITEMS, seed).await;
        assert_eq!(ended.unwrap().end, End::Empty, "seed {seed}");
        assert_eq!(simulation.left(), 0);
    }
}

/// However fast the run is: the reservations of a fast one hold more keys each.
#[tokio::test(start_paused = true)]
async fn reservations_are_few() {
    let simulation = Simulation::new(Layout {
        items: 20_000,
        ..Layout::default()
    });
    let (journal, mut wanted, confirm) = Journals::default().open();
    let control = Control {
        journal: Some(journal),
        ..Simulation::control()
    };
    let request = Request {
        max_items: Some(20_000),
        ..Simulation::request()
    };
    let began = tokio::time::Instant::now();
    let count = async {
        let mut written = 0_u32;
        while wanted.changed().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            confirm.send_replace(wanted.borrow_and_update().number);
            written += 1;
        }
        written
    };
    let (client, engine) = (simulation.client(), Engine::default());
    let (ended, written) = tokio::join!(engine.delete_partition(&client, request, control), count);
    let took = began.elapsed().as_secs_f64();
    assert_eq!(ended.unwrap().end, End::Empty);
    println!(
        "{written} reservations in {took:.2} s, {} batches",
        simulation.asked().batches
    );
    assert!(f64::from(written) <= took * 10.0 + 2.0, "{written} in {took} s");
    assert!(u64::from(written) * 20 < simulation.asked().batches, "{written}");
}
