//! What the kind's first operator loads into its server is waited for, and not for ever.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use mysql_api::MySQL;
use reconcile::clock::Clock;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    adoption::left,
    bed::{Bed, SPEED, message, owner, says},
};

/// Lets the first operator's server answer.
pub(crate) async fn answers(bed: &Bed, name: &str) {
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
    at_work(bed, object, "restore").await
}

/// A Job of the first operator's; returns the Pod that it has.
async fn at_work(bed: &Bed, object: &MySQL, what: &str) -> String {
    let name = object.name_any();
    let pod = json!({"restartPolicy": "OnFailure", "containers": [{"name": "load", "image": "i"}], "volumes": [
        {"name": "b", "persistentVolumeClaim": {"claimName": format!("backup-{name}-pvc")}}]});
    // That of a backup has no owner.
    let owners: Vec<Value> = (what == "restore").then(|| owner(object)).into_iter().collect();
    let _: Job = bed
        .make(
            json!({"metadata": {"name": format!("{what}-{name}-job"), "ownerReferences": owners},
                     "spec": {"backoffLimit": 2, "template": {"spec": pod}}}),
        )
        .await;
    let selector = format!("batch.kubernetes.io/job-name={what}-{name}-job");
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

/// The first operator was replaced while it took the last backup, and the Job of that has no deadline.
#[rstest]
#[case::its_program_hangs("hangs", "Running", 2_000)]
#[case::its_pod_never_begins("waits", "Pending", SPEED)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_the_first_operators_that_never_ends_is_ended_and_another_taken(
    #[case] name: &str,
    #[case] phase: &str,
    #[case] speed: u32,
) {
    let mut bed = Bed::without_operator().await;
    let object = left(&bed, name).await;
    let job = format!("backup-{name}-job");
    let now = DeleteParams::background().grace_period(0);
    bed.api::<Job>().delete(&job, &now).await.unwrap();
    bed.eventually("the one before is gone", async || bed.lacks::<Job>(&job).await)
        .await;
    let pod = at_work(&bed, &object, "backup").await;
    show(&bed, &pod, json!({ "phase": phase })).await;
    let backups = bed.claim(&format!("backup-{name}-pvc")).await;
    bed.delete(name).await;
    // In real time it is waited for, and told of.
    bed.start_at(1);
    let object = bed
        .until(name, "it is told", |object| {
            says(object, "BackupTaken", "Unknown", "LeftoversGoing")
        })
        .await
        .unwrap();
    let told = message(&object, "BackupTaken");
    assert!(told.contains(&format!("kubectl delete job {job}")), "{told}");
    bed.halt().await;
    bed.start_at(speed);
    bed.gone(name).await;
    let reasons = bed.reasons(name).await;
    assert!(reasons.contains(&"LeftoverEnded".to_owned()), "{reasons:?}");
    assert!(bed.api::<Pod>().get_opt(&pod).await.unwrap().is_none());
    assert_eq!(bed.kubelet.disks.newest(&backups), ["old row"]);
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
