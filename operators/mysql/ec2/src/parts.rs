//! Volumes and network interfaces, as far as they may outlive an instance.

use std::collections::BTreeMap;

use aws_sdk_ec2::{
    Client,
    types::{Filter, Tag, VolumeState},
};
use mysql_controller::cloud::{CloudError, Part, PartKind};

use crate::failure::failed;

/// Parts per page: the most that EC2 gives of volumes.
const PAGE: i32 = 500;

/// All pages of a filtered listing of volumes.
pub(crate) async fn volumes(client: &Client, filters: &[Filter]) -> Result<Vec<Part>, CloudError> {
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let request = client.describe_volumes().set_filters(Some(filters.to_vec()));
        let page = request.max_results(PAGE).set_next_token(next).send().await;
        let page = page.map_err(failed("DescribeVolumes"))?;
        let existing = page.volumes().iter().filter(|volume| {
            let going = [VolumeState::Deleting, VolumeState::Deleted];
            !volume.state().is_some_and(|state| going.contains(state))
        });
        found.extend(existing.filter_map(|volume| {
            let attachment = volume.attachments().first();
            Some(Part {
                kind: PartKind::Volume,
                id: volume.volume_id()?.to_owned(),
                tags: tags(volume.tags()),
                attached_to: attachment.and_then(|one| one.instance_id()).map(str::to_owned),
                // Of one that was made from none EC2 gives an empty id.
                snapshot: volume
                    .snapshot_id()
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned),
            })
        }));
        next = rest(page.next_token());
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// All pages of a filtered listing of network interfaces.
pub(crate) async fn interfaces(client: &Client, filters: &[Filter]) -> Result<Vec<Part>, CloudError> {
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let request = client.describe_network_interfaces();
        let request = request.set_filters(Some(filters.to_vec())).max_results(PAGE);
        let page = request.set_next_token(next).send().await;
        let page = page.map_err(failed("DescribeNetworkInterfaces"))?;
        found.extend(page.network_interfaces().iter().filter_map(|interface| {
            let attachment = interface.attachment();
            // One that somebody attached to what is no instance names its owner in place of an instance.
            let user = |one: &aws_sdk_ec2::types::NetworkInterfaceAttachment| {
                one.instance_id()
                    .or_else(|| one.instance_owner_id())
                    .map(str::to_owned)
            };
            Some(Part {
                kind: PartKind::Interface,
                id: interface.network_interface_id()?.to_owned(),
                tags: tags(interface.tag_set()),
                attached_to: attachment.and_then(user),
                snapshot: None,
            })
        }));
        next = rest(page.next_token());
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// EC2 may end a listing with an empty token.
fn rest(token: Option<&str>) -> Option<String> {
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    let pairs = tags.iter();
    pairs
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())))
        .collect()
}
