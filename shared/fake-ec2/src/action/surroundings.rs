//! What is there before any launch: subnets, images, security groups, zones.

use super::{Answer, Request};
use crate::{
    account::{ImageState, Region},
    error::ApiError,
    filter::Filters,
    instance::is_id,
    page::Paging,
    tag::Tags,
    world::Estate,
    xml::Xml,
};

fn region<'a>(estate: &'a Estate, request: &Request<'_>) -> Result<&'a Region, ApiError> {
    let region = estate.account.regions.get(request.region);
    region.ok_or_else(|| ApiError::new("AuthFailure", "The region is not enabled for this account"))
}

/// Every id must be well formed and known.
fn each_known(
    ids: &[&str],
    prefix: &str,
    codes: [&'static str; 2],
    known: impl Fn(&str) -> bool,
) -> Result<(), ApiError> {
    for id in ids {
        if !is_id(id, prefix) {
            let message = format!("Invalid id: \"{id}\" (expecting \"{prefix}...\")");
            return Err(ApiError::new(codes[0], message));
        }
        if !known(id) {
            return Err(ApiError::new(codes[1], format!("The ID '{id}' does not exist")));
        }
    }
    Ok(())
}

pub(super) fn subnets(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = request.params.list("SubnetId");
    let filters = Filters::read(request.params, &["subnet-id", "vpc-id", "availability-zone"])?;
    let paging = Paging::read(request.params, !ids.is_empty(), "subnetSet")?;
    request.admit(estate)?;
    let region = region(estate, request)?;
    let codes = ["InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound"];
    each_known(&ids, "subnet-", codes, |id| {
        region.subnets.iter().any(|subnet| subnet.id == id)
    })?;
    let mut found: Vec<_> = region.subnets.iter().collect();
    found.retain(|subnet| {
        let field = |name: &str| match name {
            "subnet-id" => vec![subnet.id.clone()],
            "vpc-id" => vec![subnet.vpc.clone()],
            _ => vec![subnet.zone.clone()],
        };
        (ids.is_empty() || ids.contains(&subnet.id.as_str())) && filters.pass(&Tags::new(), field)
    });
    found.sort_by(|a, b| a.id.cmp(&b.id));
    let (page, token) = paging.cut(found, |subnet| subnet.id.clone());
    xml.items("subnetSet", page, |xml, subnet| {
        xml.element("subnetId", &subnet.id);
        xml.element("state", "available");
        xml.element("vpcId", &subnet.vpc);
        xml.element("cidrBlock", &format!("{}.0/24", subnet.prefix));
        xml.element("availabilityZone", &subnet.zone);
        xml.element("ownerId", &estate.account.id);
    });
    xml.optional("nextToken", token.as_deref());
    Ok(false)
}

pub(super) fn images(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = request.params.list("ImageId");
    let filters = Filters::read(request.params, &["image-id", "architecture", "state"])?;
    request.admit(estate)?;
    let region = region(estate, request)?;
    let codes = ["InvalidAMIID.Malformed", "InvalidAMIID.NotFound"];
    each_known(&ids, "ami-", codes, |id| {
        region.images.iter().any(|image| image.id == id)
    })?;
    let state = |state| match state {
        ImageState::Available => "available",
        ImageState::Pending => "pending",
    };
    let found = region.images.iter().filter(|image| {
        let field = |name: &str| match name {
            "image-id" => vec![image.id.clone()],
            "architecture" => vec![image.architecture.clone()],
            _ => vec![state(image.state).to_owned()],
        };
        (ids.is_empty() || ids.contains(&image.id.as_str())) && filters.pass(&Tags::new(), field)
    });
    xml.items("imagesSet", found, |xml, image| {
        xml.element("imageId", &image.id);
        xml.element("imageState", state(image.state));
        xml.element("architecture", &image.architecture);
        xml.element("rootDeviceType", "ebs");
        xml.element("rootDeviceName", &image.root_device);
        xml.items("blockDeviceMapping", [image], |xml, image| {
            xml.element("deviceName", &image.root_device);
            xml.group("ebs", |xml| {
                xml.element("snapshotId", &image.snapshot());
                xml.element("volumeSize", &image.root_size.to_string());
                let goes_along = if image.keeps_root { "false" } else { "true" };
                xml.element("deleteOnTermination", goes_along);
            });
        });
    });
    Ok(false)
}

pub(super) fn groups(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = request.params.list("GroupId");
    let filters = Filters::read(request.params, &["group-id", "group-name", "vpc-id"])?;
    request.admit(estate)?;
    let region = region(estate, request)?;
    let codes = ["InvalidGroupId.Malformed", "InvalidGroup.NotFound"];
    each_known(&ids, "sg-", codes, |id| {
        region.groups.iter().any(|group| group.id == id)
    })?;
    let found = region.groups.iter().filter(|group| {
        let field = |name: &str| match name {
            "group-id" => vec![group.id.clone()],
            "group-name" => vec![group.name.clone()],
            _ => vec![group.vpc.clone()],
        };
        (ids.is_empty() || ids.contains(&group.id.as_str())) && filters.pass(&Tags::new(), field)
    });
    xml.items("securityGroupInfo", found, |xml, group| {
        xml.element("ownerId", &estate.account.id);
        xml.element("groupId", &group.id);
        xml.element("groupName", &group.name);
        xml.element("vpcId", &group.vpc);
    });
    Ok(false)
}

pub(super) fn zones(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let names = request.params.list("ZoneName");
    request.admit(estate)?;
    let region = region(estate, request)?;
    for name in &names {
        if !region.zones.iter().any(|zone| zone == name) {
            let message = format!("Invalid availability zone: [{name}]");
            return Err(ApiError::new("InvalidParameterValue", message));
        }
    }
    let found = region
        .zones
        .iter()
        .filter(|zone| names.is_empty() || names.contains(&zone.as_str()));
    xml.items("availabilityZoneInfo", found, |xml, zone| {
        xml.element("zoneName", zone);
        xml.element("zoneState", "available");
        xml.element("regionName", request.region);
    });
    Ok(false)
}
