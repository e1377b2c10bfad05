//! Who a container belongs to, and what it is called.
//!
//! # Guarantees
//! - A machine is identified by namespace, Cluster and DockerMachine name, written as labels on its container: names
//!   that survive `clusterctl move`, a lost status and a new InfraCluster, unlike UIDs.
//! - Container names are unique per Docker host without being looked up: Kubernetes names contain no underscore and
//!   namespaces no dot, so `<machine>.<namespace>` and `<cluster>_lb.<namespace>` can be taken apart again. Two
//!   clusters of one name in two namespaces never meet.
//! - Host names, and with them Node names, are valid whatever the length of the machine's name.

use std::collections::BTreeMap;

use crate::digest::short_digest;

/// What the labels of the controller begin with; nobody else's do.
pub const LABEL_PREFIX: &str = "capdkc.cluster.x-k8s.io/";
/// Label: the namespace of the Cluster.
pub const NAMESPACE_LABEL: &str = "capdkc.cluster.x-k8s.io/namespace";
/// Label: the name of the Cluster.
pub const CLUSTER_LABEL: &str = "capdkc.cluster.x-k8s.io/cluster";
/// Label: the name of the DockerMachine.
pub const MACHINE_LABEL: &str = "capdkc.cluster.x-k8s.io/machine";
/// Label: what the container is.
pub const ROLE_LABEL: &str = "capdkc.cluster.x-k8s.io/role";
/// Label: the failure domain that the machine was placed in.
pub const FAILURE_DOMAIN_LABEL: &str = "capdkc.cluster.x-k8s.io/failure-domain";

/// Label: which attempt at its bootstrap the container stands for; absent for the first.
pub const ATTEMPT_LABEL: &str = "capdkc.cluster.x-k8s.io/bootstrap-attempt";

/// The prefix of provider ids.
const PROVIDER_PREFIX: &str = "docker:////";
/// The longest host name that Linux and a Node's `kubernetes.io/hostname` label both take.
const HOSTNAME_LIMIT: usize = 63;

/// A cluster, as its containers name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId {
    /// Namespace of the Cluster.
    pub namespace: String,
    /// Name of the Cluster.
    pub name: String,
}

/// What a container is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A node of the control plane.
    ControlPlane,
    /// Any other node.
    Worker,
    /// The load balancer in front of the control plane.
    LoadBalancer,
}

impl Role {
    /// The value of [`ROLE_LABEL`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::LoadBalancer => "load-balancer",
        }
    }
}

impl ClusterId {
    /// The Cluster `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Labels that every container of the cluster carries.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [(NAMESPACE_LABEL, &self.namespace), (CLUSTER_LABEL, &self.name)]
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into()
    }

    /// Name of the load balancer's container.
    pub fn load_balancer_name(&self) -> String {
        format!("{}_lb.{}", self.name, self.namespace)
    }

    /// Labels of the load balancer's container.
    pub fn load_balancer_labels(&self) -> BTreeMap<String, String> {
        with_role(self.labels(), Role::LoadBalancer)
    }
}

/// Name of the container of the DockerMachine `machine` in `namespace`.
pub fn node_name(namespace: &str, machine: &str) -> String {
    format!("{machine}.{namespace}")
}

/// Labels by which the container of a DockerMachine is found. Without `cluster`, where nobody knows it any more, a
/// container of that machine in whatever cluster.
pub fn machine_labels(namespace: &str, cluster: Option<&str>, machine: &str) -> BTreeMap<String, String> {
    let known = [(NAMESPACE_LABEL, namespace), (MACHINE_LABEL, machine)];
    known
        .into_iter()
        .chain(cluster.map(|cluster| (CLUSTER_LABEL, cluster)))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// All labels of the container of a DockerMachine.
pub fn node_labels(
    cluster: &ClusterId,
    machine: &str,
    role: Role,
    failure_domain: Option<&str>,
) -> BTreeMap<String, String> {
    let mut labels = with_role(cluster.labels(), role);
    labels.insert(MACHINE_LABEL.into(), machine.into());
    if let Some(domain) = failure_domain {
        labels.insert(FAILURE_DOMAIN_LABEL.into(), domain.into());
    }
    labels
}

/// Which attempt at its bootstrap a container with these labels stands for.
pub fn attempt(labels: &BTreeMap<String, String>) -> i32 {
    let label = labels.get(ATTEMPT_LABEL);
    label.and_then(|attempt| attempt.parse().ok()).unwrap_or(1)
}

fn with_role(mut labels: BTreeMap<String, String>, role: Role) -> BTreeMap<String, String> {
    labels.insert(ROLE_LABEL.into(), role.as_str().into());
    labels
}

/// The host name of a machine, which becomes its Node's name: the machine's own name, or, where that is too long,
/// its beginning and a digest of the whole.
pub fn hostname(machine: &str) -> String {
    if machine.len() <= HOSTNAME_LIMIT {
        return machine.to_owned();
    }
    let digest = short_digest(machine.as_bytes());
    let head: String = machine.chars().take(HOSTNAME_LIMIT - digest.len() - 1).collect();
    format!("{}-{digest}", head.trim_end_matches(['-', '.']))
}

/// The id that a machine and its Node share.
pub fn provider_id(container: &str) -> String {
    format!("{PROVIDER_PREFIX}{container}")
}

/// The name of the container that `provider_id` speaks of; nothing if it is not an id of ours.
pub fn container_of(provider_id: &str) -> Option<&str> {
    provider_id
        .strip_prefix(PROVIDER_PREFIX)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_share_a_container_name() {
        let lb = |ns: &str, c: &str| ClusterId::new(ns, c).load_balancer_name();
        let names = [
            lb("a", "c1"),
            lb("b", "c1"),
            node_name("a", "c1"),
            node_name("a", "c1.lb"),
            node_name("a", "c1-lb"),
            node_name("b", "c1"),
            node_name("a", "c1.b"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn a_host_name_is_valid_whatever_the_machines_name() {
        assert_eq!(hostname("c1-abc"), "c1-abc");
        let long = hostname(&"x".repeat(300));
        assert_eq!(long.len(), HOSTNAME_LIMIT);
        assert_ne!(long, hostname(&"x".repeat(299)));
    }

    #[test]
    fn a_provider_id_leads_back_to_its_container() {
        let name = node_name("ns", "m");
        assert_eq!(container_of(&provider_id(&name)), Some(name.as_str()));
        assert_eq!(container_of("docker:////"), None);
        assert_eq!(container_of("aws:///x"), None);
    }
}
