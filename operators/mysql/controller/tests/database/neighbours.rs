//! What others do to an object that lives: Pods with its label, edits that cannot be.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::DeleteParams;
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
    bed.patch("edit", json!({"spec": {"config": {"datadir": "/x"}}}))
        .await;
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
    bed.patch("edit", json!({"spec": {"config": {"datadir": null}}}))
        .await;
    bed.until("edit", "it is up to date", |object| {
        says(object, "UpToDate", "True", "Applied")
    })
    .await;
    bed.stop().await;
}
