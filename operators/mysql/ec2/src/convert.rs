//! Between the operator's types and the SDK's.

use aws_sdk_ec2::{
    operation::run_instances::builders::RunInstancesFluentBuilder,
    types::{
        self, BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
        InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceType, ResourceType,
        ShutdownBehavior, Tag, TagSpecification, VolumeType,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use mysql_controller::{
    cloud::{Instance, InstanceState},
    parameters::LaunchParameters,
};

/// The device name of the data volume.
const DATA_DEVICE: &str = "/dev/sdf";

/// A launch of exactly one instance.
pub(crate) fn launch(
    request: RunInstancesFluentBuilder,
    parameters: &LaunchParameters,
) -> RunInstancesFluentBuilder {
    let template = &parameters.template;
    let profile = template
        .instance_profile
        .as_ref()
        .map(|name| IamInstanceProfileSpecification::builder().name(name).build());
    let tags: Vec<Tag> = parameters
        .tags
        .iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect();
    let specify = |kind| {
        TagSpecification::builder()
            .resource_type(kind)
            .set_tags(Some(tags.clone()))
            .build()
    };
    request
        .image_id(&template.image)
        .instance_type(InstanceType::from(template.instance_type.as_str()))
        .min_count(1)
        .max_count(1)
        .subnet_id(&parameters.subnet)
        .set_security_group_ids(Some(template.groups.clone()))
        .set_key_name(template.key_name.clone())
        .set_iam_instance_profile(profile)
        .set_block_device_mappings(Some(volumes(parameters)))
        .disable_api_termination(template.termination_protection)
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .metadata_options(metadata(parameters))
        .user_data(BASE64_STANDARD.encode(&parameters.user_data))
        .tag_specifications(specify(ResourceType::Instance))
        .tag_specifications(specify(ResourceType::Volume))
        .tag_specifications(specify(ResourceType::NetworkInterface))
}

/// The data volume, and what is said of volumes in the image that would outlive the instance. All else of those is as the image
/// says.
fn volumes(parameters: &LaunchParameters) -> Vec<BlockDeviceMapping> {
    let kept = parameters.kept_devices.iter().map(|device| {
        let ebs = EbsBlockDevice::builder().delete_on_termination(true).build();
        BlockDeviceMapping::builder().device_name(device).ebs(ebs).build()
    });
    std::iter::once(data_volume(parameters)).chain(kept).collect()
}

fn data_volume(parameters: &LaunchParameters) -> BlockDeviceMapping {
    let volume = &parameters.template.volume;
    let ebs = EbsBlockDevice::builder()
        .volume_type(VolumeType::from(volume.kind.as_str()))
        .volume_size(volume.size_gib)
        .set_iops(volume.iops)
        .encrypted(volume.encrypted)
        .delete_on_termination(true)
        .build();
    BlockDeviceMapping::builder()
        .device_name(DATA_DEVICE)
        .ebs(ebs)
        .build()
}

fn metadata(parameters: &LaunchParameters) -> InstanceMetadataOptionsRequest {
    let tokens = if parameters.template.metadata_tokens_required {
        HttpTokensState::Required
    } else {
        HttpTokensState::Optional
    };
    InstanceMetadataOptionsRequest::builder()
        .http_tokens(tokens)
        .http_put_response_hop_limit(parameters.template.metadata_hop_limit)
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .build()
}

/// The devices of an image whose volumes outlive its instances. In place of one of the data volume's name there is that.
pub(crate) fn kept_devices(image: &types::Image) -> Vec<String> {
    let mappings = image.block_device_mappings().iter();
    let kept = mappings.filter(|mapping| {
        let ebs = mapping.ebs();
        ebs.is_some_and(|ebs| ebs.delete_on_termination() == Some(false))
    });
    kept.filter_map(|mapping| mapping.device_name())
        .filter(|device| *device != DATA_DEVICE)
        .map(str::to_owned)
        .collect()
}

/// An instance as the SDK gives it; nothing if it lacks an id or has a state that nobody knows.
pub(crate) fn instance(instance: &types::Instance) -> Option<Instance> {
    let state = instance.state()?.name()?;
    let tags = instance.tags().iter();
    Some(Instance {
        id: instance.instance_id()?.to_owned(),
        state: InstanceState::parse(state.as_str())?,
        reason: instance
            .state_reason()
            .and_then(|reason| reason.code())
            .map(str::to_owned),
        tags: tags
            .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())))
            .collect(),
        client_token: instance
            .client_token()
            .filter(|token| !token.is_empty())
            .map(str::to_owned),
        zone: instance
            .placement()
            .and_then(|placement| placement.availability_zone())
            .map(str::to_owned),
        private_ip: instance.private_ip_address().map(str::to_owned),
        subnet: instance.subnet_id().map(str::to_owned),
        launched_at: instance
            .launch_time()
            .and_then(|at| Timestamp::from_second(at.secs()).ok()),
    })
}
