//! A cluster takes over the instances of an earlier one of its name, because somebody asked it to.
//!
//! # Expected flow
//! 1. `mysql.alx.ke/adopt=<UID>` stands on a cluster that has launched nothing yet.
//! 2. The instances of that UID are looked at; what speaks against taking them over is a condition, and nothing is
//!    launched as long as the annotation is there.
//! 3. The Secret by which their members know the operator is taken over, and the binding: nobody owns them yet.
//! 4. They are recorded as this cluster's, and the Secrets made its own: from now on they go with it.
//! 5. They are tagged so, with the volumes and interfaces that they were launched with. After a crash in between they are tagged
//!    as any member whose tags were taken off.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use mysql_api::{
    MySQLCluster,
    cluster::{ADOPT, Launch, LaunchPhase},
};
use reconcile::Pass;

use super::ClusterError;
use crate::{
    act::{Operator, launched_along, tags},
    cloud::{Instance, Instances},
    desired::Desired,
    endpoints::binding_name,
    identity::{ORIGIN, OWNER},
    ledger::Ledger,
    records::Records,
};

use super::{
    records::StatusRecords,
    retention::{self, Held},
};

/// The UID that a cluster is to take over from; nothing if it is not, or not any more.
pub(super) fn asked(cluster: &MySQLCluster) -> Option<String> {
    let status = cluster.status.as_ref();
    let fresh = status.is_none_or(|status| status.launches.is_empty());
    let from = cluster.annotations().get(ADOPT)?;
    (fresh && cluster.uid().as_ref() != Some(from)).then(|| from.clone())
}

/// How old a look at the instances may be.
const LATELY: Duration = Duration::from_secs(10);

/// How old it may be where nothing is to be done about them.
const ONCE_A_MINUTE: Duration = Duration::from_mins(1);

/// What is to be said where somebody asks a cluster that has instances to take over others, which it does not.
pub(super) async fn neglected<I: Instances>(
    cluster: &MySQLCluster,
    operator: &Operator<I>,
    region: &str,
) -> Option<String> {
    let launches = &cluster.status.as_ref()?.launches;
    let from = cluster.annotations().get(ADOPT)?;
    if launches.is_empty() || launches.iter().any(|launch| launch.adopted_from.is_some()) {
        return None;
    }
    let listing = operator.reader.listing(region, ONCE_A_MINUTE).await.ok()?;
    let is_left = |one: &&Instance| one.is_live() && one.is_ours(&operator.operator_id);
    let left: Vec<_> = listing
        .of(from)
        .iter()
        .filter(is_left)
        .filter(|_| cluster.uid().as_ref() != Some(from))
        .map(|one| one.id.as_str())
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "the instances of the cluster {from} are not taken over, for this one has instances already: {}; delete it, and create it anew with the annotation {ADOPT}={from}",
            left.join(", ")
        )
    })
}

/// The launches of these instances as this cluster's ledger holds them, or what speaks against that.
pub(super) fn entries(
    instances: &[Instance],
    operator_id: &str,
    (from, desired): (&str, &Desired),
) -> Result<Vec<Launch>, String> {
    let owner = format!("{}/{}", desired.namespace, desired.name);
    let ours = |one: &&Instance| one.is_live() && one.is_ours(operator_id);
    let mut entries: Vec<Launch> = Vec::new();
    for instance in instances.iter().filter(ours) {
        let id = &instance.id;
        if instance.tags.get(OWNER) != Some(&owner) {
            return Err(format!(
                "{id} belonged to a MySQLCluster of another name than {owner}"
            ));
        }
        let (Some(identity), Some(subnet)) = (instance.identity(), &instance.subnet) else {
            return Err(format!("{id} does not say which member it is"));
        };
        let ordinal = identity.ordinal;
        if !(0..desired.replicas).contains(&ordinal) {
            return Err(format!(
                "{id} is member {ordinal}; set replicas to at least {}",
                ordinal + 1
            ));
        }
        if let Some(other) = entries.iter().find(|entry| entry.ordinal == ordinal) {
            let other = other.instance_id.as_deref().unwrap_or_default();
            return Err(format!(
                "{id} and {other} are both member {ordinal}; terminate the one that is not needed"
            ));
        }
        entries.push(Launch {
            ordinal,
            incarnation: identity.incarnation,
            token: instance.client_token.clone().unwrap_or_default(),
            subnet_id: subnet.clone(),
            params_hash: String::new(),
            decided_at: Time(instance.launched_at.unwrap_or_default()),
            phase: LaunchPhase::Launched,
            revision: None,
            data: None,
            // Who was adopted before is still known by the certificate of the first cluster.
            adopted_from: Some(instance.tags.get(ORIGIN).map_or(from, String::as_str).to_owned()),
            failures: 0,
            instance_id: Some(id.clone()),
        });
    }
    if entries.is_empty() {
        return Err(format!("this operator has no live instance of the UID {from}"));
    }
    Ok(entries)
}

