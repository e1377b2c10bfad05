//! A deletion: nothing of the cluster is left when its finalizer goes, or what is left is said.

use std::time::Duration;

use kube::{Api, ResourceExt as _};
use mysql_api::{
    MySQLCluster, Reason,
    cluster::{ABANDON, ADOPT, DeletionPolicy, Launch, LaunchPhase, OTHER_FINALIZER},
};
use reconcile::{
    Class, Pass, Progress, ReconcileError as _,
    error::{ApiError, chain},
    events::{EventKind, Notice},
    finalizer,
};

use super::{
    ClusterError, Clusters, ledger,
    records::StatusRecords,
    remains,
    retention::{self, Released},
    story,
};
use crate::{
    act::{Leaving, Outcome, SWEEP_AGAIN, Work, is_over},
    cloud::{Instances, Part},
    endpoints::binding_name,
    identity::RETAINED,
    ledger::Ledger,
    outcome::verdict,
    records::Records,
    report::{self, Findings},
    server::Servers,
};

/// How soon it is seen once more that nobody owns the Secrets.
const RELEASED_AGAIN: Duration = Duration::from_secs(2);
/// How soon a Secret that is missing is looked for again, and what was refused asked for.
const MISSED_AGAIN: Duration = Duration::from_secs(30);
/// What is left of a cluster whose members were terminated.
const NOTHING: &str = "no instance is left, nor what belonged to one";
/// What is left where something was kept, or is used otherwise.
const PARTS: &str = "no instance is left";

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// One pass of a deletion. What keeps it from going on is said.
    pub(super) async fn leave(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let left = self.depart(cluster, pass).await;
        if let Err(error) = &left
            && let Some((reason, message)) = obstacle(error)
        {
            let status = report::unending(&pass.current(), reason, &message, pass.clock().now());
            pass.write_status(&status).await?;
            if error.class() == Class::Terminal {
                // Nobody may change the object, which would be waited for: it is a policy that has to be changed.
                return Ok(Progress::waiting(MISSED_AGAIN));
            }
        }
        left
    }

    async fn depart(
        &self,
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
    ) -> Result<Progress, ClusterError> {
        let uid = pass.uid();
        let ledger = ledger(cluster);
        let region = cluster.status.as_ref().and_then(|status| status.region.clone());
        let evidence = self.evidence(&uid);
        // Without a region in status nothing was ever launched. Somebody may have emptied the ledger: what carries the cluster's
        // identity was told then.
        let Some(region) = region.filter(|_| !ledger.entries().is_empty() || is_ambiguous(cluster)) else {
            let given = retention::give_back(pass).await;
            if unless_abandoned(cluster, given)? == Some(Released::Now) {
                return Ok(Progress::waiting(RELEASED_AGAIN));
            }
            let withdrawn = remains::withdraw(pass, &ledger, &evidence).await;
            unless_abandoned(cluster, withdrawn)?;
            return self.let_go(pass, NOTHING).await;
        };
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
        if is_abandoned(cluster) {
            return self.abandon(cluster, pass, (&work, &ledger)).await;
        }
        self.part(cluster, (pass, &region), &work, ledger).await
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
            let authority = self.authorities.lock().get(&pass.uid()).cloned();
            match retention::release(pass, authority.as_deref()).await? {
                Released::Before => {}
                Released::Now => return Ok(Progress::waiting(RELEASED_AGAIN)),
                Released::Lost(name) => return self.miss(pass, &name).await,
            }
            let idle = work.idle().await?;
            let kept = work.retain(&ledger).await?;
            remains::clear(pass, &ledger, work.evidence).await?;
            if !idle.is_empty() {
                let why = "members that are gone have left them behind, and deletionPolicy is Retain";
                tell(
                    pass,
                    EventKind::Warning,
                    ("LeftBehind", "Delete"),
                    left_behind(&idle, why),
                )
                .await;
            }
            let note = format!(
                "deletionPolicy is Retain: these instances are left running: {}. With the Secrets {} and {}, which stay as well, a new MySQLCluster {name} takes them over if it is created with the annotation {ADOPT}={uid}",
                kept.join(", "),
                retention::operator_name(&pass.key().name),
                binding_name(&pass.key().name),
                name = pass.key().name,
                uid = pass.uid(),
            );
            tell(pass, EventKind::Normal, ("Retained", "Delete"), note).await;
            return self.let_go(pass, "the instances are left running").await;
        }
        match work.leave(ledger).await? {
            Leaving::Over(left) => self.end(pass, &left).await,
            Leaving::Showing(ids) => {
                let status = report::lingering(&pass.current(), ids, pass.clock().now());
                pass.write_status(&status).await?;
                Ok(Progress::waiting(SWEEP_AGAIN))
            }
            Leaving::Going(outcome) => {
                self.look_after(pass, region, &outcome);
                self.report_leaving(pass, *outcome).await
            }
        }
    }

    /// No instance is left: the rest goes, but for what is not the operator's to delete.
    async fn end(&self, pass: &Pass<MySQLCluster>, left: &[Part]) -> Result<Progress, ClusterError> {
        let evidence = self.evidence(&pass.uid());
        remains::withdraw(pass, &super::ledger(&pass.current()), &evidence).await?;
        if left.is_empty() {
            return self.let_go(pass, NOTHING).await;
        }
        let (kind, what) = (EventKind::Warning, ("LeftBehind", "Delete"));
        let why = format!(
            "somebody keeps them ({RETAINED}), uses them, has given them the tags, or has made them from a snapshot"
        );
        tell(pass, kind, what, left_behind(left, &why)).await;
        self.let_go(pass, PARTS).await
    }

    /// Instances are to be left running that nobody could reach.
    async fn miss(&self, pass: &Pass<MySQLCluster>, name: &str) -> Result<Progress, ClusterError> {
        let message = format!(
            "the Secret {name}, without which nobody reaches the instances that are to be left running, is missing; restore it, without its owner references"
        );
        let (cluster, now) = (pass.current(), pass.clock().now());
        let status = report::unending(&cluster, Reason::AuthorityUnusable, &message, now);
        pass.write_status(&status).await?;
        Ok(Progress::waiting(MISSED_AGAIN))
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
        cluster: &MySQLCluster,
        pass: &Pass<MySQLCluster>,
        (work, ledger): (&Work<'_, I, R>, &Ledger),
    ) -> Result<Progress, ClusterError> {
        let left: Vec<_> = ledger
            .entries()
            .iter()
            .filter_map(|entry| entry.instance_id.clone())
            .collect();
        let (marked, withdrawn) = match cluster.spec.deletion_policy {
            DeletionPolicy::Retain => {
                let authority = self.authorities.lock().get(&pass.uid()).cloned();
                let released = retention::release(pass, authority.as_deref()).await;
                if unless_abandoned(cluster, released)? == Some(Released::Now) {
                    return Ok(Progress::waiting(RELEASED_AGAIN));
                }
                let marked = match work.retain(ledger).await {
                    Ok(_) => format!("they carry the tag {RETAINED}"),
                    Err(error) => format!("not all carry the tag {RETAINED} ({})", chain(&error)),
                };
                (marked, remains::clear(pass, ledger, work.evidence).await)
            }
            DeletionPolicy::Delete => {
                let marked = match work.abandon().await {
                    Ok(()) => "those that EC2 shows carry a tombstone".to_owned(),
                    Err(error) => format!("they carry no tombstone, so that no sweep removes them ({error})"),
                };
                (marked, remains::withdraw(pass, ledger, work.evidence).await)
            }
        };
        unless_abandoned(cluster, withdrawn)?;
        let note = format!(
            "abandoned on request; these instances may still exist: {}; {marked}",
            left.join(", ")
        );
        tell(pass, EventKind::Warning, ("Abandoned", "Delete"), note).await;
        self.let_go(pass, "what was abandoned is left to EC2").await
    }

    async fn let_go(&self, pass: &Pass<MySQLCluster>, left: &str) -> Result<Progress, ClusterError> {
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
        let note = format!("cleanup complete: {left}");
        tell(pass, EventKind::Normal, ("CleanupComplete", "Delete"), note).await;
        Ok(Progress::Settled)
    }
}

