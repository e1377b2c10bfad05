//! How much of an effort the best one is, before an object goes without its last backup.

use k8s_openapi::api::{batch::v1::Job, core::v1::ResourceQuota};
use kube::api::DeleteParams;
use serde_json::json;

use crate::{
    bed::{Bed, message, says, spec},
    endings::{blocked, quota},
};

/// A deletion that stood still for another reason has not tried for long when it is refused for the first time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_outlasts_a_refusal_that_comes_after_another_trouble() {
    let mut bed = Bed::without_operator().await;
    bed.start_at(2);
    bed.create("after", spec(&json!({}))).await;
    bed.ready("after").await;
    bed.kubelet.disks.write(&bed.data("after").await, "row");
    take_its_name(&bed, "after").await;
    bed.delete("after").await;
    blocked(&bed, "after", "backup-after-job exists").await;
    quota(&bed, "count/jobs.batch").await;
    let effort = json!({"spec": {"backup": {"onDelete": "BestEffort"}}});
    bed.patch("after", effort).await;
    let jobs = bed.api::<Job>();
    jobs.delete("backup-after-job", &DeleteParams::background())
        .await
        .unwrap();
    bed.until("after", "it was refused", |object| {
        says(object, "DeletionBlocked", "False", "BackupRunning")
            && object.is_some_and(|object| message(object, "DeletionBlocked").contains("quota"))
    })
    .await;
    let quotas = bed.api::<ResourceQuota>();
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    let backups = bed.claim("backup-after-pvc").await;
    bed.gone("after").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

/// Makes a Job of somebody else's with the name of the last backup's.
async fn take_its_name(bed: &Bed, name: &str) {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let foreign = json!({"metadata": {"name": format!("backup-{name}-job")},
                         "spec": {"suspend": true, "template": {"spec": pod}}});
    let _: Job = bed.make(foreign).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_goes_without_a_backup_whose_name_somebody_else_keeps() {
    let mut bed = Bed::without_operator().await;
    bed.start_at(2);
    let effort = json!({"backup": {"onDelete": "BestEffort"}});
    bed.create("taken", spec(&effort)).await;
    bed.ready("taken").await;
    bed.kubelet.disks.write(&bed.data("taken").await, "row");
    take_its_name(&bed, "taken").await;
    bed.delete("taken").await;
    let held = bed
        .until("taken", "it tries", |object| {
            says(object, "DeletionBlocked", "False", "BackupRunning")
        })
        .await
        .unwrap();
    assert!(message(&held, "DeletionBlocked").contains("backup-taken-job exists"));
    // It was not for nothing: the patience of minutes is over sooner by another clock.
    bed.halt().await;
    bed.start();
    bed.gone("taken").await;
    assert!(
        bed.reasons("taken")
            .await
            .contains(&"DeletedWithoutBackup".to_owned())
    );
    assert!(!bed.lacks::<Job>("backup-taken-job").await, "it is not ours");
    bed.stop().await;
}

/// Beside the server a quota leaves less than that has itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_asks_for_less_before_it_goes_without_a_backup() {
    let mut bed = Bed::without_operator().await;
    bed.start_at(2);
    let amounts = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
    let effort = json!({"backup": {"onDelete": "BestEffort"}, "resources": amounts});
    bed.create("room", spec(&effort)).await;
    bed.ready("room").await;
    bed.kubelet.disks.write(&bed.data("room").await, "row");
    let hard = json!({"requests.memory": "1Gi", "limits.memory": "1280Mi"});
    let _: ResourceQuota = bed
        .make(json!({"metadata": {"name": "room"}, "spec": {"hard": hard}}))
        .await;
    bed.eventually("the quota is kept", async || {
        let quota = bed.api::<ResourceQuota>().get("room").await.unwrap();
        let used = quota.status.and_then(|status| status.used);
        used.is_some_and(|used| used.get("limits.memory").is_some_and(|used| used.0 == "1Gi"))
    })
    .await;
    let backups = bed.claim("backup-room-pvc").await;
    bed.delete("room").await;
    bed.gone("room").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    assert!(bed.reasons("room").await.contains(&"BackupWithLess".to_owned()));
    bed.stop().await;
}
