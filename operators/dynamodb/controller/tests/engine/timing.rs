//! How fast the engine is, in virtual time: what it makes of a throttled table, how exactly it keeps limits, and
//! what that costs in requests.

use std::time::Duration;

use dynamodb_api::{Reason, RunMode};
use dynamodb_controller::partition::{
    Bottleneck, Capacity, Control, End, Engine, Landmarks, Plan, Request, Totals, Tuning,
};
use tokio::sync::watch;

use crate::simulation::{Layout, Simulation, devices, kinds, notifications, orders, sort_key, timed};

/// Deletes everything, and how long that took.
async fn empty(simulation: &Simulation) -> Duration {
    empty_steered(simulation, Simulation::control()).await
}

async fn empty_steered(simulation: &Simulation, control: Control) -> Duration {
    let client = simulation.client();
    let prepared = Engine::default()
        .prepare(&client, Simulation::request(), control)
        .await
        .unwrap();
    let (finished, took) = timed(prepared.execute()).await;
    let finished = finished.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(simulation.left(), 0);
    took
}

/// Measures, then deletes in another run that is told the plan, and `landmarks` unless the operator was restarted
/// meanwhile. Returns how long the deletion took.
async fn empty_as_the_operator(simulation: &Simulation, landmarks: bool) -> Duration {
    let (client, engine) = (simulation.client(), Engine::default());
    let request = Request {
        tuning: Tuning {
            keep_keys: false,
            ..Tuning::default()
        },
        ..Simulation::request()
    };
    let measured = engine
        .prepare(&client, request, Simulation::control())
        .await
        .unwrap();
    let request = Request {
        plan: measured.plan().cloned(),
        table_id: Some(measured.table().id.clone()),
        landmarks: if landmarks {
            measured.landmarks().clone()
        } else {
            Landmarks::default()
        },
        ..Simulation::request()
    };
    let run = engine.delete_partition(&client, request, Simulation::control());
    let (finished, took) = timed(run).await;
    let finished = finished.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(simulation.left(), 0);
    took
}

/// Sixteen partitions of a thousand units, and the least time that they take: each begins with a second's worth.
fn sixteen(keys: fn(u64) -> String) -> (Simulation, f64) {
    let layout = Layout {
        items: 16 * 2500,
        keys,
        partitions: 16,
        rate: 1000.0,
        wcu: 4.0,
        // A megabyte.
        page: Some(250),
        ..Layout::default()
    };
    let ideal = (2500.0 * layout.wcu - layout.rate) / layout.rate;
    (Simulation::new(layout), ideal)
}

#[tokio::test(start_paused = true)]
async fn sixteen_partitions_of_a_thousand_units_are_used_to_the_full() {
    let (simulation, ideal) = sixteen(sort_key);
    let took = empty(&simulation).await;
    let (ratio, asked) = (took.as_secs_f64() / ideal, simulation.asked());
    println!("{ratio:.3} of the ideal time; {asked:?}");
    assert!(ratio <= 1.15, "{ratio}");
}

