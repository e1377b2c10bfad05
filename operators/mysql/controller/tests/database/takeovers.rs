//! What the kind's first operator left, where the spec was changed since: it looked at no change.

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    adoption::{left_of, original},
    bed::{Bed, message, says},
    loads::answers,
};

/// A server with data that no server of the image can have which the spec names by now.
async fn outdated(name: &str) -> Bed {
    let bed = Bed::without_operator().await;
    left_of(&bed, name, &json!({"image": "mysql:9.7"})).await;
    answers(&bed, name).await;
    bed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_the_first_operators_server_are_given_to_no_server_that_cannot_have_them() {
    let mut bed = outdated("leap").await;
    bed.start();
    bed.until("leap", "it is refused", |object| {
        says(object, "UpToDate", "False", "VersionChangeRefused") && says(object, "Ready", "True", "Serving")
    })
    .await;
    let server = bed.api::<Deployment>().get("leap").await.unwrap();
    let text = serde_json::to_string(&server.spec).unwrap();
    assert!(
        text.contains("mysql:5.7") && !text.contains("mysql:9.7"),
        "{text}"
    );
    bed.patch("leap", json!({"spec": {"image": "mysql:5.7"}})).await;
    let object = bed.ready("leap").await;
    assert!(says(Some(&object), "UpToDate", "True", "Applied"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_backup_of_the_first_operators_server_is_taken_of_its_own_version() {
    let mut bed = outdated("last").await;
    bed.delete("last").await;
    let backups = bed.claim("backup-last-pvc").await;
    bed.start();
    bed.gone("last").await;
    assert_eq!(bed.kubelet.disks.newest(&backups), ["old row"]);
    let job = bed.api::<Job>().get("backup-last-job").await.unwrap();
    let text = serde_json::to_string(&job.spec).unwrap();
    assert!(
        text.contains("mysql:5.7") && !text.contains("mysql:9.7"),
        "{text}"
    );
    bed.stop().await;
}

/// The first operator's server with `otus-database`, where the spec names another one by now.
async fn renamed(bed: &mut Bed, name: &str) {
    left_of(bed, name, &json!({"database": "other"})).await;
    answers(bed, name).await;
    let before = bed.api::<Deployment>().get(name).await.unwrap().uid();
    bed.start();
    let object = bed
        .until(name, "it is told", |object| {
            says(object, "Ready", "False", "DatabaseInvalid")
        })
        .await
        .unwrap();
    let told = message(&object, "Ready");
    for word in [
        "otus-database",
        "other",
        "Retain",
        "skip-backup",
        "MYSQL_DATABASE",
    ] {
        assert!(told.contains(word), "{told}");
    }
    let now = bed.api::<Deployment>().get(name).await.unwrap();
    assert!(now.uid() == before && now.metadata.deletion_timestamp.is_none());
}

/// A backup would be one of the database that the spec names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_database_that_the_spec_no_longer_names_go_with_no_object() {
    let mut bed = Bed::without_operator().await;
    renamed(&mut bed, "rows").await;
    let (data, backups) = (bed.data("rows").await, bed.claim("backup-rows-pvc").await);
    bed.delete("rows").await;
    let object = bed
        .until("rows", "it is blocked", |object| {
            says(object, "DeletionBlocked", "True", "FinalBackupFailed")
        })
        .await
        .unwrap();
    assert!(message(&object, "DeletionBlocked").contains("otus-database"));
    assert_eq!(bed.kubelet.disks.backups(&backups), [""; 0]);
    // As it says.
    let skip = json!({"otus.homework/skip-backup": object.uid()});
    let keep = json!({"metadata": {"annotations": skip}, "spec": {"deletionPolicy": "Retain"}});
    bed.patch("rows", keep).await;
    bed.gone("rows").await;
    bed.create("rows", original()).await;
    let object = bed.ready("rows").await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    assert_eq!(bed.data("rows").await, data);
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["old row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_the_spec_no_longer_names_is_left_behind_when_somebody_says_so() {
    let mut bed = Bed::without_operator().await;
    renamed(&mut bed, "said").await;
    let set = json!({"name": "mysql", "env": [{"name": "MYSQL_DATABASE", "value": "other"}]});
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [set]}}}}));
    let servers = bed.api::<Deployment>();
    servers
        .patch("said", &PatchParams::default(), &patch)
        .await
        .unwrap();
    bed.ready("said").await;
    bed.stop().await;
}
