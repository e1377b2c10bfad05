//! Deletions while a webhook that Jobs have to pass is down: the API server answers, and that it has failed.

use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, batch::v1::Job};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    bed::{Bed, message, says, spec},
    endings::blocked,
};

/// Lets nobody make a Job in this bed, once the API server keeps to it; returns what stands in the way.
async fn stand_in_the_way(bed: &Bed) -> String {
    let name = format!("jobs-{}", bed.namespace.name());
    let mine = format!("object.metadata.namespace == '{}'", bed.namespace.name());
    let webhook = json!({"metadata": {"name": name}, "webhooks": [{
        "name": "down.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "clientConfig": {"url": "https://127.0.0.1:1/"},
        "matchConditions": [{"name": "mine", "expression": mine}],
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"],
                   "operations": ["CREATE"], "scope": "*"}],
    }]});
    let all: Api<ValidatingWebhookConfiguration> = Api::all(bed.client.clone());
    let webhook = serde_json::from_value(webhook).unwrap();
    all.create(&PostParams::default(), &webhook).await.unwrap();
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let probe = json!({"metadata": {"generateName": "probe-"}, "spec": {"template": {"spec": pod}}});
    let probe: Job = serde_json::from_value(probe).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    bed.eventually("it is heard", async || {
        bed.api::<Job>().create(&dry, &probe).await.is_err()
    })
    .await;
    name
}

async fn step_aside(bed: &Bed, name: &str) {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(bed.client.clone());
    all.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_backup_that_the_api_server_fails_to_make_is_told_and_taken_when_it_does() {
    let bed = Bed::new().await;
    bed.create("hook", spec(&json!({}))).await;
    bed.ready("hook").await;
    bed.kubelet.disks.write(&bed.data("hook").await, "row");
    let backups = bed.claim("backup-hook-pvc").await;
    let webhook = stand_in_the_way(&bed).await;
    bed.delete("hook").await;
    blocked(&bed, "hook", "down.example.com").await;
    step_aside(&bed, &webhook).await;
    bed.gone("hook").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_effort_ends_when_the_api_server_fails_to_make_the_last_backup_for_long() {
    let mut bed = Bed::without_operator().await;
    bed.start_at(2);
    let effort = json!({"backup": {"onDelete": "BestEffort"}});
    bed.create("hooked", spec(&effort)).await;
    bed.ready("hooked").await;
    let webhook = stand_in_the_way(&bed).await;
    bed.delete("hooked").await;
    let held = bed
        .until("hooked", "it tries", |object| {
            says(object, "DeletionBlocked", "False", "BackupRunning")
        })
        .await
        .unwrap();
    assert!(message(&held, "DeletionBlocked").contains("down.example.com"));
    // The patience of minutes is over sooner by another clock.
    bed.halt().await;
    bed.start();
    bed.gone("hooked").await;
    let reasons = bed.reasons("hooked").await;
    assert!(reasons.contains(&"DeletedWithoutBackup".to_owned()));
    step_aside(&bed, &webhook).await;
    bed.stop().await;
}
