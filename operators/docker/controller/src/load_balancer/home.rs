//! Which network a cluster is on.
//!
//! A default changes: by a flag, with an upgrade, after a move to another management cluster. What a cluster has stays
//! where it is, and what comes to it must be reached from there.

use std::collections::BTreeMap;

use super::{HOME_LABEL, load_balancer_of};
use crate::{engine::Container, identity::MACHINE_LABEL, sabotage};

/// What is said of a cluster's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The network that the spec names.
    pub named: Option<String>,
    /// The network of a cluster that names none and has nothing yet.
    pub default: String,
}

impl Home {
    /// The network of what is made next for the cluster that has `containers`: as its spec says, else that of its load
    /// balancer, else that of its machines.
    pub fn beside(&self, containers: &[Container]) -> String {
        let of_balancer = load_balancer_of(containers)
            .map(of)
            .filter(|home| !home.is_empty());
        let found = || of_balancer.or_else(|| self.of_machines(containers));
        self.named
            .clone()
            .or_else(|| found().filter(|_| !sabotage::active(sabotage::FOLLOW_DEFAULT_NETWORK)))
            .unwrap_or_else(|| self.default.clone())
    }

    /// The network that most of the machines are on: people may connect some of them to others.
    fn of_machines(&self, containers: &[Container]) -> Option<String> {
        let machines = containers
            .iter()
            .filter(|container| container.labels.contains_key(MACHINE_LABEL));
        let mut counts = BTreeMap::<&String, usize>::new();
        for network in machines.flat_map(|machine| &machine.networks) {
            *counts.entry(network).or_default() += 1;
        }
        let most = counts
            .into_iter()
            .max_by_key(|(network, count)| (*count, **network == self.default));
        most.map(|(network, _)| network.clone())
    }
}

/// The network that a load balancer was made for. One that says nothing of it is of an earlier version, and on one only.
pub(super) fn of(container: &Container) -> String {
    let home = container.labels.get(HOME_LABEL);
    home.or_else(|| container.addresses.keys().next())
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::identity::{ClusterId, Role, node_labels};

    #[test]
    fn a_load_balancer_that_was_connected_to_a_second_network_stays_at_home_on_its_first() {
        let networks = ["a-second", "home"].map(|name| (name.to_owned(), Ipv4Addr::LOCALHOST));
        let mut container = Container {
            labels: [(HOME_LABEL.to_owned(), "home".to_owned())].into(),
            addresses: networks.into(),
            ..Container::default()
        };
        assert_eq!(of(&container), "home");
        container.labels.clear();
        container.addresses.remove("a-second");
        assert_eq!(of(&container), "home");
    }

    #[test]
    fn what_a_spec_names_comes_before_what_is_there_and_that_before_the_default() {
        let id = ClusterId::new("ns", "c");
        let machine = |networks: &[&str]| Container {
            labels: node_labels(&id, "m", Role::Worker, None),
            networks: networks.iter().map(|name| (*name).to_owned()).collect(),
            ..Container::default()
        };
        let mut labels = id.load_balancer_labels();
        labels.insert(HOME_LABEL.into(), "home".into());
        let balancer = Container {
            labels,
            ..Container::default()
        };
        let mut home = Home {
            named: None,
            default: "default".into(),
        };
        assert_eq!(home.beside(&[]), "default");
        assert_eq!(home.beside(&[machine(&["other"]), balancer.clone()]), "home");
        assert_eq!(home.beside(&[machine(&["other"])]), "other");
        let connected = [machine(&["a-second", "other"]), machine(&["other"])];
        assert_eq!(home.beside(&connected), "other");
        assert_eq!(home.beside(&[machine(&["default", "z"])]), "default");
        home.named = Some("named".into());
        assert_eq!(home.beside(&[machine(&["other"]), balancer]), "named");
    }
}
