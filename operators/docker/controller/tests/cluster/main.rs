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
mod life;
mod management;
mod pods;
mod specs;
mod workload;

use std::time::Duration;

use bed::Bed;
use docker_controller::identity::NAMESPACE_LABEL;
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use management::Management;
use serde_json::json;
use testkit::capi::nodes::{bootstrap_spec, without_pod_network};
use workload::Workload;

/// Long enough that a heartbeat, a resync in disguise or a flapping condition would show.
const IDLE: Duration = Duration::from_secs(20);
/// In a node, on its volume: gets a line whenever its bootstrap begins.
const BEGUN: &str = "/var/lib/begun";
/// In a node: lets a bootstrap go on that waits for it.
const GO_ON: &str = "/run/go-on";

/// The promises of the thinnest path, one cluster for all of them since each takes a minute to make.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_a_cluster_comes_up_rests_heals_scales_moves_and_leaves_nothing() {
    let bed = Bed::start().await;
    bed.try_apply(bed.generate("h1", Some("ha"), 1).await).await;
    bed.apply(waiting_for_a_word(bed.generate("c1", None, 1).await))
        .await;
    outlives_its_manager_in_mid_bootstrap(&bed).await;

    let workload = Workload::of(&bed, "c1").await;
    workload.install_pod_network().await;
    workload.has_ready_nodes(2).await;
    for node in workload.ready_nodes().await {
        let name = node.metadata.name.unwrap();
        let id = node.spec.unwrap().provider_id.unwrap();
        let expected = format!("docker:////{}", bed.container_of(&name));
        assert_eq!(id, expected, "machine and Node share their id");
    }
    bed.eventually("the Cluster is Available", async || {
        bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
    bed.reaches_the_control_plane_from_the_host("c1").await;
    bed.is_described_by(&[
        "DockerCluster/c1",
        "LoadBalancerAvailable",
        "KubeadmControlPlane/c1-control-plane",
    ])
    .await;

    let writes = bed.writes_during(IDLE).await;
    assert!(
        writes.is_empty(),
        "an idle cluster is not written to: {writes:#?}"
    );
    let away = bed.second_home().await;

    let balancer = bed.container("c1_lb").await;
    bed.docker.run(&["kill", &balancer]).await.unwrap();
    bed.eventually("the load balancer is healed", async || {
        workload.nodes.list(&ListParams::default()).await.is_ok()
    })
    .await;

    bed.scale_workers("c1-workers", 2).await;
    workload.has_ready_nodes(3).await;
    let asker = control_plane(&bed).await;
    workload.a_pod_answers_through_a_service(&asker).await;

    bed.home.has_told_no_bootstrap_data(bed.namespace()).await;

    moves_and_comes_back(&bed, &away).await;
    assert_eq!(workload.ready_nodes().await.len(), 3);

    a_class_makes_a_cluster_which_can_go_at_any_time(&bed).await;

    let worker = bed.container_of(&worker(&bed, "c1").await);
    bed.docker.run(&["kill", &worker]).await.unwrap();
    bed.is_described_by(&["is not running"]).await;
    goes_described(&bed).await;
    assert_eq!(
        bed.traces().await,
        Vec::<String>::new(),
        "containers, volumes and the network are gone"
    );
}

/// The Machine of a worker.
async fn worker(bed: &Bed, cluster: &str) -> String {
    let machines = bed.machines(cluster).await;
    let is_worker = |name: &String| name.starts_with(&format!("{cluster}-workers-"));
    machines.into_iter().find(is_worker).unwrap()
}

/// Deletes the cluster `c1`; `clusterctl describe` says so of what goes last, which is held until then.
async fn goes_described(bed: &Bed) {
    const HOLD: &str = "tests.example.com/described";
    let version = "infrastructure.cluster.x-k8s.io/v1beta2";
    let clusters = bed.home.api(version, "DockerCluster", bed.namespace());
    let set = async |finalizers: Vec<String>| {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        clusters.patch("c1", &PatchParams::default(), &patch).await
    };
    let finalizers = async || clusters.get("c1").await.unwrap().finalizers().to_vec();
    let mut held = finalizers().await;
    held.push(HOLD.into());
    set(held).await.unwrap();
    let described = async {
        bed.is_described_by(&["DockerCluster/c1", "is being removed"])
            .await;
        bed.eventually("the DockerCluster is let go", async || {
            let mut left = finalizers().await;
            left.retain(|finalizer| finalizer != HOLD);
            // The provider may have taken off its own meanwhile, which nobody can put back.
            set(left).await.is_ok()
        })
        .await;
    };
    tokio::join!(bed.delete_cluster("c1"), described);
}

/// The objects of a cluster whose control plane's bootstrap begins, says so, and waits until it is told to go on.
fn waiting_for_a_word(objects: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    let mut objects = without_pod_network(objects);
    for object in objects
        .iter_mut()
        .filter(|object| object["kind"] == "KubeadmControlPlane")
    {
        let wait = format!("echo begun >> {BEGUN}; until [ -e {GO_ON} ]; do sleep 0.1; done");
        bootstrap_spec(object).unwrap()["preKubeadmCommands"] = json!([wait]);
    }
    objects
}

/// The container of the control plane's machine, once there is one.
async fn control_plane(bed: &Bed) -> String {
    let mut found = String::new();
    bed.eventually("there is a control plane machine", async || {
        let of_control_plane = "label=capdkc.cluster.x-k8s.io/role=control-plane";
        let here = format!("label={NAMESPACE_LABEL}={}", bed.namespace());
        let list = [
            "ps",
            "--filter",
            of_control_plane,
            "--filter",
            &here,
            "--format",
            "{{.Names}}",
        ];
        found = bed.docker.run(&list).await.unwrap_or_default();
        !found.is_empty()
    })
    .await;
    found
}

/// The manager is killed while kubeadm is about to run and comes back when it has begun: the bootstrap goes on without
/// it, and is not begun again.
async fn outlives_its_manager_in_mid_bootstrap(bed: &Bed) {
    let node = control_plane(bed).await;
    let begun = async || bed.docker.exec(&node, &["cat", BEGUN]).await;
    bed.eventually("the bootstrap has begun", async || begun().await.is_ok())
        .await;
    // The Machine says it, and so does its infrastructure.
    bed.is_described_by(&["Bootstrapping", "runcmd 1"]).await;
    let before = bed.starts().await;
    bed.home.kill_manager();
    bed.docker.exec(&node, &["touch", GO_ON]).await.unwrap();
    let kubeadm = ["test", "-e", "/etc/kubernetes/admin.conf"];
    bed.eventually("kubeadm goes on alone", async || {
        bed.docker.exec(&node, &kubeadm).await.is_ok()
    })
    .await;
    bed.home.start_manager();
    bed.eventually("the control plane is initialized", async || {
        bed.condition("Cluster", "c1", "ControlPlaneInitialized").await == "True"
    })
    .await;
    let now = bed.starts().await;
    assert!(
        before.iter().all(|start| now.contains(start)),
        "a container was made anew or restarted: {before:?}, {now:?}"
    );
    assert_eq!(begun().await.unwrap(), "begun", "the bootstrap was begun twice");
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
async fn moves_and_comes_back(bed: &Bed, away: &Management) {
    bed.eventually("every machine is running", async || {
        bed.condition("MachineDeployment", "c1-workers", "Available")
            .await
            == "True"
    })
    .await;
    let before = bed.starts().await;
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
    away.is_upgraded(bed.release.path()).await;
    away.leaves_nothing_when_it_is_uninstalled().await;
}
