//! How a load balancer that runs differs from what was asked for.
//!
//! A running one is never made anew for it: that would cut off the control plane. People are told, and can have it made
//! anew by removing its container.

use std::net::Ipv4Addr;

use super::{Error, IMAGE_LABEL, LoadBalancers, Request, Wanted, home};
use crate::{
    engine::{Container, ContainerState, Engine},
    identity::{MACHINE_LABEL, ROLE_LABEL, Role},
    network,
};

impl<E: Engine> LoadBalancers<E> {
    /// Fails where the endpoint is at somebody else's container, and the cluster has none of ours: another provider runs
    /// it, and a second load balancer would serve nobody.
    pub(super) async fn refuse_elsewhere(
        &self,
        wanted: &Wanted<'_>,
        containers: &[Container],
    ) -> Result<(), Error> {
        let is_machine = |container: &Container| container.labels.contains_key(MACHINE_LABEL);
        let address = wanted.request.address;
        let Some(address) = address.filter(|_| !containers.iter().any(is_machine)) else {
            return Ok(());
        };
        let found = self.engine.network(&wanted.network).await?;
        if found.is_some_and(|network| network.in_use.contains(&address)) {
            let network = wanted.network.clone();
            return Err(Error::Elsewhere { address, network });
        }
        Ok(())
    }

    /// What keeps those away who look for `container` where the endpoint says: it is at `address`, and should be at
    /// another of its network. An endpoint elsewhere, such as a name, is not ours to judge.
    pub(super) async fn trouble(
        &self,
        request: &Request,
        containers: &[Container],
        container: &Container,
        address: Ipv4Addr,
    ) -> Result<Option<String>, Error> {
        let Some(wanted) = request.address.filter(|wanted| *wanted != address) else {
            return Ok(None);
        };
        let home = home::of(container);
        let network = self.engine.network(&home).await?;
        let subnet = network.and_then(|network| network.subnet);
        if !subnet.is_some_and(|subnet| network::contains(subnet, wanted)) {
            return Ok(None);
        }
        let (name, network) = (&container.name, &home);
        let of_control_plane = |container: &Container| {
            container.labels.get(ROLE_LABEL).map(String::as_str) == Some(Role::ControlPlane.as_str())
        };
        let advice = if !containers.iter().any(of_control_plane) {
            format!(
                "no control plane machine of this cluster is a container of this provider: if another has made the \
                 cluster, finish it there and leave {wanted} to it; if the cluster is new, make it anew with an address \
                 that is free"
            )
        } else if container.kept.contains(network) {
            format!("free that address, then have the load balancer made anew: docker rm --force {name}")
        } else {
            format!(
                "network {network} assigns addresses itself, so it cannot be asked for again; make the cluster anew on a \
                 network that was created with a subnet"
            )
        };
        Ok(Some(format!(
            "load balancer {name} runs at {address}, and controlPlaneEndpoint names {wanted}; {advice}"
        )))
    }
}

/// What people should know of a load balancer that serves.
pub(super) fn notes(request: &Request, container: &Container) -> Vec<String> {
    let mut notes = Vec::new();
    let network = &home::of(container);
    if !container.kept.contains(network) {
        notes.push(format!(
            "network {network} assigns addresses itself, so a restart of Docker may move load balancer and machines, which \
             a cluster does not survive; to keep addresses, use a network that was created with a subnet"
        ));
    }
    let made_anew = format!("to have it made anew: docker rm --force {}", container.name);
    let published = container.ports.get(&request.port);
    if let (Some(wanted), Some(published)) = (request.host_port, published)
        && wanted != *published
        && container.state == ContainerState::Running
    {
        notes.push(format!(
            "it is published on port {published}, and loadBalancer.hostPort asks for {wanted}; {made_anew}"
        ));
    }
    let image = container.labels.get(IMAGE_LABEL);
    if let Some(image) = image.filter(|image| **image != request.image) {
        notes.push(format!(
            "it was made from image {image}, and {} is asked for now; {made_anew}",
            request.image
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::{
        super::{HOME_LABEL, home::Home},
        *,
    };
    use crate::identity::ClusterId;

    #[test]
    fn what_differs_is_told_and_what_does_not_is_not() {
        let request = Request {
            cluster: ClusterId::new("ns", "c"),
            image: "haproxy:2".into(),
            home: Home {
                named: None,
                default: "other".into(),
            },
            address: None,
            port: 6443,
            host_port: Some(30_002),
        };
        let mut container = Container {
            name: "c_lb.ns".into(),
            state: ContainerState::Running,
            labels: [(IMAGE_LABEL, "haproxy:1"), (HOME_LABEL, "nodes")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ports: [(6443, 30_001)].into(),
            ..Container::default()
        };
        let told = notes(&request, &container);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("network nodes assigns addresses itself"),
            "{told:?}"
        );
        for (note, words) in told[1..]
            .iter()
            .zip([["30001", "30002"], ["haproxy:1", "haproxy:2"]])
        {
            assert!(words.iter().all(|word| note.contains(word)), "{note}");
            assert!(note.ends_with("docker rm --force c_lb.ns"), "{note}");
        }
        container.kept.insert("nodes".into());
        container.ports.insert(6443, 30_002);
        // Of an earlier version, which did not say what it was made from.
        container.labels.clear();
        container.addresses.insert("nodes".into(), Ipv4Addr::LOCALHOST);
        assert_eq!(notes(&request, &container), Vec::<String>::new());
    }
}
