//! Everything that is done to instances after their launch.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Answer, Request};
use crate::{
    error::ApiError,
    filter::Filters,
    instance::{self, Context, Instance, State, StateReason},
    page::Paging,
    world::Estate,
    xml::Xml,
};

/// The ids of a call, each well formed and known to a reader of its view.
fn named(estate: &Estate, request: &Request<'_>) -> Result<Vec<String>, ApiError> {
    let ids = request.params.list("InstanceId");
    for id in &ids {
        instance::well_formed(id)?;
    }
    let unknown: Vec<&str> = ids
        .iter()
        .copied()
        .filter(|id| !is_known(estate, request, id))
        .collect();
    if !unknown.is_empty() {
        return Err(instance::not_found(&unknown));
    }
    Ok(ids.into_iter().map(str::to_owned).collect())
}

fn is_known(estate: &Estate, request: &Request<'_>, id: &str) -> bool {
    estate.instances.get(id).is_some_and(|instance| {
        instance.shape.region == request.region && estate.is_visible(instance, request.view, request.now)
    })
}

fn at_least_one(ids: Vec<String>) -> Result<Vec<String>, ApiError> {
    if ids.is_empty() {
        Err(ApiError::missing("InstanceId"))
    } else {
        Ok(ids)
    }
}

/// The single instance of a call that takes no list.
fn one(estate: &Estate, request: &Request<'_>) -> Result<String, ApiError> {
    let id = request.params.required("InstanceId")?;
    instance::well_formed(id)?;
    if is_known(estate, request, id) {
        Ok(id.to_owned())
    } else {
        Err(instance::not_found(&[id]))
    }
}

pub(super) fn describe(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let filters = Filters::read(request.params, instance::FILTERS)?;
    let has_ids = !request.params.members("InstanceId").is_empty();
    let paging = Paging::read(request.params, has_ids, "instancesSet")?;
    let ids = named(estate, request)?;
    request.admit(estate)?;
    let found: Vec<&Instance> = estate
        .instances
        .values()
        .filter(|instance| is_known(estate, request, &instance.id))
        .filter(|instance| ids.is_empty() || ids.contains(&instance.id))
        .filter(|instance| {
            filters.pass(instance.tags.at(request.view), |name| {
                instance.field(name, request.view)
            })
        })
        .collect();
    let (mut page, token) = paging.cut(found, |instance| instance.id.clone());
    page.sort_by(|a, b| (&a.reservation, a.index).cmp(&(&b.reservation, b.index)));
    let context = Context {
        at: request.view,
        account: &estate.account.id,
        wall: request.wall,
    };
    let reservations = page.chunk_by(|a, b| a.reservation == b.reservation);
    xml.items("reservationSet", reservations, |xml, members| {
        reservation(xml, members, &context);
    });
    xml.optional("nextToken", token.as_deref());
    Ok(false)
}

fn reservation(xml: &mut Xml, members: &[&Instance], context: &Context<'_>) {
    let Some(first) = members.first() else { return };
    xml.element("reservationId", &first.reservation);
    xml.element("ownerId", context.account);
    xml.group("groupSet", |_| {});
    xml.items("instancesSet", members, |xml, member| {
        instance::describe(xml, member, context);
    });
}

pub(super) fn describe_status(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let filters = Filters::read(request.params, instance::FILTERS)?;
    let has_ids = !request.params.members("InstanceId").is_empty();
    let paging = Paging::read(request.params, has_ids, "instancesSet")?;
    let everything = request.params.flag("IncludeAllInstances")?.unwrap_or(false);
    let ids = named(estate, request)?;
    request.admit(estate)?;
    let checks = estate.timings.checks;
    let found: Vec<&Instance> = estate
        .instances
        .values()
        .filter(|instance| is_known(estate, request, &instance.id))
        .filter(|instance| ids.is_empty() || ids.contains(&instance.id))
        .filter(|instance| everything || instance.state(request.view) == State::Running)
        .filter(|instance| {
            filters.pass(instance.tags.at(request.view), |name| {
                instance.field(name, request.view)
            })
        })
        .collect();
    let (page, token) = paging.cut(found, |instance| instance.id.clone());
    xml.items("instanceStatusSet", page, |xml, instance| {
        let state = instance.state(request.view);
        let status = match state {
            State::Running if instance.impaired => "impaired",
            State::Running if instance.phases.since(request.view) + checks > request.view => "initializing",
            State::Running => "ok",
            _ => "not-applicable",
        };
        xml.element("instanceId", &instance.id);
        xml.element("availabilityZone", &instance.shape.zone);
        instance::write_state(xml, "instanceState", state);
        for name in ["systemStatus", "instanceStatus"] {
            xml.group(name, |xml| xml.element("status", status));
        }
    });
    xml.optional("nextToken", token.as_deref());
    Ok(false)
}

pub(super) fn describe_attribute(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let attribute = request.params.required("Attribute")?;
    let id = one(estate, request)?;
    request.admit(estate)?;
    let Some(instance) = estate.instances.get(&id) else {
        return Err(instance::not_found(&[&id]));
    };
    let value = match attribute {
        "userData" => instance.shape.user_data.clone(),
        "disableApiTermination" => Some(instance.protected.to_string()),
        "instanceInitiatedShutdownBehavior" => Some(instance.shutdown_behavior.clone()),
        "instanceType" => Some(instance.shape.kind.clone()),
        other => return Err(ApiError::invalid("attribute", other, "Unknown attribute.")),
    };
    xml.element("instanceId", &id);
    xml.group(attribute, |xml| xml.optional("value", value.as_deref()));
    Ok(false)
}