/// Takes over; says what prevents it.
pub(super) async fn adopt<I: Instances>(
    pass: &Pass<MySQLCluster>,
    operator: &Operator<I>,
    (from, desired): (&str, &Desired),
) -> Result<Result<(), String>, ClusterError> {
    let listing = operator.reader.listing(&desired.region, LATELY).await?;
    let entries = match entries(listing.of(from), &operator.operator_id, (from, desired)) {
        Ok(entries) => entries,
        Err(why) => return Ok(Err(why)),
    };
    let cloud = &operator.cloud;
    // What cannot be asked for is found out before anything is changed.
    let parts = cloud.parts(&desired.region, &operator.operator_id, from).await;
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if let Err(why) = take_over_secrets(pass, from).await? {
        return Ok(Err(why));
    }
    let mut ledger = Ledger::default();
    for entry in &entries {
        ledger.enter(entry.clone());
    }
    StatusRecords { pass }.write(&ledger).await?;
    retention::own(pass).await?;
    for entry in entries {
        let tags = tags(desired, &entry, &operator.operator_id);
        let along = launched_along(&entry, from, &parts);
        let ids: Vec<String> = entry.instance_id.into_iter().chain(along).collect();
        cloud.tag(&desired.region, &ids, &tags, pass.fence()).await?;
    }
    Ok(Ok(()))
}

/// Makes the Secret by which the members know the operator this cluster's, and the one that applications have bound to:
/// both or none.
async fn take_over_secrets(
    pass: &Pass<MySQLCluster>,
    from: &str,
) -> Result<Result<(), String>, ClusterError> {
    let foreign = |name: &str| Ok(Err(format!("the Secret {name} belongs to somebody else")));
    let name = retention::operator_name(&pass.key().name);
    let operator = match retention::holder(pass, &name, from).await? {
        Held::Missing => {
            return Ok(Err(format!(
                "the Secret {name} by which the members know the operator is missing; restore it, without its owner references"
            )));
        }
        Held::Foreign => return foreign(&name),
        Held::Ours => None,
        Held::Free(secret) => Some(secret),
    };
    let name = binding_name(&pass.key().name);
    let binding = match retention::holder(pass, &name, from).await? {
        Held::Foreign => return foreign(&name),
        // It is written anew where there is none.
        Held::Ours | Held::Missing => None,
        Held::Free(secret) => Some(secret),
    };
    for secret in operator.into_iter().chain(binding) {
        retention::take_over(pass, &secret, from).await?;
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        cloud::InstanceState,
        desired::tests::desired,
        identity::{Identity, OPERATOR_ID},
    };

    fn instance(id: &str, ordinal: i32) -> Instance {
        let identity = Identity {
            cluster_uid: "old".into(),
            ordinal,
            incarnation: 2,
        };
        let mut tags = BTreeMap::from(identity.tags());
        tags.extend([(OPERATOR_ID.into(), "op".into()), (OWNER.into(), "ns/c".into())]);
        Instance {
            id: id.into(),
            state: InstanceState::Running,
            reason: None,
            tags,
            client_token: Some(identity.token("s", "h")),
            zone: None,
            private_ip: None,
            subnet: Some("subnet-12345678".into()),
            launched_at: None,
        }
    }

    fn found(instances: &[Instance]) -> Result<Vec<Launch>, String> {
        entries(instances, "op", ("old", &desired(3)))
    }

    #[test]
    fn members_keep_their_numbers_and_are_known_by_the_certificates_that_they_have() {
        let mut gone = instance("i-3", 2);
        gone.state = InstanceState::Terminated;
        let found = found(&[instance("i-1", 0), instance("i-2", 1), gone]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].ordinal, found[1].incarnation), (1, 2));
        assert_eq!(found[1].adopted_from.as_deref(), Some("old"));
        assert_eq!(
            found[1].revision, None,
            "it is not replaced for what it may have been launched with"
        );
    }

    #[rstest]
    #[case(vec![], "no live instance")]
    #[case(vec![instance("i-1", 0), instance("i-2", 0)], "both member 0")]
    #[case(vec![instance("i-1", 3)], "at least 4")]
    fn what_is_doubtful_is_not_taken_over(#[case] instances: Vec<Instance>, #[case] why: &str) {
        let refused = found(&instances).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }

    #[test]
    fn another_clusters_and_another_operators_instances_are_not_taken_over() {
        let mut named = instance("i-1", 0);
        named.tags.insert(OWNER.into(), "ns/other".into());
        assert!(found(&[named]).is_err());
        let mut theirs = instance("i-1", 0);
        theirs.tags.insert(OPERATOR_ID.into(), "other".into());
        assert!(found(&[theirs]).is_err());
    }
}
