//! What the kind's first operator left is gone on with.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy},
};
use mysql_api::{MySQL, database::FORMER_FINALIZER};
use reconcile::clock::Clock;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, SPEED, message, owner, says};

const LAST: &str = "kopf.zalando.org/last-handled-configuration";

fn original() -> Value {
    json!({"image": "mysql:5.7", "database": "otus-database", "password": "otuspassword", "storage_size": "1Gi"})
}

/// An object with everything that the first operator makes for one, and with a row in its volume.
async fn left(bed: &Bed, name: &str) -> MySQL {
    left_with(bed, name, "otuspassword").await
}

/// The same with another password.
async fn left_with(bed: &Bed, name: &str, password: &str) -> MySQL {
    let mut spec = original();
    spec["password"] = json!(password);
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
                           "env": [{"name": "MYSQL_ROOT_PASSWORD", "value": "otuspassword"}]});
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
async fn finished(bed: &Bed, name: &str) {
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

/// Lets the first operator's server answer.
async fn answers(bed: &Bed, name: &str) {
    let (pods, selector) = (
        bed.api::<Pod>(),
        ListParams::default().labels(&format!("app={name}")),
    );
    bed.eventually("it has a Pod", async || {
        !pods.list(&selector).await.unwrap().items.is_empty()
    })
    .await;
    let pod = pods.list(&selector).await.unwrap().items.remove(0);
    let ready = json!({"type": "Ready", "status": "True"});
    show(
        bed,
        &pod.name_any(),
        json!({"phase": "Running", "conditions": [ready]}),
    )
    .await;
}

/// Lets a Pod have this status.
async fn show(bed: &Bed, pod: &str, status: Value) {
    let patch = Patch::Strategic(json!({ "status": status }));
    bed.api::<Pod>()
        .patch_status(pod, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The first operator's restore Job of this object; returns the Pod that it has.
async fn load(bed: &Bed, object: &MySQL) -> String {
    let name = object.name_any();
    let pod = json!({"restartPolicy": "OnFailure", "containers": [{"name": "load", "image": "i"}], "volumes": [
        {"name": "b", "persistentVolumeClaim": {"claimName": format!("backup-{name}-pvc")}}]});
    let _: Job = bed
        .make(
            json!({"metadata": {"name": format!("restore-{name}-job"), "ownerReferences": [owner(object)]},
                     "spec": {"backoffLimit": 2, "template": {"spec": pod}}}),
        )
        .await;
    let selector = format!("batch.kubernetes.io/job-name=restore-{name}-job");
    let (pods, selector) = (bed.api::<Pod>(), ListParams::default().labels(&selector));
    bed.eventually("it has a Pod", async || {
        !pods.list(&selector).await.unwrap().items.is_empty()
    })
    .await;
    pods.list(&selector).await.unwrap().items[0].name_any()
}

/// The UID of the server's Deployment, unless it is going.
async fn server(bed: &Bed, name: &str) -> Option<String> {
    let server = bed.api::<Deployment>().get_opt(name).await.unwrap();
    let stays = server.filter(|server| server.metadata.deletion_timestamp.is_none());
    stays?.uid()
}

/// A server that goes in its midst leaves half the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_first_operators_serves_until_what_it_restores_is_there() {
    let mut bed = Bed::without_operator().await;
    let object = left(&bed, "loading").await;
    answers(&bed, "loading").await;
    let pod = load(&bed, &object).await;
    show(&bed, &pod, json!({"phase": "Running"})).await;
    let before = server(&bed, "loading").await;
    bed.start();
    let object = bed
        .until("loading", "it is told", |object| {
            says(object, "Ready", "Unknown", "LeftoversGoing")
        })
        .await
        .unwrap();
    let told = message(&object, "Ready");
    assert!(told.contains("kubectl delete job restore-loading-job"), "{told}");
    assert!(before.is_some() && server(&bed, "loading").await == before);
    show(&bed, &pod, loaded()).await;
    let object = bed.ready("loading").await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    let reasons = bed.reasons("loading").await;
    assert!(!reasons.contains(&"LeftoverEnded".to_owned()), "{reasons:?}");
    assert_eq!(
        bed.kubelet.disks.runs("restore"),
        0,
        "that there are data was seen by the server"
    );
    let rows = bed.kubelet.disks.rows(&bed.data("loading").await);
    assert_eq!(rows.unwrap(), ["old row"]);
    bed.stop().await;
}

/// The other Pods than these of the first operator's restore Job.
async fn others(bed: &Bed, name: &str, known: &str) -> Vec<String> {
    let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name=restore-{name}-job"));
    let pods = bed.api::<Pod>().list(&selector).await.unwrap().items;
    let names = pods.iter().map(kube::ResourceExt::name_any);
    names.filter(|pod| pod != known).collect()
}

/// What a Pod shows that has loaded everything.
fn loaded() -> Value {
    let ended = json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z",
                                      "finishedAt": "2026-01-01T00:00:00Z"}});
    let container = json!({"name": "load", "image": "i", "imageID": "i", "restartCount": 0, "ready": false,
                           "state": ended});
    json!({"phase": "Succeeded", "containerStatuses": [container]})
}