/// Whether somebody asked to leave what cannot be removed.
fn is_abandoned(cluster: &MySQLCluster) -> bool {
    let uid = cluster.uid();
    uid.is_some_and(|uid| cluster.annotations().get(ABANDON) == Some(&uid))
}

/// Whether instances were last seen that carry the cluster's identity and are none of its members.
fn is_ambiguous(cluster: &MySQLCluster) -> bool {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let ambiguous = Reason::Ambiguous.as_str();
    conditions
        .into_iter()
        .any(|condition| condition.reason == ambiguous)
}

/// What the API server refuses is done without where somebody asked for that.
fn unless_abandoned<T>(cluster: &MySQLCluster, done: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match done {
        Err(error) if is_refusal(error.class()) && is_abandoned(cluster) => {
            tracing::warn!(error = chain(&error), "Left, since the cluster is abandoned");
            Ok(None)
        }
        done => done.map(Some),
    }
}

/// Whether Kubernetes, or a policy in it, will say the same as long as nobody changes that.
fn is_refusal(class: Class) -> bool {
    matches!(class, Class::Denied | Class::Terminal)
}

/// What a person has to know of an error who waits for the end of a deletion.
fn obstacle(error: &ClusterError) -> Option<(Reason, String)> {
    match error {
        ClusterError::Cloud(error) if error.is_protected() => Some((
            Reason::TerminationProtected,
            format!("{error}; take the protection off in EC2, the deletion then goes on by itself"),
        )),
        ClusterError::Cloud(error) => Some((verdict(error).reason(), error.to_string())),
        error => match error.class() {
            Class::Denied => Some((Reason::CredentialsInvalid, chain(error))),
            Class::Terminal => Some((Reason::RequestRefused, chain(error))),
            // It passes by itself.
            _ => None,
        },
    }
}

