//! After the lease's deadline nothing that changes EC2 is sent, also by a call that waited for its turn until then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mysql_controller::{cloud::Instances as _, limiter::Limited};
use mysql_ec2::Ec2;
use reconcile::{
    client::ClientOptions,
    clock::Clock,
    leader::{LeaderConfig, LeaderElector, Timing},
};
use testkit::control_plane::ControlPlane;

use crate::{
    bed::{ec2, sdk},
    errors::parameters,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_turn_comes_after_the_lease_is_gone_is_not_sent() {
    reconcile::cli::install_crypto_provider();
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let mut lease = LeaderConfig::new("fenced", namespace.name());
    lease.timing = Timing::FAST;
    let options = ClientOptions::new("fenced");
    let leadership = LeaderElector::spawn(lease, plane.config().clone(), options)
        .await
        .unwrap();
    leadership.acquired().await.unwrap();
    let fence = leadership.fence();

    let ec2 = ec2();
    // In real time: the bucket is empty after three launches, and the fourth waits for a second.
    let cloud = Arc::new(Limited::new(Ec2::new(sdk(&ec2.endpoint())), Clock::system()));
    for token in ["mc1", "mc2", "mc3"] {
        cloud.launch(&parameters(), Some(token), &fence).await.unwrap();
    }
    let waiting = {
        let (cloud, fence) = (cloud.clone(), fence.clone());
        tokio::spawn(async move { cloud.launch(&parameters(), Some("mc4"), &fence).await })
    };
    leadership.release().await;
    let refused = tokio::time::timeout(Duration::from_mins(5), waiting)
        .await
        .unwrap();
    assert!(refused.unwrap().unwrap_err().is_unsent());
    assert_eq!(ec2.world().audit().len(), 3, "the fourth was not sent");

    let id = ec2.world().instances()[0].id.clone();
    let (region, tags) = ("us-east-1", BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let ids = [id.clone()];
    let calls = [
        cloud.terminate(region, &id, &fence).await,
        cloud.start(region, &id, &fence).await,
        cloud.tag(region, &ids, &tags, &fence).await,
        cloud.release(region, &id, &fence).await,
    ];
    for call in calls {
        assert!(call.unwrap_err().is_unsent());
    }
    assert_eq!(ec2.world().audit().len(), 3, "nothing else was sent either");
    cloud.get(region, &id).await.unwrap();
}
