//! `MySQLCluster`: from a spec to instances that run, and back to none.
//!
//! # Expected flow
//! 1. The spec is validated; what is wrong with it is a condition.
//! 2. The region is fixed in status, so that a change of the operator's flags moves nothing.
//! 3. Each pass does what [`crate::plan`] says and reports what was seen.
//! 4. A deletion retires every member, proves each gone, and looks once more at what carries the cluster's UID; only then
//!    the finalizer goes.

mod error;
mod forming;
mod records;
mod story;

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{Api, ResourceExt as _};
use mysql_api::{
    MySQLCluster, Reason,
    cluster::{ABANDON, DeletionPolicy, FINALIZER, LaunchPhase, MySQLClusterStatus, OTHER_FINALIZER, Phase},
};
use parking_lot::Mutex;
use reconcile::{
    Gate, Pass, Progress, Reconciler,
    error::ApiError,
    events::{EventKind, Notice},
    finalizer,
};

pub use self::{error::ClusterError, forming::Formed, records::RecordsError};
use self::{forming::Forming, records::StatusRecords};
use crate::{
    act::{Operator, PassError, Work, is_over},
    authority::Authority,
    cloud::Instances,
    desired::{Desired, Owner, Settings},
    evidence::Evidence,
    ledger::Ledger,
    outcome::verdict,
    report::{self, Findings},
    server::Servers,
};

/// How soon the listing that ends a deletion is made once more.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);

/// How soon servers are looked at again after a change.
const CHANGED_AGAIN: Duration = Duration::from_secs(2);
/// How soon they are while something is lacking.
const LACKING_AGAIN: Duration = Duration::from_secs(10);

/// Reconciles `MySQLCluster`s.
pub struct Clusters<I, S> {
    operator: Operator<I>,
    servers: S,
    settings: Settings,
    evidence: Mutex<HashMap<String, Arc<Mutex<Evidence>>>>,
    authorities: Mutex<HashMap<String, Arc<Authority>>>,
}

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// A reconciler on this cloud and these servers.
    pub fn new(operator: Operator<I>, servers: S, settings: Settings) -> Self {
        Self {
            operator,
            servers,
            settings,
            evidence: Mutex::default(),
            authorities: Mutex::default(),
        }
    }

    /// A cluster's authority. It never changes, so it is read once.
    async fn authority(&self, pass: &Pass<MySQLCluster>) -> Result<Arc<Authority>, ClusterError> {
        let uid = pass.uid();
        if let Some(known) = self.authorities.lock().get(&uid).cloned() {
            return Ok(known);
        }
        let authority = Arc::new(forming::authority(pass).await?);
        self.authorities.lock().insert(uid, authority.clone());
        Ok(authority)
    }

    fn evidence(&self, uid: &str) -> Arc<Mutex<Evidence>> {
        self.evidence.lock().entry(uid.to_owned()).or_default().clone()
    }

    /// The region once fixed in status, else the one that the spec resolves to.
    fn desired(&self, cluster: &MySQLCluster) -> Result<Desired, crate::desired::SpecError> {
        let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let uid = cluster.uid().unwrap_or_default();
        let owner = Owner {
            namespace: &namespace,
            name: &name,
            uid: &uid,
        };
        let mut desired = Desired::resolve(owner, &cluster.spec, &self.settings)?;
        if let Some(region) = cluster.status.as_ref().and_then(|status| status.region.clone()) {
            desired.region = region;
        }
        Ok(desired)
    }

    async fn prevented(
        &self,
        pass: &Pass<MySQLCluster>,
        reason: Reason,
        message: &str,
    ) -> Result<(), ApiError> {
        let status = report::prevented(&pass.current(), reason, message, pass.clock().now());
        pass.write_status(&status).await.map(drop)
    }

    /// Takes the operator's hands off the instances.
    async fn retain(
        &self,
        pass: &Pass<MySQLCluster>,
        region: &str,
        ledger: &Ledger,
    ) -> Result<(), ClusterError> {
        let kept = ledger
            .entries()
            .iter()
            .filter(|entry| entry.phase != LaunchPhase::Over);
        for id in kept.filter_map(|entry| entry.instance_id.as_deref()) {
            pass.fence().check()?;
            match self.operator.cloud.release(region, id).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {
                    let note = format!("{id} is left running, and no longer this operator's");
                    pass.event(Notice {
                        kind: EventKind::Normal,
                        reason: "Retained",
                        action: "Release",
                        note,
                    })
                    .await;
                }
            }
        }
        Ok(())
    }

    async fn let_go(&self, pass: &Pass<MySQLCluster>) -> Result<Progress, ClusterError> {
        let object = pass.current();
        if finalizer::has(object.as_ref(), OTHER_FINALIZER) {
            let api: Api<MySQLCluster> = Api::namespaced(pass.client().clone(), &pass.key().namespace);
            finalizer::remove(&api, object.as_ref(), OTHER_FINALIZER)
                .await
                .map_err(|error| {
                    ApiError::new(format!("remove {OTHER_FINALIZER} from {}", pass.key()), error)
                })?;
            pass.live().await?;
        }
        let note = "cleanup complete: no instance is left".to_owned();
        pass.event(Notice {
            kind: EventKind::Normal,
            reason: "CleanupComplete",
            action: "Delete",
            note,
        })
        .await;
        Ok(Progress::Settled)
    }
}

