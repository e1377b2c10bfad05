//! RunInstances.
//!
//! In this order: parameters and what they refer to, permissions, `DryRun`, the client token, quota, capacity, addresses; then
//! everything happens at once. Of it AWS documents only that `DryRun` answers whether the permissions are there (*RunInstances*);
//! the rest is an assumption, and for a client the hardest: a repetition may be refused although its first attempt was made.

mod validation;

use crate::{
    action::{Answer, Request},
    error::ApiError,
    history::{History, Moment},
    instance::{self, Console, Context, Instance, Phase, Shape, State},
    storage::{Disk, Interface, Volume},
    tag::{TagLog, Tags},
    token,
    world::Estate,
    xml::Xml,
};

/// A validated launch.
struct Launch {
    shape: Shape,
    least: u32,
    most: u32,
    address: Option<String>,
    protected: bool,
    shutdown_behavior: String,
    disks: Vec<(String, Disk, bool)>,
    instance_tags: Tags,
    volume_tags: Tags,
    interface_tags: Tags,
    /// Where the client token is unique.
    scope: String,
}

pub(crate) fn run(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let launch = validation::validate(estate, request)?;
    request.admit(estate)?;
    let parameters = request.params.fingerprint();
    if let Some(token) = &launch.shape.client_token {
        let repeated = estate
            .ledger
            .find(&launch.scope, token, &parameters)?
            .map(str::to_owned);
        if let Some(reservation) = repeated {
            return repeat(estate, request, &reservation, xml).map(|()| false);
        }
    }
    let count = available(estate, request, &launch)?;
    let addresses = addresses(estate, request, &launch, count)?;
    let reservation = estate.id("r");
    for (index, address) in (0..).zip(addresses) {
        create(estate, request, &launch, (&reservation, index, address));
    }
    if let Some(token) = &launch.shape.client_token {
        estate
            .ledger
            .record(&launch.scope, token, &parameters, &reservation);
    }
    let slot = (launch.shape.zone.clone(), launch.shape.kind.clone());
    if let Some(left) = estate.capacity.get_mut(&slot) {
        *left = left.saturating_sub(count);
    }
    answer(estate, request, &reservation, xml);
    Ok(true)
}

/// A request that was carried out before is answered with what it launched.
fn repeat(estate: &Estate, request: &Request<'_>, reservation: &str, xml: &mut Xml) -> Result<(), ApiError> {
    let over = |instance: &Instance| instance.state(request.now) == State::Terminated;
    if members(estate, reservation).iter().all(|instance| over(instance)) {
        return Err(token::terminated());
    }
    answer(estate, request, reservation, xml);
    Ok(())
}

fn members<'a>(estate: &'a Estate, reservation: &str) -> Vec<&'a Instance> {
    let mut members: Vec<_> = estate
        .instances
        .values()
        .filter(|instance| instance.reservation == reservation)
        .collect();
    members.sort_by_key(|instance| instance.index);
    members
}

fn answer(estate: &Estate, request: &Request<'_>, reservation: &str, xml: &mut Xml) {
    xml.element("reservationId", reservation);
    xml.element("ownerId", &estate.account.id);
    xml.group("groupSet", |_| {});
    let context = Context {
        at: request.now,
        account: &estate.account.id,
        wall: request.wall,
    };
    xml.items("instancesSet", members(estate, reservation), |xml, member| {
        instance::describe(xml, member, &context);
    });
}

/// How many instances can be launched, at least the least that was asked for.
fn available(estate: &Estate, request: &Request<'_>, launch: &Launch) -> Result<u32, ApiError> {
    let shape = &launch.shape;
    if let Some(limit) = estate.vcpu_limit {
        let used: u32 = estate
            .instances
            .values()
            .filter(|instance| instance.shape.region == shape.region)
            .filter(|instance| matches!(instance.state(request.now), State::Pending | State::Running))
            .map(|instance| instance.shape.vcpus)
            .sum();
        if used + shape.vcpus * launch.least > limit {
            let message = format!(
                "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
            );
            return Err(ApiError::new("VcpuLimitExceeded", message));
        }
    }
    let slot = (shape.zone.clone(), shape.kind.clone());
    let count = estate
        .capacity
        .get(&slot)
        .map_or(launch.most, |left| launch.most.min(*left));
    if count >= launch.least {
        return Ok(count);
    }
    let message = format!(
        "We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). Our system will be working on provisioning additional capacity. You can currently get {kind} capacity by not specifying an Availability Zone in your request or choosing another one.",
        kind = shape.kind,
        zone = shape.zone
    );
    Err(ApiError::new("InsufficientInstanceCapacity", message))
}

