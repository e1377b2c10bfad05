//! A server that is out of order for a while, in virtual time.

use std::time::Duration;

use dynamodb_api::Reason;
use dynamodb_controller::partition::{Control, End, Engine, Failure, Finished};

use crate::simulation::{Layout, Simulation, timed};

/// Items of the table, deleted at 100 per second: a run takes 20 s.
const ITEMS: u64 = 2000;
/// Longer than any test looks.
const FOR_EVER: Duration = Duration::from_hours(1000);

fn slow() -> Simulation {
    Simulation::new(Layout {
        items: ITEMS,
        rate: 100.0,
        ..Layout::default()
    })
}

async fn run(simulation: &Simulation, control: Control) -> Result<Finished, Failure> {
    Engine::default()
        .delete_partition(&simulation.client(), Simulation::request(), control)
        .await
}

/// A run in whose midst the server is out of order for so long, and how long it took.
async fn through(simulation: &Simulation, outage: Duration) -> (Result<Finished, Failure>, Duration) {
    let steer = async {
        simulation.has_been_asked(20).await;
        simulation.fail_for(outage);
    };
    let run = run(simulation, Simulation::control());
    let (ended, ()) = tokio::join!(timed(run), steer);
    ended
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_minute_or_of_ten_fails_no_job() {
    for outage in [Duration::from_mins(1), Duration::from_mins(10)] {
        let simulation = slow();
        let (ended, took) = through(&simulation, outage).await;
        let finished = ended.unwrap();
        assert_eq!((finished.end, simulation.left()), (End::Empty, 0));
        // Whoever waits longer for longer outages has waited at most as long again.
        assert!(
            took < outage * 2 + Duration::from_mins(2),
            "{outage:?} took {took:?}"
        );
        let asked = simulation.failed();
        assert!(asked < 1000, "{outage:?}: asked {asked} times in vain");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_seconds_is_waited_out_within_the_round() {
    let simulation = slow();
    let (ended, took) = through(&simulation, Duration::from_secs(2)).await;
    let finished = ended.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert!(took < Duration::from_mins(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_end_fails_the_job_in_the_end_and_says_why() {
    let simulation = slow();
    let (ended, took) = through(&simulation, FOR_EVER).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.reason, Reason::BackoffLimitExceeded, "{failure}");
    assert!(failure.message.contains("out of order"), "{failure}");
    assert!(took > Duration::from_mins(10), "given up after {took:?}");
    assert!(took < Duration::from_mins(20), "given up after {took:?} only");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_end_while_measuring_awaits_no_back_off() {
    // Pauses are drawn: now and then one of the readers gives up before all pause for long.
    for _ in 0..100 {
        let (simulation, control) = (in_pages(), Simulation::control());
        let cancel = control.cancel.clone();
        let steer = async {
            while simulation.asked().queries < 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            simulation.fail_for(FOR_EVER);
            // By then the pauses are of seconds.
            simulation.has_failed(56).await;
            cancel.cancel();
            tokio::time::Instant::now()
        };
        let measuring = run(&simulation, control);
        tokio::pin!(measuring);
        let told = tokio::select! {
            biased;
            told = steer => told,
            _ = &mut measuring => continue,
        };
        let ended = measuring.await;
        let took = told.elapsed();
        assert!(took < Duration::from_millis(100), "{took:?}, {ended:?}");
        return;
    }
    panic!("a hundred runs gave up before they paused for long");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_end_while_looking_for_what_is_left_awaits_no_back_off() {
    let (simulation, control) = (in_pages(), Simulation::control());
    let cancel = control.cancel.clone();
    simulation.throttle_proofs(u32::MAX);
    let steer = async {
        // By then the pauses are of seconds.
        simulation.has_failed(8).await;
        cancel.cancel();
        tokio::time::Instant::now()
    };
    let (ended, told) = tokio::join!(run(&simulation, control), steer);
    let took = told.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}, {ended:?}");
    assert_eq!(ended.unwrap().end, End::Interrupted);
}

/// A table that is read in many pages.
fn in_pages() -> Simulation {
    Simulation::new(Layout {
        page: Some(10),
        ..Layout::default()
    })
}
