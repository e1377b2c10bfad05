//! RunInstances.

use fake_ec2::Outcome;
use rstest::rstest;

use crate::bed::{Bed, OTHER_ZONE, options};

#[tokio::test]
async fn the_same_token_and_parameters_launch_once() {
    let bed = Bed::new(&options(1));
    let first = bed.launch(&[("ClientToken", "t")]).await;
    let again = bed.launch(&[("ClientToken", "t")]).await;
    assert_eq!(first.one("instanceId"), again.one("instanceId"));
    assert_eq!(first.one("reservationId"), again.one("reservationId"));
    assert_eq!(bed.ec2.world().instances().len(), 1);
    let effective: Vec<_> = bed
        .ec2
        .world()
        .audit()
        .iter()
        .map(|call| call.effective)
        .collect();
    assert_eq!(effective, [true, false]);
}

#[tokio::test]
async fn without_a_token_every_request_launches() {
    let bed = Bed::new(&options(1));
    assert_ne!(bed.launched(&[]).await, bed.launched(&[]).await);
}

#[tokio::test]
async fn the_same_token_with_other_parameters_is_a_mismatch() {
    let bed = Bed::new(&options(1));
    bed.launched(&[("ClientToken", "t")]).await;
    let other = bed
        .launch(&[("ClientToken", "t"), ("InstanceType", "t3.small")])
        .await;
    assert_eq!((other.status, other.code()), (400, "IdempotentParameterMismatch"));
    let other = bed.launch(&[("ClientToken", "t"), ("UserData", "aGk=")]).await;
    assert_eq!(other.code(), "IdempotentParameterMismatch");
    assert_eq!(bed.ec2.world().instances().len(), 1);
}

#[tokio::test]
async fn the_same_token_in_another_zone_launches_again() {
    let bed = Bed::new(&options(1));
    let here = bed.launched(&[("ClientToken", "t")]).await;
    let there = bed
        .launched(&[("ClientToken", "t"), ("SubnetId", OTHER_ZONE)])
        .await;
    assert_ne!(here, there);
}

#[tokio::test]
async fn a_launch_that_leaves_the_zone_open_is_idempotent_in_the_region() {
    let bed = Bed::new(&options(1));
    let open = [("ClientToken", "t"), ("SubnetId", "")];
    assert_eq!(bed.launched(&open).await, bed.launched(&open).await);
}

#[tokio::test]
async fn the_token_of_a_terminated_instance_is_refused_and_forgotten_a_day_later() {
    let bed = Bed::new(&options(200_000));
    let id = bed.launched(&[("ClientToken", "t")]).await;
    bed.ask("TerminateInstances", &[("InstanceId.1", &id)]).await;
    bed.until(&id, "terminated").await;
    let again = bed.launch(&[("ClientToken", "t")]).await;
    assert_eq!(
        (again.status, again.code()),
        (400, "IdempotentInstanceTerminated")
    );
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while bed.launch(&[("ClientToken", "t")]).await.status != 200 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the token was never forgotten"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[rstest]
#[case(&[("ImageId", "ami-zz")], "InvalidAMIID.Malformed")]
#[case(&[("ImageId", "ami-0123456789abcdef0")], "InvalidAMIID.NotFound")]
#[case(&[("SubnetId", "subnet-1")], "InvalidSubnetID.Malformed")]
#[case(&[("SubnetId", "subnet-22345678")], "InvalidSubnetID.NotFound")]
#[case(&[("SecurityGroupId.1", "sg-22345678")], "InvalidGroup.NotFound")]
#[case(&[("SecurityGroupId.1", "mysql")], "InvalidGroupId.Malformed")]
#[case(&[("KeyName", "nobody")], "InvalidKeyPair.NotFound")]
#[case(&[("IamInstanceProfile.Name", "nobody")], "InvalidParameterValue")]
#[case(&[("InstanceType", "t9.huge")], "InvalidParameterValue")]
#[case(&[("InstanceType", "r6g.large")], "InvalidParameterValue")]
#[case(&[("UserData", "%%%")], "InvalidUserData.Malformed")]
#[case(&[("MinCount", "2")], "InvalidParameterValue")]
#[case(&[("ImageId", "")], "MissingParameter")]
#[case(&[("BlockDeviceMapping.1.DeviceName", "/dev/sdf")], "MissingParameter")]
#[case(&[("BlockDeviceMapping.1.DeviceName", "/dev/xvda"), ("BlockDeviceMapping.1.Ebs.VolumeSize", "1")], "InvalidBlockDeviceMapping")]
#[case(&[("BlockDeviceMapping.1.DeviceName", "/dev/sdf"), ("BlockDeviceMapping.1.Ebs.VolumeSize", "9"), ("BlockDeviceMapping.1.Ebs.VolumeType", "gp2"), ("BlockDeviceMapping.1.Ebs.Iops", "100")], "InvalidParameterCombination")]
#[case(&[("TagSpecification.1.ResourceType", "instance"), ("TagSpecification.1.Tag.1.Key", "aws:x")], "InvalidParameterValue")]
#[case(&[("Surprise", "1")], "UnknownParameter")]
#[case(&[("ClientToken", "0123456789012345678901234567890123456789012345678901234567890123x")], "InvalidParameterValue")]
#[tokio::test]
async fn each_bad_parameter_has_its_own_error(#[case] params: &[(&str, &str)], #[case] code: &str) {
    let bed = Bed::new(&options(1));
    let answer = bed.launch(params).await;
    assert_eq!((answer.status, answer.code()), (400, code), "{answer:?}");
    assert_eq!(bed.ec2.world().instances().len(), 0);
}

#[tokio::test]
async fn user_data_is_limited_to_16_kilobytes_before_encoding() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bed = Bed::new(&options(1));
    let fits = BASE64_STANDARD.encode(vec![b'x'; 16_384]);
    bed.launched(&[("UserData", &fits)]).await;
    let exceeds = BASE64_STANDARD.encode(vec![b'x'; 16_385]);
    let answer = bed.launch(&[("UserData", &exceeds)]).await;
    assert_eq!(answer.one("Message"), "User data is limited to 16384 bytes");
}

