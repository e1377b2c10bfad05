//! What happens to clusters of real nodes in the years after their creation: they grow and shrink, lose machines, and
//! are restarted. Each takes minutes, so these run when everything is run (`--full`).

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use testkit::capi::nodes::{bootstrap_spec, fit_for_this_machine};

use crate::{BEGUN, bed::Bed, workload::Workload};

/// What the moments of a manager's death are drawn from.
const SEED: u64 = 20_261_121;

/// Makes the health checks of a flavor replace a machine soon after its Node was lost. A Node that is new and not Ready
/// yet keeps its time.
fn impatient(mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        let checks = object.pointer_mut("/spec/checks/unhealthyNodeConditions");
        for check in checks.and_then(Value::as_array_mut).into_iter().flatten() {
            if check["status"] == "Unknown" {
                check["timeoutSeconds"] = 5.into();
            }
        }
    }
    objects
}

/// Makes a cluster of one control plane machine and `workers`, and waits until all nodes are Ready.
async fn cluster<'a>(bed: &'a Bed, flavor: Option<&str>, workers: usize) -> Workload<'a> {
    let generated = bed.generate("c1", flavor, workers).await;
    bed.apply(impatient(fit_for_this_machine(generated))).await;
    let workload = Workload::of(bed, "c1").await;
    workload.has_ready_nodes(1 + workers).await;
    workload
}

/// The nodes of the control plane, or the others.
async fn names(workload: &Workload<'_>, control_plane: bool) -> Vec<String> {
    let label = "node-role.kubernetes.io/control-plane";
    let nodes = workload.ready_nodes().await;
    let wanted = nodes
        .iter()
        .filter(|node| node.labels().contains_key(label) == control_plane);
    wanted.map(Node::name_any).collect()
}

