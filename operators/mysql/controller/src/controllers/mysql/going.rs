//! Claims that somebody has deleted: Kubernetes keeps one as long as there is a Pod that was given a node and has it, also
//! a Pod that has ended. The Jobs that fill folders and take backups stay with their Pods when they have ended.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use kube::ResourceExt as _;
use mysql_api::database::{BackupRecord, Reason};

use super::hand::{Hand, Stop};
use crate::database::{
    desired::Desired,
    job::{self, Phase, Seen, Whose},
    names::OF,
    pods,
    report::{Facts, Said},
    volumes::{Content, NEWEST, Role, goes_with},
};

/// Since when a claim is being deleted, if it is.
pub(super) fn since(claim: &PersistentVolumeClaim) -> Option<Timestamp> {
    claim.metadata.deletion_timestamp.as_ref().map(|Time(at)| *at)
}

/// When a claim that is going is looked at again.
pub(super) fn pace(hand: &Hand<'_>, claim: &PersistentVolumeClaim) -> Duration {
    job::slower(since(claim), hand.pass.clock().now())
}

/// Whether a data volume goes that no server has, nor will ever have: no Pod is given a claim that is being deleted.
pub(super) fn is_unserved(data: &PersistentVolumeClaim, servers: &[Pod]) -> bool {
    let may_serve = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        !matches!(phase, Some("Succeeded" | "Failed")) && (placed || pods::has_begun(pod))
    };
    since(data).is_some() && !servers.iter().any(may_serve)
}

/// Lets go of a claim that is going: removes the Jobs that have it and are of no more use. Says which Pods have it still, to be
/// added to a message.
pub(super) async fn release(hand: &Hand<'_>, desired: &Desired, role: Role) -> Result<String, Stop> {
    let names = &desired.names;
    let jobs = match role {
        Role::Data => vec![names.restore_job()],
        // The Pod that fills the data folder reads them.
        Role::Backups => vec![names.restore_job(), names.backup_job()],
    };
    for name in jobs {
        let Some(job) = hand.get::<Job>(&name).await? else {
            continue;
        };
        let seen = job::seen(&job, names, &desired.uid);
        if seen.going.is_none() && is_of_no_use(hand, desired, &name, &seen).await? {
            hand.remove(&job).await?;
        }
    }
    let claim = role.claim(names);
    let pods = hand.list::<Pod>(&format!("{OF}={}", names.name())).await?;
    let holds = |pod: &&Pod| {
        let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        placed && pods::mounts(pod, &claim)
    };
    let holders: Vec<_> = pods
        .iter()
        .filter(holds)
        .map(kube::ResourceExt::name_any)
        .collect();
    Ok(match holders.as_slice() {
        [] => String::new(),
        some => format!("; held by Pod {}", some.join(", ")),
    })
}

/// Lets go of the volume that backups go to, which somebody has deleted, and says so.
pub(super) async fn let_go(hand: &Hand<'_>, desired: &Desired) -> Result<Said, Stop> {
    let held_by = release(hand, desired, Role::Backups).await?;
    let message = format!(
        "somebody has deleted {}: it goes, and its backups with it{held_by}; none is taken until another has its place",
        desired.names.backup_claim()
    );
    Ok(Said::no(Reason::LeftoversGoing, message))
}

/// Tells of backups that are gone with their volume, in whose place this claim is.
pub(super) async fn miss(hand: &Hand<'_>, backups: &PersistentVolumeClaim, facts: &mut Facts) {
    let object = hand.pass.current();
    let last = object
        .status
        .as_ref()
        .and_then(|status| status.last_backup.as_ref());
    let Some(last) = last.filter(|last| is_another(backups, last)) else {
        return;
    };
    let message = format!(
        "{} was deleted, and backup {} went with it and all before it; the volume in its place has none: take one with \
         otus.homework/backup-now",
        backups.name_any(),
        last.id
    );
    hand.warn("BackupsLost", "Backup", message.clone()).await;
    facts.backup = Some(Said::no(Reason::BackupsLost, message));
    facts.backups_lost = true;
}

/// Whether this claim is not that of the volume that this backup went to: it is younger, and no backup is known to be there.
fn is_another(backups: &PersistentVolumeClaim, last: &BackupRecord) -> bool {
    let made = backups.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
    let younger = made.is_some_and(|made| made.as_second() >= last.time.0.as_second());
    younger && !backups.annotations().contains_key(NEWEST)
}

/// Whether nobody needs a Job any more: what it did is written down.
async fn is_of_no_use(hand: &Hand<'_>, desired: &Desired, name: &str, seen: &Seen) -> Result<bool, Stop> {
    let has_ended = seen.phase != Phase::Running;
    match seen.whose {
        Whose::Foreign => Ok(false),
        Whose::Left => Ok(true),
        Whose::Former => Ok(has_ended),
        Whose::Ours if *name == desired.names.backup_job() => {
            let object = hand.pass.current();
            let status = object.status.as_ref();
            let recorded = status.and_then(|status| status.recorded_job.as_ref());
            Ok(has_ended && recorded == Some(&seen.uid))
        }
        Whose::Ours => {
            let data = hand
                .get::<PersistentVolumeClaim>(&desired.names.data_claim())
                .await?;
            let data = data.filter(|data| goes_with(data, &desired.names, &desired.uid));
            Ok(has_ended && data.is_some_and(|data| !Content::of(&data).is_open()))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::waits_for_a_node(json!({"status": {"phase": "Pending"}}), true)]
    #[case::was_evicted(json!({"spec": {"containers": [], "nodeName": "n"}, "status": {"phase": "Failed"}}), true)]
    #[case::will_begin(json!({"spec": {"containers": [], "nodeName": "n"}, "status": {"phase": "Pending"}}), false)]
    #[case::runs(json!({"status": {"phase": "Running"}}), false)]
    fn a_volume_that_goes_is_unserved_once_no_pod_can_have_it(
        #[case] pod: serde_json::Value,
        #[case] unserved: bool,
    ) {
        let servers = [serde_json::from_value(pod).unwrap()];
        let mut data = PersistentVolumeClaim::default();
        assert!(
            !is_unserved(&data, &servers) && !is_unserved(&data, &[]),
            "it stays"
        );
        data.metadata.deletion_timestamp = Some(Time("2026-11-21T11:00:00Z".parse().unwrap()));
        assert_eq!(is_unserved(&data, &servers), unserved);
        assert!(is_unserved(&data, &[]));
    }

    /// A node's clock may be wrong, and what an older operator has noted may be less.
    #[rstest]
    #[case::in_its_place("2026-11-21T12:00:00Z", None, true)]
    #[case::in_the_same_second("2026-11-21T11:00:00Z", None, true)]
    #[case::with_a_backup("2026-11-21T12:00:00Z", Some("b2"), false)]
    #[case::was_there_before("2026-11-21T10:00:00Z", None, false)]
    fn a_younger_volume_without_a_backup_is_another(
        #[case] made: &str,
        #[case] newest: Option<&str>,
        #[case] another: bool,
    ) {
        let last = json!({"id": "b1", "time": "2026-11-21T11:00:00.5Z"});
        let last: BackupRecord = serde_json::from_value(last).unwrap();
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.creation_timestamp = Some(Time(made.parse().unwrap()));
        let newest = newest.map(|newest| (NEWEST.to_owned(), newest.to_owned()));
        claim.metadata.annotations = Some(newest.into_iter().collect());
        assert_eq!(is_another(&claim, &last), another);
    }
}
