//! `MySQLCluster`: from a spec to instances that run, and back to none.
//!
//! # Expected flow
//! 1. The spec is validated; what is wrong with it is a condition.
//! 2. The region is fixed in status, so that a change of the operator's flags moves nothing.
//! 3. Each pass does what [`crate::plan`] says and reports what was seen.
//! 4. A deletion retires every member, proves each gone, and looks once more at what carries the cluster's UID; only then
//!    the finalizer goes.
//!
//! While EC2 shows nothing, MySQL is looked after all the same: that is the module `outage`.
//!
//! # Caveats
//! Secrets are not watched (that would take a right to see everybody's): what is done to them is noticed within five
//! minutes.

mod acceptance;
mod adoption;
mod error;
mod forming;
mod glance;
mod leaving;
mod outage;
mod records;
mod remains;
mod retention;
mod scaling;
mod secrets;
mod story;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::ResourceExt as _;
use mysql_api::{
    MySQLCluster, Reason,
    cluster::{ADOPT, FINALIZER, MySQLClusterStatus, Phase, Topology},
};
use parking_lot::Mutex;
use reconcile::{Controller, Gate, Pass, Progress, Reconciler, error::ApiError};

pub use self::{error::ClusterError, forming::Formed, records::RecordsError};
use self::{forming::Forming, records::StatusRecords};
use crate::{
    act::{Operator, Outcome, PassError, Work},
    authority::Authority,
    cloud::Instances,
    desired::{Desired, Owner, Settings},
    evidence::Evidence,
    ledger::Ledger,
    lookout::Lookout,
    metrics::ClusterMetrics,
    report::{self, Findings},
    rollout::{self, Turn},
    server::Servers,
};

/// How soon it is looked again whether instances can be taken over.
const ADOPT_AGAIN: Duration = Duration::from_mins(1);
/// How soon servers are looked at again after a change.
const CHANGED_AGAIN: Duration = Duration::from_secs(2);
/// How soon they are while something is lacking.
const LACKING_AGAIN: Duration = Duration::from_secs(10);

/// The controller of this kind, with what it watches.
pub fn controller<I: Instances, S: Servers>(clusters: Clusters<I, S>) -> Controller<Clusters<I, S>> {
    Controller::new(clusters)
        .owns::<Service>()
        .owns::<EndpointSlice>()
}

