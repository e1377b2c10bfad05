//! What happens to instances, and to what hangs on them.

use fake_ec2::{State, StateReason};

use crate::bed::{AMI, Bed, OTHER_ZONE, options};

#[tokio::test]
async fn a_protected_instance_shields_its_zone_and_no_other() {
    let bed = Bed::new(&options(1));
    let protected = bed.launched(&[("DisableApiTermination", "true")]).await;
    let neighbour = bed.launched(&[]).await;
    let elsewhere = bed.launched(&[("SubnetId", OTHER_ZONE)]).await;
    let ids = [
        ("InstanceId.1", protected.as_str()),
        ("InstanceId.2", neighbour.as_str()),
        ("InstanceId.3", elsewhere.as_str()),
    ];
    let answer = bed.ask("TerminateInstances", &ids).await;
    assert_eq!((answer.status, answer.code()), (400, "OperationNotPermitted"));
    let live: Vec<_> = bed
        .ec2
        .world()
        .instances()
        .into_iter()
        .map(|i| (i.id, i.state.is_live()))
        .collect();
    assert!(live.contains(&(neighbour.clone(), true)) && live.contains(&(elsewhere.clone(), false)));
    let lift = [
        ("InstanceId", protected.as_str()),
        ("DisableApiTermination.Value", "false"),
    ];
    assert_eq!(bed.ask("ModifyInstanceAttribute", &lift).await.status, 200);
    assert_eq!(bed.ask("TerminateInstances", &ids[..1]).await.status, 200);
}

#[tokio::test]
async fn one_unknown_id_fails_the_whole_termination() {
    let bed = Bed::new(&options(1));
    let id = bed.launched(&[]).await;
    let ids = [
        ("InstanceId.1", id.as_str()),
        ("InstanceId.2", "i-0123456789abcdef0"),
    ];
    assert_eq!(
        bed.ask("TerminateInstances", &ids).await.code(),
        "InvalidInstanceID.NotFound"
    );
    assert!(bed.ec2.world().instances()[0].state.is_live());
}

#[tokio::test]
async fn terminating_twice_is_terminating_once() {
    let bed = Bed::new(&options(1));
    let id = bed.launched(&[]).await;
    for _ in 0..2 {
        assert_eq!(
            bed.ask("TerminateInstances", &[("InstanceId.1", &id)])
                .await
                .status,
            200
        );
    }
    let effective = bed
        .ec2
        .world()
        .audit()
        .iter()
        .filter(|call| call.effective)
        .count();
    assert_eq!(effective, 2);
}

#[tokio::test]
async fn stopping_and_starting_go_through_their_states() {
    let bed = Bed::new(&options(100));
    let id = bed.launched(&[]).await;
    let params = [("InstanceId.1", id.as_str())];
    let early = bed.ask("StopInstances", &params).await;
    assert_eq!(early.code(), "IncorrectInstanceState");
    bed.until(&id, "running").await;
    let stopping = bed.ask("StopInstances", &params).await;
    assert!(stopping.one("currentState").contains("stopping"), "{stopping:?}");
    bed.until(&id, "stopped").await;
    assert_eq!(bed.ask("StartInstances", &params).await.status, 200);
    bed.until(&id, "running").await;
    bed.ask("TerminateInstances", &params).await;
    assert_eq!(
        bed.ask("StartInstances", &params).await.code(),
        "IncorrectInstanceState"
    );
}

