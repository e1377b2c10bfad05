//! What the kind's first operator left is gone on with.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod, Service},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy},
};
use mysql_api::{MySQL, database::FORMER_FINALIZER};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, message, owner, says, spec},
    endings::blocked,
};

const LAST: &str = "kopf.zalando.org/last-handled-configuration";

pub(crate) fn original() -> Value {
    json!({"image": "mysql:5.7", "database": "otus-database", "password": "otuspassword", "storage_size": "1Gi"})
}

/// An object with everything that the first operator makes for one, and with a row in its volume.
pub(crate) async fn left(bed: &Bed, name: &str) -> MySQL {
    left_with(bed, name, "otuspassword").await
}

/// The same with another password.
pub(crate) async fn left_with(bed: &Bed, name: &str, password: &str) -> MySQL {
    left_of(bed, name, &json!({"password": password})).await
}

/// The same with a spec that was changed since, at which the first operator did not look.
pub(crate) async fn left_of(bed: &Bed, name: &str, changes: &Value) -> MySQL {
    let mut spec = original();
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let object = json!({
        "apiVersion": "otus.homework/v1", "kind": "MySQL",
        "metadata": {"name": name, "finalizers": [FORMER_FINALIZER], "annotations": {LAST: "{}"}},
        "spec": spec,
    });
    let object: MySQL = bed.make(object).await;
    let owned = json!([owner(&object)]);
    let claim = |claim: String, owners: Value| {
        json!({"metadata": {"name": claim, "ownerReferences": owners},
               "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let _: PersistentVolumeClaim = bed.make(claim(format!("{name}-pvc"), owned.clone())).await;
    let _: PersistentVolumeClaim = bed.make(claim(format!("backup-{name}-pvc"), json!([]))).await;
    let _: Service = bed
        .make(json!({"metadata": {"name": name, "ownerReferences": owned},
                     "spec": {"clusterIP": "None", "ports": [{"port": 3306}], "selector": {"app": name}}}))
        .await;
    let container = json!({"name": "mysql", "image": "mysql:5.7", "args": ["--ignore-db-dir=lost+found"],
                           "env": [{"name": "MYSQL_ROOT_PASSWORD", "value": "otuspassword"},
                                   {"name": "MYSQL_DATABASE", "value": "otus-database"}]});
    let volume = json!({"name": "persistent", "persistentVolumeClaim": {"claimName": format!("{name}-pvc")}});
    let pod = json!({"metadata": {"labels": {"app": name}},
                     "spec": {"containers": [container], "volumes": [volume]}});
    let _: Deployment = bed
        .make(
            json!({"metadata": {"name": name, "ownerReferences": owned, "labels": {"app": name}},
                     "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod}}),
        )
        .await;
    let pod = json!({"restartPolicy": "OnFailure", "containers": [{"name": "dump", "image": "i"}], "volumes": [
        {"name": "b", "persistentVolumeClaim": {"claimName": format!("backup-{name}-pvc")}}]});
    let _: Job = bed
        .make(json!({"metadata": {"name": format!("backup-{name}-job")},
                     "spec": {"suspend": true, "template": {"spec": pod}}}))
        .await;
    finished(bed, &format!("backup-{name}-job")).await;
    bed.kubelet.disks.put(&bed.data(name).await, &["old row"]);
    object
}

/// Marks a Job as one that has done what it should.
pub(crate) async fn finished(bed: &Bed, name: &str) {
    let at = "2026-01-01T00:00:00Z";
    let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": at});
    let status = json!({"status": {"startTime": at, "completionTime": at,
                                    "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
    let patch = Patch::Merge(status);
    bed.api::<Job>()
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_the_first_operators_is_gone_on_with_and_loses_nothing() {
    let mut bed = Bed::without_operator().await;
    left(&bed, "older").await;
    let data = bed.data("older").await;
    bed.start();
    let object = bed.ready("older").await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    assert_eq!(bed.data("older").await, data);
    assert_eq!(
        bed.kubelet.disks.runs("restore"),
        1,
        "only it can see that there are data"
    );
    let server = bed.api::<Deployment>().get("older").await.unwrap();
    assert!(
        !serde_json::to_string(&server).unwrap().contains("otuspassword"),
        "the old one held it in clear"
    );
    let claim = bed.api::<PersistentVolumeClaim>().get("older-pvc").await.unwrap();
    assert!(
        claim.owner_references().is_empty(),
        "no garbage collector decides over it"
    );
    bed.kubelet.disks.write(&data, "new row");
    let backups = bed.claim("backup-older-pvc").await;
    bed.delete("older").await;
    bed.gone("older").await;
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    bed.stop().await;
}

/// Its server never came up, for instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_the_first_operators_without_any_data_gets_an_empty_folder() {
    let mut bed = Bed::without_operator().await;
    left(&bed, "never").await;
    let data = bed.data("never").await;
    bed.kubelet.disks.lose(&data);
    bed.start();
    let object = bed.ready("never").await;
    assert!(says(Some(&object), "RestoreDone", "True", "StartedEmpty"));
    assert_eq!(bed.data("never").await, data);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_looks_at_a_folder_while_a_server_of_the_first_operators_has_it() {
    let mut bed = Bed::without_operator().await;
    left(&bed, "still").await;
    let sets = bed.api::<ReplicaSet>();
    let selector = ListParams::default().labels("app=still");
    bed.eventually("it has a Pod", async || {
        let pods = bed.api::<Pod>().list(&selector).await.unwrap();
        !pods.items.is_empty()
    })
    .await;
    let orphaning = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    bed.api::<Deployment>().delete("still", &orphaning).await.unwrap();
    bed.eventually("it is gone", async || bed.lacks::<Deployment>("still").await)
        .await;
    bed.start();
    let object = bed
        .until("still", "its Pod is waited for", |object| {
            says(object, "ServerReady", "Unknown", "LeftoversGoing")
        })
        .await
        .unwrap();
    assert!(message(&object, "ServerReady").contains("has to end"));
    assert_eq!(bed.kubelet.disks.runs("restore"), 0);
    sets.delete_collection(&DeleteParams::background(), &selector)
        .await
        .unwrap();
    let object = bed.ready("still").await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    let rows = bed.kubelet.disks.rows(&bed.data("still").await);
    assert_eq!(rows.unwrap(), ["old row"]);
    bed.stop().await;
}

/// As YAML's `|` gives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_first_operators_runs_on_while_its_password_is_one_that_cannot_be_had() {
    let mut bed = Bed::without_operator().await;
    left_with(&bed, "line", "otuspassword\n").await;
    let before = bed.api::<Deployment>().get("line").await.unwrap();
    bed.start();
    bed.until("line", "it is told", |object| {
        says(object, "Ready", "False", "PasswordInvalid")
    })
    .await;
    let now = bed.api::<Deployment>().get("line").await.unwrap();
    assert_eq!(now.uid(), before.uid());
    assert!(now.metadata.deletion_timestamp.is_none());
    bed.patch("line", json!({"spec": {"password": "otuspassword"}}))
        .await;
    bed.ready("line").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_deleted_before_this_operator_first_looked_goes_with_a_backup() {
    let mut bed = Bed::without_operator().await;
    left(&bed, "leaving").await;
    let backups = bed.claim("backup-leaving-pvc").await;
    bed.databases
        .delete("leaving", &DeleteParams::default())
        .await
        .unwrap();
    bed.start();
    bed.gone("leaving").await;
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_older_than_the_operator_is_taken_up() {
    let mut bed = Bed::without_operator().await;
    bed.create("early", original()).await;
    bed.start();
    bed.ready("early").await;
    bed.stop().await;
}

/// Its name is none that this operator can serve, and what the first one made would go with it unasked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_a_refused_name_takes_no_rows_along_unless_somebody_says_so() {
    let bed = Bed::new().await;
    let name = "dotted.name";
    let object = bed.create(name, spec(&json!({"deletionPolicy": "Retain"}))).await;
    let claim = json!({"metadata": {"name": "dotted.name-pvc", "ownerReferences": [owner(&object)]},
                       "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let _: PersistentVolumeClaim = bed.make(claim).await;
    bed.until(name, "it is refused", |object| {
        says(object, "Ready", "False", "NameInvalid")
    })
    .await;
    bed.delete(name).await;
    blocked(&bed, name, "dotted.name-pvc").await;
    let skip = json!({"metadata": {"annotations": {"otus.homework/skip-backup": object.metadata.uid}}});
    bed.patch(name, skip).await;
    bed.gone(name).await;
    let claim = bed.api::<PersistentVolumeClaim>().get("dotted.name-pvc").await;
    let kept = claim.unwrap().metadata;
    assert!(kept.deletion_timestamp.is_none() && kept.owner_references.unwrap_or_default().is_empty());
    bed.stop().await;
}
