//! Bad input: each is named, and nothing is made or touched that must not be.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret, Service},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mysql_api::MySQL;
use mysql_controller::{database::program, version::Version};
use reconcile::{apply::APPLIED, reconciler::Kind};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, message, says, spec};

#[rstest]
#[case("a-name", json!({"storage_size": "0Gi"}), "SizeInvalid", "0Gi")]
#[case("a-name", json!({"database": "mysql"}), "DatabaseInvalid", "MySQL's own")]
#[case("a-name", json!({"config": {"datadir": "/tmp"}}), "OptionsInvalid", "remove it")]
#[case("a-name", json!({"resources": {"requests": {"cpu": "many"}}}), "SizeInvalid", "resources.requests.cpu")]
#[case(&"n".repeat(253), json!({}), "NameInvalid", "shorter name")]
#[case("dotted.name", json!({}), "NameInvalid", "Service")]
#[case("a-name", json!({"storage_size": null, "storage": {"size": "1Gi", "storageClassName": "nowhere"}}),
    "StorageClassUnknown", "standard")]
#[case("a-name", json!({"passwordSecretRef": {"name": "absent"}}), "PasswordMissing", "Secret absent")]
#[case("a-name", json!({"password": "two\nlines"}), "PasswordInvalid", "control character")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_named_and_no_server_is_made(
    #[case] name: &str,
    #[case] changes: Value,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let bed = Bed::new().await;
    bed.create(name, spec(&changes)).await;
    let object = bed
        .until(name, reason, |object| says(object, "Ready", "False", reason))
        .await
        .unwrap();
    assert!(
        message(&object, "Ready").contains(words),
        "{}",
        message(&object, "Ready")
    );
    assert!(bed.lacks::<Deployment>(name).await);
    // And it can be deleted.
    bed.delete(name).await;
    bed.gone(name).await;
    bed.stop().await;
}

