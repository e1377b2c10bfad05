//! Folders of nodes that were tied to none: what happens to Pods before they are, and where they are tied then.

use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    apps::v1::Deployment,
    core::v1::{Node, PersistentVolume},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
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

/// An older backup is not restored in the place of one that is on another node; and the one that is to be restored is
/// found, once the restore is tried there.
#[rstest]
#[case::and_another_is_named("missed", false)]
#[case::and_it_is_tried_again("sought", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_on_a_node_without_the_newest_backup_fails_and_ties_nothing(
    #[case] name: &str,
    #[case] again: bool,
) {
    let (mut bed, _, first, last) = scattered(name).await;
    // With the Job goes what is known of where it was.
    bed.api::<k8s_openapi::api::batch::v1::Job>()
        .delete(&format!("backup-{name}-job"), &DeleteParams::background())
        .await
        .unwrap();
    let pods = format!("{BACKUP_PODS}{name}-job");
    bed.eventually("its Pod is gone", async || nodes_of(&bed, &pods).await.is_empty())
        .await;
    // That a restore failed is seen: it is tried again five minutes later by the clock of the API server.
    bed.halt().await;
    bed.start_at(1);
    bed.create(name, spec(&json!({}))).await;
    let object = bed
        .until(name, "it says that the newest is missing", |object| {
            says(object, "Ready", "False", "BackupMissing")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains("no server is started"));
    let restored = format!("batch.kubernetes.io/job-name=restore-{name}-job");
    assert_ne!(
        nodes_of(&bed, &restored).await,
        std::slice::from_ref(&last),
        "it was put on the other node"
    );
    for claim in [format!("backup-{name}-pvc"), format!("{name}-pvc")] {
        assert_eq!(
            noted(&bed, &claim).await,
            None,
            "{claim}: the newest is not there"
        );
    }
    // Another restore is another try, at once.
    let restore = if again {
        json!({"policy": "Required"})
    } else {
        json!({ "from": first })
    };
    bed.patch(name, json!({"spec": {"restore": restore}})).await;
    bed.ready(name).await;
    let (data, home) = (bed.data(name).await, noted(&bed, &format!("{name}-pvc")).await);
    assert_eq!(home.as_ref(), nodes_of(&bed, &restored).await.first());
    if again {
        assert_eq!(home, Some(last.clone()), "the one with the newest");
        assert_eq!(noted(&bed, &format!("backup-{name}-pvc")).await, home);
    }
    let rows: &[&str] = if again { &["row", "later"] } else { &["row"] };
    let folders = [data.clone(), format!("{data} of {last}")];
    let found = folders.iter().find_map(|folder| bed.kubelet.disks.rows(folder));
    assert_eq!(found.unwrap(), rows);
    bed.stop().await;
}

/// Lets nobody change the volumes of this bed, as a webhook that is down does; or lets them again.
async fn stand_in_the_way(bed: &Bed, stands: bool) {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(bed.client.clone());
    let name = format!("down-{}", bed.namespace.name());
    if !stands {
        all.delete(&name, &DeleteParams::default()).await.unwrap();
        return;
    }
    let mine = format!("object.spec.claimRef.namespace == '{}'", bed.namespace.name());
    let webhook = json!({"metadata": {"name": name}, "webhooks": [{
        "name": "down.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "clientConfig": {"url": "https://127.0.0.1:1/"},
        "matchConditions": [{"name": "mine", "expression": mine}],
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["persistentvolumes"],
                   "operations": ["UPDATE"], "scope": "*"}],
    }]});
    let webhook = serde_json::from_value(webhook).unwrap();
    all.create(&PostParams::default(), &webhook).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(bed.client.clone());
    bed.eventually("it is heard", async || {
        let found = volumes.list(&ListParams::default()).await.unwrap().items;
        let mut mine = found.iter().filter(|volume| {
            let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            claim.and_then(|claim| claim.namespace.as_deref()) == Some(bed.namespace.name())
        });
        let label = Patch::Merge(
            json!({"metadata": {"labels": {"heard": Timestamp::now().as_millisecond().to_string()}}}),
        );
        let name = mine.next().unwrap().name_any();
        volumes
            .patch(&name, &PatchParams::default(), &label)
            .await
            .is_err()
    })
    .await;
}

/// The server serves on as it is, and is backed up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_tied_for_a_while_is_backed_up_and_changed_when_it_can() {
    let mut bed = Bed::on(classless().await).await;
    bed.start();
    bed.create("webhook", spec(&json!({}))).await;
    bed.ready("webhook").await;
    bed.halt().await;
    stand_in_the_way(&bed, true).await;
    let nodes = bed.kubelet.nodes(&bed.client, bed.namespace.name(), 2).await;
    nodes.unwrap();
    bed.eventually("its Pod is on a node", async || {
        !nodes_of(&bed, "app=webhook").await.is_empty()
    })
    .await;
    let (node, server) = (
        nodes_of(&bed, "app=webhook").await,
        generation(&bed, "webhook").await,
    );
    bed.patch(
        "webhook",
        json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}},
               "spec": {"resources": {"limits": {"memory": "1Gi"}}}}),
    )
    .await;
    bed.start();
    let object = bed
        .until("webhook", "it is backed up", |object| {
            says(object, "BackupTaken", "True", "BackupDone")
        })
        .await
        .unwrap();
    let told = message(&object, "StorageReady");
    assert!(told.contains("is tied to no node"), "{told}");
    assert_eq!(
        generation(&bed, "webhook").await,
        server,
        "it could be put elsewhere"
    );
    assert_eq!(noted(&bed, "webhook-pvc").await, None);
    stand_in_the_way(&bed, false).await;
    bed.eventually("it is changed", async || {
        generation(&bed, "webhook").await != server
    })
    .await;
    bed.ready("webhook").await;
    assert_eq!(nodes_of(&bed, "app=webhook").await, node);
    assert_eq!(noted(&bed, "webhook-pvc").await.as_ref(), node.first());
    bed.stop().await;
}

/// Of the server's Deployment: it is another one once what is asked for has changed.
async fn generation(bed: &Bed, name: &str) -> Option<i64> {
    let server = bed.api::<Deployment>().get(name).await.unwrap();
    server.metadata.generation
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
    bed.pass(&clock, 6).await;
    let (audit, begin) = (bed.plane().audit(), clock.elapsed());
    let position = audit.settle(&bed.client).await.unwrap();
    bed.pass(&clock, 10).await;
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
