//! Each answer of EC2, through the real SDK: verdict, how long is waited, condition, and that it heals.

use std::time::Duration;

use mysql_api::{MySQLCluster, cluster::LaunchPhase};
use mysql_controller::{
    cloud::{CloudError, Instances as _},
    desired::{Desired, Owner, Settings},
    evidence::Evidence,
    identity::Identity,
    outcome::{Verdict, verdict},
    parameters::LaunchParameters,
};
use mysql_ec2::Ec2;
use reconcile::{clock::Clock, fence::Fence};
use rstest::rstest;
use serde_json::json;

use crate::bed::{Bed, ec2, ready, sample, says, sdk};

pub(crate) fn parameters() -> LaunchParameters {
    let spec = serde_json::from_value(sample(1)).unwrap();
    let owner = Owner {
        namespace: "ns",
        name: "c",
        uid: "u",
    };
    let desired = Desired::resolve(owner, &spec, &Settings::default()).unwrap();
    let identity = Identity {
        cluster_uid: "u".into(),
        ordinal: 0,
        incarnation: 1,
    };
    LaunchParameters::new(&desired, &identity, "subnet-12345678", "op")
}

#[rstest]
#[case("RequestLimitExceeded", Verdict::Throttled, 5)]
#[case("InsufficientInstanceCapacity", Verdict::NoCapacity, 300)]
#[case("InsufficientFreeAddressesInSubnet", Verdict::NoCapacity, 300)]
#[case("Unsupported", Verdict::NoCapacity, 300)]
#[case("VcpuLimitExceeded", Verdict::Quota, 600)]
#[case("InstanceLimitExceeded", Verdict::Quota, 600)]
#[case("PendingVerification", Verdict::Quota, 600)]
#[case("UnauthorizedOperation", Verdict::Denied, 300)]
#[case("AuthFailure", Verdict::Denied, 300)]
#[case("RequestExpired", Verdict::Denied, 300)]
#[case("OptInRequired", Verdict::Denied, 300)]
#[case("InvalidAMIID.NotFound", Verdict::Refused, 1800)]
#[case("InvalidParameterValue", Verdict::Refused, 1800)]
#[case("TagPolicyViolation", Verdict::Refused, 1800)]
#[case("IdempotentParameterMismatch", Verdict::Mismatch, 2)]
#[case("IdempotentInstanceTerminated", Verdict::Spent, 2)]
#[case("InternalError", Verdict::Unknown, 2)]
#[case("ServiceUnavailable", Verdict::Unknown, 2)]
#[case("Throttling", Verdict::Throttled, 5)]
#[case("EC2ThrottledException", Verdict::Throttled, 5)]
#[case("VolumeTypeNotAvailableInZone", Verdict::NoCapacity, 300)]
#[case("MaxSpotInstanceCountExceeded", Verdict::Quota, 600)]
#[case("VolumeLimitExceeded", Verdict::Quota, 600)]
#[case("SecurityGroupsPerInstanceLimitExceeded", Verdict::Quota, 600)]
#[case("SecurityGroupsPerInterfaceLimitExceeded", Verdict::Quota, 600)]
#[case("SomethingNew", Verdict::Unlisted, 2)]
#[case("AccessDenied", Verdict::Denied, 300)]
#[case("Blocked", Verdict::Denied, 300)]
#[case("ExpiredToken", Verdict::Denied, 300)]
#[case("InvalidClientTokenId", Verdict::Denied, 300)]
#[case("InvalidAMIID.Malformed", Verdict::Refused, 1800)]
#[case("InvalidAMIID.Unavailable", Verdict::Refused, 1800)]
#[case("InvalidSubnetID.NotFound", Verdict::Young, 5)]
#[case("InvalidGroup.NotFound", Verdict::Young, 5)]
#[case("InvalidKeyPair.NotFound", Verdict::Refused, 1800)]
#[case("InvalidParameterCombination", Verdict::Refused, 1800)]
#[case("InvalidBlockDeviceMapping", Verdict::Refused, 1800)]
#[case("UnsupportedOperation", Verdict::Refused, 1800)]
#[case("InvalidUserData.Malformed", Verdict::Refused, 1800)]
#[case("MissingParameter", Verdict::Refused, 1800)]
#[case("Unavailable", Verdict::Unknown, 2)]
#[case("lose", Verdict::Unknown, 2)]
#[case("refuse", Verdict::Unknown, 2)]
#[tokio::test]
async fn each_answer_arrives_as_its_verdict_after_one_attempt_and_is_waited_for_after(
    #[case] fault: &str,
    #[case] expected: Verdict,
    #[case] seconds: i64,
) {
    let ec2 = ec2();
    ec2.world()
        .set_faults(format!("RunInstances={fault}").parse().unwrap());
    let cloud = Ec2::new(sdk(&ec2.endpoint()));
    let error = cloud
        .launch(&parameters(), Some("mct"), &Fence::open())
        .await
        .unwrap_err();
    assert_eq!(verdict(&error), expected, "{error}");
    assert_eq!(ec2.world().audit().len(), 1, "one attempt");
    assert_eq!(waits(&error), seconds);
}

/// How many seconds a member waits whose first attempt fails like this.
fn waits(error: &CloudError) -> i64 {
    let now = Clock::accelerated(1).now();
    let mut evidence = Evidence::default();
    evidence.hold(0, verdict(error), error.to_string(), now);
    evidence.held(0).unwrap().until.duration_since(now).as_secs()
}

