//! CreateTags, DeleteTags, DescribeTags.

use super::{Answer, Request};
use crate::{
    error::ApiError,
    filter::Filters,
    page::Paging,
    tag::{self, TagLog, Tags},
    world::Estate,
    xml::Xml,
};

pub(super) fn create(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let tags = tag::read(request.params, "Tag")?;
    if tags.is_empty() {
        return Err(ApiError::missing("tagSet"));
    }
    let resources = resources(estate, request)?;
    request.admit(estate)?;
    for id in &resources {
        let mut after = log(estate, id)
            .map(|log| log.at(request.now).clone())
            .unwrap_or_default();
        after.extend(tags.clone());
        tag::validate(&after)?;
    }
    xml.element("return", "true");
    Ok(change(estate, request, &resources, |now| {
        now.extend(tags.clone());
    }))
}

pub(super) fn delete(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let mut doomed = Vec::new();
    for member in request.params.members("Tag") {
        let key = request.params.required(&format!("{member}.Key"))?.to_owned();
        doomed.push((
            key,
            request.params.text(&format!("{member}.Value")).map(str::to_owned),
        ));
    }
    let resources = resources(estate, request)?;
    request.admit(estate)?;
    xml.element("return", "true");
    Ok(change(estate, request, &resources, |tags| {
        // No tag named: all go. A value named: only that one.
        if doomed.is_empty() {
            tags.clear();
        }
        for (key, value) in &doomed {
            let matches = tags
                .get(key)
                .is_some_and(|now| value.as_ref().is_none_or(|value| value == now));
            if matches {
                tags.remove(key);
            }
        }
    }))
}

fn change(estate: &mut Estate, request: &Request<'_>, ids: &[String], change: impl Fn(&mut Tags)) -> bool {
    let mut changed = false;
    for id in ids {
        if let Some(log) = log_mut(estate, id) {
            changed |= log.change(request.now, &change);
        }
    }
    changed
}

/// The resources that a call names, all of which must be known to a reader of its view.
fn resources(estate: &Estate, request: &Request<'_>) -> Result<Vec<String>, ApiError> {
    let ids: Vec<String> = request
        .params
        .list("ResourceId")
        .into_iter()
        .map(str::to_owned)
        .collect();
    if ids.is_empty() {
        return Err(ApiError::missing("resourceIdSet"));
    }
    for id in &ids {
        let (known, error) = known(estate, request, id);
        if !known {
            return Err(error);
        }
    }
    Ok(ids)
}

fn known(estate: &Estate, request: &Request<'_>, id: &str) -> (bool, ApiError) {
    let missing =
        |code: &'static str, what: &str| ApiError::new(code, format!("The {what} ID '{id}' does not exist"));
    if id.starts_with("i-") {
        let found = estate.instances.get(id).is_some_and(|instance| {
            instance.shape.region == request.region && estate.is_visible(instance, request.view, request.now)
        });
        return (found, missing("InvalidInstanceID.NotFound", "instance"));
    }
    if id.starts_with("vol-") {
        let found = estate.volumes.get(id).is_some_and(|volume| {
            volume.region == request.region && volume.state(&estate.instances, request.view).is_some()
        });
        return (found, missing("InvalidVolume.NotFound", "volume"));
    }
    if id.starts_with("eni-") {
        let found = estate.interfaces.get(id).is_some_and(|interface| {
            interface.region == request.region && interface.state(&estate.instances, request.view).is_some()
        });
        return (
            found,
            missing("InvalidNetworkInterfaceID.NotFound", "networkInterface"),
        );
    }
    (
        false,
        ApiError::new("InvalidID", format!("The ID '{id}' is not valid")),
    )
}

fn log<'a>(estate: &'a Estate, id: &str) -> Option<&'a TagLog> {
    let instance = estate.instances.get(id).map(|instance| &instance.tags);
    let volume = estate.volumes.get(id).map(|volume| &volume.tags);
    instance
        .or(volume)
        .or_else(|| estate.interfaces.get(id).map(|interface| &interface.tags))
}

fn log_mut<'a>(estate: &'a mut Estate, id: &str) -> Option<&'a mut TagLog> {
    let Estate {
        instances,
        volumes,
        interfaces,
        ..
    } = estate;
    let instance = instances.get_mut(id).map(|instance| &mut instance.tags);
    let volume = volumes.get_mut(id).map(|volume| &mut volume.tags);
    instance
        .or(volume)
        .or_else(|| interfaces.get_mut(id).map(|interface| &mut interface.tags))
}

const FILTERS: &[&str] = &["key", "value", "resource-id", "resource-type"];

pub(super) fn describe(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let filters = Filters::read(request.params, FILTERS)?;
    let paging = Paging::read(request.params, false, "resourceIdSet")?;
    request.admit(estate)?;
    let mut rows: Vec<(String, &'static str, String, String)> = Vec::new();
    let mut add = |id: &str, kind: &'static str, tags: &Tags| {
        for (key, value) in tags {
            let one = Tags::from([(key.clone(), value.clone())]);
            let field = |name: &str| match name {
                "key" => vec![key.clone()],
                "value" => vec![value.clone()],
                "resource-id" => vec![id.to_owned()],
                "resource-type" => vec![kind.to_owned()],
                _ => Vec::new(),
            };
            if filters.pass(&one, field) {
                rows.push((id.to_owned(), kind, key.clone(), value.clone()));
            }
        }
    };
    for instance in estate.instances.values() {
        if instance.shape.region == request.region && estate.is_visible(instance, request.view, request.now) {
            add(&instance.id, "instance", instance.tags.at(request.view));
        }
    }
    for volume in estate.volumes.values() {
        if volume.region == request.region && volume.state(&estate.instances, request.view).is_some() {
            add(&volume.id, "volume", volume.tags.at(request.view));
        }
    }
    for interface in estate.interfaces.values() {
        if interface.region == request.region && interface.state(&estate.instances, request.view).is_some() {
            add(
                &interface.id,
                "network-interface",
                interface.tags.at(request.view),
            );
        }
    }
    rows.sort();
    let (page, token) = paging.cut(rows, |(id, _, key, _)| format!("{id} {key}"));
    xml.items("tagSet", page, |xml, (id, kind, key, value)| {
        xml.element("resourceId", &id);
        xml.element("resourceType", kind);
        xml.element("key", &key);
        xml.element("value", &value);
    });
    xml.optional("nextToken", token.as_deref());
    Ok(false)
}
