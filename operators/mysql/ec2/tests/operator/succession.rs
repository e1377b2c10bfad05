//! A person decides which replica goes on, by recording it.

use fake_ec2::StateReason;
use kube::api::{Patch, PatchParams};
use mysql_api::{MySQLCluster, cluster::Topology};
use serde_json::json;

use crate::bed::{Bed, eventually, ready, sample, says};

impl Bed {
    /// Records a member as the primary, with the command in docs/mysql-conditions.md.
    async fn record_primary(&self, name: &str, member: i32, instance: &str) {
        let topology = json!({"primary": member, "serverUUID": self.fleet.uuid(instance)});
        let patch = Patch::Merge(json!({"status": {"topology": topology}}));
        let how = PatchParams::default();
        let patched = self.clusters.patch_status(name, &how, &patch);
        patched.await.unwrap();
    }
}

fn topology(cluster: Option<&MySQLCluster>) -> Option<Topology> {
    cluster?.status.as_ref()?.topology.clone()
}

/// The primary is gone, and only a replica that was restarted has received its last transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_a_lost_primary_with_everything_that_was_acknowledged() {
    let bed = Bed::new().await;
    bed.create("lost", sample(3)).await;
    let ids = bed.until("lost", "it is ready", ready).await.unwrap();
    let ids = ids.status.unwrap().aws_instance_ids;
    let primary = bed.fleet.uuid(&ids[0]);
    bed.fleet.write(&ids[0], 50);
    eventually("the replicas have it", async || {
        bed.fleet.transactions(&ids[1]) == 50 && bed.fleet.transactions(&ids[2]) == 50
    })
    .await;
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&ids[0], &reason));
    bed.until("lost", "it says so", |cluster| {
        says(cluster, "Ready", "False", "PrimaryLost")
    })
    .await;
    bed.fleet.reboot_behind(&ids[2], &primary, 60);
    // Before it is waited for, as the documentation asks.
    bed.record_primary("lost", 2, &ids[2]).await;
    let after = bed.until("lost", "it is ready", ready).await;
    assert_eq!(topology(after.as_ref()).unwrap().primary, 2);
    let after = after.unwrap().status.unwrap();
    assert_eq!(after.primary.as_deref(), Some("lost-2"));
    for instance in &after.aws_instance_ids {
        assert_eq!(bed.fleet.transactions(instance), 60, "{instance}");
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_serves_is_closed_before_the_one_that_is_recorded_leads() {
    let bed = Bed::new().await;
    bed.create("moved", sample(3)).await;
    let ids = bed.until("moved", "it is ready", ready).await.unwrap();
    let ids = ids.status.unwrap().aws_instance_ids;
    bed.fleet.write(&ids[0], 70);
    bed.fleet.reboot(&ids[1]);
    bed.record_primary("moved", 1, &ids[1]).await;
    let moved = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        ready(cluster) && status.is_some_and(|now| now.primary.as_deref() == Some("moved-1"))
    };
    let after = bed.until("moved", "the other one leads", moved).await;
    assert_eq!(after.unwrap().status.unwrap().aws_instance_ids, ids);
    assert!(bed.fleet.is_open(&ids[1]) && !bed.fleet.is_open(&ids[0]));
    assert_eq!(bed.fleet.transactions(&ids[1]), 70);
    assert!(bed.fleet.is_following(&ids[0]));
    bed.stop().await;
}

/// A primary that was restarted takes no writes until the operator has looked at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_looked_at_more_often_than_its_replicas() {
    let bed = Bed::new().await;
    bed.create("watched", sample(3)).await;
    let ids = bed.until("watched", "it is ready", ready).await.unwrap();
    let ids = ids.status.unwrap().aws_instance_ids;
    let ahead = |other: &str| bed.fleet.looks(&ids[0]).saturating_sub(bed.fleet.looks(other));
    eventually("it is", async || ahead(&ids[1]) >= 20 && ahead(&ids[2]) >= 20).await;
    bed.fleet.reboot(&ids[0]);
    eventually("it is open again", async || bed.fleet.is_open(&ids[0])).await;
    bed.stop().await;
}
