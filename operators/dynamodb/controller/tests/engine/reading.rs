//! Measuring on little read capacity, in virtual time, and what is told of it.

use std::time::Duration;

use dynamodb_controller::partition::{Bottleneck, Capacity, End, Engine, Request, Stage, Tuning};

use crate::simulation::{Layout, Simulation, timed};

#[tokio::test(start_paused = true)]
async fn a_partition_is_measured_however_little_read_capacity_there_is() {
    // A page takes the table five seconds, and eight readers want one at a time.
    let layout = Layout {
        items: 3000,
        page: Some(50),
        wcu: 4.0,
        reads: 5.0,
        ..Layout::default()
    };
    let simulation = Simulation::new(layout.clone());
    let control = Simulation::control();
    let mut progress = control.progress.subscribe();
    let client = simulation.client();
    let engine = Engine::default();
    let run = timed(engine.delete_partition(&client, Simulation::request(), control));
    let named = Some(Bottleneck::Table(Capacity::Read));
    let seen = async {
        let seen = progress
            .wait_for(|progress| progress.throttled && progress.counted_items >= Some(1000))
            .await;
        seen.unwrap().clone()
    };
    let ((finished, took), seen) = tokio::join!(run, seen);
    assert_eq!((seen.stage, &seen.bottleneck), (Stage::Planning, &named));
    assert!(seen.totals.rcu_milli >= 500_000, "{seen:?}");
    let finished = finished.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    let ideal = finished.totals.rcu_milli as f64 / 1000.0 / layout.reads;
    let took = took.as_secs_f64();
    println!("{took} s; the reads alone take {ideal} s; {:?}", finished.totals);
    assert!(took <= 1.2 * ideal, "{took} s instead of {ideal} s");
}

#[tokio::test(start_paused = true)]
async fn what_a_measurement_consumed_that_came_to_nothing_is_told() {
    let simulation = Simulation::new(Layout {
        items: 3000,
        page: Some(2),
        ..Layout::default()
    });
    let control = Simulation::control();
    let progress = control.progress.clone();
    let (engine, client) = (Engine::default(), simulation.client());
    let request = Request {
        tuning: Tuning {
            keep_keys: false,
            ..Tuning::default()
        },
        ..Simulation::request()
    };
    let outage = async {
        while simulation.asked().queries < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        simulation.fail_for(Duration::from_hours(1));
    };
    let (prepared, ()) = tokio::join!(engine.prepare(&client, request, control), outage);
    prepared.unwrap_err();
    // Half a unit for two items.
    assert_eq!(
        progress.borrow().totals.rcu_milli,
        500 * simulation.asked().queries
    );
}
