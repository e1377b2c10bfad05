//! The parameters of a launch, and what they refer to.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::Launch;
use crate::{
    account::{Image, ImageState, Region, Subnet},
    action::Request,
    error::ApiError,
    instance::{Shape, is_id},
    query::Params,
    storage::Disk,
    tag, token,
    world::Estate,
};

/// User data is limited to 16 KB, before it is encoded: *RunInstances*, `UserData`.
const USER_DATA_LIMIT: usize = 16_384;

/// Reads a launch and everything that it refers to.
pub(super) fn validate(estate: &Estate, request: &Request<'_>) -> Result<Launch, ApiError> {
    let params = request.params;
    let Some(region) = estate.account.regions.get(request.region) else {
        return Err(ApiError::new(
            "AuthFailure",
            "The region is not enabled for this account",
        ));
    };
    let least = params
        .number("MinCount")?
        .ok_or_else(|| ApiError::missing("MinCount"))?;
    let most = params
        .number("MaxCount")?
        .ok_or_else(|| ApiError::missing("MaxCount"))?;
    if least == 0 || least > most {
        let why = "minCount must be positive and not above maxCount.";
        return Err(ApiError::invalid("minCount", &least.to_string(), why));
    }
    let image = image(region, params.required("ImageId")?)?;
    let subnet = subnet(region, params)?;
    let shape = shape(estate, request, image, subnet)?;
    // A launch that leaves the zone to EC2 is idempotent within the region, one that names it within the zone.
    let names_zone = params.text("SubnetId").is_some() || params.text("Placement.AvailabilityZone").is_some();
    let scope = if names_zone {
        shape.zone.clone()
    } else {
        request.region.to_owned()
    };
    let behavior = params.text("InstanceInitiatedShutdownBehavior").unwrap_or("stop");
    if !["stop", "terminate"].contains(&behavior) {
        return Err(ApiError::invalid(
            "instanceInitiatedShutdownBehavior",
            behavior,
            "Unknown behavior.",
        ));
    }
    Ok(Launch {
        least,
        most,
        address: address(params, subnet, most)?,
        protected: params.flag("DisableApiTermination")?.unwrap_or(false),
        shutdown_behavior: behavior.to_owned(),
        disks: disks(params, image)?,
        instance_tags: tag::specified(params, "instance")?,
        volume_tags: tag::specified(params, "volume")?,
        interface_tags: tag::specified(params, "network-interface")?,
        scope,
        shape,
    })
}

fn image<'a>(region: &'a Region, id: &str) -> Result<&'a Image, ApiError> {
    if !is_id(id, "ami-") {
        let message = format!("Invalid id: \"{id}\" (expecting \"ami-...\")");
        return Err(ApiError::new("InvalidAMIID.Malformed", message));
    }
    let found = region.images.iter().find(|image| image.id == id).ok_or_else(|| {
        ApiError::new(
            "InvalidAMIID.NotFound",
            format!("The image id '[{id}]' does not exist"),
        )
    })?;
    if found.state != ImageState::Available {
        let message = format!("The image ID '{id}' is not available");
        return Err(ApiError::new("InvalidAMIID.Unavailable", message));
    }
    Ok(found)
}

fn subnet<'a>(region: &'a Region, params: &Params) -> Result<&'a Subnet, ApiError> {
    let zone = params.text("Placement.AvailabilityZone");
    if let Some(zone) = zone.filter(|zone| !region.zones.iter().any(|known| known == zone)) {
        let message = format!("Invalid availability zone: [{zone}]");
        return Err(ApiError::new("InvalidParameterValue", message));
    }
    let Some(id) = params.text("SubnetId") else {
        let mut candidates = region.subnets.iter();
        let found = candidates.find(|subnet| zone.is_none_or(|zone| subnet.zone == zone));
        let why = "No subnets found for the default VPC. Please specify a subnet.";
        return found.ok_or_else(|| ApiError::new("MissingInput", why));
    };
    if !is_id(id, "subnet-") {
        let message = format!("Invalid id: \"{id}\" (expecting \"subnet-...\")");
        return Err(ApiError::new("InvalidSubnetID.Malformed", message));
    }
    let found = region
        .subnets
        .iter()
        .find(|subnet| subnet.id == id)
        .ok_or_else(|| {
            ApiError::new(
                "InvalidSubnetID.NotFound",
                format!("The subnet ID '{id}' does not exist"),
            )
        })?;
    if zone.is_some_and(|zone| zone != found.zone) {
        let message = "The specified Availability Zone does not match the subnet's.";
        return Err(ApiError::combination(message));
    }
    Ok(found)
}