#[tokio::test]
async fn a_zone_without_capacity_refuses_and_another_one_does_not() {
    let bed = Bed::new(&options(1));
    bed.ec2.world().set_capacity("us-east-1a", "t3.micro", Some(1));
    bed.launched(&[]).await;
    let refused = bed.launch(&[]).await;
    assert_eq!(
        (refused.status, refused.code()),
        (500, "InsufficientInstanceCapacity")
    );
    bed.launched(&[("SubnetId", OTHER_ZONE)]).await;
}

#[tokio::test]
async fn a_range_of_instances_is_launched_as_far_as_capacity_goes() {
    let bed = Bed::new(&options(1));
    bed.ec2.world().set_capacity("us-east-1a", "t3.micro", Some(2));
    let answer = bed.launch(&[("MinCount", "1"), ("MaxCount", "3")]).await;
    assert_eq!(answer.all("instanceId").len(), 2);
}

#[tokio::test]
async fn a_type_that_a_zone_does_not_offer_is_unsupported() {
    let bed = Bed::new(&options(1));
    bed.ec2.world().set_offered("us-east-1a", "t3.micro", false);
    assert_eq!(bed.launch(&[]).await.code(), "Unsupported");
}

#[tokio::test]
async fn the_vcpu_quota_counts_what_runs() {
    let bed = Bed::new(&options(1));
    bed.ec2.world().set_vcpu_limit(Some(3));
    bed.launched(&[]).await;
    let refused = bed.launch(&[]).await;
    assert_eq!((refused.status, refused.code()), (400, "VcpuLimitExceeded"));
}

#[tokio::test]
async fn an_address_is_given_once() {
    let bed = Bed::new(&options(1));
    bed.launched(&[("PrivateIpAddress", "10.0.0.9")]).await;
    let refused = bed.launch(&[("PrivateIpAddress", "10.0.0.9")]).await;
    assert_eq!(refused.code(), "InvalidIPAddress.InUse");
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let bed = Bed::new(&options(1));
    let allowed = bed.launch(&[("DryRun", "true")]).await;
    assert_eq!((allowed.status, allowed.code()), (412, "DryRunOperation"));
    bed.ec2
        .world()
        .deny("RunInstances", Some("UnauthorizedOperation"));
    let denied = bed.launch(&[("DryRun", "true")]).await;
    assert_eq!((denied.status, denied.code()), (403, "UnauthorizedOperation"));
    // EC2 looks at the parameters before it looks at permissions.
    let unknown = bed.launch(&[("ImageId", "ami-0123456789abcdef0")]).await;
    assert_eq!(unknown.code(), "InvalidAMIID.NotFound");
    assert_eq!(bed.ec2.world().instances().len(), 0);
}

#[tokio::test]
async fn tags_go_to_instance_volume_and_interface() {
    let bed = Bed::new(&options(1));
    bed.launched(&[
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "uid"),
        ("TagSpecification.1.Tag.1.Value", "i"),
        ("TagSpecification.2.ResourceType", "volume"),
        ("TagSpecification.2.Tag.1.Key", "uid"),
        ("TagSpecification.2.Tag.1.Value", "v"),
        ("TagSpecification.3.ResourceType", "network-interface"),
        ("TagSpecification.3.Tag.1.Key", "uid"),
        ("TagSpecification.3.Tag.1.Value", "n"),
    ])
    .await;
    let tags = bed
        .ask(
            "DescribeTags",
            &[("Filter.1.Name", "key"), ("Filter.1.Value.1", "uid")],
        )
        .await;
    let mut values = tags.all("value");
    values.sort_unstable();
    assert_eq!(values, ["i", "n", "v"]);
}

#[tokio::test]
async fn rejected_credentials_come_before_everything() {
    let bed = Bed::new(&options(1));
    bed.ec2.world().reject_key("AKID", Some("AuthFailure"));
    let answer = bed.launch(&[("ImageId", "")]).await;
    assert_eq!((answer.status, answer.code()), (401, "AuthFailure"));
    assert_eq!(
        bed.ec2.world().audit()[0].outcome,
        Outcome::Refused("AuthFailure".into())
    );
    let region = bed
        .try_ask("mars-north-1", "DescribeInstances", &[])
        .await
        .unwrap();
    assert_eq!(region.code(), "AuthFailure");
}
