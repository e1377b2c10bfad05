//! What is read of a machine's console, through the real SDK, and how often.

use std::time::Duration;

use fake_ec2::{FakeEc2, Limits, Options, State, Timings};
use mysql_controller::cloud::Instances as _;
use mysql_ec2::Ec2;
use reconcile::{clock::Clock, fence::Fence};
use rstest::rstest;

use crate::{
    bed::{Bed, eventually, sample, sdk},
    errors::parameters,
};

const REGION: &str = "us-east-1";

/// What is read of a machine of this type after it has started, has printed, and has been stopped if `stopped`.
async fn read(kind: &str, stopped: bool) -> Option<String> {
    let ec2 = FakeEc2::start(&Options {
        timings: Timings {
            boot: Duration::ZERO,
            lag: Duration::ZERO,
            post: Duration::ZERO,
            ..Timings::default()
        },
        limits: Limits::Unlimited,
        clock: Clock::system(),
        ..Options::default()
    })
    .unwrap();
    let cloud = Ec2::new(sdk(&ec2.endpoint()));
    let mut parameters = parameters();
    parameters.template.instance_type = kind.into();
    let id = cloud
        .launch(&parameters, Some("token"), &Fence::open())
        .await
        .unwrap()
        .id;
    ec2.world().set_console(&id, "certificate");
    assert!(!stopped || ec2.world().stop(&id));
    cloud.console(REGION, &id).await.unwrap()
}

#[rstest]
#[case::live("t3.micro", false, "certificate")]
#[case::not_posted_yet("t2.micro", false, "")]
#[case::posted("t2.micro", true, "certificate")]
#[tokio::test]
async fn a_console_is_read_as_it_is_now_wherever_ec2_shows_that_and_else_as_it_was_posted(
    #[case] kind: &str,
    #[case] stopped: bool,
    #[case] shown: &str,
) {
    assert_eq!(read(kind, stopped).await.as_deref(), Some(shown));
}

/// Each console is a request of its own: clusters whose image has no MySQL must not use up what EC2 answers a region.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_print_nothing_are_asked_less_and_less_often() {
    let bed = Bed::new().await;
    bed.fleet.mute();
    for name in ["mute-a", "mute-b", "mute-c"] {
        bed.create(name, sample(3)).await;
    }
    let world = bed.ec2.world();
    let running = || {
        let all = world.instances();
        all.iter()
            .filter(|instance| instance.state == State::Running)
            .count()
    };
    eventually("all machines run", async || running() == 9).await;
    let ends = world.clock().elapsed() + Duration::from_mins(30);
    eventually("half an hour has passed", async || {
        world.clock().elapsed() >= ends
    })
    .await;
    let audit = world.audit();
    let reads = audit.iter().filter(|call| call.action == "GetConsoleOutput");
    let reads = reads.count();
    // Thirteen in the first two minutes, as many in all the others; every ten seconds it would be 180.
    assert!(
        (9 * 2..=9 * 30).contains(&reads),
        "{reads} consoles were read in half an hour"
    );
    bed.stop().await;
}