/// It is told that the restore Job is waited for.
async fn waits(bed: &Bed, name: &str) {
    let job = format!("kubectl delete job restore-{name}-job");
    bed.until(name, "it is told", |object| {
        says(object, "Ready", "Unknown", "LeftoversGoing")
            && object.is_some_and(|object| message(object, "Ready").contains(&job))
    })
    .await;
}

/// Its node is drained, for instance: another Pod begins anew. Meanwhile half the tables are there, and a final backup of
/// them would count.
#[rstest]
#[case::of_one_that_stays("drained", false)]
#[case::of_one_that_goes("hurried", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_the_first_operators_that_is_interrupted_is_waited_for(
    #[case] name: &str,
    #[case] goes: bool,
) {
    let mut bed = Bed::without_operator().await;
    let object = left(&bed, name).await;
    answers(&bed, name).await;
    let pod = load(&bed, &object).await;
    show(&bed, &pod, json!({"phase": "Running"})).await;
    let backups = bed.claim(&format!("backup-{name}-pvc")).await;
    if goes {
        bed.patch(name, json!({"spec": {"backup": {"onDelete": "BestEffort"}}}))
            .await;
        bed.delete(name).await;
    }
    let before = server(&bed, name).await;
    let clock = Clock::accelerated(SPEED);
    bed.start_with(clock.clone());
    waits(&bed, name).await;
    let now = DeleteParams::default().grace_period(0);
    bed.api::<Pod>().delete(&pod, &now).await.unwrap();
    bed.eventually("another Pod is to load", async || {
        !others(&bed, name, &pod).await.is_empty()
    })
    .await;
    bed.pass(&clock, 10).await;
    waits(&bed, name).await;
    assert!(before.is_some() && server(&bed, name).await == before);
    if goes {
        assert_eq!(
            bed.job(&format!("backup-{name}-job")).await,
            None,
            "it would be a half"
        );
    }
    let next = others(&bed, name, &pod).await.remove(0);
    show(&bed, &next, loaded()).await;
    if goes {
        bed.gone(name).await;
        assert_eq!(bed.kubelet.disks.newest(&backups), ["old row"]);
    } else {
        bed.ready(name).await;
        let reasons = bed.reasons(name).await;
        assert!(!reasons.contains(&"LeftoverEnded".to_owned()), "{reasons:?}");
    }
    bed.stop().await;
}

/// Its Pod is on its way to another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_first_operators_that_is_interrupted_is_not_taken_from_what_loads() {
    let mut bed = Bed::without_operator().await;
    let object = left(&bed, "moving").await;
    answers(&bed, "moving").await;
    let pod = load(&bed, &object).await;
    show(&bed, &pod, json!({"phase": "Running"})).await;
    let before = server(&bed, "moving").await;
    let app = ListParams::default().labels("app=moving");
    let now = DeleteParams::default().grace_period(0);
    bed.api::<Pod>().delete_collection(&now, &app).await.unwrap();
    // Ten minutes are as long as they are.
    bed.start_at(1);
    waits(&bed, "moving").await;
    assert!(before.is_some() && server(&bed, "moving").await == before);
    show(&bed, &pod, loaded()).await;
    bed.ready("moving").await;
    let rows = bed.kubelet.disks.rows(&bed.data("moving").await);
    assert_eq!(rows.unwrap(), ["old row"]);
    bed.stop().await;
}

/// The Pod of the first operator's restore Job never begins.
#[rstest]
#[case::and_its_server_answers("slow", true)]
#[case::and_it_has_no_server("stuck", false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_of_the_first_operators_that_never_ends_is_ended(#[case] name: &str, #[case] serves: bool) {
    let mut bed = Bed::without_operator().await;
    let object = left(&bed, name).await;
    if serves {
        answers(&bed, name).await;
    }
    let pod = load(&bed, &object).await;
    bed.start();
    let object = bed.ready(name).await;
    assert!(says(Some(&object), "RestoreDone", "True", "DataKept"));
    let rest = bed.api::<Pod>().get_opt(&pod).await.unwrap();
    assert!(rest.is_none(), "nothing loads into the server that serves");
    let reasons = bed.reasons(name).await;
    assert_eq!(
        reasons.contains(&"LeftoverEnded".to_owned()),
        serves,
        "{reasons:?}"
    );
    let rows = bed.kubelet.disks.rows(&bed.data(name).await);
    assert_eq!(rows.unwrap(), ["old row"]);
    bed.stop().await;
}

#[rstest]
#[case::of_its_options("taken", "config")]
#[case::of_its_backups("foreign", "claim")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_first_operators_is_not_taken_away_where_a_name_is_somebody_elses(
    #[case] name: &str,
    #[case] what: &str,
) {
    let mut bed = Bed::without_operator().await;
    left(&bed, name).await;
    if what == "config" {
        let taken = json!({"metadata": {"name": format!("{name}-config")}});
        let _: ConfigMap = bed.make(taken).await;
    } else {
        let managed = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}});
        bed.api::<PersistentVolumeClaim>()
            .patch(
                &format!("backup-{name}-pvc"),
                &PatchParams::default(),
                &Patch::Merge(managed),
            )
            .await
            .unwrap();
    }
    let before = server(&bed, name).await;
    bed.start();
    bed.until(name, "it is told", |object| {
        says(object, "Ready", "False", "NameConflict")
    })
    .await;
    assert!(before.is_some() && server(&bed, name).await == before);
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
