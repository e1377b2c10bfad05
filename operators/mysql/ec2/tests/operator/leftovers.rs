//! Volumes and network interfaces that outlive their instance: gone with their cluster, or told of.

use fake_ec2::{Account, StateReason, World};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use mysql_api::{MySQLCluster, cluster::ADOPT};
use mysql_controller::identity::{CLUSTER_UID, OPERATOR_ID, RETAINED};
use serde_json::json;

use crate::bed::{Bed, eventually, message, ready, sample, says};

const REGION: &str = "us-east-1";

/// Every image was registered so that its root volume outlives an instance.
fn keep_roots(account: &mut Account) {
    let images = account.regions.values_mut().flat_map(|region| &mut region.images);
    images.for_each(|image| image.keeps_root = true);
}

/// The volumes that are attached to nothing.
fn at_rest(world: &World) -> Vec<String> {
    let params = [("Filter.1.Name", "status"), ("Filter.1.Value.1", "available")];
    let answer = world.ask(REGION, "DescribeVolumes", &params).unwrap();
    let found = answer.split("<volumeId>").skip(1);
    found
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect()
}

impl Bed {
    async fn delete(&self, name: &str) {
        self.clusters
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Somebody launches an instance of their own, which is nobody's member; its id.
    fn stranger(&self) -> String {
        let world = self.ec2.world();
        let params = [
            ("ImageId", "ami-0c02fb55956c7d316"),
            ("InstanceType", "t3.micro"),
            ("SubnetId", "subnet-12345678"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
        ];
        world.ask(REGION, "RunInstances", &params).unwrap();
        let all = world.instances();
        let theirs = all.iter().find(|instance| instance.client_token.is_none());
        theirs.unwrap().id.clone()
    }

    /// Whether a volume has any tag.
    fn is_tagged(&self, volume: &str) -> bool {
        let params = [("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", volume)];
        let world = self.ec2.world();
        let answer = world.ask(REGION, "DescribeTags", &params).unwrap();
        answer.contains("<key>")
    }

    /// Whether it was told that something of a cluster is left, in a note with all of these.
    async fn tells_of(&self, what: &[&str]) -> bool {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace.name());
        let all = events.list(&ListParams::default()).await.unwrap();
        all.iter().any(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("LeftBehind") && what.iter().all(|one| note.contains(one))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_its_instance_goes_with_the_cluster() {
    let bed = Bed::new().await;
    bed.create("tidy", sample(3)).await;
    let cluster = bed.until("tidy", "it is ready", ready).await.unwrap();
    let world = bed.ec2.world();
    let mut parts = [world.volumes(), world.interfaces()].concat();
    parts.retain(|part| world.snapshot_of(part).is_none());
    assert_eq!(parts.len(), 6, "{parts:?}");
    assert!(parts.iter().all(|part| world.keep(part)));
    // One ends behind the operator's back, and is replaced.
    let lost = &cluster.status.unwrap().aws_instance_ids[2];
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(world.terminate(lost, &reason));
    let replaced = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        ready(cluster) && status.is_some_and(|status| status.launches[2].incarnation == 2)
    };
    bed.until("tidy", "a member is replaced", replaced).await;
    let there = [world.volumes(), world.interfaces()].concat();
    assert!(
        parts.iter().all(|part| there.contains(part)),
        "nothing is deleted while the cluster is wanted"
    );
    bed.delete("tidy").await;
    bed.until("tidy", "it is gone", |cluster| cluster.is_none()).await;
    assert_eq!((world.volumes(), world.interfaces()), (vec![], vec![]));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_image_would_leave_behind_goes_with_each_member() {
    let bed = Bed::new().await;
    let world = bed.ec2.world();
    world.change_account(keep_roots);
    let cluster = bed.create("rooted", sample(3)).await;
    let uid = cluster.metadata.uid.unwrap();
    let cluster = bed.until("rooted", "it is ready", ready).await.unwrap();
    let volumes = || world.volumes().len();
    assert_eq!(volumes(), 6);
    // One ends behind the operator's back, and is replaced; then one is not wanted any more.
    let lost = &cluster.status.unwrap().aws_instance_ids[1];
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(world.terminate(lost, &reason));
    let replaced = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        ready(cluster) && status.is_some_and(|status| status.launches[1].incarnation == 2)
    };
    bed.until("rooted", "a member is replaced", replaced).await;
    assert_eq!(volumes(), 6);
    bed.patch("rooted", json!({"spec": {"replicas": 2}})).await;
    eventually("it has two members", async || {
        world.live(CLUSTER_UID, &uid).len() == 2 && volumes() == 4
    })
    .await;
    bed.delete("rooted").await;
    bed.until("rooted", "it is gone", |cluster| cluster.is_none())
        .await;
    assert_eq!((world.volumes(), world.interfaces()), (vec![], vec![]));

    let audit = world.audit();
    let calls = |action: &'static str| audit.iter().filter(move |call| call.action == action);
    for launch in calls("RunInstances") {
        let says = |key: &str, value: &str| launch.params.get(key).is_some_and(|found| found == value);
        let root = (1..=2).find(|n| says(&format!("BlockDeviceMapping.{n}.DeviceName"), "/dev/xvda"));
        let goes_along = |n| says(&format!("BlockDeviceMapping.{n}.Ebs.DeleteOnTermination"), "true");
        assert!(root.is_some_and(goes_along), "{launch:?}");
    }
    assert_eq!(calls("DescribeImages").count(), 1, "an image does not change");
    assert_eq!(calls("DeleteVolume").count(), 0, "EC2 has deleted them itself");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_may_not_look_at_images_launches_and_tells_of_what_is_left() {
    let bed = Bed::new().await;
    let world = bed.ec2.world();
    world.change_account(keep_roots);
    world.deny("DescribeImages", Some("UnauthorizedOperation"));
    bed.create("unseen", sample(1)).await;
    bed.until("unseen", "it is ready", ready).await;
    bed.delete("unseen").await;
    bed.until("unseen", "it is gone", |cluster| cluster.is_none())
        .await;
    let [root]: [String; 1] = world.volumes().try_into().unwrap();
    assert!(world.snapshot_of(&root).is_some());
    eventually("it is told of", async || bed.tells_of(&[&root]).await).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_member_has_left_is_told_of_when_the_others_are_retained() {
    let bed = Bed::new().await;
    let mut spec = sample(2);
    spec["deletionPolicy"] = json!("Retain");
    bed.create("stays", spec).await;
    let cluster = bed.until("stays", "it is ready", ready).await.unwrap();
    let world = bed.ec2.world();
    let before = world.volumes();
    assert!(before.iter().all(|volume| world.keep(volume)));
    let lost = &cluster.status.unwrap().aws_instance_ids[1];
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(world.terminate(lost, &reason));
    let replaced = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        ready(cluster) && status.is_some_and(|status| status.launches[1].incarnation == 2)
    };
    bed.until("stays", "a member is replaced", replaced).await;
    let left = at_rest(world);
    assert!(
        left.len() == 2 && left.iter().all(|volume| before.contains(volume)),
        "{left:?}"
    );
    bed.delete("stays").await;
    bed.until("stays", "it is gone", |cluster| cluster.is_none())
        .await;
    assert_eq!(world.volumes().len(), 6, "nothing is deleted");
    let all: Vec<&str> = left.iter().map(String::as_str).collect();
    eventually("it is told of", async || bed.tells_of(&all).await).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_somebody_keeps_or_uses_elsewhere_stays_and_is_told_of() {
    let bed = Bed::new().await;
    let uid = bed.create("shared", sample(1)).await.metadata.uid.unwrap();
    bed.until("shared", "it is ready", ready).await;
    let world = bed.ec2.world();
    let [kept, used]: [String; 2] = world.volumes().try_into().unwrap();
    let theirs = bed.stranger();
    assert!(world.keep(&kept) && world.attach(&used, &theirs));
    let tag = [
        ("ResourceId.1", kept.as_str()),
        ("Tag.1.Key", RETAINED),
        ("Tag.1.Value", uid.as_str()),
    ];
    world.ask(REGION, "CreateTags", &tag).unwrap();
    bed.delete("shared").await;
    bed.until("shared", "it is gone", |cluster| cluster.is_none())
        .await;
    let left = world.volumes();
    assert!(left.contains(&kept) && left.contains(&used), "{left:?}");
    let used = format!("{used} (attached to {theirs})");
    eventually("it is told of", async || bed.tells_of(&[&kept, &used]).await).await;
    bed.stop().await;
}

/// A backup of the account's restores volumes with the tags that they had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_was_restored_from_a_members_backup_outlives_the_cluster_and_is_told_of() {
    let bed = Bed::new().await;
    bed.create("saved", sample(1)).await;
    bed.until("saved", "it is ready", ready).await;
    let world = bed.ec2.world();
    let volumes = world.volumes();
    let data = volumes
        .iter()
        .find(|volume| world.snapshot_of(volume).is_none())
        .unwrap();
    assert!(world.keep(data));
    let restored = world.restore(data).unwrap();
    bed.delete("saved").await;
    bed.until("saved", "it is gone", |cluster| cluster.is_none())
        .await;
    assert_eq!(world.volumes(), std::slice::from_ref(&restored));
    let told = format!("{restored} (made from {})", world.snapshot_of(&restored).unwrap());
    eventually("it is told of", async || bed.tells_of(&[&told]).await).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_may_not_look_for_volumes_says_so_before_it_lets_go() {
    let bed = Bed::new().await;
    bed.create("blind", sample(1)).await;
    bed.until("blind", "it is ready", ready).await;
    let world = bed.ec2.world();
    world.deny("DescribeVolumes", Some("UnauthorizedOperation"));
    bed.delete("blind").await;
    bed.until("blind", "it says so", |cluster| {
        says(cluster, "DeletionBlocked", "True", "CredentialsInvalid")
    })
    .await;
    world.deny("DescribeVolumes", None);
    bed.until("blind", "it is gone", |cluster| cluster.is_none())
        .await;
    bed.stop().await;
}

/// However often members get their tags anew: for other tags in the spec, after somebody took them off, with another cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_somebody_attaches_to_a_member_stays_theirs_and_outlives_the_cluster() {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["deletionPolicy"] = json!("Retain");
    bed.create("host", spec.clone()).await;
    let cluster = bed.until("host", "it is ready", ready).await.unwrap();
    let from = cluster.uid().unwrap();
    let member = cluster.status.unwrap().aws_instance_ids.remove(0);
    let world = bed.ec2.world();
    let own = world.volumes();
    bed.stranger();
    let [theirs]: [String; 1] = world
        .volumes()
        .into_iter()
        .filter(|volume| !own.contains(volume))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert!(world.attach(&theirs, &member));

    let tags = json!([{"key": "team", "value": "billing"}]);
    bed.patch("host", json!({"spec": {"aws": {"tags": tags}}})).await;
    eventually("the member has the tag", async || {
        !world.live("team", "billing").is_empty()
    })
    .await;
    world.retag(&member, OPERATOR_ID, None);
    eventually("the member has its tags back", async || {
        !world.live(OPERATOR_ID, "mysql-operator").is_empty()
    })
    .await;
    bed.until("host", "it is ready again", ready).await;
    bed.delete("host").await;
    bed.until("host", "it is gone", |cluster| cluster.is_none()).await;
    spec["deletionPolicy"] = json!("Delete");
    let mut heir = MySQLCluster::new("host", serde_json::from_value(spec).unwrap());
    heir.annotations_mut().insert(ADOPT.into(), from);
    let heir = bed.clusters.create(&PostParams::default(), &heir).await.unwrap();
    bed.until("host", "it is taken over", ready).await;
    assert_eq!(world.live(CLUSTER_UID, &heir.uid().unwrap()).len(), 1);
    assert!(!bed.is_tagged(&theirs), "nothing of theirs is marked as ours");
    bed.delete("host").await;
    bed.until("host", "it is gone for good", |cluster| cluster.is_none())
        .await;
    assert_eq!(world.volumes(), [theirs]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_deletion_waits_for_is_said_and_what_stays_in_use_is_left_and_told_of() {
    let bed = Bed::new().await;
    bed.create("busy", sample(1)).await;
    bed.until("busy", "it is ready", ready).await;
    let world = bed.ec2.world();
    let volumes = world.volumes();
    assert!(volumes.iter().all(|volume| world.keep(volume)));
    world.set_faults("DeleteVolume=VolumeInUse".parse().unwrap());
    // What was said last can be read for as long as somebody else holds the object.
    let cluster = bed.clusters.get("busy").await.unwrap();
    let mut finalizers = cluster.finalizers().to_vec();
    finalizers.push("test.example.com/hold".to_owned());
    bed.patch("busy", json!({"metadata": {"finalizers": finalizers}}))
        .await;
    bed.delete("busy").await;
    bed.until("busy", "it says what it waits for", |cluster| {
        let text = message(cluster, "DeletionBlocked").unwrap_or_default();
        says(cluster, "DeletionBlocked", "False", "Terminating")
            && volumes.iter().all(|volume| text.contains(volume))
    })
    .await;
    let all: Vec<&str> = volumes.iter().map(String::as_str).collect();
    eventually("it is told of", async || bed.tells_of(&all).await).await;
    bed.until("busy", "the operator is done with it", |cluster| {
        cluster.is_some_and(|cluster| cluster.finalizers() == ["test.example.com/hold"])
    })
    .await;
    bed.patch("busy", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(world.volumes(), volumes);
    bed.stop().await;
}
