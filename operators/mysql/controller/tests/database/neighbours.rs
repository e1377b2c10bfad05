//! What others do to an object that lives: Pods with its label, edits that cannot be.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
};
use kube::{ResourceExt as _, api::DeleteParams};
use serde_json::json;

use crate::bed::{Bed, message, says, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_somebody_elses_with_its_label_keeps_no_server_from_starting() {
    let bed = Bed::new().await;
    let _: Pod = bed
        .make(json!({"metadata": {"name": "theirs", "labels": {"app": "label"}},
                     "spec": {"containers": [{"name": "theirs", "image": "i"}]}}))
        .await;
    bed.create("label", spec(&json!({}))).await;
    bed.ready("label").await;
    bed.delete("label").await;
    bed.gone("label").await;
    assert!(!bed.lacks::<Pod>("theirs").await, "nobody touched it");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_cannot_be_is_refused_while_the_server_is_looked_after() {
    let bed = Bed::new().await;
    bed.create("edit", spec(&json!({"config": {"max_connections": "99"}})))
        .await;
    bed.ready("edit").await;
    let password = async || {
        let secret = bed.api::<Secret>().get("edit-credentials").await.unwrap();
        String::from_utf8(secret.data.unwrap()["password"].0.clone()).unwrap()
    };
    let before = password().await;
    let edit = json!({"config": {"datadir": "/x"}, "password": "another"});
    bed.patch("edit", json!({ "spec": edit })).await;
    let refused = |object: Option<&mysql_api::MySQL>| says(object, "UpToDate", "False", "OptionsInvalid");
    let object = bed.until("edit", "the edit is refused", refused).await.unwrap();
    assert!(says(Some(&object), "Ready", "True", "Serving"));
    assert!(message(&object, "UpToDate").contains("datadir"));
    let config = async || {
        let configs = bed.api::<k8s_openapi::api::core::v1::ConfigMap>();
        serde_json::to_string(&configs.get("edit-config").await.unwrap().data).unwrap()
    };
    assert!(
        config().await.contains("max_connections"),
        "the options are as they were"
    );
    let services = bed.api::<Service>();
    services.delete("edit", &DeleteParams::default()).await.unwrap();
    bed.eventually("what is deleted is made again", async || {
        services.get_opt("edit").await.unwrap().is_some()
    })
    .await;
    bed.kubelet.break_("mysql", 1, json!({}));
    let pods = bed.api::<Pod>();
    pods.delete_collection(
        &DeleteParams::default(),
        &kube::api::ListParams::default().labels("app=edit"),
    )
    .await
    .unwrap();
    bed.until("edit", "what becomes of the server is said", |object| {
        says(object, "Ready", "False", "ServerFailing") && refused(object)
    })
    .await;
    bed.kubelet.repair("mysql");
    bed.until("edit", "it serves again", |object| {
        says(object, "Ready", "True", "Serving") && refused(object)
    })
    .await;
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}});
    bed.patch("edit", now).await;
    bed.until("edit", "a backup is taken", |object| {
        says(object, "BackupTaken", "True", "BackupDone") && refused(object)
    })
    .await;
    assert_eq!(password().await, before, "the server has no other one");
    bed.patch("edit", json!({"spec": {"config": {"datadir": null}}}))
        .await;
    bed.until("edit", "it is up to date", |object| {
        says(object, "UpToDate", "True", "Applied")
    })
    .await;
    assert_eq!(password().await, "another");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_with_the_volume_for_backups_takes_no_care_from_the_server() {
    let mut bed = Bed::new().await;
    bed.create("cared", spec(&json!({}))).await;
    bed.ready("cared").await;
    bed.halt().await;
    let claims = bed.api::<PersistentVolumeClaim>();
    claims
        .delete("backup-cared-pvc", &DeleteParams::default())
        .await
        .unwrap();
    bed.eventually("it is gone", async || {
        bed.lacks::<PersistentVolumeClaim>("backup-cared-pvc").await
    })
    .await;
    let labels = json!({"app.kubernetes.io/managed-by": "Helm"});
    let _: PersistentVolumeClaim = bed
        .make(json!({"metadata": {"name": "backup-cared-pvc", "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .await;
    let servers = bed.api::<Deployment>();
    let before = servers.get("cared").await.unwrap().uid();
    servers
        .delete("cared", &DeleteParams::foreground())
        .await
        .unwrap();
    bed.eventually("its server is gone", async || {
        bed.lacks::<Deployment>("cared").await
    })
    .await;
    bed.start();
    bed.eventually("it is made again", async || {
        let found = servers.get_opt("cared").await.unwrap();
        found.is_some_and(|found| found.uid() != before)
    })
    .await;
    let object = bed
        .until("cared", "the trouble is said", |object| {
            says(object, "BackupTaken", "False", "BackupFailed") && says(object, "Ready", "True", "Serving")
        })
        .await
        .unwrap();
    assert!(message(&object, "BackupTaken").contains("backup-cared-pvc"));
    bed.stop().await;
}
