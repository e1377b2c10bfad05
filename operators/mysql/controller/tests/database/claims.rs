//! Claims that somebody deletes where Kubernetes holds them: as long as a Pod has them that was given a node.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::bed::{Bed, message, says, spec};

/// Deletes a claim, which is held, and returns its UID.
async fn delete(bed: &Bed, claim: &str) -> String {
    let claims = bed.api::<PersistentVolumeClaim>();
    claims.delete(claim, &DeleteParams::default()).await.unwrap();
    let held = claims.get(claim).await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some(), "a Pod has it");
    held.metadata.uid.unwrap()
}

/// Waits until another claim of this name is there.
async fn another(bed: &Bed, claim: &str, before: &str) {
    let claims = bed.api::<PersistentVolumeClaim>();
    bed.eventually("there is another volume", async || {
        let found = claims.get_opt(claim).await.unwrap();
        found.is_some_and(|found| {
            found.metadata.uid.as_deref() != Some(before) && found.metadata.deletion_timestamp.is_none()
        })
    })
    .await;
}

/// Waits until a Pod with this label is on a node.
async fn placed(bed: &Bed, selector: &str) {
    let params = ListParams::default().labels(selector);
    bed.eventually("it is on the node", async || {
        let pods = bed.api::<Pod>().list(&params).await.unwrap().items;
        pods.iter()
            .any(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
    })
    .await;
}

/// A Pod of somebody's that has the volume with the backups, to look at them.
async fn mount(bed: &Bed, name: &str) {
    let claim = format!("backup-{name}-pvc");
    let source = json!({"name": "theirs", "persistentVolumeClaim": {"claimName": claim}});
    let labels = json!({"otus.homework/mysql": name, "who": "theirs"});
    let _: Pod = bed
        .make(json!({"metadata": {"name": "theirs", "labels": labels},
                     "spec": {"containers": [{"name": "theirs", "image": "i"}], "volumes": [source]}}))
        .await;
    placed(bed, "who=theirs").await;
}

async fn unmount(bed: &Bed) {
    let now = DeleteParams::default().grace_period(0);
    bed.api::<Pod>().delete("theirs", &now).await.unwrap();
}

async fn back_up(bed: &Bed, name: &str, value: &str) {
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": value}}});
    bed.patch(name, now).await;
    bed.until(name, "the backup is there", |object| {
        let status = object.and_then(|object| object.status.as_ref());
        says(object, "BackupTaken", "True", "BackupDone")
            && status.is_some_and(|status| status.last_request.as_deref() == Some(value))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_volume_that_is_held_is_made_again_once_the_servers_pod_is_gone() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.start();
    bed.create("held", spec(&json!({}))).await;
    bed.ready("held").await;
    assert!(bed.kubelet.disks.write(&bed.data("held").await, "row"));
    back_up(&bed, "held", "1").await;
    let before = delete(&bed, "held-pvc").await;
    bed.until("held", "it is said", |object| {
        says(object, "StorageReady", "False", "LeftoversGoing")
    })
    .await;
    assert_eq!(bed.data("held").await, before, "the server has it");
    let server = ListParams::default().labels("app=held");
    let pods = bed.api::<Pod>();
    pods.delete_collection(&DeleteParams::default(), &server)
        .await
        .unwrap();
    another(&bed, "held-pvc", &before).await;
    bed.until("held", "it is restored", |object| {
        says(object, "RestoreDone", "True", "Restored")
    })
    .await;
    bed.ready("held").await;
    assert_eq!(bed.kubelet.disks.rows(&bed.data("held").await).unwrap(), ["row"]);
    bed.stop().await;
}

/// As the documentation says to remove them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_that_are_deleted_after_their_object_keep_none_from_beginning() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.start();
    bed.create("next", spec(&json!({}))).await;
    bed.ready("next").await;
    assert!(bed.kubelet.disks.write(&bed.data("next").await, "row"));
    bed.delete("next").await;
    bed.gone("next").await;
    let before = delete(&bed, "backup-next-pvc").await;
    bed.create("next", spec(&json!({}))).await;
    another(&bed, "backup-next-pvc", &before).await;
    let object = bed.ready("next").await;
    assert!(says(Some(&object), "RestoreDone", "True", "StartedEmpty"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_that_go_with_their_volume_are_told_and_counted_no_more() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.start();
    bed.create("told", spec(&json!({}))).await;
    bed.ready("told").await;
    back_up(&bed, "told", "1").await;
    mount(&bed, "told").await;
    let before = delete(&bed, "backup-told-pvc").await;
    let object = bed
        .until("told", "it is said", |object| {
            let told = object.map(|object| message(object, "BackupTaken"));
            says(object, "BackupTaken", "False", "LeftoversGoing")
                && told.is_some_and(|told| {
                    told.ends_with("held by Pod theirs; none is taken until another has its place")
                })
        })
        .await
        .unwrap();
    assert!(says(Some(&object), "Ready", "True", "Serving"));
    let jobs = ["restore-told-job", "backup-told-job"];
    for job in jobs {
        assert!(bed.job(job).await.is_none(), "{job} holds it");
    }
    unmount(&bed).await;
    another(&bed, "backup-told-pvc", &before).await;
    let object = bed
        .until("told", "they are missed", |object| {
            says(object, "BackupTaken", "False", "BackupsLost")
        })
        .await
        .unwrap();
    assert!(object.status.unwrap().last_backup.is_none());
    assert!(bed.reasons("told").await.contains(&"BackupsLost".to_owned()));
    back_up(&bed, "told", "2").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_backup_on_a_volume_that_somebody_has_deleted_is_taken_again_on_another() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.kubelet.disks.be_strict();
    bed.start();
    bed.create("only", spec(&json!({}))).await;
    bed.ready("only").await;
    assert!(bed.kubelet.disks.write(&bed.data("only").await, "row"));
    bed.kubelet.hold("backup", "");
    bed.delete("only").await;
    placed(&bed, "batch.kubernetes.io/job-name=backup-only-job").await;
    let before = delete(&bed, "backup-only-pvc").await;
    bed.halt().await;
    bed.kubelet.let_go("backup");
    bed.eventually("it is taken", async || {
        let job = bed.api::<Job>().get("backup-only-job").await.unwrap();
        job.status.and_then(|status| status.succeeded) == Some(1)
    })
    .await;
    bed.start();
    another(&bed, "backup-only-pvc", &before).await;
    bed.gone("only").await;
    let backups = bed.claim("backup-only-pvc").await;
    assert_ne!(backups, before);
    assert!(bed.has_claim("backup-only-pvc").await);
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_waits_for_the_volume_with_the_backups_says_so() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.start();
    bed.create("waits", spec(&json!({}))).await;
    bed.ready("waits").await;
    assert!(bed.kubelet.disks.write(&bed.data("waits").await, "row"));
    mount(&bed, "waits").await;
    let before = delete(&bed, "backup-waits-pvc").await;
    bed.delete("waits").await;
    let object = bed
        .until("waits", "it is blocked", |object| {
            says(object, "DeletionBlocked", "True", "FinalBackupFailed")
                && says(object, "BackupTaken", "False", "LeftoversGoing")
        })
        .await
        .unwrap();
    let told = message(&object, "DeletionBlocked");
    assert!(
        told.contains("somebody has deleted backup-waits-pvc") && told.contains("theirs"),
        "{told}"
    );
    assert!(bed.has_claim("waits-pvc").await, "nothing went");
    let pods = bed.api::<k8s_openapi::api::core::v1::Pod>();
    pods.delete("theirs", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    another(&bed, "backup-waits-pvc", &before).await;
    bed.gone("waits").await;
    let backups = bed.claim("backup-waits-pvc").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

/// Which claim a Pod has is settled when it is given a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_whose_pod_waits_for_a_node_while_the_volume_is_made_again_is_on_that() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.kubelet.disks.be_strict();
    bed.start();
    bed.create("room", spec(&json!({}))).await;
    bed.ready("room").await;
    assert!(bed.kubelet.disks.write(&bed.data("room").await, "row"));
    let before = bed.claim("backup-room-pvc").await;
    // What has filled the folder holds the claim until then.
    bed.api::<Job>()
        .delete("restore-room-job", &DeleteParams::background())
        .await
        .unwrap();
    bed.eventually("nobody holds it", async || {
        let selector = ListParams::default().labels("batch.kubernetes.io/job-name=restore-room-job");
        bed.api::<Pod>().list(&selector).await.unwrap().items.is_empty()
    })
    .await;
    bed.kubelet.be_full(true);
    bed.delete("room").await;
    bed.eventually("it was begun", async || {
        bed.job("backup-room-job").await.is_some()
    })
    .await;
    let claims = bed.api::<PersistentVolumeClaim>();
    claims
        .delete("backup-room-pvc", &DeleteParams::default())
        .await
        .unwrap();
    another(&bed, "backup-room-pvc", &before).await;
    bed.kubelet.be_full(false);
    bed.gone("room").await;
    let backups = bed.claim("backup-room-pvc").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    assert_eq!(bed.kubelet.disks.runs("backup"), 1);
    bed.stop().await;
}
