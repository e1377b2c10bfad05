//! Between two passes over a cluster that has settled its leader alone is looked at: a server that was restarted takes no writes
//! until somebody tells it to.

use std::time::Duration;

use jiff::SignedDuration;
use mysql_api::{MySQLCluster, cluster::Topology};
use parking_lot::Mutex;
use reconcile::Pass;

use super::{Clusters, scaling::address};
use crate::{
    authority::Authority,
    cloud::Instances,
    desired::Desired,
    evidence::Evidence,
    server::{Servers, Survey},
};

/// How often.
const AGAIN: Duration = Duration::from_secs(10);

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// Looks at the leader of a cluster that has settled, and says how soon it is to be looked at again. None if the whole
    /// cluster is due: nothing is known of it, something has caused this pass, or the leader is not as it was.
    pub(super) async fn glance(
        &self,
        pass: &Pass<MySQLCluster>,
        (desired, authority): (&Desired, &Authority),
        evidence: &Mutex<Evidence>,
    ) -> Option<Duration> {
        let now = pass.clock().steady();
        let until = evidence.lock().settled_until(pass.is_caused(), now)?;
        let cluster = pass.current();
        let observed = cluster.status.as_ref()?.observed_generation;
        let topology = super::topology(&cluster).filter(|_| observed == cluster.metadata.generation)?;
        let at = address(&cluster, desired, topology.primary)?;
        let survey = self.servers.survey(authority, &at).await.ok()?;
        let left = Duration::try_from(until.duration_since(now)).ok()?;
        leads_on(&survey, &topology, desired.replicas).then(|| AGAIN.min(left))
    }
}

/// How soon a cluster is looked at, whose whole is to be looked at `after` this time.
pub(super) fn soon(
    pass: &Pass<MySQLCluster>,
    evidence: &Mutex<Evidence>,
    (after, is_settled): (Duration, bool),
) -> Duration {
    let now = pass.clock().steady();
    let whole = SignedDuration::try_from(after).unwrap_or_default();
    let until = now.checked_add(whole).ok().filter(|_| is_settled);
    evidence.lock().settle_until(until);
    if is_settled { after.min(AGAIN) } else { after }
}

/// Whether a leader takes writes as it did, and as many replicas acknowledge as a commit waits for.
fn leads_on(survey: &Survey, topology: &Topology, replicas: i32) -> bool {
    let waits = survey.acknowledgement;
    survey.uuid == topology.server_uuid
        && !survey.read_only
        && survey.replication.is_none()
        && waits.enabled == (replicas > 1)
        && survey.acknowledging >= waits.waited_for()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Acknowledgement;

    #[test]
    fn a_leader_that_was_restarted_or_waits_for_replicas_is_not_as_it_was() {
        let topology = Topology {
            primary: 0,
            server_uuid: "u".into(),
        };
        let leads = Survey {
            read_only: false,
            super_read_only: false,
            acknowledgement: Acknowledgement {
                enabled: true,
                ..Survey::fresh("u").acknowledgement
            },
            acknowledging: 1,
            ..Survey::fresh("u")
        };
        assert!(leads_on(&leads, &topology, 3));
        assert!(!leads_on(&Survey::fresh("u"), &topology, 3));
        let starved = Survey {
            acknowledging: 0,
            ..leads.clone()
        };
        let another = Survey {
            uuid: "v".into(),
            ..leads
        };
        for other in [starved, another] {
            assert!(!leads_on(&other, &topology, 3), "{other:?}");
        }
    }
}
