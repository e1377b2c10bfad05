//! What is done, and what is not, while a server or EC2 gives no answer.

use fake_ec2::StateReason;
use kube::api::DeleteParams;
use mysql_api::{MySQLCluster, cluster::Role};
use serde_json::json;

use crate::bed::{Bed, message, ready, sample, says};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_keep_the_primary_that_only_the_operator_does_not_reach_and_lose_one_that_is_gone() {
    let bed = Bed::new().await;
    bed.create("unheard", sample(3)).await;
    let status = bed
        .until("unheard", "it is ready", ready)
        .await
        .unwrap()
        .status
        .unwrap();
    let primary = status.members[0].clone();
    let id = primary.instance_id.unwrap();
    bed.fleet.silence(&id, true);
    let unavailable = |cluster: Option<&MySQLCluster>| says(cluster, "Ready", "False", "PrimaryUnavailable");
    let cluster = bed.until("unheard", "it says so", unavailable).await.unwrap();
    assert_eq!(bed.behind("unheard").await, [primary.private_ip.unwrap()]);
    let status = cluster.status.unwrap();
    assert_eq!(status.members[0].role, Some(Role::Primary));
    assert_eq!(
        status.ready.as_deref(),
        Some("2/3"),
        "it does not count as one that serves"
    );
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&id, &reason));
    let gone = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        status.is_some_and(|status| status.primary.is_none())
    };
    bed.until("unheard", "nobody is written to", gone).await;
    assert!(bed.behind("unheard").await.is_empty());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_removed_while_the_primary_does_not_answer() {
    let bed = Bed::new().await;
    bed.create("keeper", sample(3)).await;
    let status = bed
        .until("keeper", "it is ready", ready)
        .await
        .unwrap()
        .status
        .unwrap();
    let id = &status.aws_instance_ids[0];
    bed.fleet.silence(id, true);
    bed.patch("keeper", json!({"spec": {"replicas": 1}})).await;
    let waits = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Provisioned", "False", "ScalingDown")
            && message(cluster, "Provisioned")
                .is_some_and(|message| message.contains("the primary, member 0, does not answer"))
    };
    bed.until("keeper", "it says why nobody goes", waits).await;
    let alive = || {
        bed.ec2
            .world()
            .instances()
            .iter()
            .filter(|instance| instance.state.is_live())
            .count()
    };
    assert_eq!(alive(), 3);
    bed.fleet.silence(id, false);
    bed.until("keeper", "one is left", |cluster| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        status.is_some_and(|status| status.replicas == Some(1)) && ready(cluster)
    })
    .await;
    assert_eq!(alive(), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_ec2_does_not_answer_says_so_and_how_to_end_it() {
    let bed = Bed::new().await;
    let uid = bed.create("stuck", sample(1)).await.metadata.uid.unwrap();
    bed.until("stuck", "it is ready", ready).await;
    bed.ec2
        .world()
        .deny("DescribeInstances", Some("UnauthorizedOperation"));
    bed.clusters
        .delete("stuck", &DeleteParams::default())
        .await
        .unwrap();
    let blocked = |cluster: Option<&MySQLCluster>| {
        says(cluster, "DeletionBlocked", "True", "CredentialsInvalid")
            && says(cluster, "Ready", "False", "Terminating")
            && message(cluster, "DeletionBlocked").is_some_and(|message| {
                message.contains(&format!("mysql.alx.ke/abandon-cloud-resources={uid}"))
            })
    };
    bed.until("stuck", "it says so", blocked).await;
    bed.ec2.world().deny("DescribeInstances", None);
    bed.until("stuck", "it is gone", |cluster| cluster.is_none())
        .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_that_lacks_a_tag_that_permissions_ask_for_is_put_right_by_that_tag() {
    let bed = Bed::new().await;
    bed.ec2
        .world()
        .deny("RunInstances", Some("UnauthorizedOperation"));
    bed.create("untagged", sample(1)).await;
    bed.until("untagged", "it says so", |cluster| {
        says(cluster, "CredentialsValid", "False", "CredentialsInvalid")
    })
    .await;
    bed.patch(
        "untagged",
        json!({"spec": {"aws": {"tags": [{"key": "cost-center", "value": "7"}]}}}),
    )
    .await;
    bed.until("untagged", "the launch is given up", |cluster| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        status.is_some_and(|status| status.launches.iter().any(|launch| launch.incarnation == 2))
    })
    .await;
    bed.ec2.world().deny("RunInstances", None);
    bed.until("untagged", "it is ready", ready).await;
    let instances = bed.ec2.world().instances();
    assert_eq!(instances.len(), 1, "{instances:?}");
    assert_eq!(
        instances[0].tags.get("cost-center").map(String::as_str),
        Some("7")
    );
    bed.stop().await;
}
