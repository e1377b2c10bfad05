//! Backups while a server lives.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::ResourceExt as _;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, message, says, spec};

async fn ask(bed: &Bed, name: &str, value: &str) {
    bed.patch(
        name,
        json!({"metadata": {"annotations": {"otus.homework/backup-now": value}}}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_value_of_the_annotation_is_one_backup_and_the_newest_are_kept() {
    let bed = Bed::new().await;
    bed.create("now", spec(&json!({"backup": {"keep": 2}}))).await;
    bed.ready("now").await;
    let backups = bed.claim("backup-now-pvc").await;
    let mut ids = Vec::new();
    for value in ["1", "2", "3"] {
        ask(&bed, "now", value).await;
        let object = bed
            .until("now", "it was taken", |object| {
                let status = object.and_then(|object| object.status.as_ref());
                says(object, "BackupTaken", "True", "BackupDone")
                    && status.is_some_and(|status| status.last_request.as_deref() == Some(value))
            })
            .await
            .unwrap();
        let last = object.status.unwrap().last_backup.unwrap();
        assert_eq!((last.bytes, last.sha256.as_deref()), (Some(42), Some("00ff")));
        ids.push(last.id);
    }
    assert_eq!(bed.kubelet.disks.backups(&backups), ids[1..]);
    // Nothing more is begun for a value that was acted on, however often it is looked at.
    bed.patch("now", json!({"spec": {"resources": {"limits": {"cpu": "1"}}}}))
        .await;
    bed.ready("now").await;
    assert_eq!(bed.kubelet.disks.runs("backup"), 3);
    bed.stop().await;
}

/// A person who asks with a value again means another backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_comes_again_is_another_backup() {
    let bed = Bed::new().await;
    bed.create("again", spec(&json!({}))).await;
    bed.ready("again").await;
    let (data, backups) = (bed.data("again").await, bed.claim("backup-again-pvc").await);
    for (value, row) in [("1", "a"), ("2", "b"), ("1", "c")] {
        bed.kubelet.disks.write(&data, row);
        ask(&bed, "again", value).await;
        bed.until("again", "it was taken", |object| {
            let status = object.and_then(|object| object.status.as_ref());
            says(object, "BackupTaken", "True", "BackupDone")
                && status.is_some_and(|status| status.last_request.as_deref() == Some(value))
        })
        .await;
    }
    let taken = bed.kubelet.disks.contents(&backups);
    assert_eq!(taken, [vec!["a"], vec!["a", "b"], vec!["a", "b", "c"]]);
    bed.stop().await;
}

/// An annotation holds more than a status does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_long_to_be_remembered_is_acted_on_once_and_keeps_nothing_from_going() {
    let bed = Bed::new().await;
    bed.create("wordy", spec(&json!({}))).await;
    bed.ready("wordy").await;
    let backups = bed.claim("backup-wordy-pvc").await;
    ask(&bed, "wordy", &"x".repeat(300)).await;
    bed.until("wordy", "it was taken", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    bed.kubelet.disks.write(&bed.data("wordy").await, "row");
    bed.delete("wordy").await;
    bed.gone("wordy").await;
    let taken = bed.kubelet.disks.contents(&backups);
    assert_eq!(taken, [vec![], vec!["row"]]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_kept() {
    let bed = Bed::new().await;
    let every_minute = json!({"backup": {"schedule": "* * * * *", "jitterSeconds": 0}});
    bed.create("often", spec(&every_minute)).await;
    bed.ready("often").await;
    let backups = bed.claim("backup-often-pvc").await;
    bed.eventually("three were taken", async || {
        bed.kubelet.disks.backups(&backups).len() == 3
    })
    .await;
    let object = bed.databases.get("often").await.unwrap();
    assert!(object.status.unwrap().last_schedule_time.is_some());
    let job = bed.api::<Job>().get_opt("backup-often-job").await.unwrap();
    assert!(
        job.is_none_or(|job| job.owner_references().is_empty()),
        "it outlives the object"
    );
    bed.stop().await;
}

/// What the API server will not have, and a password that is not there: the server goes on as it is.
#[rstest]
#[case::refused("refused", json!({"password": "another",
    "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}), "RequestRefused")]
#[case::without_its_password("missing", json!({"passwordSecretRef": {"name": "absent"}}), "PasswordMissing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_kept_while_an_edit_cannot_be_carried_out(
    #[case] name: &str,
    #[case] change: Value,
    #[case] reason: &str,
) {
    let bed = Bed::new().await;
    let every_minute = json!({"backup": {"schedule": "* * * * *", "jitterSeconds": 0, "keep": 100}});
    bed.create(name, spec(&every_minute)).await;
    bed.ready(name).await;
    let backups = bed.claim(&format!("backup-{name}-pvc")).await;
    let password = async || {
        let secret = bed.api::<Secret>().get(&format!("{name}-credentials")).await;
        secret.unwrap().data.unwrap()["password"].clone()
    };
    let has = password().await;
    bed.patch(name, json!({ "spec": change })).await;
    bed.until(name, "it is said", |object| {
        says(object, "Ready", "False", reason) && says(object, "UpToDate", "False", reason)
    })
    .await;
    let before = bed.kubelet.disks.backups(&backups).len();
    bed.eventually("others are taken", async || {
        bed.kubelet.disks.backups(&backups).len() > before + 1
    })
    .await;
    assert_eq!(password().await, has, "the server has no other one");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_fails_is_said_and_the_server_serves_on() {
    let bed = Bed::new().await;
    bed.create("full", spec(&json!({}))).await;
    bed.ready("full").await;
    let words = json!({"reason": "VolumeFull", "error": "no space is left on the backup volume"});
    bed.kubelet.break_("backup", 64, words);
    ask(&bed, "full", "1").await;
    let object = bed
        .until("full", "it says so", |object| {
            says(object, "BackupTaken", "False", "BackupFailed")
        })
        .await
        .unwrap();
    assert!(says(Some(&object), "Ready", "True", "Serving"));
    assert!(message(&object, "BackupTaken").contains("VolumeFull: no space is left"));
    bed.kubelet.repair("backup");
    ask(&bed, "full", "2").await;
    bed.until("full", "the next one is there", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_somebody_elses_that_has_the_name_is_left_alone() {
    let bed = Bed::new().await;
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "i"}]});
    let theirs: Job = bed
        .make(json!({"metadata": {"name": "backup-taken-job"}, "spec": {"suspend": true, "template": {"spec": pod}}}))
        .await;
    bed.create("taken", spec(&json!({}))).await;
    bed.ready("taken").await;
    ask(&bed, "taken", "1").await;
    bed.until("taken", "it says so", |object| {
        says(object, "BackupTaken", "False", "NameConflict")
    })
    .await;
    let found = bed.api::<Job>().get("backup-taken-job").await.unwrap();
    assert_eq!((found.uid(), found.spec), (theirs.uid(), theirs.spec));
    assert!(found.metadata.deletion_timestamp.is_none());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volume_with_the_backups_is_there_from_the_beginning_and_belongs_to_nobody() {
    let bed = Bed::new().await;
    bed.create("begin", spec(&json!({}))).await;
    bed.ready("begin").await;
    let claim = bed
        .api::<PersistentVolumeClaim>()
        .get("backup-begin-pvc")
        .await
        .unwrap();
    assert!(claim.owner_references().is_empty());
    assert!(
        serde_json::to_string(&claim.spec)
            .unwrap()
            .contains(r#""storage":"1Gi""#)
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_was_wrong_is_no_trouble_once_it_is_right() {
    let bed = Bed::new().await;
    let schedule = |text: &str| json!({"backup": {"schedule": text}});
    bed.create("wrong", spec(&schedule("61 * * * *"))).await;
    bed.ready("wrong").await;
    for (text, reason) in [("0 0 1 1 *", "NoBackupYet"), ("* * * * 9", "ScheduleInvalid")] {
        let object = bed.databases.get("wrong").await.unwrap();
        let before = object.status.unwrap().last_backup;
        assert_eq!(before, None);
        bed.patch("wrong", json!({"spec": schedule(text)})).await;
        bed.until("wrong", "it says so", |object| {
            says(object, "BackupTaken", "False", reason) && says(object, "Ready", "True", "Serving")
        })
        .await;
    }
    ask(&bed, "wrong", "1").await;
    bed.until("wrong", "it is said, though there is one", |object| {
        let status = object.and_then(|object| object.status.as_ref());
        says(object, "BackupTaken", "False", "ScheduleInvalid")
            && status.is_some_and(|status| status.last_backup.is_some())
    })
    .await;
    bed.patch("wrong", json!({"spec": {"backup": {"schedule": null}}}))
        .await;
    bed.until("wrong", "the last one is there", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    bed.stop().await;
}

/// What the Job for backups was told.
async fn told(bed: &Bed, name: &str, variable: &str) -> String {
    let job = bed.api::<Job>().get(&format!("backup-{name}-job")).await.unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    let told = pod.containers[0].env.clone().unwrap();
    let told = told.into_iter().find(|one| one.name == variable).unwrap();
    told.value.unwrap()
}

/// Who goes back to an older backup needs it to be there still, and the ones that were there before a new beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_is_gone_back_to_by_deletion_although_that_takes_one_more() {
    let bed = Bed::new().await;
    let first = json!({"backup": {"keep": 1}, "restore": {"policy": "Never"}});
    bed.create("back", spec(&first)).await;
    bed.ready("back").await;
    let backups = bed.claim("backup-back-pvc").await;
    bed.kubelet.disks.write(&bed.data("back").await, "wanted");
    ask(&bed, "back", "1").await;
    let taken = bed
        .until("back", "it was taken", |object| {
            says(object, "BackupTaken", "True", "BackupDone")
        })
        .await;
    let id = taken.unwrap().status.unwrap().last_backup.unwrap().id;
    assert_eq!(told(&bed, "back", "FRESH").await, "yes");
    let data = bed.data("back").await;
    assert_eq!(told(&bed, "back", "DATA_UID").await, data);
    bed.kubelet.disks.write(&bed.data("back").await, "unwanted");
    bed.delete("back").await;
    bed.gone("back").await;
    assert_eq!(told(&bed, "back", "FRESH").await, "yes");
    assert_eq!(bed.kubelet.disks.backups(&backups).len(), 2);

    let again = json!({"backup": {"keep": 1}, "restore": {"from": id}});
    bed.create("back", spec(&again)).await;
    bed.ready("back").await;
    let data = bed.data("back").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["wanted"]);
    ask(&bed, "back", "2").await;
    bed.until("back", "it was taken", |object| {
        let status = object.and_then(|object| object.status.as_ref());
        says(object, "BackupTaken", "True", "BackupDone")
            && status.is_some_and(|status| status.last_request.as_deref() == Some("2"))
    })
    .await;
    assert_eq!(told(&bed, "back", "FRESH").await, "no");
    assert_eq!(told(&bed, "back", "FROM").await, id);
    let left = bed.kubelet.disks.backups(&backups);
    assert_eq!((left.len(), &left[0]), (2, &id));
    bed.stop().await;
}