fn ledger(cluster: &MySQLCluster) -> Ledger {
    Ledger::new(
        cluster
            .status
            .as_ref()
            .map(|status| status.launches.clone())
            .unwrap_or_default(),
    )
}

impl<I: Instances, S: Servers> Reconciler for Clusters<I, S> {
    type Kind = MySQLCluster;
    type Error = ClusterError;
    const NAME: &'static str = "mysqlcluster";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);
    const INTENT_FIELDS: &'static [&'static str] = &["launches", "topology"];

    fn gate(&self, cluster: &MySQLCluster) -> Gate {
        if cluster.spec.paused {
            Gate::Paused
        } else {
            Gate::Manage
        }
    }

    async fn apply(
        &self,
        cluster: Arc<MySQLCluster>,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let mut desired = match self.desired(&cluster) {
            Ok(desired) => desired,
            Err(error) => {
                self.prevented(pass, error.reason, &error.message).await?;
                return Ok(Progress::Settled);
            }
        };
        let evidence = self.evidence(&desired.uid);
        let known = cluster.status.clone().unwrap_or_default();
        if known.observed_generation != cluster.metadata.generation {
            evidence.lock().reconsider();
        }
        if known.region.is_none() {
            let fixed = MySQLClusterStatus {
                region: Some(desired.region.clone()),
                phase: Some(Phase::Pending),
                ..known
            };
            pass.write_status(&fixed).await?;
        }
        let authority = self.authority(pass).await?;
        desired.authority.clone_from(&authority.certificate);
        let records = StatusRecords { pass };
        let work = Work {
            operator: &self.operator,
            records: &records,
            evidence: &evidence,
            cluster_uid: &desired.uid,
            region: &desired.region,
            fence: pass.fence(),
        };
        let outcome = match work.apply(&desired, ledger(&pass.current())).await {
            Ok(outcome) => outcome,
            Err(PassError::Cloud(error)) => {
                self.prevented(pass, verdict(&error).reason(), &error.to_string())
                    .await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let forming = Forming {
            pass,
            operator: &self.operator,
            servers: &self.servers,
            desired: &desired,
            authority: &authority,
            evidence: &evidence,
        };
        let formed = forming.run(&outcome.ledger, &outcome.seen).await?;
        let status = {
            let (cluster, evidence) = (pass.current(), evidence.lock());
            let findings = Findings {
                cluster: &cluster,
                ledger: &outcome.ledger,
                seen: &outcome.seen,
                evidence: &evidence,
            };
            report::wanted(findings, &desired, &formed, pass.clock().now())
        };
        let before = pass.current();
        pass.write_status(&status).await?;
        let steps = story::steps(&desired.name, outcome.events);
        let turns = story::turns(before.status.as_ref(), &status);
        story::tell(pass, steps.into_iter().chain(turns)).await;
        let soon = match &formed.lacking {
            _ if formed.changed => CHANGED_AGAIN,
            Some(_) => LACKING_AGAIN,
            None => outcome.next,
        };
        Ok(Progress::waiting(soon.min(outcome.next)))
    }

    async fn cleanup(
        &self,
        cluster: Arc<MySQLCluster>,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let uid = pass.uid();
        if cluster.annotations().get(ABANDON) == Some(&uid) {
            let left = ledger(&cluster)
                .entries()
                .iter()
                .filter_map(|entry| entry.instance_id.clone())
                .collect::<Vec<_>>();
            let note = format!(
                "abandoned on request; these instances may still exist: {}",
                left.join(", ")
            );
            pass.event(Notice {
                kind: EventKind::Warning,
                reason: "Abandoned",
                action: "Delete",
                note,
            })
            .await;
            return self.let_go(pass).await;
        }
        let ledger = ledger(&cluster);
        let region = cluster.status.as_ref().and_then(|status| status.region.clone());
        // Without a region in status nothing was ever launched.
        let Some(region) = region else {
            return self.let_go(pass).await;
        };
        if ledger.entries().is_empty() {
            return self.let_go(pass).await;
        }
        let evidence = self.evidence(&uid);
        let records = StatusRecords { pass };
        let work = Work {
            operator: &self.operator,
            records: &records,
            evidence: &evidence,
            cluster_uid: &uid,
            region: &region,
            fence: pass.fence(),
        };
        if cluster.spec.deletion_policy == DeletionPolicy::Retain
            && ledger
                .entries()
                .iter()
                .all(|entry| entry.phase != LaunchPhase::Launching)
        {
            self.retain(pass, &region, &ledger).await?;
            return self.let_go(pass).await;
        }
        if is_over(&ledger) {
            let left = work.sweep().await?;
            return if left.is_empty() {
                self.let_go(pass).await
            } else {
                Ok(Progress::waiting(SWEEP_AGAIN))
            };
        }
        let outcome = work.wind_up(ledger).await?;
        let status = {
            let (cluster, evidence) = (pass.current(), evidence.lock());
            let findings = Findings {
                cluster: &cluster,
                ledger: &outcome.ledger,
                seen: &outcome.seen,
                evidence: &evidence,
            };
            report::ending(findings, pass.clock().now())
        };
        pass.write_status(&status).await?;
        story::tell(pass, story::steps(&pass.key().name, outcome.events)).await;
        let next = if is_over(&outcome.ledger) {
            Duration::ZERO
        } else {
            outcome.next
        };
        Ok(Progress::waiting(next))
    }

    fn forget(&self, uid: &str) {
        self.evidence.lock().remove(uid);
        self.authorities.lock().remove(uid);
    }
}
