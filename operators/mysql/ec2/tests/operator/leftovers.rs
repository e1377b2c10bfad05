//! Volumes and network interfaces that outlive their instance: gone with their cluster, or told of.

use fake_ec2::StateReason;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use mysql_api::MySQLCluster;
use mysql_controller::identity::RETAINED;

use crate::bed::{Bed, eventually, ready, sample, says};

const REGION: &str = "us-east-1";

impl Bed {
    async fn delete(&self, name: &str) {
        self.clusters
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_its_instance_goes_with_the_cluster() {
    let bed = Bed::new().await;
    bed.create("tidy", sample(3)).await;
    let cluster = bed.until("tidy", "it is ready", ready).await.unwrap();
    let world = bed.ec2.world();
    let parts = [world.volumes(), world.interfaces()].concat();
    assert!(parts.len() >= 6, "{parts:?}");
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
async fn a_volume_that_somebody_keeps_or_uses_elsewhere_stays_and_is_told_of() {
    let bed = Bed::new().await;
    let uid = bed.create("shared", sample(1)).await.metadata.uid.unwrap();
    bed.until("shared", "it is ready", ready).await;
    let world = bed.ec2.world();
    let [kept, used]: [String; 2] = world.volumes().try_into().unwrap();
    let params = [
        ("ImageId", "ami-0c02fb55956c7d316"),
        ("InstanceType", "t3.micro"),
        ("SubnetId", "subnet-12345678"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
    ];
    world.ask(REGION, "RunInstances", &params).unwrap();
    let all = world.instances();
    let theirs = all
        .iter()
        .find(|instance| instance.client_token.is_none())
        .unwrap();
    assert!(world.keep(&kept) && world.attach(&used, &theirs.id));
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
    let events: Api<Event> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let used = format!("{used} (attached to {})", theirs.id);
    eventually("it is told of", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.iter().any(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("LeftBehind") && note.contains(&kept) && note.contains(&used)
        })
    })
    .await;
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