pub(super) fn modify_attribute(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let params = request.params;
    let id = one(estate, request)?;
    let mut protected = params.flag("DisableApiTermination.Value")?;
    let behavior = params
        .text("InstanceInitiatedShutdownBehavior.Value")
        .map(str::to_owned);
    match params.text("Attribute") {
        None => {}
        Some("disableApiTermination") => protected = params.flag("Value")?,
        Some(other) => return Err(ApiError::invalid("attribute", other, "Unknown attribute.")),
    }
    if let Some(other) = behavior
        .as_deref()
        .filter(|text| !["stop", "terminate"].contains(text))
    {
        return Err(ApiError::invalid(
            "instanceInitiatedShutdownBehavior",
            other,
            "Unknown behavior.",
        ));
    }
    if protected.is_none() && behavior.is_none() {
        return Err(ApiError::combination("No attributes specified."));
    }
    request.admit(estate)?;
    let Some(instance) = estate.instances.get_mut(&id) else {
        return Err(instance::not_found(&[&id]));
    };
    let before = (instance.protected, instance.shutdown_behavior.clone());
    instance.protected = protected.unwrap_or(instance.protected);
    if let Some(behavior) = behavior {
        instance.shutdown_behavior = behavior;
    }
    xml.element("return", "true");
    Ok(before != (instance.protected, instance.shutdown_behavior.clone()))
}

/// A termination fails as a whole for one unknown id. For a protected one it fails too, but what is in zones
/// without a protected instance is terminated all the same.
pub(super) fn terminate(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = at_least_one(named(estate, request)?)?;
    request.params.flag("Force")?;
    request.admit(estate)?;
    let protected: Vec<(String, String)> = ids
        .iter()
        .filter_map(|id| estate.instances.get(id))
        .filter(|instance| instance.protected && instance.state(request.now).is_live())
        .map(|instance| (instance.id.clone(), instance.shape.zone.clone()))
        .collect();
    let blocked = |estate: &Estate, id: &str| {
        let zone = estate.instances.get(id).map(|instance| &instance.shape.zone);
        protected.iter().any(|(_, blocked)| Some(blocked) == zone)
    };
    let free: Vec<String> = ids.iter().filter(|id| !blocked(estate, id)).cloned().collect();
    let reason = StateReason::by_user();
    let changed = transit(estate, request, &free, xml, |estate, id| {
        estate.terminate(id, request.now, &reason)
    });
    match protected.first() {
        None => Ok(changed),
        Some((id, _)) => {
            let message = format!(
                "The instance '{id}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again."
            );
            Err(ApiError::new("OperationNotPermitted", message))
        }
    }
}

pub(super) fn stop(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = at_least_one(named(estate, request)?)?;
    request.params.flag("Force")?;
    request.admit(estate)?;
    for id in &ids {
        let state = estate
            .instances
            .get(id)
            .map(|instance| instance.state(request.now));
        if !matches!(state, Some(State::Running | State::Stopping | State::Stopped)) {
            let message = format!("The instance '{id}' is not in a state from which it can be stopped.");
            return Err(ApiError::new("IncorrectInstanceState", message));
        }
    }
    let reason = StateReason::by_user();
    Ok(transit(estate, request, &ids, xml, |estate, id| {
        estate.stop(id, request.now, &reason)
    }))
}

pub(super) fn start(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let ids = at_least_one(named(estate, request)?)?;
    request.admit(estate)?;
    for id in &ids {
        let state = estate
            .instances
            .get(id)
            .map(|instance| instance.state(request.now));
        if !matches!(state, Some(State::Running | State::Pending | State::Stopped)) {
            let message = format!("The instance '{id}' is not in a state from which it can be started.");
            return Err(ApiError::new("IncorrectInstanceState", message));
        }
    }
    let boot = estate.timings.boot;
    Ok(transit(estate, request, &ids, xml, |estate, id| {
        match estate.instances.get_mut(id) {
            Some(instance) if instance.state(request.now) == State::Stopped => {
                let booting = |state| instance::Phase { state, reason: None };
                instance.phases.push(request.now, booting(State::Pending));
                instance.phases.push(request.now + boot, booting(State::Running));
                true
            }
            _ => false,
        }
    }))
}

/// Changes each instance and lists what it was and what it is.
fn transit(
    estate: &mut Estate,
    request: &Request<'_>,
    ids: &[String],
    xml: &mut Xml,
    change: impl Fn(&mut Estate, &str) -> bool,
) -> bool {
    let mut changed = false;
    let state = |estate: &Estate, id: &String| {
        estate
            .instances
            .get(id)
            .map_or(State::Terminated, |instance| instance.state(request.now))
    };
    xml.items("instancesSet", ids, |xml, id| {
        let before = state(estate, id);
        changed |= change(estate, id);
        xml.element("instanceId", id);
        instance::write_state(xml, "currentState", state(estate, id));
        instance::write_state(xml, "previousState", before);
    });
    changed
}

pub(super) fn console(estate: &mut Estate, request: &Request<'_>, xml: &mut Xml) -> Answer {
    let id = one(estate, request)?;
    let latest = request.params.flag("Latest")?.unwrap_or(false);
    let Some(instance) = estate.instances.get(&id).cloned() else {
        return Err(instance::not_found(&[&id]));
    };
    if latest && !instance.is_nitro() {
        return Err(ApiError::new(
            "UnsupportedOperation",
            "This instance type does not support retrieving the latest console logs.",
        ));
    }
    request.admit(estate)?;
    let shown = if latest {
        instance.console(request.view)
    } else {
        instance.posted_console(request.view, estate.timings.post)
    };
    let (at, text) = shown.cloned().unwrap_or((request.now, String::new()));
    xml.element("instanceId", &id);
    xml.element("timestamp", &(request.wall)(at));
    xml.element("output", &BASE64_STANDARD.encode(text));
    Ok(false)
}
