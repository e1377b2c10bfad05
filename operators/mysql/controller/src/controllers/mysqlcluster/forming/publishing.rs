//! Tells clients where the servers are, and how to know them.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use mysql_api::{
    MySQLCluster, Reason,
    cluster::{LaunchPhase, Member},
};
use reconcile::{
    Reconciler as _,
    apply::{Applier, ApplyError},
};

use super::{
    super::{Clusters, remains, secrets},
    Formed, Forming,
};
use crate::{
    cloud::{Instance, Instances},
    endpoints::{self, Backend, Side},
    replication::{self, Standing},
    server::Servers,
};

impl<I: Instances, S: Servers> Forming<'_, I, S> {
    /// Brings Services, slices and the binding to what was found, and the operator's own Secret back. What was brought there
    /// lately is not looked at, unless something has caused this pass.
    /// What prevents the latter is returned.
    pub(super) async fn publish(
        &self,
        formed: &Formed,
        instances: &[(i32, &Instance)],
        members: &[replication::Member],
    ) -> Result<Option<(Reason, String)>, ApplyError> {
        let name = &self.group.name;
        let backends: Vec<_> = instances
            .iter()
            .filter_map(|(ordinal, instance)| {
                let kept = (formed.kept == Some(*ordinal)).then_some(Standing::Leads);
                Some(Backend {
                    address: instance.private_ip.clone()?,
                    zone: instance.zone.clone(),
                    standing: kept.or_else(|| formed.standings.get(ordinal).copied())?,
                })
            })
            .collect();
        let mut known = pinned(&self.pass.current());
        known.extend(formed.certificates.clone());
        let certificates: String = known.into_values().collect();
        let now = self.pass.clock().steady();
        let digest = digest(&backends, &certificates);
        let (told, known) = {
            let evidence = self.evidence.lock();
            (evidence.is_published(digest, now), evidence.knows_secrets(now))
        };
        if told && known {
            return Ok(None);
        }
        let owner = self.pass.current();
        let applier = Applier::new(self.pass.client(), Clusters::<I, S>::NAME, owner.as_ref());
        if !told {
            for side in Side::ALL {
                let (service, slice) = (
                    endpoints::service(name, side),
                    endpoints::slice(name, side, &backends),
                );
                applier.apply(remains::marked(service, &self.group.uid)).await?;
                applier.apply(remains::marked(slice, &self.group.uid)).await?;
            }
        }
        let is_answered = members.iter().any(|member| member.survey.is_some());
        let trouble = secrets::restore(self.pass, self.authority, is_answered).await?;
        let binding = endpoints::binding(name, &self.group.namespace, self.authority, &certificates);
        applier.apply(remains::marked(binding, &self.group.uid)).await?;
        let mut evidence = self.evidence.lock();
        if trouble.is_none() {
            evidence.saw_secrets(now);
        }
        if !told {
            evidence.published(digest, now);
        }
        Ok(trouble)
    }
}

/// The certificates that are pinned for the members' instances, whether those run at the moment or not: clients that are not
/// told of one would have to be told when it comes back.
fn pinned(cluster: &MySQLCluster) -> BTreeMap<i32, String> {
    let Some(status) = &cluster.status else {
        return BTreeMap::new();
    };
    let is_there = |member: &&Member| {
        let mut launches = status.launches.iter();
        launches.any(|launch| {
            launch.phase != LaunchPhase::Over
                && launch.ordinal == member.ordinal
                && launch.instance_id.is_some()
                && launch.instance_id == member.instance_id
        })
    };
    let members = status.members.iter().filter(is_there);
    members
        .filter_map(|member| Some((member.ordinal, member.certificate.clone()?)))
        .collect()
}

fn digest(backends: &[Backend], certificates: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for backend in backends {
        (&backend.address, &backend.zone, backend.standing as u8).hash(&mut hasher);
    }
    certificates.hash(&mut hasher);
    hasher.finish()
}