/// What of a cluster outlives it, and why.
fn left_behind(left: &[Part], why: &str) -> String {
    let each = left.iter().map(|part| match (&part.attached_to, &part.snapshot) {
        (Some(instance), _) => format!("{} (attached to {instance})", part.id),
        (None, Some(snapshot)) => format!("{} (made from {snapshot})", part.id),
        (None, None) => part.id.clone(),
    });
    format!(
        "these carry the cluster's tags and stay, because {why}: {}; delete them when they are not needed",
        each.collect::<Vec<_>>().join(", ")
    )
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

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;
    use crate::cloud::CloudError;

    #[rstest]
    #[case(403, Some(Reason::CredentialsInvalid))]
    // As admission webhooks do that give no code of their own.
    #[case(400, Some(Reason::RequestRefused))]
    #[case(409, None)]
    #[case(503, None)]
    fn what_kubernetes_refuses_is_told_and_what_passes_is_not(
        #[case] code: u16,
        #[case] told: Option<Reason>,
    ) {
        let status = Status {
            code,
            message: "no".into(),
            ..Status::default()
        };
        let error = ApiError::new("delete Secret a/b", kube::Error::Api(Box::new(status)));
        let said = obstacle(&error.into());
        assert_eq!(said.as_ref().map(|(reason, _)| *reason), told);
        assert!(said.is_none_or(|(_, message)| message.contains("Secret a/b")));
    }

    #[test]
    fn an_instance_that_nobody_recorded_and_that_is_protected_is_told_as_one() {
        let error = CloudError {
            action: "TerminateInstances",
            code: Some("OperationNotPermitted".into()),
            declined: true,
            message: "the instance i-1 may not be terminated".into(),
        };
        let (reason, message) = obstacle(&error.into()).unwrap();
        assert_eq!(reason, Reason::TerminationProtected);
        assert!(
            message.contains("i-1") && message.contains("take the protection off"),
            "{message}"
        );
    }
}
