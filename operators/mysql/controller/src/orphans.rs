//! Instances of ours whose cluster does not exist any more: reported, and removed only where that was asked for twice.
//!
//! # Guarantees
//! - The cloud is listed before the API server, so that a cluster that is created in between has no orphans.
//! - An instance counts as an orphan only if it is live, was launched by this operator (our id and a token of ours) more
//!   than an hour ago, and no `MySQLCluster` has its UID. A listing that fails, on either side, shows no orphans.
//! - An orphan is terminated only if the operator runs with [`Policy::Delete`] and the instance carries a tombstone: the
//!   UID of the cluster that was being deleted with its instances. A Kubernetes cluster that was restored from a backup
//!   has new UIDs, so that all its instances look like orphans; none of them has a tombstone.
//!
//! # Assumptions
//! Two operators in one account have two ids.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Resource as _, ResourceExt as _, api::ListParams};
use mysql_api::MySQLCluster;
use parking_lot::Mutex;
use reconcile::{
    background::Background,
    error::chain,
    events::{EventKind, EventRecorder, Notice},
};

use crate::{
    cloud::{Instance, Instances},
    identity::OWNER,
    metrics::ClusterMetrics,
    reader::Reader,
    sabotage,
};

/// Time between two sweeps.
const PERIOD: Duration = Duration::from_mins(10);
/// Younger instances are no orphans yet.
const AGE: SignedDuration = SignedDuration::from_hours(1);

/// What to do about orphans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Report them.
    #[default]
    Report,
    /// Report them, and terminate those that carry a tombstone.
    Delete,
}

/// The orphans among these instances. `existing` are the UIDs of all clusters.
pub fn orphans<'a>(
    instances: impl Iterator<Item = &'a Instance>,
    existing: &BTreeSet<String>,
    operator_id: &str,
    now: Timestamp,
) -> Vec<&'a Instance> {
    let is_old = |instance: &Instance| {
        instance
            .launched_at
            .is_some_and(|at| now.duration_since(at) > AGE)
    };
    let is_alone = |instance: &Instance| {
        instance.identity().is_some_and(|identity| {
            !existing.contains(&identity.cluster_uid) && !identity.is_retained(&instance.tags)
        })
    };
    instances
        .filter(|instance| {
            instance.is_live() && instance.is_ours(operator_id) && is_old(instance) && is_alone(instance)
        })
        .collect()
}

/// Whether an orphan may be terminated.
pub fn is_unwanted(orphan: &Instance) -> bool {
    let named = |identity: crate::identity::Identity| identity.is_entombed(&orphan.tags);
    orphan.identity().is_some_and(named) || sabotage::active("sweep-untombed")
}

/// Looks for orphans for as long as it runs.
pub struct Sweeper<I> {
    cloud: Arc<I>,
    reader: Reader<I>,
    operator_id: String,
    regions: BTreeSet<String>,
    policy: Policy,
    metrics: ClusterMetrics,
    told: Mutex<BTreeSet<String>>,
}

impl<I: Instances> Sweeper<I> {
    /// A sweeper of these regions and of all others that turn up while it runs.
    pub fn new(
        operator: &crate::act::Operator<I>,
        regions: impl IntoIterator<Item = String>,
        policy: Policy,
        metrics: ClusterMetrics,
    ) -> Self {
        Self {
            cloud: operator.cloud.clone(),
            reader: operator.reader.clone(),
            operator_id: operator.operator_id.clone(),
            regions: regions.into_iter().collect(),
            policy,
            metrics,
            told: Mutex::default(),
        }
    }

    /// Sweeps every ten minutes, for ever.
    pub async fn run(self, given: Background) {
        let events = EventRecorder::new(
            given.client.clone(),
            given.clock.clone(),
            "mysqlcluster",
            &given.instance,
        );
        loop {
            let mut regions = self.regions.clone();
            regions.extend(self.reader.regions());
            for region in regions {
                if let Err(error) = self.sweep(&given, &events, &region).await {
                    tracing::warn!(region, error = chain(error.as_ref()), "Cannot look for orphans");
                }
            }
            given.clock.sleep(PERIOD).await;
        }
    }

