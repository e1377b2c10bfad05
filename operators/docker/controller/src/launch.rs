//! Making and starting a container that must be reachable under one address and one port for good.
//!
//! # Guarantees
//! - Repeating it after a crash at any point leaves one container: its name is fixed, and one that was made and never
//!   started holds nothing and is made anew.
//! - A container of that name which is not ours is left untouched.
//! - An address or port that turns out to be taken is replaced by the next; a port that somebody asked for is not.
//! - A network that lets nobody choose an address is asked once, and then left to assign what it likes.

use std::net::Ipv4Addr;

use crate::{
    engine::{Container, ContainerPlan, ContainerState, Engine, EngineError, Failure, Network},
    identity::NAMESPACE_LABEL,
    network, node, sabotage,
};

/// How often another address or port is tried.
const ATTEMPTS: usize = 32;

/// What to launch.
pub struct Launch {
    /// The container, without its address.
    pub plan: ContainerPlan,
    /// The address to try first, if it belongs to the network.
    pub address: Option<Ipv4Addr>,
    /// Ports of the host to try for the first published port; none keeps what the plan says.
    pub host_ports: Vec<u16>,
    /// Files to write before the start: path and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Makes the network `name` unless it is there.
pub async fn ensure_network(engine: &impl Engine, name: &str) -> Result<Network, EngineError> {
    for subnet in network::SUBNETS {
        if let Some(found) = engine.network(name).await? {
            return Ok(found);
        }
        match engine.create_network(name, subnet).await {
            // Another was faster, or the subnet is in use: look again, or try the next.
            Err(error) if matches!(error.kind, Failure::NameTaken | Failure::AddressTaken) => {}
            other => other?,
        }
    }
    engine.network(name).await?.ok_or_else(|| EngineError {
        kind: Failure::Unavailable,
        action: format!("create network {name}"),
        message: "every subnet that was tried overlaps another network; create it yourself, with a subnet"
            .into(),
    })
}

/// Launches a container. `existing` is what was found under the same identity.
pub async fn launch(
    engine: &impl Engine,
    mut launch: Launch,
    existing: Option<&Container>,
) -> Result<(), EngineError> {
    if let Some(existing) = existing {
        engine.remove(&existing.id).await?;
    }
    let mut found = ensure_network(engine, &launch.plan.network).await?;
    node::keep_from_proxies(&mut launch.plan, found.subnet);
    let mut taken = addresses_in_use(engine, &launch.plan.network, &found).await?;
    let mut ports = launch.host_ports.clone().into_iter();
    next_port(&mut launch, &mut ports);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        launch.plan.address = choose(&found, &taken, &launch);
        match attempt(engine, &launch).await {
            Err(error) if error.kind == Failure::AddressTaken && launch.plan.address.is_some() => {
                taken.extend(launch.plan.address);
                last = Some(error);
            }
            Err(error) if error.kind == Failure::AddressRefused && !found.assigns => {
                engine.note_assigns(&found.id);
                found.assigns = true;
                last = Some(error);
            }
            Err(error) if error.kind == Failure::PortTaken && !launch.host_ports.is_empty() => {
                next_port(&mut launch, &mut ports);
                last = Some(error);
            }
            result => return result,
        }
    }
    last.map_or(Ok(()), Err)
}

/// The address to ask for; none where the network assigns them.
fn choose(found: &Network, taken: &[Ipv4Addr], launch: &Launch) -> Option<Ipv4Addr> {
    let subnet = found.subnet.filter(|_| !found.assigns)?;
    let preferred = launch
        .address
        .filter(|address| network::contains(subnet, *address) && !taken.contains(address));
    preferred.or_else(|| network::address(subnet, taken, &launch.plan.name))
}

fn next_port(launch: &mut Launch, ports: &mut impl Iterator<Item = u16>) {
    if let (Some(port), Some(first)) = (ports.next(), launch.plan.ports.first_mut()) {
        first.host_port = Some(port);
    }
}

/// One try. What it made is removed again if it cannot be started: it would hold on to a bad address or port.
async fn attempt(engine: &impl Engine, launch: &Launch) -> Result<(), EngineError> {
    let name = &launch.plan.name;
    match engine.create(&launch.plan).await {
        Err(error) if error.kind == Failure::NameTaken => return occupied(engine, launch, error).await,
        other => other?,
    }
    let started = async {
        for (path, content) in &launch.files {
            engine.write_file(name, path, content).await?;
        }
        engine.start(name).await
    };
    if let Err(error) = started.await {
        // A daemon that does not answer cannot remove either; the next pass finds the container as it is.
        if error.kind != Failure::Unavailable && error.kind != Failure::Fenced {
            engine.remove(name).await?;
        }
        return Err(error);
    }
    Ok(())
}

/// The name is taken: by us (an answer that got lost), or by a stranger.
async fn occupied(engine: &impl Engine, launch: &Launch, error: EngineError) -> Result<(), EngineError> {
    let Some(found) = engine.container(&launch.plan.name).await? else {
        return Err(error);
    };
    let ours = launch
        .plan
        .labels
        .iter()
        .all(|(key, value)| found.labels.get(key) == Some(value));
    let ours = ours || sabotage::active(sabotage::ADOPT_FOREIGN_CONTAINER);
    match found.state {
        _ if !ours => Err(error),
        ContainerState::Created => {
            engine.remove(&found.id).await?;
            Err(EngineError {
                kind: Failure::Unavailable,
                ..error
            })
        }
        _ => Ok(()),
    }
}

/// Addresses that must not be given out: those of running containers, and those that our stopped ones keep.
async fn addresses_in_use(
    engine: &impl Engine,
    name: &str,
    found: &Network,
) -> Result<Vec<Ipv4Addr>, EngineError> {
    let ours = [(NAMESPACE_LABEL.to_owned(), String::new())].into();
    let containers = engine.containers(&ours).await?;
    let kept = containers
        .iter()
        .filter_map(|container| container.addresses.get(name).copied());
    Ok(found.in_use.iter().copied().chain(kept).collect())
}