/// Reconciles `MySQLCluster`s.
pub struct Clusters<I, S> {
    operator: Operator<I>,
    lookout: Lookout<I>,
    servers: S,
    settings: Settings,
    metrics: ClusterMetrics,
    evidence: Mutex<HashMap<String, Arc<Mutex<Evidence>>>>,
    authorities: Mutex<HashMap<String, Arc<Authority>>>,
}

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// A reconciler on this cloud and these servers. The lookout runs beside it, and wakes its clusters.
    pub fn new(
        operator: Operator<I>,
        lookout: Lookout<I>,
        servers: S,
        settings: Settings,
        metrics: ClusterMetrics,
    ) -> Self {
        Self {
            operator,
            lookout,
            servers,
            settings,
            metrics,
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
        let authority = secrets::authority(pass).await;
        let told = match &authority {
            Err(error @ ClusterError::Authority { .. }) => {
                Some((Reason::AuthorityUnusable, error.to_string()))
            }
            Err(ClusterError::Records(error @ RecordsError::NameConflict(_))) => Some((
                Reason::NameConflict,
                format!(
                    "{error}, unless it is of a cluster whose instances were left running: it is the only key to them, and a cluster that is created with the annotation {ADOPT} takes both over"
                ),
            )),
            _ => None,
        };
        if let Some((reason, message)) = told {
            self.prevented(pass, reason, &message).await?;
        }
        let authority = Arc::new(authority?);
        self.authorities.lock().insert(uid, authority.clone());
        Ok(authority)
    }

    fn evidence(&self, uid: &str) -> Arc<Mutex<Evidence>> {
        self.evidence.lock().entry(uid.to_owned()).or_default().clone()
    }

    /// The spec as it is to be carried out, in the region once fixed in status.
    fn desired(&self, cluster: &MySQLCluster) -> Result<Desired, crate::desired::SpecError> {
        let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let uid = cluster.uid().unwrap_or_default();
        let owner = Owner {
            namespace: &namespace,
            name: &name,
            uid: &uid,
        };
        let mut spec = cluster.spec.clone();
        let known = cluster.status.as_ref().and_then(|status| status.region.clone());
        if let (Some(region), Some(aws)) = (known, &mut spec.aws) {
            // Whatever the operator is told of its place later.
            aws.region = Some(region);
        }
        Desired::resolve(owner, &spec, &self.settings)
    }

    /// One pass towards the spec.
    async fn bring(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let mut desired = match self.accept(cluster, pass).await? {
            Ok(desired) => desired,
            Err(error) => return self.refuse(cluster, pass, &error).await,
        };
        let evidence = self.evidence(&desired.uid);
        if cluster
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            != cluster.metadata.generation
        {
            evidence.lock().reconsider();
        }
        self.settle_region(cluster, pass, &desired.region).await?;
        if let Some(from) = adoption::asked(&pass.current())
            && let Err(why) = adoption::adopt(pass, &self.operator, (&from, &desired)).await?
        {
            let message = format!("the instances of the cluster {from} are not taken over: {why}");
            self.prevented(pass, Reason::AdoptionImpossible, &message).await?;
            return Ok(Progress::waiting(ADOPT_AGAIN));
        }
        if let Some(note) = adoption::neglected(&pass.current(), &self.operator, &desired.region).await
            && evidence.lock().tells(&note)
        {
            story::tell(pass, [story::neglected(note)]).await;
        }
        let authority = self.authority(pass).await?;
        desired.authority.clone_from(&authority.certificate);
        self.work(pass, (&desired, &authority), &evidence).await
    }

    /// Fixes the region in status before anything follows from it.
    async fn settle_region(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
        region: &str,
    ) -> Result<(), ApiError> {
        let known = cluster.status.clone().unwrap_or_default();
        if known.region.is_some() {
            return Ok(());
        }
        let fixed = MySQLClusterStatus {
            region: Some(region.to_owned()),
            phase: Some(Phase::Pending),
            ..known
        };
        pass.write_status(&fixed).await.map(drop)
    }

    /// Instances, then servers, then the report.
    async fn work(
        &self,
        pass: &Pass<MySQLCluster>,
        (desired, authority): (&Desired, &Authority),
        evidence: &Mutex<Evidence>,
    ) -> Result<Progress, ClusterError> {
        if let Some(soon) = self.glance(pass, (desired, authority), evidence).await {
            expect(pass, evidence, soon);
            return Ok(Progress::waiting(soon));
        }
        evidence.lock().begin(pass.is_caused(), pass.clock().steady());
        let records = StatusRecords { pass };
        let (current, known) = (pass.current(), ledger(&pass.current()));
        let surplus = self.surplus(&current, (desired, authority), &known).await;
        let work = Work {
            operator: &self.operator,
            records: &records,
            evidence,
            cluster_uid: &desired.uid,
            region: &desired.region,
            fence: pass.fence(),
            leader: topology(&current).map(|topology| topology.primary),
            spare: surplus.spare,
        };
        let mut outcome = match work.apply(desired, known.clone()).await {
            Ok(outcome) => outcome,
            Err(PassError::Cloud(error)) => {
                let known = (&known, evidence);
                return self.go_on(pass, (desired, authority), known, error).await;
            }
            Err(error) => return Err(error.into()),
        };
        outcome.seen.kept = surplus.kept;
        self.look_after(pass, &desired.region, &outcome);
        let forming = Forming {
            pass,
            operator: &self.operator,
            servers: &self.servers,
            group: &desired.group(),
            desired: Some(desired),
            authority,
            evidence,
            refusals: Mutex::default(),
        };
        let formed = forming.run(&outcome.ledger, &outcome.seen).await?;
        let leader = topology(&pass.current()).map(|topology| topology.primary);
        let healthy = if leader.is_some() {
            formed.lacking.is_none() && formed.caught_up
        } else {
            formed.blank
        };
        let bare = rollout::bare(&pass.current(), &outcome.ledger, &formed);
        let turn = rollout::turn_of((desired, &outcome.ledger), leader, (healthy, &bare));
        if let Turn::Replace(ordinal) = turn {
            work.replace(ordinal, &mut outcome).await?;
        }
        self.report(pass, (desired, &turn), (outcome, &formed), evidence)
            .await
    }

    /// Has the cluster woken by what becomes of instances that are on their way.
    fn look_after(&self, pass: &Pass<MySQLCluster>, region: &str, outcome: &Outcome) {
        let uid = pass.uid();
        if outcome.restless {
            let place = (pass.key(), region);
            self.lookout.watch(&uid, place, &outcome.seen.instances);
        } else {
            self.lookout.leave(&uid);
        }
    }

    async fn report(
        &self,
        pass: &Pass<MySQLCluster>,
        (desired, turn): (&Desired, &Turn),
        (outcome, formed): (Outcome, &Formed),
        evidence: &Mutex<Evidence>,
    ) -> Result<Progress, ClusterError> {
        let before = pass.current();
        let status = {
            let evidence = evidence.lock();
            let findings = Findings {
                cluster: &before,
                ledger: &outcome.ledger,
                seen: &outcome.seen,
                evidence: &evidence,
            };
            report::wanted(findings, (desired, turn), formed, pass.clock().now())
        };
        pass.write_status(&status).await?;
        let steps = story::steps(&desired.name, outcome.events);
        let turns = story::turns(before.status.as_ref(), &status);
        story::tell(pass, steps.into_iter().chain(turns)).await;
        let soon = match &formed.lacking {
            _ if formed.changed => CHANGED_AGAIN,
            None if *turn == Turn::Current => outcome.next,
            _ => LACKING_AGAIN,
        };
        let is_settled = !formed.changed && formed.lacking.is_none() && *turn == Turn::Current;
        let after = glance::soon(pass, evidence, (soon.min(outcome.next), is_settled));
        expect(pass, evidence, after);
        Ok(Progress::waiting(after))
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
}

/// The next pass is due then; one that comes before has another cause.
fn expect(pass: &Pass<MySQLCluster>, evidence: &Mutex<Evidence>, after: Duration) {
    let later = SignedDuration::try_from(after).unwrap_or_default();
    let now = pass.clock().steady();
    evidence.lock().expect(now.checked_add(later).unwrap_or(now));
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

fn topology(cluster: &MySQLCluster) -> Option<Topology> {
    cluster.status.as_ref()?.topology.clone()
}

impl<I: Instances, S: Servers> Reconciler for Clusters<I, S> {
    type Kind = MySQLCluster;
    type Error = ClusterError;
    const NAME: &'static str = "mysqlcluster";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);
    const INTENT_FIELDS: &'static [&'static str] = &["launches", "topology"];

    fn gate(&self, cluster: &MySQLCluster) -> Gate {
        // A deletion goes on: pausing is for what is to stay.
        if cluster.spec.paused && cluster.metadata.deletion_timestamp.is_none() {
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
        self.metrics.measure(self.bring(&cluster, pass)).await
    }

    async fn cleanup(
        &self,
        cluster: Arc<MySQLCluster>,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        self.metrics.measure(self.leave(&cluster, pass)).await
    }

    async fn paused(
        &self,
        cluster: Arc<MySQLCluster>,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let status = report::paused(&cluster, pass.clock().now());
        pass.write_status(&status).await?;
        Ok(Progress::Settled)
    }

    fn forget(&self, uid: &str) {
        self.lookout.leave(uid);
        self.evidence.lock().remove(uid);
        self.authorities.lock().remove(uid);
    }
}
