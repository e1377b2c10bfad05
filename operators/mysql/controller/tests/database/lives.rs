//! Servers from apply to gone, and back.

use std::{fs, path::Path};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    events::v1::Event,
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use mysql_api::MySQL;
use reconcile::reconciler::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, GROWS, message, says, spec};

fn example(name: &str) -> MySQL {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../examples/mysql")
        .join(name);
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

async fn pods_of(bed: &Bed, name: &str) -> Vec<Pod> {
    let params = ListParams::default().labels(&format!("app={name}"));
    bed.api::<Pod>().list(&params).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_whole_story_gone_with_its_resource_and_back_with_its_data() {
    let bed = Bed::new().await;
    let name = "mysql-instance";
    bed.databases
        .create(&PostParams::default(), &example("mysql-instance.yaml"))
        .await
        .unwrap();
    let object = bed.ready(name).await;
    assert!(says(Some(&object), "RestoreDone", "True", "StartedEmpty"));
    assert!(says(Some(&object), "ClearTextPassword", "True", "InSpec"));
    let status = object.status.unwrap();
    assert_eq!(status.server_version.as_deref(), Some("5.7"));
    assert_eq!(status.storage.as_deref(), Some("1Gi"));
    assert_eq!(status.binding.unwrap().name, "mysql-instance-binding");

    // What users of the kind know by name.
    let backups = bed.claim("backup-mysql-instance-pvc").await;
    assert_eq!(
        pods_of(&bed, name).await.len(),
        1,
        "only the server's Pod carries the label"
    );
    let restored = bed.api::<Job>().get("restore-mysql-instance-job").await.unwrap();
    assert_eq!(restored.status.unwrap().succeeded, Some(1));
    let data = bed.data(name).await;
    for row in ["some data", "some data-2"] {
        assert!(bed.kubelet.disks.write(&data, row));
    }

    bed.delete(name).await;
    bed.gone(name).await;
    assert!(!bed.has_claim("mysql-instance-pvc").await);
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 1);
    let last = bed.api::<Job>().get("backup-mysql-instance-job").await.unwrap();
    assert_eq!(last.status.unwrap().succeeded, Some(1), "it stays, 1/1");

    bed.databases
        .create(&PostParams::default(), &example("mysql-instance.yaml"))
        .await
        .unwrap();
    let object = bed.ready(name).await;
    assert!(says(Some(&object), "RestoreDone", "True", "Restored"));
    let id = object.status.unwrap().restored_from.unwrap();
    assert_eq!(bed.kubelet.disks.backups(&backups), [id]);
    assert_eq!(
        bed.claim("backup-mysql-instance-pvc").await,
        backups,
        "the volume with the backups is the same"
    );
    let data = bed.data(name).await;
    assert_eq!(
        bed.kubelet.disks.rows(&data).unwrap(),
        ["some data", "some data-2"]
    );
    let reasons = bed.reasons(name).await;
    for step in [
        "VolumeClaimed",
        "RestoreStarted",
        "DataFolderFilled",
        "ServerCreated",
        "Ready",
        "BackupStarted",
        "Deleted",
    ] {
        assert!(
            reasons.iter().any(|reason| reason == step),
            "{step} in {reasons:?}"
        );
    }
    bed.stop().await;
}

async fn texts<K: Kind>(bed: &Bed) -> Vec<String> {
    let all = bed.api::<K>().list(&ListParams::default()).await.unwrap().items;
    all.iter()
        .map(|object| {
            format!(
                "{} {}: {}",
                K::kind(&()),
                object.name_any(),
                serde_json::to_string(object).unwrap()
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_given_in_clear_stands_in_no_object_but_its_secrets() {
    let bed = Bed::new().await;
    let password = "Zx9'\"\\`$(id)#;%s-in-clear";
    bed.create("clear", spec(&json!({"password": password}))).await;
    bed.ready("clear").await;
    bed.patch(
        "clear",
        json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}}),
    )
    .await;
    bed.until("clear", "a backup is there", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    let mut all = texts::<Pod>(&bed).await;
    all.extend(texts::<Deployment>(&bed).await);
    all.extend(texts::<ReplicaSet>(&bed).await);
    all.extend(texts::<Job>(&bed).await);
    all.extend(texts::<Service>(&bed).await);
    all.extend(texts::<ConfigMap>(&bed).await);
    all.extend(texts::<PersistentVolumeClaim>(&bed).await);
    all.extend(texts::<Event>(&bed).await);
    let object = bed.databases.get("clear").await.unwrap();
    all.push(serde_json::to_string(&object.status).unwrap());
    assert_eq!(object.spec.password.as_deref(), Some(password));
    assert_eq!(object.metadata.generation, Some(1), "the spec is its author's");
    assert!(all.len() > 10, "{}", all.len());
    for text in all {
        assert!(!text.contains("in-clear"), "{text}");
    }
    let secret = bed
        .api::<Secret>()
        .get("clear-credentials")
        .await
        .unwrap()
        .data
        .unwrap();
    assert_eq!(secret["password"].0, password.as_bytes());
    assert!(
        !serde_json::to_string(&secret["revision"])
            .unwrap()
            .contains("in-clear")
    );
    bed.stop().await;
}

/// Deletes a child and waits until another of its name is there.
async fn comes_back<K: Kind>(bed: &Bed, name: &str) {
    let before = bed.api::<K>().get(name).await.unwrap().uid();
    bed.api::<K>()
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    bed.eventually(&format!("{} {name} is back", K::kind(&())), async || {
        let found = bed.api::<K>().get_opt(name).await.unwrap();
        found.is_some_and(|found| found.uid() != before && found.metadata_is_live())
    })
    .await;
}

trait Live {
    fn metadata_is_live(&self) -> bool;
}

impl<K: Kind> Live for K {
    fn metadata_is_live(&self) -> bool {
        self.meta().deletion_timestamp.is_none()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_child_that_somebody_deletes_comes_back_and_the_password_with_it() {
    let bed = Bed::new().await;
    bed.create("heal", spec(&json!({}))).await;
    bed.ready("heal").await;
    let password = async || {
        bed.api::<Secret>()
            .get("heal-credentials")
            .await
            .unwrap()
            .data
            .unwrap()["password"]
            .clone()
    };
    let generated = password().await;
    assert!(generated.0.len() >= 32);
    comes_back::<Service>(&bed, "heal").await;
    comes_back::<ConfigMap>(&bed, "heal-config").await;
    comes_back::<Secret>(&bed, "heal-binding").await;
    comes_back::<Secret>(&bed, "heal-credentials").await;
    assert_eq!(
        password().await,
        generated,
        "clients have it: it is not made anew"
    );
    comes_back::<Deployment>(&bed, "heal").await;
    comes_back::<PersistentVolumeClaim>(&bed, "backup-heal-pvc").await;
    bed.ready("heal").await;
    assert_eq!(bed.kubelet.disks.runs("restore"), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_change_does_and_what_cannot_is_refused_while_the_server_goes_on() {
    let bed = Bed::new().await;
    let grown = json!({"storage_size": null, "storage": {"size": "1Gi", "storageClassName": GROWS}});
    let mut first = spec(&json!({"image": "mysql:8.0.36"}));
    first.as_object_mut().unwrap().remove("storage_size");
    first["storage"] = grown["storage"].clone();
    bed.create("change", first).await;
    bed.ready("change").await;
    bed.patch(
        "change",
        json!({"spec": {"image": "mysql:8.4.3", "resources": {"limits": {"memory": "1Gi"}},
                                         "config": {"max-connections": "99"}, "storage": {"size": "2Gi"},
                                         "service": {"type": "ClusterIP"}}}),
    )
    .await;
    let deployments = bed.api::<Deployment>();
    bed.eventually("the server is another", async || {
        let text = serde_json::to_string(&deployments.get("change").await.unwrap().spec).unwrap();
        text.contains("mysql:8.4.3") && text.contains(r#""memory":"1Gi""#)
    })
    .await;
    bed.eventually("the volume is asked to grow", async || {
        let claim = bed
            .api::<PersistentVolumeClaim>()
            .get("change-pvc")
            .await
            .unwrap();
        serde_json::to_string(&claim.spec).unwrap().contains("2Gi")
    })
    .await;
    bed.eventually("the Service has an address", async || {
        let service = bed.api::<Service>().get_opt("change").await.unwrap();
        let address = service.and_then(|service| service.spec?.cluster_ip);
        address.is_some_and(|address| address != "None")
    })
    .await;
    let config = bed.api::<ConfigMap>().get("change-config").await.unwrap();
    assert!(
        serde_json::to_string(&config.data)
            .unwrap()
            .contains("max_connections")
    );
    bed.ready("change").await;

    // Back to an older series.
    bed.patch("change", json!({"spec": {"image": "mysql:8.0.36"}}))
        .await;
    bed.until("change", "the older version is refused", |object| {
        says(object, "UpToDate", "False", "VersionChangeRefused") && says(object, "Ready", "True", "Serving")
    })
    .await;
    let text = serde_json::to_string(&deployments.get("change").await.unwrap().spec).unwrap();
    assert!(text.contains("mysql:8.4.3") && !text.contains("8.0.36"), "{text}");
    bed.patch("change", json!({"spec": {"image": "mysql:8.4.4"}}))
        .await;
    bed.until("change", "it is up to date", |object| {
        says(object, "UpToDate", "True", "Applied")
    })
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_whose_class_does_not_let_it_grow_says_so_and_serves_on() {
    let bed = Bed::new().await;
    bed.create("fixed", spec(&json!({}))).await;
    bed.ready("fixed").await;
    bed.patch("fixed", json!({"spec": {"storage_size": "3Gi"}})).await;
    let object = bed
        .until("fixed", "growth is refused", |object| {
            says(object, "UpToDate", "False", "GrowthRefused") && says(object, "Ready", "True", "Serving")
        })
        .await
        .unwrap();
    assert!(message(&object, "UpToDate").contains("fixed-pvc cannot grow to 3Gi"));
    let params = PatchParams::default();
    let shrunk = Patch::Merge(json!({"spec": {"storage_size": "2Gi"}}));
    let refused = bed.databases.patch("fixed", &params, &shrunk).await.unwrap_err();
    assert!(refused.to_string().contains("never shrink"), "{refused}");
    bed.stop().await;
}

/// In words that the API cannot compare with those before.
#[rstest]
#[case::the_size_in_its_other_field("shrunk", json!({"storage_size": null, "storage": {"size": "1Gi"}}), "ShrinkRefused",
    "larger than 1Gi")]
#[case::a_class_where_there_was_none("moved", json!({"storage": {"storageClassName": GROWS}}), "StorageClassFixed",
    "\"standard\"")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_would_shrink_or_change_its_class_stays_and_its_server_serves_on(
    #[case] name: &str,
    #[case] change: Value,
    #[case] reason: &str,
    #[case] word: &str,
) {
    let bed = Bed::new().await;
    bed.create(name, spec(&json!({"storage_size": "2Gi"}))).await;
    bed.ready(name).await;
    let before = bed.data(name).await;
    bed.patch(name, json!({ "spec": change })).await;
    let object = bed
        .until(name, "it is refused", |object| {
            says(object, "UpToDate", "False", reason) && says(object, "Ready", "True", "Serving")
        })
        .await
        .unwrap();
    let told = message(&object, "UpToDate");
    assert!(
        told.contains(&format!("{name}-pvc")) && told.contains(word),
        "{told}"
    );
    assert_eq!(bed.data(name).await, before);
    bed.patch(name, json!({"spec": {"storage_size": "2Gi", "storage": null}}))
        .await;
    bed.until(name, "it is up to date", |object| {
        says(object, "UpToDate", "True", "Applied")
    })
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_come_up_says_why() {
    let bed = Bed::new().await;
    bed.kubelet.break_("mysql", 1, json!({}));
    bed.create("down", spec(&json!({}))).await;
    let object = bed
        .until("down", "it says why", |object| {
            says(object, "ServerReady", "False", "ServerFailing")
        })
        .await
        .unwrap();
    assert!(
        message(&object, "Ready").contains("ended with status 1"),
        "{}",
        message(&object, "Ready")
    );
    bed.kubelet.repair("mysql");
    bed.ready("down").await;
    bed.stop().await;
}
