//! Volumes and network interfaces: what instances leave behind, or take with them.

mod attachment;

use std::collections::BTreeMap;

use crate::{
    account::Image,
    action::{Answer, Request},
    error::ApiError,
    filter::Filters,
    history::Moment,
    instance::{Instance, State, is_id, write_groups, write_tags},
    page::Paging,
    query::Params,
    tag::{TagLog, Tags},
    world::Estate,
    xml::Xml,
};

#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) disk: Disk,
    pub(crate) created: Moment,
    pub(crate) tags: TagLog,
    /// Instance, device, whether it goes with the instance.
    pub(crate) attachment: (String, String, bool),
    pub(crate) deleted: Option<Moment>,
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) size: u32,
    pub(crate) kind: String,
    pub(crate) iops: Option<u32>,
    pub(crate) throughput: Option<u32>,
    pub(crate) encrypted: bool,
    /// What it was made from; a volume without one was blank.
    pub(crate) snapshot: Option<String>,
}

impl Volume {
    /// `in-use`, `available`, or nothing if it does not exist at that moment.
    pub(crate) fn state(&self, instances: &BTreeMap<String, Instance>, at: Moment) -> Option<&'static str> {
        if self.created > at || self.deleted.is_some_and(|deleted| deleted <= at) {
            return None;
        }
        let (instance, _, goes_along) = &self.attachment;
        let attached = instances
            .get(instance)
            .is_some_and(|instance| instance.state(at) != State::Terminated);
        match (attached, goes_along) {
            (true, _) => Some("in-use"),
            (false, true) => None,
            (false, false) => Some("available"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) instance: String,
    /// Whether it goes with the instance, as a primary interface does unless somebody changes that.
    pub(crate) goes_along: bool,
    pub(crate) created: Moment,
    pub(crate) tags: TagLog,
    pub(crate) deleted: Option<Moment>,
}

impl Interface {
    /// `in-use`, `available`, or nothing if it does not exist at that moment.
    pub(crate) fn state(&self, instances: &BTreeMap<String, Instance>, at: Moment) -> Option<&'static str> {
        if self.created > at || self.deleted.is_some_and(|deleted| deleted <= at) {
            return None;
        }
        let attached = instances
            .get(&self.instance)
            .is_some_and(|instance| instance.state(at) != State::Terminated);
        match (attached, self.goes_along) {
            (true, _) => Some("in-use"),
            (false, true) => None,
            (false, false) => Some("available"),
        }
    }
}

impl Disk {
    /// Reads `<prefix>.VolumeSize` and so on, of the root volume of this image or of a blank one.
    pub(crate) fn read(params: &Params, prefix: &str, image: Option<&Image>) -> Result<Self, ApiError> {
        let least = image.map(|image| image.root_size);
        let field = |name: &str| format!("{prefix}.{name}");
        let kind = params.text(&field("VolumeType")).unwrap_or("gp2").to_owned();
        let size = params
            .number(&field("VolumeSize"))?
            .or(least)
            .ok_or_else(|| ApiError::missing("size or snapshotId"))?;
        let disk = Self {
            size,
            iops: params.number(&field("Iops"))?,
            throughput: params.number(&field("Throughput"))?,
            encrypted: params.flag(&field("Encrypted"))?.unwrap_or(false),
            snapshot: image.map(Image::snapshot),
            kind,
        };
        disk.validate(least)?;
        Ok(disk)
    }

    fn validate(&self, least: Option<u32>) -> Result<(), ApiError> {
        let (most, iops) = match self.kind.as_str() {
            "gp3" => (65_536, Some(3_000..=80_000)),
            "io1" => (16_384, Some(100..=64_000)),
            "io2" => (65_536, Some(100..=256_000)),
            "gp2" | "st1" | "sc1" => (16_384, None),
            "standard" => (1_024, None),
            other => {
                let why = "is not a valid volume type";
                return Err(ApiError::new("InvalidParameterValue", format!("'{other}' {why}")));
            }
        };
        if !(1..=most).contains(&self.size) {
            let message = format!(
                "Volume of {}GiB is outside of the limits for type {}",
                self.size, self.kind
            );
            return Err(ApiError::new("InvalidParameterValue", message));
        }
        if let Some(least) = least.filter(|least| self.size < *least) {
            let message = format!(
                "Volume of size {}GB is smaller than snapshot, expect size >= {least}GB",
                self.size
            );
            return Err(ApiError::new("InvalidBlockDeviceMapping", message));
        }
        match (iops, self.iops) {
            (None, Some(_)) => {
                let message = format!("The parameter iops is not supported for {} volumes.", self.kind);
                Err(ApiError::combination(&message))
            }
            (Some(_), None) if self.kind.starts_with("io") => {
                let message = format!("The parameter iops must be specified for {} volumes.", self.kind);
                Err(ApiError::new("MissingParameter", message))
            }
            (Some(range), Some(iops)) if !range.contains(&iops) => {
                let message = format!(
                    "Volume iops of {iops} is outside of the limits for type {}",
                    self.kind
                );
                Err(ApiError::new("InvalidParameterValue", message))
            }
            _ => Ok(()),
        }
    }
}

