//! One reconciler per kind.

pub mod cluster;
pub mod machine;
pub mod template;

use docker_api::{ConditionType, DockerCluster, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use reconcile::conditions::{self, ConditionStatus, DesiredCondition};

use crate::{
    contract::{self, MANAGED_BY},
    load_balancer::home::Home,
    storage::Storage,
};

/// What is the same for all reconcilers of this process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Network of clusters that name none and have nothing yet.
    pub network: String,
    /// Image of load balancers whose cluster names none.
    pub load_balancer_image: String,
    /// Serve only objects whose label `cluster.x-k8s.io/watch-filter` has this value.
    pub watch_filter: Option<String>,
    /// What is known of the versions that objects are stored in.
    pub storage: Storage,
}

impl Settings {
    /// Whether `cluster` is for us to manage.
    fn manages(&self, cluster: &DockerCluster) -> bool {
        contract::is_served(cluster, self.watch_filter.as_deref())
            && !cluster.annotations().contains_key(MANAGED_BY)
    }

    /// What is said of the network that the machines of a cluster share, whose DockerCluster this is, if it has one.
    fn home(&self, cluster: Option<&DockerCluster>) -> Home {
        let named = cluster.and_then(|cluster| cluster.spec.network.as_ref());
        Home {
            named: named.map(|network| network.name.clone()),
            default: self.network.clone(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: "kind".into(),
            load_balancer_image: "kindest/haproxy:v20230606-42a2262b".into(),
            watch_filter: None,
            storage: Storage::default(),
        }
    }
}

/// A condition of the closed sets of the api.
fn condition(
    type_: ConditionType,
    status: impl Into<ConditionStatus>,
    reason: Reason,
    message: impl Into<String>,
) -> DesiredCondition {
    DesiredCondition::new(type_.as_str(), status, reason.as_str(), message)
}

/// The condition `Paused`.
fn paused(holds: bool) -> DesiredCondition {
    if holds {
        let message = "the object or its Cluster is paused; nothing is done until that is taken back";
        condition(ConditionType::Paused, true, Reason::Paused, message)
    } else {
        condition(ConditionType::Paused, false, Reason::NotPaused, "")
    }
}

/// Puts `parts`, and `Ready` as their summary, into `conditions`.
fn report(
    conditions: &mut Vec<Condition>,
    parts: &[DesiredCondition],
    others: impl IntoIterator<Item = DesiredCondition>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let ready = conditions::summary(
        ConditionType::Ready.as_str(),
        parts,
        Reason::Ready.as_str(),
        // Cluster API repeats what a condition that holds says, as something to look at.
        "",
    );
    for desired in [ready].into_iter().chain(parts.iter().cloned()).chain(others) {
        let _ = conditions::set(conditions, desired, generation, now);
    }
}
