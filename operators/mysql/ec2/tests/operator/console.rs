//! What is read of a machine's console, through the real SDK.

use std::time::Duration;

use fake_ec2::{FakeEc2, Limits, Options, Timings};
use mysql_controller::cloud::Instances as _;
use mysql_ec2::Ec2;
use reconcile::{clock::Clock, fence::Fence};
use rstest::rstest;

use crate::{bed::sdk, errors::parameters};

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
