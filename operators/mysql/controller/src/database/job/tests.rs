use k8s_openapi::api::core::v1::Pod;
use mysql_api::MySQLSpec;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::database::{
    desired::Owner,
    program::{Origin, Outcome},
};

impl Seen {
    /// A Job of the object's own that is at work, and of which nothing else is known.
    pub(crate) fn at_work(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            whose: Whose::Ours,
            phase: Phase::Running,
            reached: Reached::Nothing,
            request: None,
            id: None,
            claim: None,
            inputs: None,
            server: None,
            made: None,
            going: None,
        }
    }
}

fn desired() -> Desired {
    let spec: MySQLSpec = serde_json::from_value(json!({
        "image": "mysql:9.7", "database": "shop", "storage_size": "1Gi", "backup": {"keep": 7},
    }))
    .unwrap();
    let owner = Owner {
        namespace: "ns",
        name: "m",
        uid: "u",
    };
    Desired::resolve(owner, &spec).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn begun() -> Timestamp {
    at("2026-11-21T03:00:00Z")
}

fn requests() -> [Request; 3] {
    let time = at("2026-11-21T02:00:00Z");
    [
        Request::Now("before/upgrade".into()),
        Request::Scheduled(time),
        Request::Final(time),
    ]
}

#[test]
fn a_job_says_what_it_was_begun_for() {
    let names = Names::new("m").unwrap();
    for request in requests() {
        let seen = seen(&backup(&desired(), &request, begun(), Some("pod/1")), &names, "u");
        assert_eq!(seen.request.as_ref(), Some(&request));
        assert_eq!(seen.id, Some(request.id("u", begun())));
        assert_eq!((seen.whose, seen.phase), (Whose::Ours, Phase::Running));
    }
}

#[test]
fn one_request_has_one_id_and_no_two_have_the_same() {
    let mut ids = std::collections::BTreeSet::new();
    for uid in ["u", "v"] {
        for request in requests().into_iter().chain([Request::Now("again".into())]) {
            let id = request.id(uid, begun());
            assert_eq!(id, request.id(uid, begun()));
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{id}");
            assert!(ids.insert(id));
        }
    }
}

/// What falls due is begun again under its id; what a person asks for again is another backup.
#[test]
fn only_what_a_person_asks_for_is_another_backup_when_it_is_begun_later() {
    let later = at("2026-11-21T04:00:00Z");
    for request in requests() {
        let same = request.id("u", begun()) == request.id("u", later);
        assert_eq!(same, !matches!(request, Request::Now(_)), "{request:?}");
    }
}

#[test]
fn a_restore_may_take_days_and_is_looked_at_the_less_often_the_longer_it_takes() {
    let job = restore(&desired(), "claim");
    let days = job.spec.as_ref().unwrap().active_deadline_seconds.unwrap() / (24 * 60 * 60);
    assert!(days >= 7, "{days}");
    let mut seen = seen(&job, &Names::new("m").unwrap(), "u");
    seen.made = Some(begun());
    let looks = [
        "2026-11-21T03:00:05Z",
        "2026-11-21T03:01:00Z",
        "2026-11-21T09:00:00Z",
    ]
    .map(at);
    let paces = looks.map(|now| pace(Some(&seen), now).as_secs());
    assert_eq!(paces, [2, 6, 30]);
    seen.phase = Phase::Succeeded;
    assert_eq!(pace(Some(&seen), looks[2]).as_secs(), 2, "it has ended");
}

#[test]
fn no_mesh_puts_a_program_that_never_ends_beside_the_one_of_a_job() {
    for job in [
        restore(&desired(), "claim"),
        backup(&desired(), &Request::Now("1".into()), begun(), None),
    ] {
        let labels = job.spec.unwrap().template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels["sidecar.istio.io/inject"], "false");
    }
}

/// A backup runs beside the server, for which alone there may be room; a restore in its place.
#[test]
fn a_backup_asks_for_little_and_a_restore_for_what_the_server_is_to_have() {
    let mut desired = desired();
    let given = json!({"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}});
    desired.resources = Amounts::of(Some(&serde_json::from_value(given.clone()).unwrap())).unwrap();
    let of = |job: Job| {
        let container = job.spec.unwrap().template.spec.unwrap().containers.remove(0);
        serde_json::to_value(container.resources).unwrap()
    };
    for request in requests() {
        let little = json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}});
        assert_eq!(of(backup(&desired, &request, begun(), None)), little);
    }
    assert_eq!(of(restore(&desired, "claim")), given);
}

#[test]
fn every_job_ends_and_two_pods_never_share_a_volume() {
    for job in [
        restore(&desired(), "claim"),
        backup(&desired(), &Request::Now("1".into()), begun(), Some("pod/1")),
    ] {
        let spec = job.spec.unwrap();
        assert!(spec.active_deadline_seconds.is_some() && spec.backoff_limit.is_some());
        assert_eq!(spec.pod_replacement_policy.as_deref(), Some("Failed"));
        assert_eq!(
            spec.template.spec.unwrap().restart_policy.as_deref(),
            Some("Never")
        );
    }
}

#[test]
fn a_backup_does_not_see_the_data_and_a_restore_cannot_write_to_backups() {
    let mounts = |job: Job| {
        job.spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .containers
            .remove(0)
            .volume_mounts
            .unwrap()
    };
    let of_backup = mounts(backup(
        &desired(),
        &Request::Now("1".into()),
        begun(),
        Some("pod/1"),
    ));
    assert!(
        of_backup
            .iter()
            .all(|mount| mount.mount_path != program::DATA_FOLDER)
    );
    let of_restore = mounts(restore(&desired(), "claim"));
    let backups = of_restore
        .iter()
        .find(|mount| mount.mount_path == program::BACKUP_FOLDER)
        .unwrap();
    assert_eq!(backups.read_only, Some(true));
}

