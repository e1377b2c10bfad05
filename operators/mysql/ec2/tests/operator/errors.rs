//! Each answer of EC2, through the real SDK: verdict, condition, and that it heals.

use std::time::Duration;

use mysql_controller::{
    cloud::Instances as _,
    desired::{Desired, Owner, Settings},
    identity::Identity,
    outcome::{Verdict, verdict},
    parameters::LaunchParameters,
};
use mysql_ec2::Ec2;
use reconcile::fence::Fence;
use rstest::rstest;

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
#[case("RequestLimitExceeded", Verdict::Throttled)]
#[case("InsufficientInstanceCapacity", Verdict::NoCapacity)]
#[case("InsufficientFreeAddressesInSubnet", Verdict::NoCapacity)]
#[case("Unsupported", Verdict::NoCapacity)]
#[case("VcpuLimitExceeded", Verdict::Quota)]
#[case("InstanceLimitExceeded", Verdict::Quota)]
#[case("PendingVerification", Verdict::Quota)]
#[case("UnauthorizedOperation", Verdict::Denied)]
#[case("AuthFailure", Verdict::Denied)]
#[case("RequestExpired", Verdict::Denied)]
#[case("OptInRequired", Verdict::Denied)]
#[case("InvalidAMIID.NotFound", Verdict::Refused)]
#[case("InvalidParameterValue", Verdict::Refused)]
#[case("TagPolicyViolation", Verdict::Refused)]
#[case("IdempotentParameterMismatch", Verdict::Mismatch)]
#[case("IdempotentInstanceTerminated", Verdict::Spent)]
#[case("InternalError", Verdict::Unknown)]
#[case("ServiceUnavailable", Verdict::Unknown)]
#[case("Throttling", Verdict::Throttled)]
#[case("EC2ThrottledException", Verdict::Throttled)]
#[case("VolumeTypeNotAvailableInZone", Verdict::NoCapacity)]
#[case("MaxSpotInstanceCountExceeded", Verdict::Quota)]
#[case("VolumeLimitExceeded", Verdict::Quota)]
#[case("AccessDenied", Verdict::Denied)]
#[case("Blocked", Verdict::Denied)]
#[case("ExpiredToken", Verdict::Denied)]
#[case("InvalidClientTokenId", Verdict::Denied)]
#[case("InvalidAMIID.Malformed", Verdict::Refused)]
#[case("InvalidAMIID.Unavailable", Verdict::Refused)]
#[case("InvalidSubnetID.NotFound", Verdict::Refused)]
#[case("InvalidGroup.NotFound", Verdict::Refused)]
#[case("InvalidKeyPair.NotFound", Verdict::Refused)]
#[case("InvalidParameterCombination", Verdict::Refused)]
#[case("InvalidBlockDeviceMapping", Verdict::Refused)]
#[case("UnsupportedOperation", Verdict::Refused)]
#[case("InvalidUserData.Malformed", Verdict::Refused)]
#[case("MissingParameter", Verdict::Refused)]
#[case("Unavailable", Verdict::Unknown)]
#[case("lose", Verdict::Unknown)]
#[case("refuse", Verdict::Unknown)]
#[tokio::test]
async fn each_answer_arrives_as_its_verdict_after_one_attempt(
    #[case] fault: &str,
    #[case] expected: Verdict,
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
