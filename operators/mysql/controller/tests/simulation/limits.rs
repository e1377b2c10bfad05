//! That what EC2 is asked goes through the buckets, and that they learn from what it answers.

use std::time::Duration;

use fake_ec2::Outcome;
use futures::future::join_all;
use mysql_controller::{
    cloud::{CloudError, Instances},
    identity::Identity,
    limiter::Limited,
    parameters::LaunchParameters,
};
use reconcile::{clock::Clock, fence::Fence};

use crate::{
    cloud::Cloud,
    life::{REGION, UID, desired},
};

const TOO_MANY: &str = "RequestLimitExceeded";

/// How long so many listings take, one after the other.
async fn listings(cloud: &impl Instances, clock: &Clock, count: usize) -> Duration {
    let began = clock.elapsed();
    for _ in 0..count {
        // What is answered is not what is asked about here.
        let _ = cloud.list(REGION, "op").await;
    }
    clock.elapsed().saturating_sub(began)
}

#[tokio::test(start_paused = true)]
async fn what_ec2_throttles_is_asked_more_slowly_until_it_does_not_any_more() {
    let clock = Clock::accelerated(1);
    let cloud = Cloud::calm(&clock, Duration::ZERO);
    let limited = Limited::new(cloud.clone(), clock.clone());
    // The burst, and nothing is left of it.
    listings(&limited, &clock, 40).await;
    let usual = listings(&limited, &clock, 20).await;
    assert!(usual <= Duration::from_secs(5), "five a second: {usual:?}");

    cloud.world.deny("DescribeInstances", Some(TOO_MANY));
    listings(&limited, &clock, 10).await;
    let slow = listings(&limited, &clock, 20).await;
    assert!(slow >= usual * 10, "a sixteenth of it: {slow:?}");

    cloud.world.deny("DescribeInstances", None);
    listings(&limited, &clock, 60).await;
    let again = listings(&limited, &clock, 20).await;
    assert!(again <= Duration::from_secs(5), "as before: {again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_another_reason_slows_nothing_down() {
    let clock = Clock::accelerated(1);
    let cloud = Cloud::calm(&clock, Duration::ZERO);
    let limited = Limited::new(cloud.clone(), clock.clone());
    cloud
        .world
        .deny("DescribeInstances", Some("UnauthorizedOperation"));
    listings(&limited, &clock, 40).await;
    let usual = listings(&limited, &clock, 20).await;
    assert!(usual <= Duration::from_secs(5), "{usual:?}");
}

/// Everything at once that an operator asks, as often as this.
async fn burst(cloud: &impl Instances, often: i32) {
    let (fence, wanted) = (Fence::open(), desired(1, 0));
    let asked = (0..often).map(async |index| -> Result<(), CloudError> {
        let identity = Identity {
            cluster_uid: UID.into(),
            ordinal: index,
            incarnation: 1,
        };
        let parameters = LaunchParameters::new(&wanted, &identity, "subnet-12345678", "op");
        let token = format!("token-{index}");
        let launched = cloud.launch(&parameters, Some(&token), &fence).await?;
        cloud.get(REGION, &launched.id).await?;
        let ids = [launched.id.clone()];
        let tags = [("a".to_owned(), "b".to_owned())].into();
        cloud.tag(REGION, &ids, &tags, &fence).await?;
        cloud.terminate(REGION, &launched.id, &fence).await
    });
    let listed = (0..often).map(async |_| cloud.list(REGION, "op").await.map(drop));
    // Some are refused: by EC2, or before they are sent.
    let _ = tokio::join!(join_all(asked), join_all(listed));
}

/// How many requests EC2 got, and of how many it said that they were too many.
fn asked(cloud: &Cloud) -> (usize, usize) {
    let audit = cloud.world.audit();
    let too_many = Outcome::Refused(TOO_MANY.into());
    let throttled = audit.iter().filter(|call| call.outcome == too_many).count();
    (audit.len(), throttled)
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_ec2_would_throttle_is_never_throttled_through_the_buckets() {
    let clock = Clock::accelerated(1);
    let bare = Cloud::calm(&clock, Duration::ZERO);
    burst(&bare, 200).await;
    let (_, throttled) = asked(&bare);
    assert!(throttled > 0, "it is no burst");

    let cloud = Cloud::calm(&clock, Duration::ZERO);
    let limited = Limited::new(cloud.clone(), clock.clone());
    for _ in 0..10 {
        burst(&limited, 200).await;
    }
    let (sent, throttled) = asked(&cloud);
    assert!(sent > 200, "{sent} requests");
    assert_eq!(throttled, 0, "of {sent}");
}