#[tokio::test(start_paused = true)]
async fn the_operator_uses_sixteen_partitions_to_the_full_whatever_the_keys_look_like() {
    for (name, keys) in [
        ("numbers", sort_key as fn(u64) -> String),
        ("orders", orders),
        ("notifications", notifications),
        ("devices", devices),
        ("kinds", kinds),
    ] {
        let (simulation, ideal) = sixteen(keys);
        let took = empty_as_the_operator(&simulation, true).await;
        let (ratio, asked) = (took.as_secs_f64() / ideal, simulation.asked());
        println!("{name}: {ratio:.3} of the ideal time; {asked:?}");
        assert!(ratio <= 1.2, "{name}: {ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_was_restarted_soon_finds_where_crowded_keys_lie() {
    for (name, keys, most) in [
        ("orders", orders as fn(u64) -> String, 1.5),
        ("notifications", notifications, 1.5),
        ("devices", devices, 1.5),
        // Nearly everything between the two is empty. By one range for each it would take eight times the ideal.
        ("kinds", kinds, 5.0),
    ] {
        let (simulation, ideal) = sixteen(keys);
        let took = empty_as_the_operator(&simulation, false).await;
        let (ratio, asked) = (took.as_secs_f64() / ideal, simulation.asked());
        println!("{name}: {ratio:.3} of the ideal time; {asked:?}");
        assert!(ratio <= most, "{name}: {ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_milliseconds_away_the_operator_needs_little_more_than_the_deletions_themselves_take() {
    for keys in [sort_key, orders] {
        let simulation = Simulation::new(Layout {
            items: 40_000,
            keys,
            ..Layout::default()
        });
        let took = empty_as_the_operator(&simulation, true).await.as_secs_f64();
        let in_flight = Simulation::request().tuning.max_in_flight as f64;
        let (ideal, asked) = (40_000.0 / 25.0 / in_flight * 0.010, simulation.asked());
        println!("{:.3} of the ceiling; {asked:?}", ideal / took);
        assert!(took <= ideal * 1.2, "{took} s instead of {ideal} s");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_milliseconds_away_little_is_added_to_what_the_deletions_themselves_take() {
    let simulation = Simulation::new(Layout {
        items: 40_000,
        ..Layout::default()
    });
    let (client, request) = (simulation.client(), Simulation::request());
    let in_flight = request.tuning.max_in_flight as f64;
    let engine = Engine::default();
    let run = engine.delete_partition(&client, request, Simulation::control());
    let (finished, took) = timed(run).await;
    let finished = finished.unwrap();
    assert_eq!(
        (finished.end, finished.rounds, simulation.left()),
        (End::Empty, 1, 0)
    );
    // Full batches, as many in flight as there may be.
    let (batches, asked) = (40_000.0 / 25.0, simulation.asked());
    let (ideal, took) = (batches / in_flight * 0.010, took.as_secs_f64());
    println!("{:.3} of the ceiling; {asked:?}", ideal / took);
    assert!(took <= ideal * 1.08, "{took} s instead of {ideal} s");
    assert!(asked.batches as f64 <= batches * 1.01, "{asked:?}");
    assert!(
        asked.queries <= 20,
        "what was measured is not read again: {asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_capacity_is_kept_however_many_ranges_there_are() {
    let simulation = Simulation::new(Layout {
        items: 2500,
        ..Layout::default()
    });
    let (_limit, max_wcu) = watch::channel(Some(100));
    let control = Control {
        max_wcu,
        ..Simulation::control()
    };
    let took = empty_steered(&simulation, control).await.as_secs_f64();
    // The first batch needs no time; a quarter of a second may be saved up.
    assert!(
        (24.5..27.0).contains(&took),
        "2,500 WCU at 100 per second took {took} s"
    );
    let most = simulation.most_within(Duration::from_secs(1));
    assert!(most <= 150.0, "{most} WCU within a second");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_items_holds_to_the_item_with_many_batches_in_flight() {
    for rate in [f64::INFINITY, 200.0] {
        let simulation = Simulation::new(Layout {
            items: 3000,
            partitions: 4,
            rate,
            ..Layout::default()
        });
        // The plan of an earlier run, since when items came to it.
        let request = Request {
            plan: Some(Plan {
                items: 777,
                bytes: 77_700,
                ..Plan::default()
            }),
            max_items: Some(777),
            earlier: Totals {
                keys_acknowledged: 100,
                ..Totals::default()
            },
            ..Simulation::request()
        };
        let failure = Engine::default()
            .delete_partition(&simulation.client(), request, Simulation::control())
            .await
            .unwrap_err();
        assert_eq!(failure.reason, Reason::LimitExceeded, "{failure}");
        assert!(failure.message.contains("maxItems"), "{failure}");
        assert_eq!(
            simulation.left(),
            3000 - 677,
            "neither more nor fewer than the limit are deleted"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_capacity_in_all_is_kept_with_many_batches_in_flight() {
    let simulation = Simulation::new(Layout {
        items: 3000,
        wcu: 4.0,
        ..Layout::default()
    });
    let request = Request {
        plan: Some(Plan {
            items: 3000,
            bytes: 3000 * 4096,
            ..Plan::default()
        }),
        max_wcu_total: Some(1001),
        ..Simulation::request()
    };
    let failure = Engine::default()
        .delete_partition(&simulation.client(), request, Simulation::control())
        .await
        .unwrap_err();
    assert_eq!(failure.reason, Reason::LimitExceeded, "{failure}");
    let consumed = simulation.asked().wcu;
    assert!(
        (1000.0..=1004.0).contains(&consumed),
        "{consumed} WCU: the last unit pays for one item"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_partition_takes_its_own_time_and_wastes_little() {
    let layout = Layout {
        items: 4 * 500,
        partitions: 4,
        rate: 1000.0,
        first_rate: 100.0,
        ..Layout::default()
    };
    let simulation = Simulation::new(layout.clone());
    let took = empty(&simulation).await;
    // What the slowest one needs; the others are done in a fraction of it.
    let ideal = (500.0 - layout.first_rate) / layout.first_rate;
    let (ratio, asked) = (took.as_secs_f64() / ideal, simulation.asked());
    let (sent, least) = (asked.keys as f64 / 2000.0, 2000 / 25);
    println!("{ratio:.3} of the ideal time, {sent:.2} of the keys; {asked:?}");
    assert!(ratio <= 1.2, "{ratio} of the time that the slow partition needs");
    // Most of it by the slow one; of jitter's making from 1.8 to 2.4.
    assert!(sent <= 2.8, "each key was sent {sent} times");
    assert!(
        asked.batches <= 4 * least,
        "{} batches instead of {least}",
        asked.batches
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_partition_is_not_counted_whole_before_it_is_deleted() {
    let simulation = Simulation::new(Layout {
        items: 3000,
        page: Some(2),
        ..Layout::default()
    });
    let simulation = &simulation;
    let prepare = |request| {
        let (engine, client) = (Engine::default(), simulation.client());
        async move {
            let prepared = engine.prepare(&client, request, Simulation::control()).await;
            let plan = prepared.map(|prepared| prepared.plan().cloned().unwrap());
            (plan, simulation.asked().queries)
        }
    };
    let (plan, queries) = prepare(Simulation::request()).await;
    let plan = plan.unwrap();
    assert!(!plan.complete && plan.items < 1200, "{plan:?}");
    assert!(queries < 600, "{queries} Queries");
    assert_eq!(plan.total(), None, "nothing is a share of a lower bound");

    // A limit is known to be exceeded long before the end.
    let limited = Request {
        max_items: Some(100),
        ..Simulation::request()
    };
    let (plan, again) = prepare(limited).await;
    assert_eq!(plan.unwrap_err().reason, Reason::LimitExceeded);
    assert!(again - queries < 100, "{} Queries", again - queries);

    // A dry run is there to know everything.
    let dry = Request {
        mode: RunMode::DryRun,
        ..Simulation::request()
    };
    let plan = prepare(dry).await.0.unwrap();
    assert_eq!(
        (plan.items, plan.complete, plan.total()),
        (3000, true, Some(3000))
    );
}

#[tokio::test(start_paused = true)]
async fn throttled_reads_are_waited_out_counted_and_named() {
    let simulation = Simulation::new(Layout::default());
    // Three times as often as a read is tried again that fails for another reason.
    simulation.throttle_proofs(33);
    let request = Request {
        backoff_limit: 0,
        ..Simulation::request()
    };
    let control = Simulation::control();
    let mut progress = control.progress.subscribe();
    let client = simulation.client();
    let engine = Engine::default();
    let run = engine.delete_partition(&client, request, control);
    let seen = async {
        let named = Some(Bottleneck::Table(Capacity::Read));
        let seen = progress.wait_for(|progress| progress.bottleneck == named).await;
        seen.is_ok_and(|seen| seen.throttled && seen.idle_rounds == 0)
    };
    let (finished, seen) = tokio::join!(run, seen);
    let finished = finished.unwrap();
    assert!(seen);
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(finished.totals.throttles, 33);
}
