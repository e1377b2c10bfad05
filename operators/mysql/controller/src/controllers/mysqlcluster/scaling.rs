//! Whether a member beyond the number of replicas may be removed: only if another server is known to have what it has.

use mysql_api::{
    MySQLCluster,
    cluster::{Launch, Topology},
};

use super::Clusters;
use crate::{
    authority::Authority,
    bootstrap::tls_name,
    cloud::Instances,
    desired::Desired,
    ledger::Ledger,
    plan::next_surplus,
    server::{Address, Servers},
};

/// What was found about the next member that is to be removed.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    /// It may be.
    pub(super) spare: Option<i32>,
    /// Why it may not.
    pub(super) kept: Option<String>,
}

impl<I: Instances, S: Servers> Clusters<I, S> {
    /// Looks at the next member that is to be removed, and at the leader. Nobody is asked as long as there is none.
    pub(super) async fn surplus(
        &self,
        cluster: &MySQLCluster,
        (desired, authority): (&Desired, &Authority),
        ledger: &Ledger,
    ) -> Surplus {
        let topology = super::topology(cluster);
        let leader = topology.as_ref().map(|topology| topology.primary);
        let Some(next) = next_surplus(desired.replicas, ledger, leader) else {
            return Surplus::default();
        };
        match self
            .is_spare(cluster, (desired, authority), (next, topology))
            .await
        {
            Ok(()) => Surplus {
                spare: Some(next.ordinal),
                kept: None,
            },
            Err(why) => Surplus {
                spare: None,
                kept: Some(why),
            },
        }
    }

    async fn is_spare(
        &self,
        cluster: &MySQLCluster,
        (desired, authority): (&Desired, &Authority),
        (next, topology): (&Launch, Option<Topology>),
    ) -> Result<(), String> {
        let Some(topology) = topology else {
            // Nobody has ever been told where to write.
            return match &next.adopted_from {
                None => Ok(()),
                Some(_) => Err("nobody knows yet which of the adopted members leads".into()),
            };
        };
        let survey = async |ordinal| {
            let at = address(cluster, desired, ordinal).ok_or("its certificate is not known yet")?;
            let survey = self.servers.survey(authority, &at).await;
            survey.map_err(|error| error.message)
        };
        // The leader is asked last: what it has then, it has not lost since. A member that does not answer is one that the
        // leader has survived.
        let theirs = survey(next.ordinal).await.ok();
        let led = survey(topology.primary).await.map_err(|trouble| {
            format!(
                "the primary, member {}, does not answer ({trouble}), and the others may be all that is left of its data",
                topology.primary
            )
        })?;
        if led.uuid != topology.server_uuid {
            return Err(format!(
                "the server that led, {}, is gone, and the others may be all that is left of its data",
                topology.server_uuid
            ));
        }
        match theirs {
            Some(theirs) if !theirs.executed.is_within(&led.executed) => Err(format!(
                "member {} has transactions that the primary does not have; terminate its instance if they are not needed",
                next.ordinal
            )),
            _ => Ok(()),
        }
    }
}

/// Where a member's server was when it was looked at last.
pub(super) fn address(cluster: &MySQLCluster, desired: &Desired, ordinal: i32) -> Option<Address> {
    let status = cluster.status.as_ref()?;
    let member = status.members.iter().find(|member| member.ordinal == ordinal)?;
    let launch = status.launches.iter().find(|launch| launch.ordinal == ordinal)?;
    if launch.instance_id != member.instance_id {
        return None;
    }
    let uid = launch.adopted_from.as_deref().unwrap_or(&desired.uid);
    Some(Address {
        host: member.private_ip.clone()?,
        name: tls_name(uid, ordinal),
        certificate: member.certificate.clone()?,
    })
}
