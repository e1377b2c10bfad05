//! What Pods show: which server runs, and what keeps one from beginning.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt as _;

use super::{
    job::Seen,
    server::{CONTAINER, trouble, unplaced},
};

/// A Job that is younger is not worth a word.
const YOUNG: Duration = Duration::from_secs(10);
/// How long a trouble that has a name may last before a person is told.
const NAMED: Duration = Duration::from_mins(1);
/// How long a Pod may take to begin that shows no trouble: images and volumes take their time.
const UNNAMED: Duration = Duration::from_mins(5);
/// How long a Job may have no Pod between two tries: its own longest pause is six minutes.
const BETWEEN: Duration = Duration::from_mins(10);
/// How long the API server may refuse the Job itself: quotas, webhooks and roles are often wrong for a while.
pub const REFUSED: Duration = UNNAMED;
/// How long a server may run without answering before a person is told; after a crash a large one takes longer.
pub const MUTE: Duration = Duration::from_mins(10);
/// What to do about a Pod on a node that is lost: as long as it may run it may write.
const FORCE: &str = "once that node is off for good, `kubectl delete pod --force` lets go of the Pod";
/// How long a Job that is being deleted may take to end its Pod.
pub const ENDING: Duration = Duration::from_mins(2);

/// Whether a Pod has the volume of this claim.
pub fn mounts(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| {
        let source = volume.persistent_volume_claim.as_ref();
        source.is_some_and(|source| source.claim_name == claim)
    })
}

/// Whether what is in a Pod answers.
pub fn answers(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref());
    let mut all = conditions.flatten();
    all.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether what is in a Pod has begun, or may have.
pub fn has_begun(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    if status.phase.as_deref().is_some_and(|phase| phase != "Pending") {
        return true;
    }
    let mut containers = status.container_statuses.iter().flatten();
    containers.any(|container| {
        let states = [&container.state, &container.last_state];
        let mut states = states.into_iter().flatten();
        container.restart_count > 0
            || states.any(|state| state.running.is_some() || state.terminated.is_some())
    })
}

/// Which server runs in one of these Pods: a mark that is another one as soon as it has started again. Nothing if none
/// runs.
pub fn running(pods: &[Pod]) -> Option<String> {
    pods.iter().find_map(|pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let server = containers.iter().find(|container| container.name == CONTAINER)?;
        server.state.as_ref()?.running.as_ref()?;
        let container = server.container_id.as_deref().unwrap_or_default();
        Some(format!(
            "{}/{container}/{}",
            pod.uid().unwrap_or_default(),
            server.restart_count
        ))
    })
}

/// Why a server whose program runs does not answer, as far as that can be told: one that has answered before, or has had
/// long enough for it.
pub fn mute(pod: &Pod, now: Timestamp) -> Option<String> {
    let status = pod.status.as_ref()?;
    let mut containers = status.container_statuses.iter().flatten();
    let server = containers.find(|container| container.name == CONTAINER && !container.ready)?;
    let since = server.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0;
    let name = pod.name_any();
    let mut conditions = status.conditions.iter().flatten();
    // A Pod is not ready from its beginning; that it ceased to be comes after the beginning of its program.
    let ceased = conditions.any(|condition| {
        let at = condition.last_transition_time.as_ref().map(|time| time.0);
        condition.type_ == "Ready" && condition.status == "False" && at > Some(since)
    });
    if ceased {
        return Some(format!(
            "Pod {name} has answered and does no more: `kubectl logs {name}` may say why"
        ));
    }
    let running = Duration::try_from(now.duration_since(since)).ok()?;
    (running >= MUTE).then(|| {
        format!(
            "Pod {name} runs and does not let root in: it may still recover after a crash, or may have refused to set the \
             password of the Secret, as with an option about passwords in spec.config; `kubectl logs {name}` says which"
        )
    })
}

/// Something that does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Why, and where to look.
    pub why: String,
    /// How long that may last before a person is told.
    pub patience: Duration,
    /// Since when it can have been so at the most, if that can be seen.
    pub since: Option<Timestamp>,
    /// Whether it may be for want of room, which less would find.
    pub room: bool,
}