/// Free addresses of the subnet. The first four and the last are AWS's.
fn addresses(
    estate: &Estate,
    request: &Request<'_>,
    launch: &Launch,
    count: u32,
) -> Result<Vec<String>, ApiError> {
    let subnet = &launch.shape.subnet;
    let taken = |address: &str| {
        estate.instances.values().any(|instance| {
            instance.shape.subnet == *subnet
                && instance.address == address
                && instance.state(request.now) != State::Terminated
        })
    };
    if let Some(address) = &launch.address {
        if taken(address) {
            let message = format!("Address {address} is in use.");
            return Err(ApiError::new("InvalidIPAddress.InUse", message));
        }
        return Ok(vec![address.clone()]);
    }
    let region = estate.account.regions.get(request.region);
    let found = region.and_then(|region| region.subnets.iter().find(|known| known.id == *subnet));
    let prefix = found.map_or("10.255.255", |subnet| &subnet.prefix);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let free: Vec<String> = (4..=254)
        .map(|host| format!("{prefix}.{host}"))
        .filter(|address| !taken(address))
        .take(count)
        .collect();
    if free.len() == count {
        return Ok(free);
    }
    let message = format!(
        "There are not enough free addresses in subnet '{subnet}' to satisfy the requested number of instances."
    );
    Err(ApiError::new("InsufficientFreeAddressesInSubnet", message))
}

fn create(estate: &mut Estate, request: &Request<'_>, launch: &Launch, member: (&str, u32, String)) {
    let (reservation, index, address) = member;
    let id = estate.id("i");
    let now = request.now;
    let mut devices = Vec::new();
    for (name, disk, goes_along) in &launch.disks {
        let volume = Volume {
            id: estate.id("vol"),
            region: launch.shape.region.clone(),
            zone: launch.shape.zone.clone(),
            disk: disk.clone(),
            created: now,
            tags: TagLog::new(now, launch.volume_tags.clone()),
            attachment: (id.clone(), name.clone(), *goes_along),
            deleted: None,
        };
        devices.push((name.clone(), volume.id.clone(), *goes_along));
        estate.volumes.insert(volume.id.clone(), volume);
    }
    let interface = Interface {
        id: estate.id("eni"),
        region: launch.shape.region.clone(),
        instance: id.clone(),
        goes_along: true,
        created: now,
        tags: TagLog::new(now, launch.interface_tags.clone()),
        deleted: None,
    };
    let instance = Instance {
        id: id.clone(),
        reservation: reservation.to_owned(),
        index,
        launched: now,
        shape: launch.shape.clone(),
        address,
        phases: phases(estate, now),
        tags: TagLog::new(now, launch.instance_tags.clone()),
        protected: launch.protected,
        shutdown_behavior: launch.shutdown_behavior.clone(),
        devices,
        interface: interface.id.clone(),
        impaired: false,
        console: Console::default(),
    };
    estate.interfaces.insert(interface.id.clone(), interface);
    estate.instances.insert(id, instance);
}

/// `pending`, then `running`; or `terminated`, for a launch that is to fail.
fn phases(estate: &mut Estate, now: Moment) -> History<Phase> {
    let pending = |reason| Phase {
        state: State::Pending,
        reason,
    };
    let failing = estate.failing_launches.pop_front();
    let mut phases = History::new(now, pending(failing.clone()));
    let state = if failing.is_some() {
        State::Terminated
    } else {
        State::Running
    };
    phases.push(
        now + estate.timings.boot,
        Phase {
            state,
            reason: failing,
        },
    );
    phases
}
