//! Volumes that are lost, or are not the ones that they were.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::api::DeleteParams;
use reconcile::clock::Clock;
use rstest::rstest;
use serde_json::json;

use crate::bed::{Bed, message, says, spec};

/// Takes a backup for this value of the annotation, and returns its id.
async fn back_up(bed: &Bed, name: &str, value: &str) -> String {
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": value}}});
    bed.patch(name, now).await;
    let object = bed
        .until(name, "the backup is there", |object| {
            let status = object.and_then(|object| object.status.as_ref());
            says(object, "BackupTaken", "True", "BackupDone")
                && status.is_some_and(|status| status.last_request.as_deref() == Some(value))
        })
        .await
        .unwrap();
    object.status.unwrap().last_backup.unwrap().id
}

/// Deletes the claim of the data volume, and waits for another. No node runs the Pod, so that nothing keeps the claim.
async fn lose(bed: &Bed, name: &str) {
    let before = take(bed, name).await;
    has_another(bed, name, before).await;
}

/// Deletes the claim of the data volume, and waits until Kubernetes, which holds it for a while, has let it go; returns
/// its UID.
async fn take(bed: &Bed, name: &str) -> String {
    let (before, claims) = (bed.data(name).await, bed.api::<PersistentVolumeClaim>());
    let claim = format!("{name}-pvc");
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    bed.eventually("the volume is gone", async || {
        let found = claims.get_opt(&claim).await.unwrap();
        found.is_none_or(|found| found.metadata.uid.as_ref() != Some(&before))
    })
    .await;
    before
}

async fn has_another(bed: &Bed, name: &str, before: String) {
    let (claim, claims) = (format!("{name}-pvc"), bed.api::<PersistentVolumeClaim>());
    bed.eventually("there is another volume", async || {
        let found = claims.get_opt(&claim).await.unwrap();
        found.is_some_and(|found| {
            found.metadata.uid.as_ref() != Some(&before) && found.metadata.deletion_timestamp.is_none()
        })
    })
    .await;
}

/// Another operator whose clock is that of the API server: when a Job failed is told by the latter, and one that failed
/// five minutes ago is told of and at once tried again.
async fn at_its_own_pace(bed: &mut Bed) {
    bed.halt().await;
    bed.start_at(1);
}

