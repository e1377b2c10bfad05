//! What the kind's first operator may still be doing when this one takes over.
//!
//! Its restore Job loads a dump through the server that answers: a server that goes before the end leaves half the tables.
//! So it is waited for, while the server serves; and not for ever, for some never end.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    job::{Phase, Seen, Whose},
    pods::Stuck,
};

/// How long its restore Job may load, from its beginning.
pub const LOADING: Duration = Duration::from_hours(24);

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
    let lasts = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
    // A Pod that takes another one's place may yet begin, however old the Job is.
    let made = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
    let last = pods.iter().filter_map(made).max();
    let held = stuck.is_some_and(|stuck| {
        let since = stuck.since.max(last);
        since.is_some_and(|since| lasts(since) >= stuck.patience)
    });
    if held || job.made.is_some_and(|made| lasts(made) >= LOADING) {
        Load::End
    } else {
        Load::Wait
    }
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
    fn a_load_is_waited_for_unless_it_never_ends(
        #[case] made: &str,
        #[case] pod: &str,
        #[case] is_stuck: bool,
        #[case] expected: Load,
    ) {
        let on = |time: &str| at(&format!("2026-11-21T{time}:00Z"));
        let now = on("12:00");
        let mut job = Seen {
            uid: "j".into(),
            whose: Whose::Former,
            phase: Phase::Running,
            request: None,
            id: None,
            claim: None,
            inputs: None,
            server: None,
            made: Some(on(made)),
            going: None,
        };
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": on(pod)}});
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
}
