//! A whole workload cluster as users make it: Cluster API and the provider installed by clusterctl out of a release, the
//! managers as processes, nodes in containers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]
#![allow(unreachable_pub, reason = "modules of a test are not a crate's surface")]

mod bed;
mod engine;
mod management;
mod specs;

use std::time::Duration;

use bed::Bed;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use serde_json::json;

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
async fn smoke_a_cluster_comes_up_rests_heals_scales_moves_and_leaves_nothing() {
    let bed = Bed::start().await;
    bed.try_apply(bed.generate("h1", Some("ha"), 1).await).await;
    let generated = bed.generate("c1", None, 1).await;
    bed.apply(testkit::capi::nodes::fit_for_this_machine(generated))
        .await;

    let nodes: Api<Node> = Api::all(bed.workload_client("c1").await);
    bed.eventually("two nodes are Ready", async || {
        ready_nodes(&nodes).await.len() == 2
    })
    .await;
    for node in ready_nodes(&nodes).await {
        let name = node.metadata.name.unwrap();
        let id = node.spec.unwrap().provider_id.unwrap();
        let expected = format!("docker:////{name}.{}", bed.namespace());
        assert_eq!(id, expected, "machine and Node share their id");
    }
    bed.eventually("the Cluster is Available", async || {
        bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
    bed.reaches_the_control_plane_from_the_host("c1").await;
    let described = bed
        .clusterctl(&["describe", "cluster", "c1", "--show-conditions", "all"])
        .await;
    for part in [
        "DockerCluster/c1",
        "LoadBalancerAvailable",
        "KubeadmControlPlane/c1-control-plane",
    ] {
        assert!(described.contains(part), "{part} is missing from\n{described}");
    }

    let writes = bed.writes_during(IDLE).await;
    assert!(
        writes.is_empty(),
        "an idle cluster is not written to: {writes:#?}"
    );

    let balancer = bed.container("c1_lb").await;
    bed.docker.run(&["kill", &balancer]).await.unwrap();
    bed.eventually("the load balancer is healed", async || {
        nodes.list(&ListParams::default()).await.is_ok()
    })
    .await;

    bed.home.kill_manager();
    bed.scale_workers("c1-workers", 2).await;
    bed.home.start_manager();
    bed.eventually("three nodes are Ready", async || {
        ready_nodes(&nodes).await.len() == 3
    })
    .await;

    moves_and_comes_back(&bed).await;
    assert_eq!(ready_nodes(&nodes).await.len(), 3);

    a_class_makes_a_cluster_which_can_go_at_any_time(&bed).await;

    bed.delete_cluster("c1").await;
    assert_eq!(
        bed.traces().await,
        Vec::<String>::new(),
        "containers, volumes and the network are gone"
    );
}

/// The flavor `topology`, beside the other cluster on its network; deleted in mid-bootstrap.
async fn a_class_makes_a_cluster_which_can_go_at_any_time(bed: &Bed) {
    let mut generated = bed.generate("t1", Some("topology"), 0).await;
    for object in &mut generated {
        if object["kind"] == "Cluster" {
            object["spec"]["topology"]["variables"] = json!([{"name": "nodeImage", "value": bed.node_image}]);
        }
    }
    bed.apply(generated).await;
    bed.eventually("the topology is reconciled", async || {
        bed.condition("Cluster", "t1", "TopologyReconciled").await == "True"
    })
    .await;
    for kind in ["DockerCluster", "DockerMachine"] {
        bed.eventually("the class's infrastructure is provisioned", async || {
            bed.is_provisioned(kind, "t1").await
        })
        .await;
    }
    bed.delete_cluster("t1").await;
}

/// `clusterctl move` to another management cluster and back: no container is restarted, none is made.
async fn moves_and_comes_back(bed: &Bed) {
    bed.eventually("every machine is running", async || {
        bed.condition("MachineDeployment", "c1-workers", "Available")
            .await
            == "True"
    })
    .await;
    let before = bed.starts().await;
    let away = bed.second_home().await;
    let to = |target: &std::path::Path| target.to_str().unwrap().to_owned();
    let target = to(away.clusterctl.kubeconfig());
    bed.clusterctl(&["move", "--to-kubeconfig", &target]).await;
    let machines = away.api(
        "infrastructure.cluster.x-k8s.io/v1beta2",
        "DockerMachine",
        bed.namespace(),
    );
    bed.eventually("every machine is known over there", async || {
        let listed = machines.list(&ListParams::default()).await.unwrap().items;
        let ready = |object: &kube::core::DynamicObject| {
            let conditions = object
                .data
                .pointer("/status/conditions")
                .and_then(|of| of.as_array());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        listed.len() == 3 && listed.iter().all(ready)
    })
    .await;
    assert_eq!(bed.starts().await, before, "the move touched a container");
    let home = to(bed.home.clusterctl.kubeconfig());
    let back = ["move", "--to-kubeconfig", &home, "--namespace", bed.namespace()];
    bed.eventually("it moves back", async || {
        away.clusterctl.run(&back, &[]).await.is_ok()
    })
    .await;
    bed.eventually("the Cluster is Available at home", async || {
        bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
    assert_eq!(bed.starts().await, before, "the move back touched a container");
    away.leaves_nothing_when_it_is_uninstalled().await;
}
