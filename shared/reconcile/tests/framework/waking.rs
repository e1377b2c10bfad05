//! What wakes an object, and what is forgotten with it.

use std::time::Duration;

use k8s_openapi::api::{
    core::v1::{ConfigMap, Service},
    events::v1::Event,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use reconcile::{apply::Applier, requeue::RequeuePolicy};
use serde_json::json;

use crate::{
    bed::{Bed, Mode, reports, until},
    operator::Operator,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_childs_status_wakes_its_owner() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    let owner = bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    let client = bed.plane.client();
    let passes = || operator.journal.of("x").len();
    let before = passes();
    // Nobody else writes the status of such a one.
    let child: Service = serde_json::from_value(json!({
        "metadata": { "name": "child" },
        "spec": { "type": "ExternalName", "externalName": "elsewhere.example.com" },
    }))
    .unwrap();
    Applier::new(&client, "widget", &owner)
        .apply(child)
        .await
        .unwrap();
    until("a pass for the new child", async || passes() > before).await;

    let services: Api<Service> = Api::namespaced(client, bed.namespace.name());
    let before = passes();
    let status = json!({ "status": { "conditions": [{
        "type": "Seen", "status": "True", "reason": "Test", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    services
        .patch_status("child", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    until("a pass for the child's status", async || passes() > before).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_taken_from_its_owner_wakes_the_owner() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    let owner = bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    let client = bed.plane.client();
    let passes = || operator.journal.of("x").len();
    let before = passes();
    let mut child = ConfigMap::default();
    child.metadata.name = Some("child".to_owned());
    Applier::new(&client, "widget", &owner)
        .apply(child)
        .await
        .unwrap();
    until("a pass for the new child", async || passes() > before).await;

    let children: Api<ConfigMap> = Api::namespaced(client, bed.namespace.name());
    let before = passes();
    let disowned = Patch::Merge(json!({ "metadata": { "ownerReferences": null } }));
    children
        .patch("child", &PatchParams::default(), &disowned)
        .await
        .unwrap();
    until("a pass for the child that was taken", async || passes() > before).await;
    operator.stop().await;
}

/// It is one failure that goes on, not a new one each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_at_once_is_begun_again_more_and_more_slowly() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::FailingTask).await;
    let failures = || {
        let lines = operator.journal.of("x");
        lines.iter().filter(|line| *line == "task failed").count()
    };
    until("failures of the task", async || failures() >= 5).await;
    operator.stop().await;
    let events: Api<Event> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let told = events.list(&ListParams::default()).await.unwrap().items;
    let told: Vec<_> = told
        .iter()
        .filter(|event| event.reason.as_deref() == Some("ToldToFail"))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_any_annotation_wakes() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    for value in [json!("1"), json!("2"), json!(null)] {
        let before = operator.journal.of("x").len();
        let annotations = json!({ "other.example.com/note": value });
        bed.patch("x", json!({ "metadata": { "annotations": annotations } }))
            .await;
        until("a pass for the annotation", async || {
            operator.journal.of("x").len() > before
        })
        .await;
    }
    operator.stop().await;
}

/// Each failure doubles the wait, from hardly any to hours: only who begins anew gets through ten in a test's time.
#[tokio::test(flavor = "multi_thread")]
async fn the_failures_of_a_deleted_object_are_not_held_against_another_of_its_name() {
    let bed = Bed::new().await;
    let policy = RequeuePolicy {
        base: Duration::from_millis(10),
        cap: Duration::from_hours(10_000),
    };
    let operator = Operator::requeueing(bed.plane, &bed.namespace, policy, |_| {});
    let failures = || {
        operator
            .journal
            .of("x")
            .iter()
            .filter(|line| *line == "apply 1")
            .count()
    };
    bed.create("x", Mode::Fail).await;
    until("failures", async || failures() >= 16).await;
    bed.widgets.delete("x", &DeleteParams::default()).await.unwrap();
    bed.until("x", "gone", |widget| widget.is_none()).await;
    let before = failures();
    bed.create("x", Mode::Fail).await;
    until("failures of the new one", async || failures() >= before + 10).await;
    operator.stop().await;
}