/// EC2 has no code of its own for it, only words.
#[tokio::test]
async fn a_profile_that_is_not_known_may_be_young() {
    let ec2 = ec2();
    let mut parameters = parameters();
    parameters.template.instance_profile = Some("made-just-now".into());
    let cloud = Ec2::new(sdk(&ec2.endpoint()));
    let error = cloud
        .launch(&parameters, Some("mct"), &Fence::open())
        .await
        .unwrap_err();
    assert_eq!(verdict(&error), Verdict::Young, "{error}");
    assert_eq!(waits(&error), 5);
}

#[tokio::test]
async fn what_was_launched_is_what_was_asked_for() {
    let ec2 = ec2();
    let cloud = Ec2::new(sdk(&ec2.endpoint()));
    let first = cloud
        .launch(&parameters(), Some("mct"), &Fence::open())
        .await
        .unwrap();
    let again = cloud
        .launch(&parameters(), Some("mct"), &Fence::open())
        .await
        .unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(first.identity().unwrap().cluster_uid, "u");
    let call = &ec2.world().audit()[0];
    let param = |name: &str| call.params.get(name).map(String::as_str);
    assert_eq!(param("MetadataOptions.HttpTokens"), Some("required"));
    assert_eq!(param("MetadataOptions.HttpPutResponseHopLimit"), Some("1"));
    assert_eq!(param("BlockDeviceMapping.1.Ebs.Encrypted"), Some("true"));
    assert_eq!(param("MinCount"), Some("1"));
    assert_eq!(
        param("TagSpecification.3.ResourceType"),
        Some("network-interface")
    );
}

#[rstest]
#[case("quota", "VcpuLimitExceeded", "QuotaExceeded")]
#[case("denied", "UnauthorizedOperation", "CredentialsInvalid")]
#[case("refused", "InvalidParameterValue", "LaunchRefused")]
#[case("young", "InvalidGroup.NotFound", "LaunchRefused")]
#[case("throttled", "RequestLimitExceeded", "Throttled")]
#[case("failing", "InternalError", "AWSAPIError")]
#[case("taken", "IdempotentParameterMismatch", "TokenTaken")]
#[case("crowded", "InsufficientInstanceCapacity", "InsufficientCapacity")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_launch_is_a_condition_and_heals_by_itself(
    #[case] name: &str,
    #[case] code: &str,
    #[case] reason: &str,
) {
    let bed = Bed::new().await;
    bed.ec2.world().deny("RunInstances", Some(code));
    bed.create(name, sample(1)).await;
    bed.until(name, reason, |cluster| {
        says(cluster, "Provisioned", "False", reason)
    })
    .await;
    bed.ec2.world().deny("RunInstances", None);
    bed.until(name, "it healed", |cluster| {
        says(cluster, "Provisioned", "True", "InstancesRunning")
    })
    .await;
    assert_eq!(bed.ec2.world().live("Name", &format!("mysql-{name}")).len(), 1);
    bed.stop().await;
}

/// EC2 has codes that nobody has listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_in_words_that_nobody_knows_is_given_up_once_something_else_is_wanted() {
    let bed = Bed::new().await;
    bed.ec2.world().deny("RunInstances", Some("SomethingNew"));
    bed.create("unlisted", sample(2)).await;
    bed.until("unlisted", "it is said", |cluster| {
        says(cluster, "Provisioned", "False", "AWSAPIError")
    })
    .await;
    bed.patch(
        "unlisted",
        json!({"spec": {"aws": {"instanceType": "t3.small"}, "replicas": 1}}),
    )
    .await;
    let given_up = |cluster: Option<&MySQLCluster>| {
        let launches = &cluster.unwrap().status.as_ref().unwrap().launches;
        launches[0].incarnation == 2 && launches[1].phase == LaunchPhase::Over
    };
    bed.until("unlisted", "both launches are given up", given_up)
        .await;
    bed.ec2.world().deny("RunInstances", None);
    bed.until("unlisted", "it is launched", |cluster| {
        says(cluster, "Provisioned", "True", "InstancesRunning")
    })
    .await;
    assert_eq!(bed.ec2.world().instances().len(), 1, "once");
    let audit = bed.ec2.world().audit();
    let last = audit.iter().rfind(|call| call.action == "RunInstances");
    assert_eq!(last.unwrap().params["InstanceType"], "t3.small");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_without_capacity_is_left_for_another() {
    let bed = Bed::new().await;
    bed.ec2.world().set_capacity("us-east-1a", "t3.micro", Some(0));
    bed.create("elsewhere", sample(1)).await;
    let provisioned = |cluster: Option<&_>| says(cluster, "Provisioned", "True", "InstancesRunning");
    let cluster = bed
        .until("elsewhere", "it runs in another zone", provisioned)
        .await
        .unwrap();
    assert_ne!(
        cluster.status.unwrap().members[0].zone.as_deref(),
        Some("us-east-1a")
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_cluster_costs_no_writes_and_one_listing_a_minute() {
    let bed = Bed::new().await;
    bed.create("idle", sample(3)).await;
    let before = bed.until("idle", "it is ready", ready).await.unwrap();
    let calls = bed.ec2.world().audit().len();
    let started = bed.ec2.world().clock().elapsed();
    // Ten minutes of the operator's time.
    let minutes = Duration::from_mins(10);
    let deadline = tokio::time::Instant::now() + Duration::from_mins(5);
    while bed.ec2.world().clock().elapsed() < started + minutes {
        assert!(tokio::time::Instant::now() < deadline, "time stands still");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = bed.clusters.get("idle").await.unwrap();
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
    let made = bed.ec2.world().audit().len() - calls;
    assert!(made <= 13, "{made} calls in ten minutes");
    bed.stop().await;
}
