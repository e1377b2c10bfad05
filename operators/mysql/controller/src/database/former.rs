//! What the kind's first operator may still be doing when this one takes over.
//!
//! Its restore Job loads a dump through the server that answers: a server that goes before the end leaves half the tables.
//! So it is waited for, while the server serves or may yet serve again; and not for ever, for some never end. One that has
//! begun to load goes on, or begins anew, after its Pod or the server was interrupted: a Pod that is missing is no end of it.
//!
//! Nor has its backup Job a deadline: one that hangs would hold up every other backup, and with it a deletion.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    desired::Desired,
    job::{Phase, Reached, Seen, Whose},
    pods::{self, Stuck},
    server::container_in,
};

/// How long its restore Job may load, from its beginning.
pub const LOADING: Duration = Duration::from_hours(24);
/// How long its backup Job may dump, from its beginning: as long as one of ours.
pub const DUMPING: Duration = super::job::DEADLINE;

/// Variable of its server with the database that was made, which is what the server has served since.
const DATABASE: &str = "MYSQL_DATABASE";

/// What is to be done about its restore Job before its server is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing.
    Over,
    /// It has to end.
    Wait,
    /// It does not end: remove it.
    End,
}

/// What is to be done about its restore Job, with these Pods, before its server is replaced.
pub fn load(job: &Seen, pods: &[Pod], stuck: Option<&Stuck>, now: Timestamp) -> Load {
    if job.whose != Whose::Former || job.phase != Phase::Running {
        return Load::Over;
    }
    if job.going.is_some() {
        return Load::Wait;
    }
    if job.made.is_some_and(|made| lasts(made, now) >= LOADING) {
        return Load::End;
    }
    // The Job and its Pods are read one after the other: the Pod that it counts may just have gone.
    let between = pods.is_empty() && job.reached == Reached::Made;
    if between || has_begun(job, pods) {
        return Load::Wait;
    }
    // A Pod that takes another one's place may yet begin, however old the Job is.
    let times = pods.iter().flat_map(|pod| {
        let metadata = &pod.metadata;
        [&metadata.creation_timestamp, &metadata.deletion_timestamp]
    });
    let last = times.flatten().map(|Time(at)| *at).max();
    let held = stuck.is_some_and(|stuck| {
        let since = stuck.since.max(last);
        since.is_some_and(|since| lasts(since, now) >= stuck.patience)
    });
    if held { Load::End } else { Load::Wait }
}

/// Whether its backup Job has had its time.
pub fn hangs(job: &Seen, now: Timestamp) -> bool {
    let is_at_work = job.whose == Whose::Former && job.phase == Phase::Running;
    is_at_work && job.made.is_some_and(|made| lasts(made, now) >= DUMPING)
}

/// Whether its restore Job, with these Pods, may have written something.
pub fn has_begun(job: &Seen, pods: &[Pod]) -> bool {
    job.reached == Reached::Begun || pods.iter().any(pods::has_begun)
}

/// Whether its server, which does not answer, may do so again: it may start anew, or its Pod be on the way to another node.
pub fn may_answer_again(server: &Deployment, now: Timestamp) -> bool {
    let conditions = server.status.iter().flat_map(|status| &status.conditions);
    let available = conditions.flatten().find(|found| found.type_ == "Available");
    if available.is_some_and(|available| available.status == "True") {
        // Its Pod has ceased to answer just now.
        return true;
    }
    let ceased = available.and_then(|available| available.last_transition_time.as_ref());
    let since = ceased.or(server.metadata.creation_timestamp.as_ref());
    since.is_some_and(|Time(since)| lasts(*since, now) < pods::MUTE)
}

/// The database that its server was made with.
pub fn database_of(server: &Deployment) -> Option<&str> {
    let pod = server.spec.as_ref()?.template.spec.as_ref()?;
    let mut variables = container_in(pod)?.env.iter().flatten();
    let theirs = variables
        .find(|variable| variable.name == DATABASE)?
        .value
        .as_deref()?;
    Some(theirs).filter(|theirs| !theirs.is_empty())
}

/// The database that its server was made with, if that is another than is `wanted`: the spec was changed since, at which its
/// operator did not look.
pub fn other_database<'a>(server: &'a Deployment, wanted: &str) -> Option<&'a str> {
    database_of(server).filter(|theirs| *theirs != wanted)
}

/// What is said of a server of its with another database, and of the ways on.
pub fn differs(theirs: &str, desired: &Desired) -> String {
    let (ours, name, uid) = (&desired.database, desired.names.name(), &desired.uid);
    format!(
        "Deployment {name} of an earlier operator was made with the database {theirs:?}, and spec.database is {ours:?}: no \
         backup would have the rows of the former, so it stays as it is. To go on with {theirs:?}: set spec.deletionPolicy \
         to Retain, annotate this object with otus.homework/skip-backup={uid}, delete it, and create it again with that \
         database. To go on with {ours:?} and without the rows of the other: set {DATABASE} of that Deployment to it"
    )
}

