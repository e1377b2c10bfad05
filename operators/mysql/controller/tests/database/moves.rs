//! Folders of nodes that were tied to none: what happens to Pods before they are, and where they are tied then.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use reconcile::clock::Clock;
use rstest::rstest;
use serde_json::json;
use testkit::audit::Filter;

use crate::{
    bed::{Bed, SPEED, classless, message, says, spec},
    folders::{HOSTNAME, nodes_of, noted},
};

const BACKUP_PODS: &str = "batch.kubernetes.io/job-name=backup-";

/// A server with a row whose volumes are folders that nobody has tied; its operator is halted, and then there are nodes.
async fn untied(name: &str) -> (Bed, Vec<String>) {
    let mut bed = Bed::on(classless().await).await;
    bed.start();
    bed.create(name, spec(&json!({}))).await;
    bed.ready(name).await;
    assert!(bed.kubelet.disks.write(&bed.data(name).await, "row"));
    bed.halt().await;
    let nodes = bed.kubelet.nodes(&bed.client, bed.namespace.name(), 2).await;
    let nodes = nodes.unwrap();
    let selector = format!("app={name}");
    bed.eventually("its Pod is on a node", async || {
        !nodes_of(&bed, &selector).await.is_empty()
    })
    .await;
    (bed, nodes)
}

