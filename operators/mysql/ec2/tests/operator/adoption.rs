//! What a cluster takes over from an earlier one of its name, and what it leaves alone if it cannot.

use fake_ec2::StateReason;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use mysql_api::{MySQLCluster, cluster::ADOPT};
use mysql_controller::identity::CLUSTER_UID;
use serde_json::{Value, json};

use crate::bed::{Bed, message, ready, sample, says};

/// A spec whose deletion leaves the instances running.
fn retained(replicas: i32) -> Value {
    let mut spec = sample(replicas);
    spec["deletionPolicy"] = json!("Retain");
    spec
}

impl Bed {
    async fn gone(&self, name: &str) {
        let deleted = self.clusters.delete(name, &DeleteParams::default()).await;
        deleted.unwrap();
        self.until(name, "it is gone", |cluster| cluster.is_none()).await;
    }

    /// A cluster that takes over what the cluster `from` has left.
    async fn heir(&self, name: &str, from: &str, spec: Value) -> MySQLCluster {
        let mut heir = MySQLCluster::new(name, serde_json::from_value(spec).unwrap());
        heir.annotations_mut().insert(ADOPT.into(), from.to_owned());
        let created = self.clusters.create(&PostParams::default(), &heir).await;
        created.unwrap()
    }
}

/// An adoption that is refused, and one that ends half-way, leave the only key to the instances as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_has_taken_nothing_over_takes_no_secret_with_it() {
    let bed = Bed::new().await;
    bed.create("left", retained(1)).await;
    let old = bed.until("left", "it is ready", ready).await.unwrap();
    let (from, ids) = (old.uid().unwrap(), old.status.unwrap().aws_instance_ids);
    bed.gone("left").await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let nobodys = async || {
        let key = secrets.get_opt("left-operator").await.unwrap();
        key.is_some_and(|key| key.owner_references().is_empty())
    };
    assert!(nobodys().await);

    // The Secret for applications is somebody else's by now.
    let binding = secrets.get("left-binding").await.unwrap();
    let params = DeleteParams::default();
    secrets.delete("left-binding", &params).await.unwrap();
    let stranger = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "stranger", "uid": "1b0c7e1a-0000-4000-8000-000000000001"});
    let theirs = Secret {
        metadata: ObjectMeta {
            name: Some("left-binding".into()),
            // Kubernetes does not remove what it owns as long as this is there.
            finalizers: Some(vec!["test.example.com/hold".into()]),
            owner_references: Some(vec![serde_json::from_value(stranger).unwrap()]),
            ..ObjectMeta::default()
        },
        ..binding.clone()
    };
    secrets.create(&PostParams::default(), &theirs).await.unwrap();
    let refused = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Ready", "False", "AdoptionImpossible")
            && message(cluster, "Ready").is_some_and(|text| text.contains("left-binding"))
    };
    bed.heir("left", &from, retained(1)).await;
    bed.until("left", "it says what is in the way", refused).await;
    assert!(nobodys().await, "nothing was taken");
    bed.gone("left").await;
    assert!(nobodys().await);

    // One that had taken it when its operator ended, and no more.
    let heir = bed.heir("left", &from, retained(1)).await;
    bed.until("left", "it says so again", refused).await;
    let owner =
        json!({"apiVersion": "mysql.alx.ke/v1", "kind": "MySQLCluster", "name": "left", "uid": heir.uid()});
    let taken = json!({"metadata": {
        "ownerReferences": [owner],
        "annotations": {"mysql.alx.ke/taken-over-from": from, "mysql.alx.ke/released-by": null},
    }});
    let (how, patch) = (PatchParams::default(), Patch::Merge(&taken));
    secrets.patch("left-operator", &how, &patch).await.unwrap();
    bed.gone("left").await;
    assert!(nobodys().await, "it is given back");

    let free = json!({"metadata": {"finalizers": null}});
    let freed = secrets.patch("left-binding", &how, &Patch::Merge(&free)).await;
    freed.unwrap();
    let _ = secrets.delete("left-binding", &params).await;
    bed.heir("left", &from, sample(1)).await;
    let new = bed.until("left", "it is ready", ready).await.unwrap();
    let uid = new.uid().unwrap();
    assert_eq!(new.status.unwrap().aws_instance_ids, ids);
    bed.gone("left").await;
    assert!(bed.ec2.world().live(CLUSTER_UID, &uid).is_empty());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_missing_or_wanted_besides_join_those_that_are_taken_over() {
    let bed = Bed::new().await;
    bed.create("more", retained(3)).await;
    let old = bed.until("more", "it is ready", ready).await.unwrap();
    let (from, status) = (old.uid().unwrap(), old.status.unwrap());
    bed.fleet.write(&status.aws_instance_ids[0], 50);
    bed.gone("more").await;
    let lost = &status.aws_instance_ids[2];
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(lost, &reason));
    bed.heir("more", &from, sample(4)).await;
    let new = bed.until("more", "it is ready", ready).await.unwrap();
    let after = new.status.unwrap();
    assert_eq!(after.topology, status.topology, "who led leads");
    assert_eq!(after.aws_instance_ids.len(), 4);
    assert_eq!(after.aws_instance_ids[..2], status.aws_instance_ids[..2]);
    for id in &after.aws_instance_ids {
        assert_eq!(bed.fleet.transactions(id), 50, "{id} has everything");
    }
    bed.stop().await;
}