const VOLUME_FILTERS: &[&str] = &[
    "volume-id",
    "status",
    "attachment.instance-id",
    "availability-zone",
    "volume-type",
    "snapshot-id",
];

pub(crate) fn describe_volumes(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = request.params.list("VolumeId");
    let filters = Filters::read(request.params, VOLUME_FILTERS)?;
    let paging = Paging::read(request.params, !ids.is_empty(), "volumesSet")?;
    request.admit(estate)?;
    for id in &ids {
        let known = estate
            .volumes
            .get(*id)
            .and_then(|volume| volume.state(&estate.instances, request.view));
        if known.is_none() {
            return Err(unknown_volume(id));
        }
    }
    let found = estate
        .volumes
        .values()
        .filter_map(|volume| Some((volume, volume.state(&estate.instances, request.view)?)))
        .filter(|(volume, state)| {
            let field = |name: &str| match name {
                "volume-id" => vec![volume.id.clone()],
                "status" => vec![(*state).to_owned()],
                "attachment.instance-id" if *state == "in-use" => vec![volume.attachment.0.clone()],
                "availability-zone" => vec![volume.zone.clone()],
                "volume-type" => vec![volume.disk.kind.clone()],
                "snapshot-id" => volume.disk.snapshot.iter().cloned().collect(),
                _ => Vec::new(),
            };
            volume.region == request.region
                && (ids.is_empty() || ids.contains(&volume.id.as_str()))
                && filters.pass(volume.tags.at(request.view), field)
        })
        .collect();
    let (page, token) = paging.cut(found, |(volume, _)| volume.id.clone());
    xml.items("volumeSet", page, |xml, (volume, state)| {
        write_volume(xml, volume, state, request);
    });
    xml.optional("nextToken", token.as_deref());
    Ok(false)
}

fn write_volume(xml: &mut Xml, volume: &Volume, state: &str, request: &Request<'_>) {
    xml.element("volumeId", &volume.id);
    xml.element("size", &volume.disk.size.to_string());
    // There and empty where there is none.
    xml.element("snapshotId", volume.disk.snapshot.as_deref().unwrap_or_default());
    xml.element("availabilityZone", &volume.zone);
    xml.element("status", state);
    xml.element("createTime", &(request.wall)(volume.created));
    xml.element("volumeType", &volume.disk.kind);
    xml.optional("iops", volume.disk.iops.map(|n| n.to_string()).as_deref());
    xml.optional(
        "throughput",
        volume.disk.throughput.map(|n| n.to_string()).as_deref(),
    );
    xml.element("encrypted", if volume.disk.encrypted { "true" } else { "false" });
    let (instance, device, goes_along) = &volume.attachment;
    xml.items("attachmentSet", (state == "in-use").then_some(()), |xml, ()| {
        xml.element("volumeId", &volume.id);
        xml.element("instanceId", instance);
        xml.element("device", device);
        xml.element("status", "attached");
        xml.element("deleteOnTermination", if *goes_along { "true" } else { "false" });
    });
    write_tags(xml, volume.tags.at(request.view));
}

fn unknown_volume(id: &str) -> ApiError {
    if is_id(id, "vol-") {
        ApiError::new(
            "InvalidVolume.NotFound",
            format!("The volume '{id}' does not exist."),
        )
    } else {
        let message = format!("Value ({id}) for parameter volumes is invalid. Expected: 'vol-...'.");
        ApiError::new("InvalidParameterValue", message)
    }
}