fn lasts(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// At noon, of a Job with a patience of five minutes.
    #[rstest]
    #[case::loads("11:00", "11:00", false, Load::Wait)]
    #[case::begins("11:58", "11:58", true, Load::Wait)]
    #[case::never_begins("11:55", "11:55", true, Load::End)]
    #[case::begins_again("11:00", "11:58", true, Load::Wait)]
    #[case::never_begins_again("11:00", "11:54", true, Load::End)]
    #[case::is_deleted_just_now("11:00", "11:00/11:58", true, Load::Wait)]
    #[case::is_deleted_and_does_not_end("11:00", "11:00/11:54", true, Load::End)]
    fn a_load_is_waited_for_unless_it_never_ends(
        #[case] made: &str,
        #[case] pod: &str,
        #[case] is_stuck: bool,
        #[case] expected: Load,
    ) {
        let on = |time: &str| at(&format!("2026-11-21T{time}:00Z"));
        let now = on("12:00");
        let mut job = Seen {
            whose: Whose::Former,
            made: Some(on(made)),
            ..Seen::at_work("j")
        };
        let (pod, deleted) = pod.split_once('/').unwrap_or((pod, pod));
        let deleted = (deleted != pod).then(|| on(deleted));
        let pod =
            json!({"metadata": {"name": "p", "creationTimestamp": on(pod), "deletionTimestamp": deleted}});
        let pods: [Pod; 1] = [serde_json::from_value(pod).unwrap()];
        let stuck = is_stuck.then(|| Stuck {
            why: "x".into(),
            patience: Duration::from_mins(5),
            since: job.made,
            room: false,
        });
        let step = |job: &Seen, now| load(job, &pods, stuck.as_ref(), now);
        assert_eq!(step(&job, now), expected);
        assert_eq!(
            step(&job, at("2026-11-22T11:59:00Z")),
            Load::End,
            "after a day in any case"
        );
        job.going = Some(now);
        assert_eq!(step(&job, now), Load::Wait, "its Pod has to be gone");
        job.going = None;
        for whose in [Whose::Ours, Whose::Left, Whose::Foreign] {
            assert_eq!(step(&Seen { whose, ..job.clone() }, now), Load::Over);
        }
        job.phase = Phase::Succeeded;
        assert_eq!(step(&job, now), Load::Over);
    }

    /// Its Pod is drained, evicted, or on a node that is missing for a minute; an hour ago it was made.
    #[test]
    fn a_load_that_has_begun_is_not_ended_by_what_interrupts_it() {
        let now = at("2026-11-21T12:00:00Z");
        let seen = |reached: Reached| Seen {
            whose: Whose::Former,
            reached,
            made: Some(at("2026-11-21T11:00:00Z")),
            ..Seen::at_work("j")
        };
        let pod = |status: serde_json::Value| -> Pod {
            let pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-11-21T11:00:00Z",
                                          "deletionTimestamp": "2026-11-21T11:50:00Z"}, "status": status});
            serde_json::from_value(pod).unwrap()
        };
        let (waits, runs) = (pod(json!({"phase": "Pending"})), pod(json!({"phase": "Running"})));
        let cases = [
            ("never had a Pod", Reached::Nothing, vec![], Load::End),
            ("has a Pod that is not listed", Reached::Made, vec![], Load::Wait),
            ("is between two Pods", Reached::Begun, vec![], Load::Wait),
            (
                "its Pod never began",
                Reached::Made,
                vec![waits.clone()],
                Load::End,
            ),
            ("its Pod ends", Reached::Made, vec![runs.clone()], Load::Wait),
            (
                "a second Pod waits",
                Reached::Begun,
                vec![waits.clone()],
                Load::Wait,
            ),
            ("two Pods", Reached::Made, vec![waits, runs], Load::Wait),
        ];
        for (what, reached, pods, expected) in cases {
            let job = seen(reached);
            let stuck = pods::stuck(&job, "restore-m-job", &pods, now);
            assert_eq!(load(&job, &pods, stuck.as_ref(), now), expected, "{what}");
        }
    }

    #[rstest]
    #[case::answers_still(Some(("True", "09:00")), true)]
    #[case::starts_again(Some(("False", "11:51")), true)]
    #[case::starts_again_no_more(Some(("False", "11:50")), false)]
    #[case::nothing_is_known(None, false)]
    fn a_server_that_does_not_answer_is_given_ten_minutes(
        #[case] available: Option<(&str, &str)>,
        #[case] expected: bool,
    ) {
        let conditions = available.map(|(status, since)| {
            json!([{"type": "Available", "status": status, "lastTransitionTime": format!("2026-11-21T{since}:00Z")}])
        });
        let server = json!({"metadata": {"name": "m", "creationTimestamp": "2026-11-21T11:00:00Z"},
                            "status": {"conditions": conditions}});
        let server: Deployment = serde_json::from_value(server).unwrap();
        assert_eq!(may_answer_again(&server, at("2026-11-21T12:00:00Z")), expected);
    }
}