fn shape(estate: &Estate, request: &Request<'_>, image: &Image, subnet: &Subnet) -> Result<Shape, ApiError> {
    let params = request.params;
    let kind = params.text("InstanceType").unwrap_or("m1.small");
    let Some((vcpus, architecture)) = estate.account.types.get(kind) else {
        let message = format!("Invalid value '{kind}' for InstanceType.");
        return Err(ApiError::new("InvalidParameterValue", message));
    };
    if *architecture != image.architecture {
        let message = format!(
            "The architecture '{architecture}' of the specified instance type does not match the architecture '{}' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.",
            image.architecture
        );
        return Err(ApiError::new("InvalidParameterValue", message));
    }
    if estate
        .not_offered
        .contains(&(subnet.zone.clone(), kind.to_owned()))
    {
        let message = format!(
            "Your requested instance type ({kind}) is not supported in your requested Availability Zone ({}). Please retry your request by not specifying an Availability Zone or choosing another one.",
            subnet.zone
        );
        return Err(ApiError::new("Unsupported", message));
    }
    let token = params
        .text("ClientToken")
        .filter(|token| !token.is_empty())
        .map(str::to_owned);
    if let Some(token) = &token {
        token::validate(token)?;
    }
    let region = estate.account.regions.get(request.region);
    Ok(Shape {
        image: image.id.clone(),
        kind: kind.to_owned(),
        vcpus: *vcpus,
        architecture: architecture.clone(),
        region: request.region.to_owned(),
        zone: subnet.zone.clone(),
        subnet: subnet.id.clone(),
        vpc: subnet.vpc.clone(),
        groups: region.map_or(Ok(Vec::new()), |region| groups(region, params, subnet))?,
        key: region.map_or(Ok(None), |region| key(region, params))?,
        profile: profile(estate, params)?,
        user_data: user_data(params)?,
        client_token: token,
        root_device: image.root_device.clone(),
        http_tokens: metadata(params)?,
        hop_limit: params
            .number("MetadataOptions.HttpPutResponseHopLimit")?
            .unwrap_or(1),
        ebs_optimized: params.flag("EbsOptimized")?.unwrap_or(false),
        monitoring: params.flag("Monitoring.Enabled")?.unwrap_or(false),
    })
}

fn groups(region: &Region, params: &Params, subnet: &Subnet) -> Result<Vec<(String, String)>, ApiError> {
    let mut found = Vec::new();
    for id in params.list("SecurityGroupId") {
        if !is_id(id, "sg-") {
            let message = format!("Invalid id: \"{id}\" (expecting \"sg-...\")");
            return Err(ApiError::new("InvalidGroupId.Malformed", message));
        }
        let group = region.groups.iter().find(|group| group.id == id).ok_or_else(|| {
            ApiError::new(
                "InvalidGroup.NotFound",
                format!("The security group '{id}' does not exist"),
            )
        })?;
        if group.vpc != subnet.vpc {
            let message = format!(
                "Security group {id} and subnet {} belong to different networks.",
                subnet.id
            );
            return Err(ApiError::new("InvalidParameter", message));
        }
        found.push((group.id.clone(), group.name.clone()));
    }
    Ok(found)
}

fn key(region: &Region, params: &Params) -> Result<Option<String>, ApiError> {
    match params.text("KeyName") {
        Some(name) if !region.keys.contains(name) => {
            let message = format!("The key pair '{name}' does not exist");
            Err(ApiError::new("InvalidKeyPair.NotFound", message))
        }
        name => Ok(name.map(str::to_owned)),
    }
}

