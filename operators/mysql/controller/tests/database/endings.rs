//! Deletions in bad company: servers that start again, backups that cannot begin, an API server that refuses.

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod, ResourceQuota},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, GROWS, message, says, spec};

/// A server with a row, whose last backup has begun and is held before it does anything.
async fn held(bed: &Bed, name: &str, changes: &Value) -> String {
    bed.create(name, spec(changes)).await;
    bed.ready(name).await;
    let data = bed.data(name).await;
    assert!(bed.kubelet.disks.write(&data, "row"));
    bed.kubelet.hold("backup", "");
    bed.delete(name).await;
    bed.eventually("the last backup is begun", async || {
        bed.job(&format!("backup-{name}-job")).await.is_some()
    })
    .await;
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_after_a_server_started_again_is_in_the_last_backup() {
    let mut bed = Bed::new().await;
    let data = held(&bed, "again", &json!({})).await;
    let backups = bed.claim("backup-again-pvc").await;
    // The operator is away while the backup is taken, and the server, which that has closed, starts again.
    bed.halt().await;
    bed.kubelet.let_go("backup");
    bed.eventually("the backup is there", async || {
        let job = bed.api::<Job>().get("backup-again-job").await.unwrap();
        job.status.and_then(|status| status.succeeded) == Some(1)
    })
    .await;
    assert!(!bed.kubelet.disks.write(&data, "refused"), "it is closed");
    bed.kubelet.disks.restart(&data);
    assert!(bed.kubelet.disks.write(&data, "late"));
    bed.eventually("its Pod shows it", async || {
        let pods = bed
            .api::<Pod>()
            .list(&ListParams::default().labels("app=again"))
            .await;
        let pods = pods.unwrap().items;
        pods.iter().any(|pod| {
            let status = pod
                .status
                .as_ref()
                .and_then(|status| status.container_statuses.as_ref());
            status.is_some_and(|all| all.iter().any(|container| container.restart_count == 1))
        })
    })
    .await;
    bed.start();
    bed.gone("again").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row", "late"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_given_up_closes_no_later_server() {
    let bed = Bed::new().await;
    held(&bed, "given", &json!({})).await;
    let object = bed.databases.get("given").await.unwrap();
    let skip = json!({"metadata": {"annotations": {"otus.homework/skip-backup": object.metadata.uid}}});
    bed.patch("given", skip).await;
    bed.gone("given").await;
    bed.eventually("its Job is gone", async || {
        bed.lacks::<Job>("backup-given-job").await
    })
    .await;
    bed.create("given", spec(&json!({}))).await;
    bed.ready("given").await;
    bed.kubelet.let_go("backup");
    let data = bed.data("given").await;
    assert!(!bed.kubelet.disks.is_closed(&data) && bed.kubelet.disks.write(&data, "new"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_way_of_an_earlier_object_is_ended() {
    let mut bed = Bed::new().await;
    held(&bed, "older", &json!({})).await;
    let left = bed.job("backup-older-job").await;
    // Somebody takes the finalizer off by hand.
    bed.halt().await;
    bed.patch("older", json!({"metadata": {"finalizers": null}}))
        .await;
    bed.gone("older").await;
    bed.start();
    bed.create("older", spec(&json!({}))).await;
    bed.ready("older").await;
    bed.eventually("the Job of the earlier one is gone", async || {
        bed.job("backup-older-job").await != left
    })
    .await;
    bed.kubelet.let_go("backup");
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}});
    bed.patch("older", now).await;
    bed.until("older", "its own is taken", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    let data = bed.data("older").await;
    assert!(bed.kubelet.disks.write(&data, "new"), "the server is open");
    bed.stop().await;
}

/// Waits until it is said that the last backup cannot be taken, with these words and the ways on.
pub(crate) async fn blocked(bed: &Bed, name: &str, words: &str) {
    let object = bed
        .until(name, "it is blocked", |object| {
            says(object, "DeletionBlocked", "True", "FinalBackupFailed")
                && object.is_some_and(|object| message(object, "DeletionBlocked").contains(words))
        })
        .await
        .unwrap();
    for word in ["repair", "otus.homework/skip-backup", "backup.onDelete"] {
        let message = message(&object, "DeletionBlocked");
        assert!(message.contains(word), "{message}");
    }
    bed.eventually("an event tells", async || {
        bed.reasons(name).await.contains(&"DeletionBlocked".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_backup_whose_pod_does_not_begin_is_told_and_goes_on_when_it_does() {
    let bed = Bed::new().await;
    bed.create("image", spec(&json!({}))).await;
    bed.ready("image").await;
    bed.kubelet.disks.write(&bed.data("image").await, "row");
    bed.kubelet.hold("backup", "ErrImagePull");
    bed.delete("image").await;
    blocked(&bed, "image", "ErrImagePull").await;
    bed.kubelet.let_go("backup");
    let backups = bed.claim("backup-image-pvc").await;
    bed.gone("image").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_ends_when_the_last_backup_cannot_begin() {
    let bed = Bed::new().await;
    bed.create("effort", spec(&json!({"backup": {"onDelete": "BestEffort"}})))
        .await;
    bed.ready("effort").await;
    bed.kubelet.hold("backup", "ErrImagePull");
    bed.delete("effort").await;
    bed.gone("effort").await;
    bed.eventually("its Job is gone", async || {
        bed.lacks::<Job>("backup-effort-job").await
    })
    .await;
    bed.stop().await;
}

/// A quota that lets nothing of this sort be made, once the API server keeps it.
pub(crate) async fn quota(bed: &Bed, sort: &str) {
    let _: ResourceQuota = bed
        .make(json!({"metadata": {"name": "none"}, "spec": {"hard": {sort: "0"}}}))
        .await;
    let container = json!({"name": "c", "image": "i"});
    let pod = json!({"restartPolicy": "Never", "containers": [container]});
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    bed.eventually("the quota is kept", async || {
        let meta = json!({"generateName": "probe-"});
        if sort == "pods" {
            let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": pod})).unwrap();
            bed.api::<Pod>().create(&dry, &pod).await.is_err()
        } else {
            let job = json!({"metadata": meta, "spec": {"template": {"spec": pod}}});
            let job: Job = serde_json::from_value(job).unwrap();
            bed.api::<Job>().create(&dry, &job).await.is_err()
        }
    })
    .await;
}

#[rstest]
#[case::of_the_pod("pods", "has no Pod", "pods")]
#[case::of_the_job("count/jobs.batch", "exceeded quota", "jobs")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_keeps_the_last_backup_from_being_taken_is_told(
    #[case] sort: &str,
    #[case] words: &str,
    #[case] name: &str,
) {
    let bed = Bed::new().await;
    bed.create(name, spec(&json!({}))).await;
    bed.ready(name).await;
    bed.kubelet.disks.write(&bed.data(name).await, "row");
    quota(&bed, sort).await;
    bed.delete(name).await;
    blocked(&bed, name, words).await;
    let quotas = bed.api::<ResourceQuota>();
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    let backups = bed.claim(&format!("backup-{name}-pvc")).await;
    bed.gone(name).await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

/// What is refused for a moment (here by a quota) is refused for good to nobody who tries only once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_outlasts_a_refusal_that_passes() {
    let mut bed = Bed::without_operator().await;
    // Slowly: the quota has to be gone long before the operator's patience is.
    bed.start_at(2);
    let effort = json!({"backup": {"onDelete": "BestEffort"}});
    bed.create("moment", spec(&effort)).await;
    bed.ready("moment").await;
    bed.kubelet.disks.write(&bed.data("moment").await, "row");
    quota(&bed, "count/jobs.batch").await;
    bed.delete("moment").await;
    bed.until("moment", "it was refused", |object| {
        says(object, "BackupTaken", "False", "BackupFailed")
    })
    .await;
    let quotas = bed.api::<ResourceQuota>();
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    let backups = bed.claim("backup-moment-pvc").await;
    bed.gone("moment").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_ends_when_the_last_backup_is_refused_for_long() {
    let bed = Bed::new().await;
    bed.create("long", spec(&json!({"backup": {"onDelete": "BestEffort"}})))
        .await;
    bed.ready("long").await;
    quota(&bed, "count/jobs.batch").await;
    bed.delete("long").await;
    bed.gone("long").await;
    assert_eq!(bed.kubelet.disks.runs("backup"), 0);
    bed.stop().await;
}

/// Keeps everybody from deleting claims of this namespace.
async fn forbid(bed: &Bed) {
    let name = bed.namespace.name();
    let space = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"],
                        "resources": ["persistentvolumeclaims"]}]);
    let policy = json!({"metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"namespaceSelector": space, "resourceRules": rules},
        "validations": [{"expression": "false", "message": "volumes stay until the audit is over"}]}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bed.client.clone());
    let policy = serde_json::from_value(policy).unwrap();
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let binding = json!({"metadata": {"name": name},
                         "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bed.client.clone());
    let binding = serde_json::from_value(binding).unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_refused_of_a_deletion_is_told_and_goes_on_when_it_no_longer_is() {
    let bed = Bed::new().await;
    bed.create("audit", spec(&json!({}))).await;
    bed.ready("audit").await;
    forbid(&bed).await;
    let dry = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    let claims = bed.api::<PersistentVolumeClaim>();
    bed.eventually("the policy is kept", async || {
        claims.delete("audit-pvc", &dry).await.is_err()
    })
    .await;
    bed.delete("audit").await;
    let object = bed
        .until("audit", "it is told", |object| {
            says(object, "DeletionBlocked", "True", "RequestRefused")
        })
        .await
        .unwrap();
    for condition in ["DeletionBlocked", "Ready"] {
        let message = message(&object, condition);
        assert!(
            message.contains("audit-pvc") && message.contains("audit is over"),
            "{message}"
        );
    }
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bed.client.clone());
    let name = bed.namespace.name();
    bindings.delete(name, &DeleteParams::default()).await.unwrap();
    bed.gone("audit").await;
    assert!(!bed.has_claim("audit-pvc").await);
    bed.stop().await;
}

/// More is asked for than is allowed: no schema sees that, the API server does.
fn impossible() -> Value {
    json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_server_refuses_is_said_and_keeps_no_object_from_going() {
    let bed = Bed::new().await;
    bed.create("refused", spec(&json!({"resources": impossible()})))
        .await;
    let object = bed
        .until("refused", "it says what is wrong", |object| {
            says(object, "Ready", "False", "RequestRefused")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains("must be less than or equal to memory limit"));
    bed.patch("refused", json!({"spec": {"resources": null}})).await;
    bed.ready("refused").await;
    let data = bed.data("refused").await;
    bed.kubelet.disks.write(&data, "row");
    bed.patch("refused", json!({"spec": {"resources": impossible()}}))
        .await;
    bed.until("refused", "it says so again", |object| {
        says(object, "Ready", "False", "RequestRefused")
    })
    .await;
    let backups = bed.claim("backup-refused-pvc").await;
    bed.delete("refused").await;
    bed.gone("refused").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_for_the_last_backup_is_made_while_the_deletion_waits_for_it() {
    let bed = Bed::new().await;
    let storage = |size: &str| json!({"backup": {"storage": {"size": size, "storageClassName": GROWS}}});
    bed.create("room", spec(&storage("1Gi"))).await;
    bed.ready("room").await;
    bed.kubelet.disks.write(&bed.data("room").await, "row");
    let words = json!({"reason": "VolumeFull", "error": "no space is left on the backup volume"});
    bed.kubelet.break_("backup", 64, words);
    bed.delete("room").await;
    blocked(&bed, "room", "VolumeFull").await;
    bed.patch("room", json!({"spec": storage("2Gi")})).await;
    bed.eventually("the volume is asked to grow", async || {
        let claims = bed.api::<PersistentVolumeClaim>();
        let claim = claims.get("backup-room-pvc").await.unwrap();
        serde_json::to_string(&claim.spec).unwrap().contains("2Gi")
    })
    .await;
    bed.kubelet.repair("backup");
    bed.gone("room").await;
    bed.stop().await;
}
