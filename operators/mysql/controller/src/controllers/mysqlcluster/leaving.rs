//! A deletion: nothing of the cluster is left when its finalizer goes, or what is left is said.

use std::time::Duration;

use kube::{Api, ResourceExt as _};
use mysql_api::{
    MySQLCluster,
    cluster::{ABANDON, DeletionPolicy, Launch, LaunchPhase, OTHER_FINALIZER},
};
use reconcile::{
    Pass, Progress,
    error::ApiError,
    events::{EventKind, Notice},
    finalizer,
};

use super::{ClusterError, Clusters, ledger, records::StatusRecords, story};
use crate::{
    act::{Leaving, Outcome, Work, is_over},
    cloud::Instances,
    ledger::Ledger,
    outcome::verdict,
    records::Records,
    report::{self, Findings},
    server::Servers,
};

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// One pass of a deletion.
    pub(super) async fn leave(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let uid = pass.uid();
        let ledger = ledger(cluster);
        let region = cluster.status.as_ref().and_then(|status| status.region.clone());
        // Without a region in status nothing was ever launched.
        let Some(region) = region.filter(|_| !ledger.entries().is_empty()) else {
            return self.let_go(pass).await;
        };
        let evidence = self.evidence(&uid);
        let records = StatusRecords { pass };
        let work = Work {
            operator: &self.operator,
            records: &records,
            evidence: &evidence,
            cluster_uid: &uid,
            region: &region,
            fence: pass.fence(),
            leader: None,
            spare: None,
        };
        if cluster.annotations().get(ABANDON) == Some(&uid) {
            return self.abandon(pass, &work, &ledger).await;
        }
        let left = self.part(cluster, (pass, &region), &work, ledger).await;
        if let Err(ClusterError::Cloud(error)) = &left {
            let (reason, message) = (verdict(error).reason(), error.to_string());
            let status = report::unending(&pass.current(), reason, &message, pass.clock().now());
            pass.write_status(&status).await?;
        }
        left
    }

    /// Goes on with a deletion: retires members, or takes the hands off them.
    async fn part(
        &self,
        cluster: &MySQLCluster,
        (pass, region): (&Pass<MySQLCluster>, &str),
        work: &Work<'_, I, StatusRecords<'_>>,
        ledger: Ledger,
    ) -> Result<Progress, ClusterError> {
        if cluster.spec.deletion_policy == DeletionPolicy::Retain {
            let unresolved = |entry: &Launch| entry.phase == LaunchPhase::Launching;
            if ledger.entries().iter().any(unresolved) {
                let outcome = work.resolve(ledger).await?;
                self.look_after(pass, region, &outcome);
                return self.report_leaving(pass, outcome).await;
            }
            for id in work.retain(&ledger).await? {
                let note = format!("{id} is left running, and no longer this operator's");
                tell(pass, EventKind::Normal, ("Retained", "Release"), note).await;
            }
            return self.let_go(pass).await;
        }
        match work.leave(ledger).await? {
            Leaving::Over => self.let_go(pass).await,
            Leaving::Showing(again) => Ok(Progress::waiting(again)),
            Leaving::Going(outcome) => {
                self.look_after(pass, region, &outcome);
                self.report_leaving(pass, outcome).await
            }
        }
    }

    async fn report_leaving(
        &self,
        pass: &Pass<MySQLCluster>,
        outcome: Outcome,
    ) -> Result<Progress, ClusterError> {
        let evidence = self.evidence(&pass.uid());
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

    /// Somebody asked for the end although instances may be left.
    async fn abandon<R: Records>(
        &self,
        pass: &Pass<MySQLCluster>,
        work: &Work<'_, I, R>,
        ledger: &Ledger,
    ) -> Result<Progress, ClusterError> {
        let left: Vec<_> = ledger
            .entries()
            .iter()
            .filter_map(|entry| entry.instance_id.clone())
            .collect();
        let marked = match work.abandon().await {
            Ok(()) => "those that EC2 shows carry a tombstone".to_owned(),
            Err(error) => format!("they carry no tombstone, so that no sweep removes them ({error})"),
        };
        let note = format!(
            "abandoned on request; these instances may still exist: {}; {marked}",
            left.join(", ")
        );
        tell(pass, EventKind::Warning, ("Abandoned", "Delete"), note).await;
        self.let_go(pass).await
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
        tell(pass, EventKind::Normal, ("CleanupComplete", "Delete"), note).await;
        Ok(Progress::Settled)
    }
}

async fn tell(
    pass: &Pass<MySQLCluster>,
    kind: EventKind,
    (reason, action): (&'static str, &'static str),
    note: String,
) {
    let notice = Notice {
        kind,
        reason,
        action,
        note,
    };
    pass.event(notice).await;
}
