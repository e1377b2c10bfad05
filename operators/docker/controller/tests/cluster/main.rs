//! A whole workload cluster: Cluster API's own managers and the shipped binary as processes, nodes in containers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]
#![allow(unreachable_pub, reason = "modules of a test are not a crate's surface")]

mod bed;
mod manifests;

use std::time::Duration;

use bed::Bed;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};

/// Long enough that a heartbeat, a resync in disguise or a flapping condition would show.
const IDLE: Duration = Duration::from_secs(20);

async fn ready_nodes(nodes: &Api<Node>) -> Vec<Node> {
    let listed = nodes
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    let ready = |node: &Node| {
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    listed.into_iter().filter(ready).collect()
}

/// The promises of the thinnest path, one cluster for all of them since each takes a minute to make.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_a_cluster_comes_up_rests_heals_scales_and_leaves_nothing() {
    let bed = Bed::start().await;
    bed.apply(manifests::cluster(bed.namespace(), &bed.node_image))
        .await;

    let workload = bed.workload_client().await;
    let nodes: Api<Node> = Api::all(workload.clone());
    bed.eventually("two nodes are Ready", async || {
        ready_nodes(&nodes).await.len() == 2
    })
    .await;
    for node in ready_nodes(&nodes).await {
        let name = node.metadata.name.unwrap();
        let id = node.spec.unwrap().provider_id.unwrap();
        assert_eq!(
            id,
            format!("docker:////{name}.{}", bed.namespace()),
            "machine and Node share their id"
        );
    }
    bed.eventually("the Cluster is Available", async || {
        bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
    bed.reaches_the_control_plane_from_the_host().await;

    let writes = bed.writes_during(IDLE).await;
    assert!(
        writes.is_empty(),
        "an idle cluster is not written to: {writes:#?}"
    );

    let before = bed.container("c1_lb").await;
    bed.docker.run(&["kill", &before]).await.unwrap();
    bed.eventually("the load balancer is healed", async || {
        nodes.list(&ListParams::default()).await.is_ok()
    })
    .await;

    bed.kill_manager();
    bed.scale_workers(2).await;
    bed.start_manager();
    bed.eventually("three nodes are Ready", async || {
        ready_nodes(&nodes).await.len() == 3
    })
    .await;

    bed.delete_cluster().await;
    assert_eq!(
        bed.traces().await,
        Vec::<String>::new(),
        "containers, volumes and the network are gone"
    );
}