/// Another Pod may be put anywhere.
#[rstest]
#[case::that_lives("stays", false)]
#[case::that_goes("leaves", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_tied_to_its_folder_before_it_is_changed(#[case] name: &str, #[case] goes: bool) {
    let (mut bed, _) = untied(name).await;
    let selector = format!("app={name}");
    let node = nodes_of(&bed, &selector).await;
    let more = json!({"spec": {"resources": {"limits": {"memory": "1Gi"}}}});
    bed.patch(name, more).await;
    if goes {
        let backups = bed.claim(&format!("backup-{name}-pvc")).await;
        bed.delete(name).await;
        bed.start();
        bed.gone(name).await;
        assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    } else {
        bed.start();
        bed.ready(name).await;
        assert_eq!(nodes_of(&bed, &selector).await, node);
        assert_eq!(noted(&bed, "stays-pvc").await.as_ref(), node.first());
        assert!(bed.reasons(name).await.contains(&"ServerChanged".to_owned()));
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_tied_where_one_is_being_taken_and_not_where_the_server_is() {
    let mut bed = Bed::on(classless().await).await;
    bed.start();
    bed.create("busy", spec(&json!({}))).await;
    bed.ready("busy").await;
    assert!(bed.kubelet.disks.write(&bed.data("busy").await, "row"));
    bed.kubelet.hold("backup", "");
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}});
    bed.patch("busy", now).await;
    bed.eventually("it is begun", async || bed.job("backup-busy-job").await.is_some())
        .await;
    let made = bed.kubelet.nodes(&bed.client, bed.namespace.name(), 2).await;
    made.unwrap();
    bed.eventually("both are tied", async || {
        noted(&bed, "busy-pvc").await.is_some() && noted(&bed, "backup-busy-pvc").await.is_some()
    })
    .await;
    let (server, backup) = (
        nodes_of(&bed, "app=busy").await,
        nodes_of(&bed, &format!("{BACKUP_PODS}busy-job")).await,
    );
    assert_ne!(server, backup, "they are on two nodes");
    assert_eq!(noted(&bed, "busy-pvc").await.as_ref(), server.first());
    assert_eq!(noted(&bed, "backup-busy-pvc").await.as_ref(), backup.first());
    bed.kubelet.let_go("backup");
    bed.until("busy", "the backup is there", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    let backups = bed.claim("backup-busy-pvc").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

/// Gives the nodes their labels, or takes them.
async fn label(bed: &Bed, nodes: &[String], labelled: bool) {
    let all: Api<Node> = Api::all(bed.client.clone());
    for node in nodes {
        let label = labelled.then(|| format!("host-of-{node}"));
        let patch = Patch::Merge(json!({"metadata": {"labels": {HOSTNAME: label}}}));
        all.patch(node, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// One that is gone, and has left a backup on each of two nodes, to neither of which the folder is tied. Returns the id of
/// the first, and the node of the last.
async fn scattered(name: &str) -> (Bed, Vec<String>, String, String) {
    let (mut bed, nodes) = untied(name).await;
    label(&bed, &nodes, false).await;
    bed.start();
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}});
    bed.patch(name, now).await;
    let object = bed
        .until(name, "the first backup is there", |object| {
            says(object, "BackupTaken", "True", "BackupDone")
        })
        .await
        .unwrap();
    let first = object.status.unwrap().last_backup.unwrap().id;
    let pods = format!("{BACKUP_PODS}{name}-job");
    let before = nodes_of(&bed, &pods).await;
    assert!(bed.kubelet.disks.write(&bed.data(name).await, "later"));
    bed.delete(name).await;
    bed.gone(name).await;
    let after = nodes_of(&bed, &pods).await;
    assert_ne!(before, after, "they were taken on two nodes");
    assert_eq!(noted(&bed, &format!("backup-{name}-pvc")).await, None);
    label(&bed, &nodes, true).await;
    (bed, nodes, first, after[0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_is_the_newest_backup_from_the_node_where_it_was_taken() {
    let (bed, _, _, last) = scattered("found").await;
    bed.create("found", spec(&json!({}))).await;
    bed.ready("found").await;
    for claim in ["found-pvc", "backup-found-pvc"] {
        assert_eq!(noted(&bed, claim).await.as_ref(), Some(&last));
    }
    let data = bed.data("found").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["row", "later"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_is_not_restored_in_the_place_of_one_that_is_on_another_node() {
    let (mut bed, _, first, last) = scattered("missed").await;
    // With the Job goes what is known of where it was.
    bed.api::<k8s_openapi::api::batch::v1::Job>()
        .delete("backup-missed-job", &DeleteParams::background())
        .await
        .unwrap();
    let pods = format!("{BACKUP_PODS}missed-job");
    bed.eventually("its Pod is gone", async || nodes_of(&bed, &pods).await.is_empty())
        .await;
    // That a restore failed is seen: it is tried again five minutes later by the clock of the API server.
    bed.halt().await;
    bed.start_at(1);
    bed.create("missed", spec(&json!({}))).await;
    let object = bed
        .until("missed", "it says that the newest is missing", |object| {
            says(object, "Ready", "False", "BackupMissing")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains("no server is started"));
    let restored = nodes_of(&bed, "batch.kubernetes.io/job-name=restore-missed-job").await;
    assert_ne!(restored, [last], "it was put on the other node");
    assert_eq!(
        noted(&bed, "backup-missed-pvc").await,
        None,
        "the newest is not there"
    );
    bed.patch("missed", json!({"spec": {"restore": {"from": first}}}))
        .await;
    bed.ready("missed").await;
    let data = bed.data("missed").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["row"]);
    bed.stop().await;
}

/// How often it looks is counted by its own clock, of which ten minutes are as long as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_no_node_takes_is_looked_at_no_more_often_than_any_other() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.kubelet.be_full(true);
    let clock = Clock::accelerated(SPEED);
    bed.start_with(clock.clone());
    bed.create("full", spec(&json!({}))).await;
    bed.until("full", "it is told", |object| {
        object.is_some_and(|object| message(object, "Ready").contains("is on no node"))
    })
    .await;
    let passed = async |minutes: u64| {
        let begin = clock.elapsed();
        bed.eventually("time passes", async || {
            clock.elapsed() > begin + Duration::from_mins(minutes)
        })
        .await;
    };
    passed(6).await;
    let (audit, begin) = (bed.plane().audit(), clock.elapsed());
    let position = audit.settle(&bed.client).await.unwrap();
    passed(10).await;
    let looks = Filter::all()
        .user_agent("mysql-operator")
        .namespace(bed.namespace.name())
        .resource("jobs")
        .verb("get")
        .name("restore-full-job");
    let looks = audit.query(&bed.client, position, &looks).await.unwrap().len();
    // Every 30 seconds, and as often again for whatever else happens.
    let looked = clock.elapsed().saturating_sub(begin);
    let most = 2 * looked.as_secs() / 30;
    assert!(u64::try_from(looks).unwrap() <= most, "{looks} looks");
    bed.kubelet.be_full(false);
    bed.ready("full").await;
    bed.stop().await;
}
