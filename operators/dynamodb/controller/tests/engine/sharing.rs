//! Many runs at once, in virtual time: none starves, and none takes what belongs to all.

use std::time::Duration;

use dynamodb_api::SortKeyPredicate;
use dynamodb_controller::partition::{
    Control, End, Engine, Plan, Request, Tuning, budget::TableKey, slots::READS,
};
use futures::future::join_all;
use tokio::sync::watch;

use crate::simulation::{Layout, Simulation, sort_key, timed};

/// A run on the table that `name` tells apart from others, with a plan, so that nothing is measured.
fn planned(name: &str, items: u64) -> Request {
    let plan = Plan {
        items,
        bytes: items * 100,
        complete: true,
        ..Plan::default()
    };
    Request {
        plan: Some(plan),
        shared_with: TableKey {
            endpoint: name.to_owned(),
            ..TableKey::default()
        },
        ..Simulation::request()
    }
}

#[tokio::test(start_paused = true)]
async fn runs_that_are_throttled_for_ever_hold_no_other_up() {
    let refusing = Simulation::new(Layout {
        items: 2000,
        rate: 0.0,
        ..Layout::default()
    });
    let healthy = Simulation::new(Layout {
        items: 2000,
        ..Layout::default()
    });
    let engine = Engine::with_slots(8);
    let controls: Vec<_> = (0..3).map(|_| Simulation::control()).collect();
    let stuck = controls.iter().map(|control| {
        let (engine, client, control) = (engine.clone(), refusing.client(), control.clone());
        let tuning = Tuning {
            max_segments: 8,
            page_keys: 50,
            ..Tuning::default()
        };
        let request = Request {
            tuning,
            ..planned("refusing", 8000)
        };
        async move { engine.delete_partition(&client, request, control).await }
    });
    let served = async {
        // By then the others have taken all slots.
        refusing.has_refused(100).await;
        let client = healthy.client();
        let run = engine.delete_partition(&client, planned("healthy", 2000), Simulation::control());
        let (finished, took) = timed(tokio::time::timeout(Duration::from_secs(120), run)).await;
        for control in &controls {
            control.cancel.cancel();
        }
        (finished, took)
    };
    let (stuck, (finished, took)) = tokio::join!(join_all(stuck), served);
    let finished = finished
        .expect("two minutes bring a slot")
        .expect("the healthy table refuses nothing");
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert!(
        took < Duration::from_secs(15),
        "{took:?} on a table without limits"
    );
    assert!(stuck.into_iter().all(|run| run.unwrap().end == End::Interrupted));
    assert_eq!(refusing.left(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_tiny_limit_makes_way_and_loses_nothing() {
    let simulation = |items| {
        Simulation::new(Layout {
            items,
            ..Layout::default()
        })
    };
    let (slow, fast) = (simulation(100), simulation(2000));
    let engine = Engine::with_slots(1);
    let (_limit, max_wcu) = watch::channel(Some(1));
    let control = Control {
        max_wcu,
        ..Simulation::control()
    };
    let slow_client = slow.client();
    let crawling = engine.delete_partition(&slow_client, planned("slow", 100), control);
    let served = async {
        slow.has_been_asked(1).await;
        let client = fast.client();
        let run = engine.delete_partition(&client, planned("fast", 2000), Simulation::control());
        timed(run).await
    };
    let ((slow_run, slow_took), (fast_run, fast_took)) = tokio::join!(timed(crawling), served);
    assert_eq!(fast_run.unwrap().end, End::Empty);
    assert!(fast_took < Duration::from_secs(15), "{fast_took:?}");
    let slow_run = slow_run.unwrap();
    assert_eq!((slow_run.end, slow_run.rounds), (End::Empty, 1));
    assert_eq!(slow_run.totals.keys_acknowledged, 100);
    assert!(
        (95.0..125.0).contains(&slow_took.as_secs_f64()),
        "100 WCU at one per second took {slow_took:?}"
    );
    assert_eq!((slow.left(), fast.left()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_in_one_range_gets_its_share_beside_one_in_many() {
    // DynamoDB does not say what refuses: some keys come back, or a whole batch without a reason.
    let simulation = Simulation::new(Layout {
        items: 16_000,
        rate: 1000.0,
        wcu: 4.0,
        reason: None,
        ..Layout::default()
    });
    let engine = Engine::default();
    let half = sort_key(8000);
    let run = |predicate: SortKeyPredicate, max_segments| {
        let control = Simulation::control();
        let request = Request {
            sort_key: Some(predicate),
            tuning: Tuning {
                max_segments,
                ..Tuning::default()
            },
            ..planned("shared", 8000)
        };
        let (engine, client, cancel) = (engine.clone(), simulation.client(), control.cancel.clone());
        async move {
            let run = engine.delete_partition(&client, request, control);
            let stop = async {
                tokio::time::sleep(Duration::from_secs(30)).await;
                cancel.cancel();
            };
            let (finished, ()) = tokio::join!(run, stop);
            finished.unwrap().totals.keys_acknowledged as f64
        }
    };
    let below = SortKeyPredicate {
        lt: Some(half.clone()),
        ..SortKeyPredicate::default()
    };
    let above = SortKeyPredicate {
        ge: Some(half),
        ..SortKeyPredicate::default()
    };
    let (many, one) = tokio::join!(run(below, 32), run(above, 1));
    println!("{many} keys by 32 ranges, {one} by one; {:?}", simulation.asked());
    assert!(many / one < 2.0 && one / many < 2.0, "{many} against {one}");
    // 30 s at 1,000 WCU per second, and what was saved up before.
    assert!(many + one > 0.85 * 31_000.0 / 4.0, "{} keys in all", many + one);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_runs_measure_a_few_pages_at_a_time() {
    let simulation = Simulation::new(Layout {
        items: 800,
        page: Some(50),
        ..Layout::default()
    });
    let engine = Engine::default();
    let runs = (0..100).map(|_| {
        let (engine, client) = (engine.clone(), simulation.client());
        async move {
            engine
                .prepare(&client, Simulation::request(), Simulation::control())
                .await
        }
    });
    for prepared in join_all(runs).await {
        let plan = prepared.unwrap().plan().cloned().unwrap();
        assert_eq!((plan.items, plan.complete), (800, true));
    }
    let most = simulation.asked().most_queries;
    assert!(most <= READS as u64, "{most} Queries at once");
}

/// A server that answers no Query would have all places of the process; an endpoint may be a tenant's own.
#[tokio::test(start_paused = true)]
async fn runs_whose_pages_never_come_keep_no_other_from_reading() {
    let (mute, healthy) = (
        Simulation::new(Layout::default()),
        Simulation::new(Layout::default()),
    );
    mute.fall_mute();
    let engine = Engine::default();
    let prepare = |simulation: &Simulation| {
        let (engine, client) = (engine.clone(), simulation.client());
        async move {
            engine
                .prepare(&client, Simulation::request(), Simulation::control())
                .await
                .map(|_| ())
        }
    };
    let stuck = join_all((0..READS).map(|_| prepare(&mute)));
    let served = async {
        // By then they have taken all places.
        mute.has_under_way(READS as u64).await;
        timed(prepare(&healthy)).await
    };
    tokio::select! {
        ended = stuck => panic!("a run without an answer has ended: {ended:?}"),
        (prepared, took) = served => {
            prepared.unwrap();
            assert!(took < Duration::from_secs(5), "{took:?} although nobody reads");
        }
    }
}