fn profile(estate: &Estate, params: &Params) -> Result<Option<String>, ApiError> {
    let by_name = params.text("IamInstanceProfile.Name").map(|name| ("name", name));
    let by_arn = params.text("IamInstanceProfile.Arn").map(|arn| ("arn", arn));
    let Some((field, given)) = by_name.or(by_arn) else {
        return Ok(None);
    };
    let name = given.rsplit('/').next().unwrap_or(given);
    if estate.account.profiles.contains(name) {
        return Ok(Some(name.to_owned()));
    }
    let why = format!(
        "Invalid IAM Instance Profile {}",
        if field == "name" { "name" } else { "ARN" }
    );
    Err(ApiError::invalid(
        &format!("iamInstanceProfile.{field}"),
        given,
        &why,
    ))
}

fn user_data(params: &Params) -> Result<Option<String>, ApiError> {
    let Some(text) = params.text("UserData") else {
        return Ok(None);
    };
    let decoded = BASE64_STANDARD.decode(text).map_err(|_| {
        ApiError::new(
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.",
        )
    })?;
    if decoded.len() > USER_DATA_LIMIT {
        let message = format!("User data is limited to {USER_DATA_LIMIT} bytes");
        return Err(ApiError::new("InvalidParameterValue", message));
    }
    Ok(Some(text.to_owned()))
}

fn metadata(params: &Params) -> Result<String, ApiError> {
    let tokens = params.text("MetadataOptions.HttpTokens").unwrap_or("optional");
    if !["optional", "required"].contains(&tokens) {
        return Err(ApiError::invalid(
            "httpTokens",
            tokens,
            "Expected optional or required.",
        ));
    }
    if let Some(other) = params
        .text("MetadataOptions.HttpEndpoint")
        .filter(|text| *text != "enabled")
    {
        return Err(ApiError::invalid(
            "httpEndpoint",
            other,
            "Only enabled is implemented.",
        ));
    }
    Ok(tokens.to_owned())
}

fn address(params: &Params, subnet: &Subnet, most: u32) -> Result<Option<String>, ApiError> {
    let Some(address) = params.text("PrivateIpAddress") else {
        return Ok(None);
    };
    if most > 1 {
        let message = "PrivateIpAddress cannot be specified when launching multiple instances";
        return Err(ApiError::combination(message));
    }
    let host = address
        .strip_prefix(&format!("{}.", subnet.prefix))
        .and_then(|host| host.parse::<u8>().ok());
    if !host.is_some_and(|host| (4..=254).contains(&host)) {
        let message = "Address does not fall within the subnet's address range";
        return Err(ApiError::new("InvalidParameterValue", message));
    }
    Ok(Some(address.to_owned()))
}

/// The volumes of a launch; the root volume is there whether or not it is mapped. What a mapping does not say of a volume of the
/// image is as the image says: *Block device mappings for volumes on Amazon EC2 instances*.
fn disks(params: &Params, image: &Image) -> Result<Vec<(String, Disk, bool)>, ApiError> {
    let mut disks: Vec<(String, Disk, bool)> = Vec::new();
    for member in params.members("BlockDeviceMapping") {
        let name = params.required(&format!("{member}.DeviceName"))?.to_owned();
        if disks.iter().any(|(device, ..)| *device == name) {
            let message = format!("The device '{name}' is used in more than one block-device mapping");
            return Err(ApiError::new("InvalidBlockDeviceMapping", message));
        }
        let root = (name == image.root_device).then_some(image);
        let disk = Disk::read(params, &format!("{member}.Ebs"), root)?;
        let goes_along = params
            .flag(&format!("{member}.Ebs.DeleteOnTermination"))?
            .unwrap_or_else(|| !root.is_some_and(|image| image.keeps_root));
        disks.push((name, disk, goes_along));
    }
    if !disks.iter().any(|(device, ..)| *device == image.root_device) {
        let root = Disk {
            size: image.root_size,
            kind: "gp2".to_owned(),
            iops: None,
            throughput: None,
            encrypted: false,
            snapshot: Some(image.snapshot()),
        };
        disks.insert(0, (image.root_device.clone(), root, !image.keeps_root));
    }
    Ok(disks)
}
