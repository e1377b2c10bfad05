//! When to look at a Job's Pods, and what they have left.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use super::{CONTAINERS, Phase, Seen};
use crate::database::program::Outcome;

/// How soon and how late a Job that runs is looked at again.
const PACE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// When a Job that runs is looked at again: the longer it has taken, the longer it may yet.
pub fn pace(job: Option<&Seen>, now: Timestamp) -> Duration {
    let runs = job.filter(|job| job.phase == Phase::Running && job.going.is_none());
    slower(runs.and_then(|job| job.made), now)
}

/// When something that has lasted since then is looked at again: the longer it has, the longer it may yet.
pub fn slower(since: Option<Timestamp>, now: Timestamp) -> Duration {
    let age = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    (age.unwrap_or_default() / 10).clamp(PACE[0], PACE[1])
}

/// The last words of a Job's Pods: of the one that did what it should, else of the one that ended last.
pub fn last_words(pods: &[Pod]) -> Option<Outcome> {
    let mut ended: Vec<_> = pods
        .iter()
        .filter_map(|pod| {
            // A mesh or another webhook may have put containers of its own beside it.
            let mut all = pod.status.as_ref()?.container_statuses.iter().flatten();
            let container = all.find(|container| CONTAINERS.contains(&container.name.as_str()))?;
            container.state.as_ref()?.terminated.as_ref()
        })
        .collect();
    ended.sort_by_key(|ended| {
        let at = ended.finished_at.as_ref().map(|Time(at)| *at);
        (ended.exit_code == 0, at)
    });
    let message = ended.last()?.message.as_deref().unwrap_or_default();
    Some(Outcome::parse(message))
}