#[test]
fn the_last_backup_closes_the_server_and_no_other_does() {
    for request in requests() {
        let job = backup(&desired(), &request, begun(), Some("pod/1"));
        let environment = job
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .containers
            .remove(0)
            .env
            .unwrap();
        let is_final = environment
            .iter()
            .find(|variable| variable.name == "FINAL")
            .unwrap();
        let expected = if matches!(request, Request::Final(_)) {
            "yes"
        } else {
            "no"
        };
        assert_eq!(is_final.value.as_deref(), Some(expected));
    }
}

fn ended(conditions: &Value) -> Job {
    let mut job = backup(&desired(), &Request::Now("1".into()), begun(), Some("pod/1"));
    job.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
    job
}

#[test]
fn a_job_has_ended_when_it_says_so_and_not_before() {
    let condition = |type_: &str, status: &str| {
        json!([{"type": type_, "status": status, "reason": "BackoffLimitExceeded", "message": "too often",
                "lastTransitionTime": "2026-11-21T02:00:00Z"}])
    };
    assert_eq!(phase(&ended(&condition("Complete", "True"))), Phase::Succeeded);
    let failed = Phase::Failed {
        at: Some(at("2026-11-21T02:00:00Z")),
        why: "BackoffLimitExceeded: too often".into(),
    };
    assert_eq!(phase(&ended(&condition("Failed", "True"))), failed);
    for (type_, status) in [
        ("FailureTarget", "True"),
        ("Failed", "False"),
        ("Suspended", "True"),
    ] {
        assert_eq!(
            phase(&ended(&condition(type_, status))),
            Phase::Running,
            "{type_}"
        );
    }
}

#[rstest]
#[case::ours(json!({}), Whose::Ours)]
#[case::of_an_earlier_one(json!({"annotations": {MADE_FOR: "older"}}), Whose::Left)]
#[case::originals(json!({"labels": null, "annotations": null}), Whose::Former)]
#[case::of_a_cron_job(json!({"ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c",
    "controller": true}]}), Whose::Foreign)]
fn a_job_is_ours_only_if_it_was_made_for_this_object(#[case] changes: Value, #[case] expected: Whose) {
    let mut job = serde_json::to_value(backup(
        &desired(),
        &Request::Now("1".into()),
        begun(),
        Some("pod/1"),
    ))
    .unwrap();
    for (key, value) in changes.as_object().unwrap() {
        job["metadata"][key] = value.clone();
    }
    let job: Job = serde_json::from_value(job).unwrap();
    assert_eq!(whose(&job, &Names::new("m").unwrap(), "u"), expected);
}

#[test]
fn a_job_of_somebody_elses_that_happens_to_have_the_name_is_foreign() {
    let job: Job = serde_json::from_value(json!({"metadata": {"name": "backup-m-job"}})).unwrap();
    assert_eq!(whose(&job, &Names::new("m").unwrap(), "u"), Whose::Foreign);
}

#[test]
fn the_words_of_the_pod_that_succeeded_count_else_those_of_the_last() {
    let pod = |code: i32, at: &str, message: &str| -> Pod {
        let ended = json!({"exitCode": code, "finishedAt": at, "message": message});
        let beside = json!({"name": "beside", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                            "state": {"terminated": {"exitCode": 0, "message": "none of ours"}}});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [beside,
            {"name": "backup", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended}},
        ]}}))
        .unwrap()
    };
    let early = pod(
        75,
        "2026-11-21T02:00:00Z",
        r#"{"reason":"ServerUnreachable","error":"early"}"#,
    );
    let late = pod(
        75,
        "2026-11-21T02:01:00Z",
        r#"{"reason":"VolumeFull","error":"late"}"#,
    );
    let done = pod(0, "2026-11-21T01:00:00Z", r#"{"origin":"empty"}"#);
    assert_eq!(last_words(&[]), None);
    assert!(
        matches!(last_words(&[late.clone(), early.clone()]), Some(Outcome::Failed(failure)) if failure.error == "late")
    );
    assert_eq!(
        last_words(&[late, done, early]),
        Some(Outcome::Filled(Origin::Empty))
    );
}

#[rstest]
#[case::none_yet(json!({}), Reached::Nothing)]
#[case::one_that_waits(json!({"active": 1, "ready": 0}), Reached::Made)]
#[case::one_that_is_at_it(json!({"active": 1, "ready": 1}), Reached::Begun)]
#[case::one_that_is_being_deleted(json!({"active": 0, "terminating": 1}), Reached::Made)]
#[case::one_that_is_gone(json!({"active": 0, "failed": 1}), Reached::Begun)]
#[case::one_that_is_not_counted_yet(json!({"uncountedTerminatedPods": {"failed": ["p"]}}), Reached::Begun)]
#[case::none_that_is_to_be_counted(json!({"uncountedTerminatedPods": {}}), Reached::Nothing)]
fn how_far_a_pod_has_come_outlives_the_pod(#[case] status: Value, #[case] expected: Reached) {
    let mut job = restore(&desired(), "claim");
    job.status = serde_json::from_value(status).unwrap();
    assert_eq!(seen(&job, &Names::new("m").unwrap(), "u").reached, expected);
}