#[rstest]
#[case("lots")]
#[case("-1Gi")]
#[case("1 Gi")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_is_nonsense_is_refused_at_the_door(#[case] size: &str) {
    let bed = Bed::without_operator().await;
    let object = MySQL::new(
        "size",
        serde_json::from_value(spec(&json!({"storage_size": size}))).unwrap(),
    );
    let refused = bed
        .databases
        .create(&PostParams::default(), &object)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("storage_size"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_quotes_and_backticks_and_passwords_with_every_hazard_work() {
    let bed = Bed::new().await;
    let password = r#"a"b'c\d#e$f`g;h i%j&k<l>m|n=o[p]$(x)"#;
    let database = "it's `quoted` \"twice\" $(HOST)";
    bed.create("odd", spec(&json!({"database": database, "password": password})))
        .await;
    bed.ready("odd").await;
    // What Pods read is what the programs of the same image would be given.
    let secret = bed.api::<Secret>().get("odd-credentials").await.unwrap();
    let held = secret.data.unwrap();
    for (key, text) in program::secret_files(database, password, Version::V9) {
        assert_eq!(held[key].0, text.into_bytes(), "{key}");
    }
    let job = bed.api::<Job>().get("restore-odd-job").await.unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    let variables = pod.containers[0].env.clone().unwrap();
    let name = variables
        .iter()
        .find(|variable| variable.name == "DATABASE")
        .unwrap();
    assert_eq!(
        name.value.as_deref(),
        Some("it's `quoted` \"twice\" $$(HOST)"),
        "Kubernetes makes one $ of two, and fills nothing in"
    );
    bed.delete("odd").await;
    bed.gone("odd").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_arrives_later_is_used_and_one_that_changes_restarts_the_server() {
    let bed = Bed::new().await;
    bed.create(
        "refers",
        spec(&json!({"passwordSecretRef": {"name": "mine", "key": "root"}})),
    )
    .await;
    bed.until("refers", "it is missed", |object| {
        says(object, "Ready", "False", "PasswordMissing")
    })
    .await;
    let _: Secret = bed
        .make(json!({"metadata": {"name": "mine"}, "stringData": {"root": "first"}}))
        .await;
    bed.ready("refers").await;
    let has = async |password: &str| {
        let secret = bed.api::<Secret>().get("refers-credentials").await.unwrap();
        secret.data.unwrap()["password"].0 == password.as_bytes()
    };
    assert!(has("first").await);
    let revision = async || {
        let spec = bed.api::<Deployment>().get("refers").await.unwrap().spec.unwrap();
        spec.template.metadata.unwrap().annotations.unwrap()["otus.homework/credentials-revision"].clone()
    };
    let before = revision().await;
    let patch = kube::api::Patch::Merge(json!({"stringData": {"root": "second"}}));
    bed.api::<Secret>()
        .patch("mine", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    bed.eventually("it is taken up", async || {
        has("second").await && revision().await != before
    })
    .await;
    bed.stop().await;
}

/// An object of somebody else's that has a needed name.
async fn foreign<K: Kind>(bed: &Bed, name: &str, object: Value) {
    let theirs: K = bed.make(object).await;
    bed.create(name, spec(&json!({}))).await;
    let object = bed
        .until(name, "it says so", |object| {
            says(object, "Ready", "False", "NameConflict")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains(&theirs.name_any()));
    // Passed over again and again.
    bed.patch(name, json!({"metadata": {"annotations": {"look": "again"}}}))
        .await;
    bed.until(name, "it was seen", |object| {
        says(object, "Ready", "False", "NameConflict")
    })
    .await;
    bed.delete(name).await;
    bed.gone(name).await;
    let now = bed.api::<K>().get(&theirs.name_any()).await.unwrap();
    // The controllers of Kubernetes write annotations of their own.
    let of = |object: &K| {
        let mut annotations = object.annotations().clone();
        annotations.retain(|key, _| !key.contains("kubernetes.io/"));
        (
            object.uid(),
            object.meta().generation,
            object.labels().clone(),
            annotations,
        )
    };
    assert_eq!(of(&now), of(&theirs), "it is as it was");
    assert!(now.meta().deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_somebody_elses_are_never_taken_over_nor_removed() {
    let bed = Bed::new().await;
    foreign::<Service>(
        &bed,
        "svc",
        json!({"metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80}]}}),
    )
    .await;
    let pod =
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let theirs = json!({"metadata": {"name": "dep"},
                        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}, "template": pod}});
    foreign::<Deployment>(&bed, "dep", theirs).await;
    let claim = |name: &str, labels: Value| {
        json!({"metadata": {"name": name, "labels": labels},
               "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    foreign::<PersistentVolumeClaim>(&bed, "vol", claim("vol-pvc", json!({}))).await;
    let helm = json!({"app.kubernetes.io/managed-by": "Helm"});
    foreign::<PersistentVolumeClaim>(&bed, "bak", claim("backup-bak-pvc", helm)).await;
    foreign::<Secret>(&bed, "sec", json!({"metadata": {"name": "sec-credentials"}})).await;
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let restore = json!({"metadata": {"name": "restore-res-job"},
                         "spec": {"suspend": true, "template": {"spec": pod}}});
    foreign::<Job>(&bed, "res", restore).await;
    bed.stop().await;
}

/// Whatever other operator on the same framework has applied it.
#[rstest]
#[case::while_the_data_folder_is_filled("filled", false)]
#[case::while_the_data_volume_is_lost("bereft", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_somebody_elses_that_comes_later_stays(#[case] name: &str, #[case] lost: bool) {
    let mut bed = Bed::new().await;
    let (servers, claims) = (bed.api::<Deployment>(), bed.api::<PersistentVolumeClaim>());
    if lost {
        bed.create(name, spec(&json!({}))).await;
        bed.ready(name).await;
        bed.halt().await;
        servers.delete(name, &DeleteParams::background()).await.unwrap();
        let claim = format!("{name}-pvc");
        claims.delete(&claim, &DeleteParams::default()).await.unwrap();
        bed.eventually("both are gone", async || {
            bed.lacks::<Deployment>(name).await && bed.lacks::<PersistentVolumeClaim>(&claim).await
        })
        .await;
    } else {
        bed.kubelet.hold("restore", "");
        bed.create(name, spec(&json!({}))).await;
        bed.until(name, "it is being filled", |object| {
            says(object, "RestoreDone", "Unknown", "Restoring")
        })
        .await;
    }
    let pod =
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let theirs: Deployment = bed
        .make(
            json!({"metadata": {"name": name, "annotations": {APPLIED: "theirs"}},
                     "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}, "template": pod}}),
        )
        .await;
    if lost {
        bed.start();
    }
    let object = bed
        .until(name, "it says so", |object| {
            says(object, "Ready", "False", "NameConflict")
        })
        .await
        .unwrap();
    let told = message(&object, "Ready");
    assert!(told.contains("Deployment") && told.contains(name), "{told}");
    let found = servers.get(name).await.unwrap();
    assert_eq!(found.uid(), theirs.uid());
    assert!(found.metadata.deletion_timestamp.is_none());
    // And it goes on when that is out of the way.
    servers.delete(name, &DeleteParams::background()).await.unwrap();
    if lost {
        let claim = format!("{name}-pvc");
        bed.eventually("another volume is made", async || bed.has_claim(&claim).await)
            .await;
    } else {
        bed.kubelet.let_go("restore");
        bed.ready(name).await;
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_the_name_of_a_class_can_be_mended() {
    let bed = Bed::new().await;
    let class =
        |name: &str| json!({"storage_size": null, "storage": {"size": "1Gi", "storageClassName": name}});
    bed.create("mended", spec(&class("nowhere"))).await;
    bed.until("mended", "there is no such class", |object| {
        says(object, "Ready", "False", "StorageClassUnknown")
    })
    .await;
    bed.patch("mended", json!({"spec": class("standard")})).await;
    bed.ready("mended").await;
    let refused = bed
        .databases
        .patch(
            "mended",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": class("nowhere")})),
        )
        .await;
    assert!(refused.unwrap_err().to_string().contains("must not change"));
    bed.stop().await;
}