/// What keeps a Job that has not ended from doing its work, if something does. One whose Pod failed tries again by
/// itself.
pub fn stuck(job: &Seen, name: &str, pods: &[Pod], now: Timestamp) -> Option<Stuck> {
    let stuck = |why: String, patience: Duration, since: Timestamp| Stuck {
        why,
        patience,
        since: Some(since),
        room: false,
    };
    if let Some(going) = job.going {
        let why = format!(
            "Job {name} is being deleted and does not end: its Pod may be on a node that is lost; {FORCE}"
        );
        return Some(stuck(why, ENDING, going));
    }
    let made = job.made?;
    let age = Duration::try_from(now.duration_since(made)).ok()?;
    if age < YOUNG {
        return None;
    }
    if let Some(since) = without_pod(pods, made, now) {
        let why = format!(
            "Job {name} has no Pod: `kubectl describe job {name}` says what refuses it, such as a quota or a webhook"
        );
        return Some(Stuck {
            room: true,
            ..stuck(why, NAMED, since)
        });
    }
    if let Some(pod) = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_some()) {
        let why = format!(
            "Pod {} is being deleted and does not end: it may be on a node that is lost; {FORCE}",
            pod.name_any()
        );
        return Some(stuck(why, ENDING, made));
    }
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    if pods.iter().any(|pod| phase(pod).as_deref() == Some("Running")) {
        return None;
    }
    let pending = pods.iter().find(|pod| phase(pod).as_deref() == Some("Pending"))?;
    Some(match trouble(pending) {
        Some(why) => Stuck {
            room: unplaced(pending).is_some(),
            ..stuck(why, NAMED, made)
        },
        None => stuck(
            format!(
                "Pod {} has not begun: `kubectl describe pod {}` says what it waits for",
                pending.name_any(),
                pending.name_any()
            ),
            UNNAMED,
            made,
        ),
    })
}

/// Since when a Job has no Pod that can do anything, if that is longer than its pause between two tries.
fn without_pod(pods: &[Pod], made: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let failed = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
    if pods.is_empty() {
        return Some(made);
    }
    if !pods.iter().all(failed) {
        return None;
    }
    let last = pods.iter().filter_map(ended).max()?;
    let pause = Duration::try_from(now.duration_since(last)).ok()?;
    (pause >= BETWEEN).then_some(last)
}

/// When a Pod that has failed did so: one that was evicted says it in its conditions alone.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let ended = containers.filter_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref()
    });
    let conditions = status.conditions.iter().flatten();
    let turned = conditions.filter_map(|condition| condition.last_transition_time.as_ref());
    ended.chain(turned).map(|Time(at)| *at).max()
}