#[tokio::test]
async fn volumes_go_with_the_instance_unless_told_to_stay() {
    let bed = Bed::new(&options(20_000));
    let id = bed
        .launched(&[
            ("BlockDeviceMapping.1.DeviceName", "/dev/sdf"),
            ("BlockDeviceMapping.1.Ebs.VolumeSize", "20"),
            ("BlockDeviceMapping.1.Ebs.VolumeType", "gp3"),
            ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "false"),
        ])
        .await;
    let volumes = bed.ask("DescribeVolumes", &[]).await;
    assert_eq!(volumes.all("volumeType").len(), 2);
    let mut snapshots = volumes.all("snapshotId");
    snapshots.sort_unstable();
    assert_eq!(snapshots, ["", "snap-0c02fb55956c7d316"], "the image's, and none");
    let kept = volumes
        .body
        .split("<item>")
        .find(|item| item.contains("<size>20<"))
        .unwrap();
    let kept = kept
        .split("<volumeId>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        bed.ask("DeleteVolume", &[("VolumeId", &kept)]).await.code(),
        "VolumeInUse"
    );
    bed.ask("TerminateInstances", &[("InstanceId.1", &id)]).await;
    bed.until(&id, "terminated").await;
    assert_eq!(bed.ec2.world().volumes(), std::slice::from_ref(&kept));
    assert!(bed.ec2.world().interfaces().is_empty());
    assert_eq!(bed.ask("DescribeVolumes", &[]).await.one("status"), "available");
    assert_eq!(bed.ask("DeleteVolume", &[("VolumeId", &kept)]).await.status, 200);
    assert!(bed.ec2.world().volumes().is_empty());
}

