//! Deletions: nothing goes before its backup is there, and none waits in silence.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Secret, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PropagationPolicy},
};
use mysql_api::MySQL;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, message, says, spec};

/// A server with a row, whose backups fail.
async fn doomed(bed: &Bed, name: &str) -> MySQL {
    bed.create(name, spec(&json!({}))).await;
    let object = bed.ready(name).await;
    assert!(bed.kubelet.disks.write(&bed.data(name).await, "row"));
    let words = json!({"reason": "AccessDenied", "error": "the server refuses the password"});
    bed.kubelet.break_("backup", 64, words);
    bed.delete(name).await;
    let object_ = bed
        .until(name, "it is blocked", |object| {
            says(object, "DeletionBlocked", "True", "FinalBackupFailed")
        })
        .await
        .unwrap();
    for condition in ["DeletionBlocked", "Ready"] {
        let message = message(&object_, condition);
        for word in [
            "AccessDenied",
            "repair",
            "otus.homework/skip-backup",
            "backup.onDelete",
        ] {
            assert!(message.contains(word), "{condition}: {message}");
        }
    }
    assert!(bed.has_claim(&format!("{name}-pvc")).await, "nothing went");
    object
}

/// Waits until another Job takes the backup, and sees that the deletion is blocked all the time.
async fn tried_again(bed: &Bed, name: &str) {
    let job = format!("backup-{name}-job");
    let first = bed.job(&job).await;
    bed.eventually("it is tried again", async || {
        let object = bed.databases.get(name).await.unwrap();
        assert!(
            says(Some(&object), "DeletionBlocked", "True", "FinalBackupFailed"),
            "{object:#?}"
        );
        let now = bed.job(&job).await;
        now.is_some() && now != first
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_backup_that_fails_blocks_the_deletion_until_it_is_repaired() {
    let bed = Bed::new().await;
    doomed(&bed, "repaired").await;
    bed.eventually("an event tells", async || {
        bed.reasons("repaired")
            .await
            .contains(&"DeletionBlocked".to_owned())
    })
    .await;
    tried_again(&bed, "repaired").await;
    bed.kubelet.repair("backup");
    bed.gone("repaired").await;
    let backups = bed.claim("backup-repaired-pvc").await;
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_annotation_lets_go_without_a_backup_only_the_object_that_it_names() {
    let bed = Bed::new().await;
    let object = doomed(&bed, "skipped").await;
    bed.patch(
        "skipped",
        json!({"metadata": {"annotations": {"otus.homework/skip-backup": "another-uid"}}}),
    )
    .await;
    tried_again(&bed, "skipped").await;
    assert!(bed.has_claim("skipped-pvc").await);
    let uid = object.uid().unwrap();
    bed.patch(
        "skipped",
        json!({"metadata": {"annotations": {"otus.homework/skip-backup": uid}}}),
    )
    .await;
    bed.gone("skipped").await;
    assert!(!bed.has_claim("skipped-pvc").await);
    bed.stop().await;
}

#[rstest]
#[case("BestEffort", "tried")]
#[case("Never", "never")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_lets_go_without_a_backup(#[case] policy: &str, #[case] name: &str) {
    let bed = Bed::new().await;
    doomed(&bed, name).await;
    bed.patch(name, json!({"spec": {"backup": {"onDelete": policy}}}))
        .await;
    bed.gone(name).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_in_the_foreground_takes_the_backup_first() {
    let bed = Bed::new().await;
    bed.create("front", spec(&json!({}))).await;
    bed.ready("front").await;
    bed.kubelet.disks.write(&bed.data("front").await, "row");
    let backups = bed.claim("backup-front-pvc").await;
    bed.databases
        .delete("front", &DeleteParams::foreground())
        .await
        .unwrap();
    bed.gone("front").await;
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    bed.create("front", spec(&json!({}))).await;
    bed.ready("front").await;
    let data = bed.data("front").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_volume_is_gone_on_with_and_nothing_is_restored_over_it() {
    let bed = Bed::new().await;
    let retain = json!({"deletionPolicy": "Retain"});
    bed.create("kept", spec(&retain)).await;
    bed.ready("kept").await;
    let data = bed.data("kept").await;
    bed.kubelet.disks.write(&data, "row");
    bed.delete("kept").await;
    bed.gone("kept").await;
    // Its backups would have none of the rows.
    bed.create("kept", spec(&json!({"database": "another"}))).await;
    let object = bed
        .until("kept", "it is refused", |object| {
            says(object, "Ready", "False", "DatabaseInvalid")
        })
        .await
        .unwrap();
    for word in ["\"shop\"", "\"another\"", "kept-pvc"] {
        let message = message(&object, "Ready");
        assert!(message.contains(word), "{message}");
    }
    bed.delete("kept").await;
    bed.gone("kept").await;
    bed.create("kept", spec(&retain)).await;
    let object = bed.ready("kept").await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    assert_eq!(bed.data("kept").await, data);
    assert_eq!(bed.kubelet.disks.runs("restore"), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_started_has_nothing_to_back_up() {
    let bed = Bed::new().await;
    let required = json!({"restore": {"policy": "Required"}});
    bed.create("empty", spec(&required)).await;
    let object = bed
        .until("empty", "there is no backup", |object| {
            says(object, "Ready", "False", "BackupMissing")
        })
        .await
        .unwrap();
    assert!(says(Some(&object), "RestoreDone", "False", "BackupMissing"));
    bed.delete("empty").await;
    bed.gone("empty").await;
    assert_eq!(bed.kubelet.disks.runs("backup"), 0);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_failed_starts_no_server_and_goes_on_when_another_way_is_chosen() {
    let bed = Bed::new().await;
    let words = json!({"reason": "BackupDamaged", "error": "the dump does not end as a dump does"});
    bed.kubelet.break_("restore", 64, words);
    bed.create("damaged", spec(&json!({}))).await;
    let object = bed
        .until("damaged", "it says so", |object| {
            says(object, "Ready", "False", "RestoreFailed")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains("BackupDamaged: the dump does not end"));
    assert!(
        bed.lacks::<k8s_openapi::api::apps::v1::Deployment>("damaged")
            .await,
        "no server"
    );
    bed.kubelet.repair("restore");
    bed.patch("damaged", json!({"spec": {"restore": {"policy": "Never"}}}))
        .await;
    bed.ready("damaged").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_deleted_goes() {
    let bed = Bed::new().await;
    bed.create("within", spec(&json!({}))).await;
    bed.ready("within").await;
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    namespaces
        .delete(bed.namespace.name(), &DeleteParams::default())
        .await
        .unwrap();
    bed.eventually("the namespace is gone", async || {
        namespaces.get_opt(bed.namespace.name()).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_changes_and_healing_and_no_deletion() {
    let bed = Bed::new().await;
    bed.create("still", spec(&json!({}))).await;
    bed.ready("still").await;
    bed.kubelet.disks.write(&bed.data("still").await, "row");
    bed.patch("still", json!({"spec": {"paused": true, "image": "mysql:9.8"}}))
        .await;
    bed.until("still", "it is paused", |object| {
        says(object, "Paused", "True", "Paused")
    })
    .await;
    let image = async || -> Value {
        let deployments = bed.api::<k8s_openapi::api::apps::v1::Deployment>();
        serde_json::to_value(deployments.get("still").await.unwrap().spec).unwrap()
    };
    assert!(image().await.to_string().contains("mysql:9.7"));
    bed.kubelet.hold("backup", "");
    bed.delete("still").await;
    bed.eventually("its last backup is begun", async || {
        bed.job("backup-still-job").await.is_some()
    })
    .await;
    let job = bed
        .api::<k8s_openapi::api::batch::v1::Job>()
        .get("backup-still-job")
        .await;
    let job = serde_json::to_string(&job.unwrap().spec).unwrap();
    for spec in [image().await.to_string(), job] {
        assert!(
            spec.contains("mysql:9.7") && !spec.contains("mysql:9.8"),
            "{spec}"
        );
    }
    bed.kubelet.let_go("backup");
    bed.gone("still").await;
    let backups = bed.claim("backup-still-pvc").await;
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    assert!(!bed.has_claim("still-pvc").await);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_the_schedule_is_none_of_the_last_rows() {
    let bed = Bed::new().await;
    bed.create("late", spec(&json!({}))).await;
    bed.ready("late").await;
    let data = bed.data("late").await;
    bed.kubelet.disks.write(&data, "early");
    bed.patch(
        "late",
        json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}}),
    )
    .await;
    bed.until("late", "it was taken", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    bed.kubelet.disks.write(&data, "late");
    bed.delete("late").await;
    bed.gone("late").await;
    let claim = bed
        .api::<PersistentVolumeClaim>()
        .get("backup-late-pvc")
        .await
        .unwrap();
    assert_eq!(bed.kubelet.disks.backups(&claim.uid().unwrap()).len(), 2);
    bed.create("late", spec(&json!({}))).await;
    bed.ready("late").await;
    let data = bed.data("late").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["early", "late"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_leaves_its_children_is_backed_up_all_the_same_and_the_data_are_gone_on_with() {
    let bed = Bed::new().await;
    bed.create("left", spec(&json!({}))).await;
    bed.ready("left").await;
    let (data, backups) = (bed.data("left").await, bed.claim("backup-left-pvc").await);
    bed.kubelet.disks.write(&data, "row");
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    bed.databases.delete("left", &orphan).await.unwrap();
    bed.gone("left").await;
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    assert_eq!(bed.data("left").await, data, "it stays");
    let server = bed.api::<Deployment>().get("left").await.unwrap();
    assert!(server.owner_references().is_empty() && server.metadata.deletion_timestamp.is_none());

    bed.create("left", spec(&json!({}))).await;
    bed.until("left", "what somebody has left is nobody's to take", |object| {
        says(object, "Ready", "False", "NameConflict")
    })
    .await;
    let gone = DeleteParams::foreground();
    bed.api::<Deployment>().delete("left", &gone).await.unwrap();
    bed.api::<Service>().delete("left", &gone).await.unwrap();
    bed.api::<ConfigMap>().delete("left-config", &gone).await.unwrap();
    for secret in ["left-credentials", "left-binding"] {
        bed.api::<Secret>().delete(secret, &gone).await.unwrap();
    }
    let object = bed.ready("left").await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["row"]);
    bed.stop().await;
}