    async fn sweep(
        &self,
        given: &Background,
        events: &EventRecorder,
        region: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let listing = self.reader.listing(region, Duration::ZERO).await?;
        let existing = existing(given).await?;
        let served = |instance: &&Instance| {
            let owner = owner(instance).0;
            given.namespaces.is_empty() || given.namespaces.contains(&owner)
        };
        let now = given.clock.now();
        let found: Vec<&Instance> = orphans(listing.all(), &existing, &self.operator_id, now)
            .into_iter()
            .filter(served)
            .collect();
        self.metrics.orphans(region, found.len());
        for orphan in found {
            let unwanted = self.policy == Policy::Delete && is_unwanted(orphan);
            self.tell(events, orphan, unwanted).await;
            if !unwanted {
                continue;
            }
            match self.cloud.terminate(region, &orphan.id, &given.fence).await {
                // One that EC2 keeps keeps no other: it is tried again by the next sweep.
                Err(error) if !error.is_unsent() => {
                    tracing::warn!(
                        region,
                        instance = orphan.id,
                        error = chain(&error),
                        "Cannot terminate an orphan"
                    );
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Reports an orphan, once. The event is about the cluster that is gone, in its namespace.
    async fn tell(&self, events: &EventRecorder, orphan: &Instance, unwanted: bool) {
        if !self.told.lock().insert(orphan.id.clone()) {
            return;
        }
        let (namespace, name) = owner(orphan);
        let uid = orphan
            .identity()
            .map(|identity| identity.cluster_uid)
            .unwrap_or_default();
        let what = if unwanted {
            "it was to end with its cluster, and is terminated now".to_owned()
        } else {
            format!(
                "an operator of the same id, {}, in another Kubernetes cluster may have it: look before you terminate it, and give each its own id then; if it is needed here, create a MySQLCluster of that name with the annotation mysql.alx.ke/adopt=<that UID>, for one that has instances takes over no others",
                self.operator_id
            )
        };
        let note = format!(
            "instance {} belongs to the MySQLCluster {namespace}/{name} (UID {uid}), which does not exist in this Kubernetes cluster; {what}",
            orphan.id
        );
        tracing::warn!(instance = orphan.id, namespace, name, uid, "{note}");
        let regarding = ObjectReference {
            api_version: Some(MySQLCluster::api_version(&()).into_owned()),
            kind: Some(MySQLCluster::kind(&()).into_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let notice = Notice {
            kind: EventKind::Warning,
            reason: "Orphaned",
            action: "Sweep",
            note,
        };
        events.publish(&regarding, notice).await;
    }
}

/// Namespace and name of the cluster that an instance says it belongs to.
fn owner(instance: &Instance) -> (String, String) {
    let owner = instance.tags.get(OWNER).map(String::as_str).unwrap_or_default();
    let (namespace, name) = owner.split_once('/').unwrap_or_default();
    (namespace.to_owned(), name.to_owned())
}

/// The UIDs of all clusters that are served.
async fn existing(given: &Background) -> kube::Result<BTreeSet<String>> {
    let apis: Vec<Api<MySQLCluster>> = if given.namespaces.is_empty() {
        vec![Api::all(given.client.clone())]
    } else {
        let one = |namespace: &String| Api::namespaced(given.client.clone(), namespace);
        given.namespaces.iter().map(one).collect()
    };
    let mut uids = BTreeSet::new();
    for api in apis {
        let all = api.list_metadata(&ListParams::default()).await?;
        uids.extend(all.into_iter().filter_map(|cluster| cluster.uid()));
    }
    Ok(uids)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;
    use crate::{
        cloud::InstanceState,
        identity::{Identity, OPERATOR_ID, RETAINED, TOMBSTONE},
    };

    const NOW: i64 = 1_000_000;

    fn instance(uid: &str, age: i64) -> Instance {
        let identity = Identity {
            cluster_uid: uid.into(),
            ordinal: 0,
            incarnation: 1,
        };
        let mut tags = BTreeMap::from(identity.tags());
        tags.insert(OPERATOR_ID.into(), "op".into());
        Instance {
            id: "i-1".into(),
            state: InstanceState::Running,
            reason: None,
            tags,
            client_token: Some(identity.token("s", "h")),
            zone: None,
            private_ip: None,
            subnet: None,
            launched_at: Timestamp::from_second(NOW - age).ok(),
        }
    }

    fn found(instance: &Instance) -> bool {
        let existing = BTreeSet::from(["here".to_owned()]);
        let now = Timestamp::from_second(NOW).unwrap();
        !orphans(std::iter::once(instance), &existing, "op", now).is_empty()
    }

    #[rstest]
    #[case("gone", 3601, true)]
    #[case("gone", 3600, false)]
    #[case("here", 100_000, false)]
    fn who_has_no_cluster_for_more_than_an_hour_is_an_orphan(
        #[case] uid: &str,
        #[case] age: i64,
        #[case] expected: bool,
    ) {
        assert_eq!(found(&instance(uid, age)), expected);
    }

    #[test]
    fn what_is_not_ours_or_not_live_is_none() {
        let mut theirs = instance("gone", 7200);
        theirs.tags.insert(OPERATOR_ID.into(), "other".into());
        let mut copied = instance("gone", 7200);
        copied.client_token = Some("somebody's".into());
        let mut ending = instance("gone", 7200);
        ending.state = InstanceState::ShuttingDown;
        let mut young = instance("gone", 7200);
        young.launched_at = None;
        assert!(![theirs, copied, ending, young].iter().any(found));
    }

    #[test]
    fn who_was_to_outlive_its_cluster_is_none_until_it_outlives_another() {
        let mut kept = instance("gone", 7200);
        kept.tags.insert(RETAINED.into(), "gone".into());
        assert!(!found(&kept));
        kept.tags.insert(RETAINED.into(), "earlier".into());
        assert!(found(&kept), "it was adopted since");
    }

    #[test]
    fn only_its_own_clusters_tombstone_makes_an_orphan_unwanted() {
        let mut orphan = instance("gone", 7200);
        assert!(!is_unwanted(&orphan));
        orphan.tags.insert(TOMBSTONE.into(), "other".into());
        assert!(!is_unwanted(&orphan), "it was adopted since");
        orphan.tags.insert(TOMBSTONE.into(), "gone".into());
        assert!(is_unwanted(&orphan));
    }
}