#[tokio::test]
async fn an_image_may_leave_its_root_volume_behind_unless_the_launch_says_otherwise() {
    let bed = Bed::new(&options(20_000));
    let world = bed.ec2.world();
    let goes_along = async || {
        let images = bed.ask("DescribeImages", &[("ImageId.1", AMI)]).await;
        (
            images.one("deviceName").to_owned(),
            images.one("deleteOnTermination").to_owned(),
        )
    };
    assert_eq!(goes_along().await, ("/dev/xvda".into(), "true".into()));
    world.change_account(|account| {
        let images = account.regions.values_mut().flat_map(|region| &mut region.images);
        images.for_each(|image| image.keeps_root = true);
    });
    assert_eq!(goes_along().await.1, "false");
    let named = ("BlockDeviceMapping.1.DeviceName", "/dev/xvda");
    let said = |text| [named, ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", text)];
    for (params, left) in [
        (vec![], 1),
        (vec![named, ("BlockDeviceMapping.1.Ebs.VolumeSize", "9")], 2),
        (said("true").to_vec(), 2),
        (said("false").to_vec(), 3),
    ] {
        let id = bed.launched(&params).await;
        bed.ask("TerminateInstances", &[("InstanceId.1", &id)]).await;
        bed.until(&id, "terminated").await;
        assert_eq!(world.volumes().len(), left, "{params:?}");
    }
}

#[tokio::test]
async fn a_backup_of_a_volume_is_restored_with_its_tags_and_attached_to_nothing() {
    let bed = Bed::new(&options(1));
    bed.launched(&[
        ("TagSpecification.1.ResourceType", "volume"),
        ("TagSpecification.1.Tag.1.Key", "k"),
        ("TagSpecification.1.Tag.1.Value", "v"),
    ])
    .await;
    let world = bed.ec2.world();
    let restored = world.restore(&world.volumes()[0]).unwrap();
    let snapshot = world.snapshot_of(&restored).unwrap();
    let filters = [
        ("Filter.1.Name", "tag:k"),
        ("Filter.1.Value.1", "v"),
        ("Filter.2.Name", "snapshot-id"),
        ("Filter.2.Value.1", snapshot.as_str()),
    ];
    let described = bed.ask("DescribeVolumes", &filters).await;
    assert_eq!(described.all("volumeId"), [restored.as_str()], "{described:?}");
    assert_eq!(described.one("status"), "available");
    assert_eq!(world.restore("vol-00000000000000000"), None);
}

#[tokio::test]
async fn an_instance_of_another_id_keeps_what_is_attached_to_it() {
    let bed = Bed::new(&options(20_000));
    let id = bed.launched(&[]).await;
    let world = bed.ec2.world();
    let other = "i-00000000000000001";
    assert!(world.renumber(&id, other) && !world.renumber(&id, other));
    let volumes = bed.ask("DescribeVolumes", &[]).await;
    assert_eq!(volumes.all("instanceId"), [other]);
    bed.ask("TerminateInstances", &[("InstanceId.1", other)]).await;
    bed.until(other, "terminated").await;
    assert!(world.volumes().is_empty() && world.interfaces().is_empty());
}

#[tokio::test]
async fn an_interface_that_was_told_to_stay_does_until_it_is_deleted() {
    let bed = Bed::new(&options(20_000));
    let id = bed.launched(&[]).await;
    let interface = bed.ec2.world().interfaces().remove(0);
    assert!(bed.ec2.world().keep(&interface));
    let named = [("NetworkInterfaceId", interface.as_str())];
    assert_eq!(
        bed.ask("DeleteNetworkInterface", &named).await.code(),
        "InvalidParameterValue"
    );
    bed.ask("TerminateInstances", &[("InstanceId.1", &id)]).await;
    bed.until(&id, "terminated").await;
    let described = bed.ask("DescribeNetworkInterfaces", &[]).await;
    assert_eq!(described.one("status"), "available");
    assert!(described.all("attachment").is_empty());
    assert_eq!(bed.ask("DeleteNetworkInterface", &named).await.status, 200);
    assert!(bed.ec2.world().interfaces().is_empty());
    assert_eq!(
        bed.ask("DeleteNetworkInterface", &named).await.code(),
        "InvalidNetworkInterfaceID.NotFound"
    );
}

#[tokio::test]
async fn what_happens_behind_a_callers_back_has_a_reason() {
    let bed = Bed::new(&options(20_000));
    let id = bed.launched(&[]).await;
    let reason = StateReason::new("Server.SpotInstanceTermination", "Spot instance termination");
    assert!(bed.ec2.world().terminate(&id, &reason));
    let answer = bed.until(&id, "terminated").await;
    assert!(
        answer
            .body
            .contains("Server.SpotInstanceTermination: Spot instance termination")
    );
    assert!(!bed.ec2.world().terminate(&id, &reason));
}

#[tokio::test]
async fn an_accepted_launch_may_still_fail() {
    let bed = Bed::new(&options(20_000));
    let reason = StateReason::new("Client.InternalError", "Client error on launch");
    bed.ec2.world().fail_next_launch(reason);
    let id = bed.launched(&[]).await;
    let answer = bed.until(&id, "terminated").await;
    assert!(answer.body.contains("<code>Client.InternalError</code>"));
    assert_eq!(bed.ec2.world().instances()[0].state, State::Terminated);
}

#[tokio::test]
async fn tags_can_be_added_changed_and_removed() {
    let bed = Bed::new(&options(1));
    let id = bed.launched(&[]).await;
    let tag = |value| {
        [
            ("ResourceId.1", id.as_str()),
            ("Tag.1.Key", "k"),
            ("Tag.1.Value", value),
        ]
    };
    assert_eq!(bed.ask("CreateTags", &tag("a")).await.status, 200);
    assert_eq!(bed.ec2.world().live("k", "a").len(), 1);
    bed.ask("DeleteTags", &tag("b")).await;
    assert_eq!(bed.ec2.world().live("k", "a").len(), 1);
    bed.ask("DeleteTags", &tag("a")).await;
    assert!(bed.ec2.world().live("k", "a").is_empty());
    assert!(bed.ec2.world().retag(&id, "k", Some("c")));
    assert_eq!(bed.ec2.world().live("k", "c").len(), 1);
    let unknown = [
        ("ResourceId.1", "nonsense"),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "v"),
    ];
    assert_eq!(bed.ask("CreateTags", &unknown).await.code(), "InvalidID");
}

#[tokio::test]
async fn status_checks_begin_after_the_boot_and_show_an_impairment() {
    let bed = Bed::new(&options(100));
    let id = bed.launched(&[]).await;
    assert!(
        bed.ask("DescribeInstanceStatus", &[])
            .await
            .all("instanceId")
            .is_empty()
    );
    bed.until(&id, "running").await;
    assert_eq!(
        bed.ask("DescribeInstanceStatus", &[]).await.all("instanceId"),
        [id.as_str()]
    );
    bed.ec2.world().impair(&id, true);
    let impaired = bed.ask("DescribeInstanceStatus", &[("InstanceId.1", &id)]).await;
    assert_eq!(impaired.one("instanceStatus"), "<status>impaired</status>");
}