async fn leaves_nothing(bed: &Bed) {
    bed.delete_cluster("c1").await;
    assert_eq!(bed.traces().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_workers_go_from_one_to_three_and_back() {
    let bed = Bed::start().await;
    let workload = cluster(&bed, None, 1).await;
    for workers in [3, 1] {
        bed.scale_workers("c1-workers", workers).await;
        workload.has_ready_nodes(1 + workers).await;
        bed.eventually("as many Machines and containers as nodes", async || {
            let containers = bed.starts().await;
            bed.machines("c1").await.len() == 1 + workers && containers.len() == 2 + workers
        })
        .await;
    }
    leaves_nothing(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_a_health_check_replaces_a_worker_that_was_killed() {
    let bed = Bed::start().await;
    let workload = cluster(&bed, Some("ha"), 1).await;
    let killed = names(&workload, false).await.remove(0);
    is_replaced(&bed, &workload, &killed).await;
    leaves_nothing(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_a_control_plane_grows_to_three_and_replaces_one_that_was_killed() {
    let bed = Bed::start().await;
    let workload = cluster(&bed, Some("ha"), 0).await;
    let first = names(&workload, true).await.remove(0);
    bed.scale_control_plane("c1-control-plane", 3).await;
    workload.has_ready_nodes(3).await;
    bed.eventually("the control plane is healthy", async || {
        bed.condition("Cluster", "c1", "ControlPlaneAvailable").await == "True"
            && bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
    // The first, which all the others have joined by.
    is_replaced(&bed, &workload, &first).await;
    leaves_nothing(&bed).await;
}

/// Kills the machine's container; another takes its place, and nothing of it stays.
async fn is_replaced(bed: &Bed, workload: &Workload<'_>, machine: &str) {
    let nodes = workload.ready_nodes().await.len();
    let container = bed.container_of(machine);
    bed.docker.run(&["kill", &container]).await.unwrap();
    bed.eventually("the Machine is gone", async || {
        !bed.machines("c1").await.iter().any(|name| name == machine)
    })
    .await;
    assert!(
        !bed.docker.exists("container", &container).await.unwrap(),
        "its container is gone"
    );
    workload.has_ready_nodes(nodes).await;
    bed.eventually("the Cluster is Available", async || {
        bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
}

/// As a restart of Docker's daemon, or of the host, does it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_a_cluster_outlives_the_restart_of_all_its_containers() {
    let bed = Bed::start().await;
    bed.apply(counting(bed.generate("c1", None, 1).await)).await;
    let workload = Workload::of(&bed, "c1").await;
    workload.has_ready_nodes(2).await;
    let kept: Api<ConfigMap> = Api::namespaced(workload.client.clone(), "default");
    let mut data = ConfigMap::default();
    data.metadata.name = Some("kept".to_owned());
    kept.create(&PostParams::default(), &data).await.unwrap();

    let before = identities(&bed.starts().await);
    assert_eq!(before.len(), 3, "two nodes and a load balancer");
    let restarts = before
        .iter()
        .map(|id| async { bed.docker.run(&["restart", id]).await.unwrap() });
    join_all(restarts).await;
    let restarted = Timestamp::now();

    bed.eventually("both kubelets say that they are Ready", async || {
        let nodes = workload.ready_nodes().await;
        nodes.len() == 2 && nodes.iter().all(|node| spoke_after(node, restarted))
    })
    .await;
    kept.get("kept").await.unwrap();
    bed.eventually("the Cluster is Available", async || {
        bed.condition("Cluster", "c1", "Available").await == "True"
    })
    .await;
    assert_eq!(identities(&bed.starts().await), before, "a container was made");
    each_bootstrap_began_once(&bed, &workload).await;
    leaves_nothing(&bed).await;
}

/// The objects of a cluster whose nodes write down each begin of their bootstrap.
fn counting(objects: Vec<Value>) -> Vec<Value> {
    let mut objects = fit_for_this_machine(objects);
    for spec in objects.iter_mut().filter_map(bootstrap_spec) {
        spec["preKubeadmCommands"] = json!([format!("echo begun >> {BEGUN}")]);
    }
    objects
}

async fn each_bootstrap_began_once(bed: &Bed, workload: &Workload<'_>) {
    let listed = workload.nodes.list(&ListParams::default()).await.unwrap();
    for node in listed.items {
        let container = bed.container_of(&node.name_any());
        let begun = bed.docker.exec(&container, &["cat", BEGUN]).await.unwrap();
        assert_eq!(begun, "begun", "the bootstrap of {container} was repeated");
    }
}

/// From its first object to its last: at moments drawn from a seed the manager is killed, and another started.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_a_manager_that_is_killed_again_and_again_makes_each_machine_once() {
    let bed = Bed::start().await;
    let (mut killed, mut random) = (0_u32, SEED);
    let dying = async {
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // A lease that nobody gave back is free after three seconds: sooner, none would ever act.
            let moment = Duration::from_millis(6000 + (random >> 33) % 9000);
            tokio::time::sleep(moment).await;
            bed.home.kill_manager();
            bed.home.start_manager();
            killed += 1;
        }
    };
    let living = async {
        bed.apply(counting(bed.generate("c1", None, 1).await)).await;
        let workload = Workload::of(&bed, "c1").await;
        workload.has_ready_nodes(2).await;
        bed.scale_workers("c1-workers", 3).await;
        workload.has_ready_nodes(4).await;
        each_bootstrap_began_once(&bed, &workload).await;
        leaves_nothing(&bed).await;
    };
    tokio::select! {
        () = dying => {}
        () = living => {}
    }
    testkit::progress::line(&format!("the manager was killed {killed} times, by seed {SEED}"));
    assert!(killed >= 5, "killed {killed} times only");
}

/// The ids of what [`Bed::starts`] lists.
fn identities(starts: &[String]) -> Vec<String> {
    let id = |start: &String| start.split(' ').next().unwrap_or_default().to_owned();
    starts.iter().map(id).collect()
}

/// Whether the node's kubelet has said something since `time`.
fn spoke_after(node: &Node, time: Timestamp) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut heartbeats = conditions.filter_map(|condition| condition.last_heartbeat_time.as_ref());
    heartbeats.any(|heartbeat| heartbeat.0 > time)
}
