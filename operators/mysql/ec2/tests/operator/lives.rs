//! Clusters from apply to gone.

use std::{fs, path::Path};

use fake_ec2::{State, StateReason};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use mysql_controller::identity::CLUSTER_UID;
use serde_json::json;

use crate::bed::{Bed, sample, says};

fn provisioned(cluster: Option<&mysql_api::MySQLCluster>) -> bool {
    says(cluster, "Provisioned", "True", "InstancesRunning")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_comes_grows_shrinks_heals_and_goes() {
    let bed = Bed::new().await;
    bed.create("life", sample(3)).await;
    let cluster = bed.until("life", "3 members run", provisioned).await.unwrap();
    let status = cluster.status.unwrap();
    assert_eq!(status.aws_instance_ids.len(), 3);
    let mut zones: Vec<_> = status
        .members
        .iter()
        .filter_map(|member| member.zone.clone())
        .collect();
    zones.sort();
    zones.dedup();
    assert_eq!(zones.len(), 3, "members are spread over the zones");
    assert_eq!(
        bed.ec2.world().live("Name", "mysql-life").len(),
        3,
        "the sample's own filter finds them"
    );

    // One dies behind our back.
    let victim = status.aws_instance_ids[1].clone();
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&victim, &reason));
    bed.until("life", "the dead member is replaced", |cluster| {
        provisioned(cluster)
            && cluster.is_some_and(|c| c.status.as_ref().unwrap().members[1].incarnation == 2)
    })
    .await;

    bed.patch("life", json!({"spec": {"replicas": 5}})).await;
    let count = |n: usize| {
        move |cluster: Option<&mysql_api::MySQLCluster>| {
            provisioned(cluster) && cluster.is_some_and(|c| c.status.as_ref().unwrap().members.len() == n)
        }
    };
    bed.until("life", "5 members run", count(5)).await;
    bed.patch("life", json!({"spec": {"replicas": 3}})).await;
    bed.until("life", "3 members are left", count(3)).await;

    let uid = cluster.metadata.uid.unwrap();
    assert_eq!(bed.ec2.world().live(CLUSTER_UID, &uid).len(), 3);
    bed.clusters
        .delete("life", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("life", "it is gone", |cluster| cluster.is_none()).await;
    let all = bed.ec2.world().instances();
    assert!(
        all.iter().all(|instance| instance.state == State::Terminated),
        "{all:#?}"
    );
    assert!(bed.ec2.world().volumes().is_empty() && bed.ec2.world().interfaces().is_empty());
    assert_eq!(all.len(), 6, "3 members, 1 replacement, 2 more");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_applies_and_says_where_it_stands() {
    let bed = Bed::new().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/mysql");
    let manifest = |name: &str| -> serde_json::Value {
        serde_saphyr::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    bed.create(
        "aws-test-cluster",
        manifest("aws-test-cluster.yaml")["spec"].clone(),
    )
    .await;
    bed.until("aws-test-cluster", "both members run", provisioned)
        .await;
    bed.create(
        "alx-nairobi-prod",
        manifest("alx-nairobi-prod.yaml")["spec"].clone(),
    )
    .await;
    bed.until("alx-nairobi-prod", "it says that it cannot be", |cluster| {
        says(cluster, "Ready", "False", "BackendUnavailable")
    })
    .await;
    let databases: Api<mysql_api::MySQL> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let database: mysql_api::MySQL = serde_json::from_value(manifest("mysql-instance.yaml")).unwrap();
    databases
        .create(&kube::api::PostParams::default(), &database)
        .await
        .unwrap();
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn launch_parameters_are_frozen_before_the_launch_and_belong_to_the_cluster() {
    let bed = Bed::new().await;
    let cluster = bed.create("frozen", sample(1)).await;
    bed.until("frozen", "the member runs", provisioned).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let secret = secrets.get("frozen-m0-1-launch").await.unwrap();
    assert_eq!(secret.immutable, Some(true));
    assert_eq!(
        secret.metadata.owner_references.unwrap()[0].uid,
        cluster.metadata.uid.unwrap()
    );
    let text = String::from_utf8(secret.data.unwrap().remove("parameters.json").unwrap().0).unwrap();
    assert!(text.contains("ami-0c02fb55956c7d316") && !text.to_lowercase().contains("password"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protected_member_blocks_the_deletion_until_the_protection_is_off() {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["aws"]["terminationProtection"] = json!(true);
    bed.create("protected", spec).await;
    bed.until("protected", "the member runs", provisioned).await;
    bed.clusters
        .delete("protected", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("protected", "it says what blocks it", |cluster| {
        says(cluster, "DeletionBlocked", "True", "TerminationProtected")
    })
    .await;
    let id = bed.ec2.world().instances()[0].id.clone();
    let params = [
        ("InstanceId", id.as_str()),
        ("DisableApiTermination.Value", "false"),
    ];
    bed.ec2
        .world()
        .ask("us-east-1", "ModifyInstanceAttribute", &params)
        .unwrap();
    bed.until("protected", "it is gone", |cluster| cluster.is_none())
        .await;
    bed.stop().await;
}

/// Somebody has emptied the ledger: the instances carry the cluster's identity still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_ends_also_what_is_not_recorded_any_more() {
    let bed = Bed::new().await;
    bed.create("emptied", sample(1)).await;
    let cluster = bed.until("emptied", "it runs", provisioned).await.unwrap();
    let (how, emptied) = (PatchParams::default(), json!({"status": {"launches": []}}));
    let patched = bed
        .clusters
        .patch_status("emptied", &how, &Patch::Merge(&emptied))
        .await;
    patched.unwrap();
    bed.until("emptied", "it says so", |cluster| {
        says(cluster, "Provisioned", "False", "Ambiguous")
    })
    .await;
    let deleted = bed.clusters.delete("emptied", &DeleteParams::default()).await;
    deleted.unwrap();
    bed.until("emptied", "it is gone", |cluster| cluster.is_none())
        .await;
    let uid = cluster.metadata.uid.unwrap();
    assert!(bed.ec2.world().live(CLUSTER_UID, &uid).is_empty());
    bed.stop().await;
}