/// Why a Deployment has no Pod, as its controller says it.
pub fn replica_failure(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    let why = failure.message.as_deref().or(failure.reason.as_deref())?;
    Some(format!("Deployment {} has no Pod: {why}", deployment.name_any()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap()
    }

    fn server(name: &str, id: &str, restarts: i32, state: &Value) -> Pod {
        pod(
            &json!({"containerStatuses": [{"name": name, "image": "i", "imageID": "i", "ready": true,
                                           "containerID": id, "restartCount": restarts, "state": state}]}),
        )
    }

    #[test]
    fn a_server_that_has_started_again_is_another() {
        let runs = json!({"running": {}});
        let first = running(&[server("mysql", "c://1", 0, &runs)]).unwrap();
        assert_eq!(
            running(&[server("mysql", "c://1", 0, &runs)]),
            Some(first.clone())
        );
        for (id, restarts) in [("c://2", 0), ("c://1", 1)] {
            assert_ne!(
                running(&[server("mysql", id, restarts, &runs)]),
                Some(first.clone())
            );
        }
        let ended = json!({"terminated": {"exitCode": 0}});
        assert_eq!(running(&[server("mysql", "c://1", 0, &ended)]), None);
        assert_eq!(running(&[server("other", "c://1", 0, &runs)]), None);
        assert_eq!(running(&[]), None);
    }

    #[test]
    fn only_a_pod_with_the_volume_counts() {
        let with = |claim: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [],
                "volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": claim}}]}}))
            .unwrap()
        };
        assert!(mounts(&with("m-pvc"), "m-pvc"));
        assert!(!mounts(&with("other-pvc"), "m-pvc"));
        assert!(!mounts(&Pod::default(), "m-pvc"));
    }

    #[rstest]
    #[case::is_new(json!({}), false)]
    #[case::waits(json!({"phase": "Pending", "containerStatuses": [{"name": "load", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}), false)]
    #[case::runs(json!({"phase": "Running"}), true)]
    #[case::failed(json!({"phase": "Failed"}), true)]
    #[case::begins_again(json!({"phase": "Pending", "containerStatuses": [{"name": "load", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1}}}]}), true)]
    fn a_pod_has_begun_once_its_program_was_started(#[case] status: Value, #[case] begun: bool) {
        assert_eq!(has_begun(&pod(&status)), begun);
    }

    fn job(made: &str) -> Seen {
        Seen {
            made: Some(made.parse().unwrap()),
            ..Seen::at_work("j")
        }
    }

    #[rstest]
    #[case::no_pod(&[], Some(("kubectl describe job", NAMED)))]
    #[case::no_node(&[json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]})], Some(("0/1 nodes", NAMED)))]
    #[case::no_image(&[json!({"phase": "Pending", "containerStatuses": [{"name": "backup", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}]})], Some(("ErrImagePull", NAMED)))]
    #[case::slow(&[json!({"phase": "Pending"})], Some(("kubectl describe pod", UNNAMED)))]
    #[case::runs(&[json!({"phase": "Failed"}), json!({"phase": "Running"})], None)]
    #[case::between_two_tries(&[json!({"phase": "Failed"})], None)]
    fn what_keeps_a_job_from_beginning(#[case] pods: &[Value], #[case] expected: Option<(&str, Duration)>) {
        let pods: Vec<_> = pods.iter().map(pod).collect();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let found = stuck(&job("2026-11-21T11:59:00Z"), "backup-m-job", &pods, now);
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some((words, patience))) => {
                assert!(found.why.contains(words), "{found:?}");
                assert_eq!(found.patience, patience);
            }
            other => panic!("{other:?}"),
        }
        let young = stuck(&job("2026-11-21T11:59:55Z"), "backup-m-job", &pods, now);
        assert_eq!(young, None);
    }

    /// A quota may refuse the second Pod.
    #[rstest]
    #[case::for_long(json!({"phase": "Failed"}), "11:50", Some("11:50"))]
    #[case::in_its_pause(json!({"phase": "Failed"}), "11:51", None)]
    #[case::another_is_there(json!({"phase": "Running"}), "11:40", None)]
    fn a_job_whose_next_pod_does_not_come_has_none(
        #[case] other: Value,
        #[case] ended: &str,
        #[case] since: Option<&str>,
    ) {
        let at = |time: &str| format!("2026-11-21T{time}:00Z");
        let failed = |ended: &str| {
            let state = json!({"terminated": {"exitCode": 1, "finishedAt": at(ended)}});
            pod(
                &json!({"phase": "Failed", "containerStatuses": [{"name": "backup", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": state}]}),
            )
        };
        let pods = [failed("11:30"), failed(ended), pod(&other)];
        let found = stuck(
            &job(&at("11:00")),
            "backup-m-job",
            &pods,
            at("12:00").parse().unwrap(),
        );
        let found = found.inspect(|found| assert!(found.why.contains("has no Pod"), "{found:?}"));
        let expected = since.map(|since| at(since).parse().unwrap());
        assert_eq!(found.and_then(|found| found.since), expected);
    }

    #[test]
    fn a_pod_that_does_not_end_keeps_its_job() {
        let mut lost = pod(&json!({"phase": "Running"}));
        lost.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-21T11:58:00Z")).unwrap();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let found = stuck(&job("2026-11-21T11:50:00Z"), "backup-m-job", &[lost], now).unwrap();
        assert!(
            found.why.contains("node that is lost") && found.patience == ENDING,
            "{found:?}"
        );
    }

    #[rstest]
    #[case::starts("False", "2026-11-21T11:50:00Z", "2026-11-21T11:51:00Z", None)]
    #[case::starts_again("False", "2026-11-21T11:51:59Z", "2026-11-21T11:52:00Z", None)]
    #[case::for_long("False", "2026-11-21T11:49:00Z", "2026-11-21T11:50:00Z", Some("let root in"))]
    #[case::no_more("False", "2026-11-21T11:59:00Z", "2026-11-21T11:50:00Z", Some("has answered"))]
    #[case::answers("True", "2026-11-21T11:40:00Z", "2026-11-21T11:39:00Z", None)]
    fn a_server_that_runs_and_does_not_answer(
        #[case] ready: &str,
        #[case] turned: &str,
        #[case] started: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut pod = server("mysql", "c://1", 0, &json!({"running": {"startedAt": started}}));
        let status = pod.status.as_mut().unwrap();
        status.container_statuses.as_mut().unwrap()[0].ready = ready == "True";
        let conditions = json!([{"type": "Ready", "status": ready, "lastTransitionTime": turned}]);
        status.conditions = serde_json::from_value(conditions).unwrap();
        let found = mute(&pod, "2026-11-21T12:00:00Z".parse().unwrap());
        match expected {
            Some(words) => assert!(
                found.as_deref().is_some_and(|found| found.contains(words)),
                "{found:?}"
            ),
            None => assert_eq!(found, None),
        }
    }

    #[test]
    fn a_deployment_that_gets_no_pod_says_why() {
        let with = |status: &str| -> Deployment {
            let condition = json!({"type": "ReplicaFailure", "status": status, "reason": "FailedCreate",
                                   "message": "exceeded quota"});
            serde_json::from_value(json!({"metadata": {"name": "m"}, "status": {"conditions": [condition]}}))
                .unwrap()
        };
        assert!(replica_failure(&with("True")).unwrap().contains("exceeded quota"));
        assert_eq!(replica_failure(&with("False")), None);
        assert_eq!(replica_failure(&Deployment::default()), None);
    }
}