pub(crate) fn delete_volume(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let id = request.params.required("VolumeId")?;
    request.admit(estate)?;
    let state = estate
        .volumes
        .get(id)
        .filter(|volume| volume.region == request.region)
        .and_then(|volume| volume.state(&estate.instances, request.now));
    let Some(volume) = estate.volumes.get_mut(id).filter(|_| state.is_some()) else {
        return Err(unknown_volume(id));
    };
    if state == Some("in-use") {
        let message = format!("Volume {id} is currently attached to {}", volume.attachment.0);
        return Err(ApiError::new("VolumeInUse", message));
    }
    volume.deleted = Some(request.now);
    xml.element("return", "true");
    Ok(true)
}

const INTERFACE_FILTERS: &[&str] = &[
    "network-interface-id",
    "status",
    "attachment.instance-id",
    "subnet-id",
    "private-ip-address",
];

pub(crate) fn describe_interfaces(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = request.params.list("NetworkInterfaceId");
    let filters = Filters::read(request.params, INTERFACE_FILTERS)?;
    let paging = Paging::read(request.params, !ids.is_empty(), "networkInterfacesSet")?;
    request.admit(estate)?;
    for id in &ids {
        let known = estate
            .interfaces
            .get(*id)
            .and_then(|interface| interface.state(&estate.instances, request.view));
        if known.is_none() {
            return Err(unknown_interface(id));
        }
    }
    let found = estate
        .interfaces
        .values()
        .filter_map(|interface| {
            let state = interface.state(&estate.instances, request.view)?;
            Some((interface, estate.instances.get(&interface.instance)?, state))
        })
        .filter(|(interface, instance, state)| {
            let field = |name: &str| match name {
                "network-interface-id" => vec![interface.id.clone()],
                "status" => vec![(*state).to_owned()],
                "attachment.instance-id" if *state == "in-use" => vec![instance.id.clone()],
                "subnet-id" => vec![instance.shape.subnet.clone()],
                "private-ip-address" => vec![instance.address.clone()],
                _ => Vec::new(),
            };
            interface.region == request.region
                && (ids.is_empty() || ids.contains(&interface.id.as_str()))
                && filters.pass(interface.tags.at(request.view), field)
        })
        .collect();
    let (page, token) = paging.cut(found, |(interface, ..)| interface.id.clone());
    xml.items(
        "networkInterfaceSet",
        page,
        |xml, (interface, instance, state)| {
            let tags: &Tags = interface.tags.at(request.view);
            write_interface(xml, interface, (instance, state), tags);
        },
    );
    xml.optional("nextToken", token.as_deref());
    Ok(false)
}

fn write_interface(xml: &mut Xml, interface: &Interface, (instance, state): (&Instance, &str), tags: &Tags) {
    xml.element("networkInterfaceId", &interface.id);
    xml.element("subnetId", &instance.shape.subnet);
    xml.element("vpcId", &instance.shape.vpc);
    xml.element("availabilityZone", &instance.shape.zone);
    xml.element("status", state);
    xml.element("privateIpAddress", &instance.address);
    write_groups(xml, &instance.shape.groups);
    if state == "in-use" {
        xml.group("attachment", |xml| {
            xml.element("instanceId", &instance.id);
            xml.element("deviceIndex", "0");
            xml.element("status", "attached");
            let goes_along = if interface.goes_along { "true" } else { "false" };
            xml.element("deleteOnTermination", goes_along);
        });
    }
    write_tags(xml, tags);
}

fn unknown_interface(id: &str) -> ApiError {
    let message = format!("The networkInterface ID '{id}' does not exist");
    ApiError::new("InvalidNetworkInterfaceID.NotFound", message)
}

pub(crate) fn delete_interface(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let id = request.params.required("NetworkInterfaceId")?;
    request.admit(estate)?;
    let state = estate
        .interfaces
        .get(id)
        .filter(|interface| interface.region == request.region)
        .and_then(|interface| interface.state(&estate.instances, request.now));
    let Some(interface) = estate.interfaces.get_mut(id).filter(|_| state.is_some()) else {
        return Err(unknown_interface(id));
    };
    if state == Some("in-use") {
        let message = format!("Network interface '{id}' is currently in use.");
        return Err(ApiError::new("InvalidParameterValue", message));
    }
    interface.deleted = Some(request.now);
    xml.element("return", "true");
    Ok(true)
}