/// What the spec says of a first volume (an old backup, or none) would be a loss of rows on a second.
#[rstest]
#[case::as_usual("lost", false, "IfBackupExists")]
#[case::with_an_old_backup_pinned("pinned", true, "IfBackupExists")]
#[case::begun_empty("begun", false, "Never")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_volume_that_is_lost_is_made_again_from_the_newest_backup(
    #[case] name: &str,
    #[case] pinned: bool,
    #[case] policy: &str,
) {
    let bed = Bed::new().await;
    bed.create(name, spec(&json!({}))).await;
    bed.ready(name).await;
    let data = bed.data(name).await;
    bed.kubelet.disks.write(&data, "old");
    let first = back_up(&bed, name, "1").await;
    let from = pinned.then_some(first);
    bed.patch(
        name,
        json!({"spec": {"restore": {"policy": policy, "from": from}}}),
    )
    .await;
    bed.kubelet.disks.write(&data, "new");
    back_up(&bed, name, "2").await;
    lose(&bed, name).await;
    bed.until(name, "it is restored", |object| {
        says(object, "RestoreDone", "True", "Restored")
    })
    .await;
    bed.ready(name).await;
    let data = bed.data(name).await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["old", "new"]);
    assert!(bed.reasons(name).await.contains(&"VolumeLost".to_owned()));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_volume_that_is_lost_again_before_it_is_filled_is_made_from_the_newest_backup_all_the_same() {
    let bed = Bed::new().await;
    bed.create("twice", spec(&json!({}))).await;
    bed.ready("twice").await;
    let data = bed.data("twice").await;
    bed.kubelet.disks.write(&data, "old");
    let first = back_up(&bed, "twice", "1").await;
    bed.patch("twice", json!({"spec": {"restore": {"from": first}}}))
        .await;
    bed.kubelet.disks.write(&data, "new");
    back_up(&bed, "twice", "2").await;
    // Neither condition says any more that there were data.
    bed.kubelet.break_("mysql", 1, json!({}));
    bed.until("twice", "the server fails", |object| {
        says(object, "ServerReady", "False", "ServerFailing")
    })
    .await;
    bed.kubelet.hold("restore", "");
    lose(&bed, "twice").await;
    bed.until("twice", "it is being filled", |object| {
        says(object, "RestoreDone", "Unknown", "Restoring")
    })
    .await;
    let begun = bed.job("restore-twice-job").await;
    lose(&bed, "twice").await;
    bed.eventually("it is begun anew", async || {
        let job = bed.job("restore-twice-job").await;
        job.is_some() && job != begun
    })
    .await;
    bed.kubelet.repair("mysql");
    bed.kubelet.let_go("restore");
    // If the Job was made once more before its end was seen, the last one has found the data there.
    bed.until("twice", "it is filled", |object| {
        says(object, "RestoreDone", "True", "Restored") || says(object, "RestoreDone", "True", "DataKept")
    })
    .await;
    bed.ready("twice").await;
    let data = bed.data("twice").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["old", "new"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_place_of_a_lost_data_volume_nothing_starts_empty_unless_somebody_says_so() {
    let mut bed = Bed::new().await;
    bed.create("bare", spec(&json!({}))).await;
    bed.ready("bare").await;
    bed.kubelet.disks.write(&bed.data("bare").await, "row");
    bed.halt().await;
    let before = take(&bed, "bare").await;
    // It looks when it starts, and at its own pace not for minutes after that.
    at_its_own_pace(&mut bed).await;
    has_another(&bed, "bare", before).await;
    bed.until("bare", "there is no backup", |object| {
        says(object, "Ready", "False", "BackupMissing")
    })
    .await;
    bed.patch("bare", json!({"spec": {"restore": {"policy": "Never"}}}))
        .await;
    let object = bed.ready("bare").await;
    assert!(says(Some(&object), "RestoreDone", "True", "StartedEmpty"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_without_the_backups_that_were_taken_is_not_taken_for_a_beginning() {
    let mut bed = Bed::new().await;
    bed.create("astray", spec(&json!({}))).await;
    bed.ready("astray").await;
    bed.kubelet.disks.write(&bed.data("astray").await, "row");
    let backups = bed.claim("backup-astray-pvc").await;
    bed.delete("astray").await;
    bed.gone("astray").await;
    bed.kubelet.disks.forget(&backups);
    at_its_own_pace(&mut bed).await;
    bed.create("astray", spec(&json!({}))).await;
    let object = bed
        .until("astray", "it says that they are missing", |object| {
            says(object, "Ready", "False", "BackupMissing")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains("no server is started"));
    bed.patch("astray", json!({"spec": {"restore": {"policy": "Never"}}}))
        .await;
    let object = bed.ready("astray").await;
    assert!(says(Some(&object), "RestoreDone", "True", "StartedEmpty"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_failed_long_before_it_was_seen_is_told_of_before_it_is_tried_again() {
    let mut bed = Bed::new().await;
    bed.kubelet.hold("restore", "");
    bed.create("late", spec(&json!({}))).await;
    bed.eventually("it is being filled", async || {
        bed.job("restore-late-job").await.is_some()
    })
    .await;
    bed.halt().await;
    let words = json!({"reason": "BackupDamaged", "error": "the sum is wrong"});
    bed.kubelet.break_("restore", 64, words);
    bed.kubelet.let_go("restore");
    bed.eventually("it has failed", async || {
        let job = bed.api::<Job>().get("restore-late-job").await.unwrap();
        let conditions = job.status.and_then(|status| status.conditions);
        let mut all = conditions.into_iter().flatten();
        all.any(|condition| condition.type_ == "Failed" && condition.status == "True")
    })
    .await;
    let clock = Clock::accelerated(100);
    bed.eventually("nobody has looked for long", async || {
        clock.elapsed() > Duration::from_mins(6)
    })
    .await;
    bed.start_with(clock);
    // Whoever looks at conditions may come too late: it is tried again at once.
    bed.eventually("it is told", async || {
        bed.reasons("late").await.contains(&"RestoreFailed".to_owned())
    })
    .await;
    bed.kubelet.repair("restore");
    bed.ready("late").await;
    bed.stop().await;
}

/// With the Pod the volume would go, and all rows with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_claim_is_deleted_stays_as_it_is_and_is_backed_up() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.start();
    bed.create("held", spec(&json!({}))).await;
    bed.ready("held").await;
    assert!(bed.kubelet.disks.write(&bed.data("held").await, "row"));
    let deployments = bed.api::<Deployment>();
    let server = async || deployments.get("held").await.unwrap().metadata.generation;
    let password = async || {
        let secret = bed.api::<Secret>().get("held-credentials").await.unwrap();
        secret.data.unwrap()["password"].clone()
    };
    let before = (server().await, password().await);
    let claims = bed.api::<PersistentVolumeClaim>();
    claims.delete("held-pvc", &DeleteParams::default()).await.unwrap();
    let amounts = json!({"limits": {"memory": "1Gi"}});
    let change = json!({"config": {"max-connections": "99"}, "resources": amounts, "password": "another"});
    bed.patch("held", json!({ "spec": change })).await;
    let object = bed
        .until("held", "the change waits", |object| {
            let seen = object.and_then(|object| object.status.as_ref()?.observed_generation);
            says(object, "UpToDate", "False", "LeftoversGoing")
                && seen == object.and_then(|object| object.metadata.generation)
        })
        .await
        .unwrap();
    assert!(says(Some(&object), "StorageReady", "False", "LeftoversGoing"));
    assert!(message(&object, "UpToDate").contains("held-pvc"));
    back_up(&bed, "held", "1").await;
    assert_eq!((server().await, password().await), before);
    assert!(bed.kubelet.disks.write(&bed.data("held").await, "later"));
    let backups = bed.claim("backup-held-pvc").await;
    bed.delete("held").await;
    bed.gone("held").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row", "later"]);
    bed.stop().await;
}
