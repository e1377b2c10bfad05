//! How EC2 describes an instance.

use super::{Instance, State};
use crate::{history::Moment, tag::Tags, xml::Xml};

/// What an instance's description needs to know beside the instance.
pub(crate) struct Context<'a> {
    pub(crate) at: Moment,
    pub(crate) account: &'a str,
    pub(crate) wall: &'a dyn Fn(Moment) -> String,
}

/// `<instancesSet>`'s item.
pub(crate) fn describe(xml: &mut Xml, instance: &Instance, context: &Context<'_>) {
    let (at, shape) = (context.at, &instance.shape);
    let phase = instance.phases.at(at);
    let alive = phase.state != State::Terminated;
    xml.element("instanceId", &instance.id);
    xml.element("imageId", &shape.image);
    write_state(xml, "instanceState", phase.state);
    xml.element("privateDnsName", &dns_name(instance, alive));
    xml.element("dnsName", "");
    let reason = phase.reason.as_ref().map(|reason| {
        let text = reason.message.split_once(": ").map_or("", |(_, text)| text);
        format!(
            "{text} ({})",
            (context.wall)(instance.phases.since(at)).replace('T', " ")
        )
    });
    xml.element("reason", reason.as_deref().unwrap_or_default());
    xml.optional("keyName", shape.key.as_deref());
    xml.element("amiLaunchIndex", &instance.index.to_string());
    xml.element("instanceType", &shape.kind);
    xml.element("launchTime", &(context.wall)(instance.launched));
    xml.group("placement", |xml| {
        xml.element("availabilityZone", &shape.zone);
        xml.element("groupName", "");
        xml.element("tenancy", "default");
    });
    xml.group("monitoring", |xml| {
        xml.element("state", if shape.monitoring { "enabled" } else { "disabled" });
    });
    if alive {
        xml.element("subnetId", &shape.subnet);
        xml.element("vpcId", &shape.vpc);
        xml.element("privateIpAddress", &instance.address);
    }
    write_groups(xml, if alive { &shape.groups } else { &[] });
    if let Some(reason) = &phase.reason {
        xml.group("stateReason", |xml| {
            xml.element("code", &reason.code);
            xml.element("message", &reason.message);
        });
    }
    xml.element("architecture", &shape.architecture);
    xml.element("rootDeviceType", "ebs");
    xml.element("rootDeviceName", &shape.root_device);
    write_devices(xml, instance, context);
    xml.element("virtualizationType", "hvm");
    xml.optional("clientToken", shape.client_token.as_deref());
    write_tags(xml, instance.tags.at(at));
    xml.element("hypervisor", "xen");
    write_interface(xml, instance, context);
    write_profile(xml, shape.profile.as_deref().filter(|_| alive), context.account);
    xml.element("ebsOptimized", if shape.ebs_optimized { "true" } else { "false" });
    xml.group("metadataOptions", |xml| {
        xml.element("state", "applied");
        xml.element("httpTokens", &shape.http_tokens);
        xml.element("httpPutResponseHopLimit", &shape.hop_limit.to_string());
        xml.element("httpEndpoint", "enabled");
    });
}

fn dns_name(instance: &Instance, alive: bool) -> String {
    if alive {
        format!("ip-{}.ec2.internal", instance.address.replace('.', "-"))
    } else {
        String::new()
    }
}

fn write_devices(xml: &mut Xml, instance: &Instance, context: &Context<'_>) {
    let alive = instance.state(context.at) != State::Terminated;
    let devices = instance.devices.iter().filter(|_| alive);
    xml.items(
        "blockDeviceMapping",
        devices,
        |xml, (name, volume, goes_along)| {
            xml.element("deviceName", name);
            xml.group("ebs", |xml| {
                xml.element("volumeId", volume);
                xml.element("status", "attached");
                xml.element("attachTime", &(context.wall)(instance.launched));
                xml.element("deleteOnTermination", if *goes_along { "true" } else { "false" });
            });
        },
    );
}

fn write_interface(xml: &mut Xml, instance: &Instance, context: &Context<'_>) {
    let alive = instance.state(context.at) != State::Terminated;
    xml.items(
        "networkInterfaceSet",
        alive.then_some(instance),
        |xml, instance| {
            xml.element("networkInterfaceId", &instance.interface);
            xml.element("subnetId", &instance.shape.subnet);
            xml.element("vpcId", &instance.shape.vpc);
            xml.element("status", "in-use");
            xml.element("privateIpAddress", &instance.address);
            xml.group("attachment", |xml| {
                xml.element("deviceIndex", "0");
                xml.element("status", "attached");
                xml.element("deleteOnTermination", "true");
            });
        },
    );
}

fn write_profile(xml: &mut Xml, profile: Option<&str>, account: &str) {
    if let Some(name) = profile {
        xml.group("iamInstanceProfile", |xml| {
            xml.element("arn", &format!("arn:aws:iam::{account}:instance-profile/{name}"));
            xml.element("id", "AIPAEXAMPLEEXAMPLE000");
        });
    }
}

pub(crate) fn write_groups(xml: &mut Xml, groups: &[(String, String)]) {
    xml.items("groupSet", groups, |xml, (id, name)| {
        xml.element("groupId", id);
        xml.element("groupName", name);
    });
}

pub(crate) fn write_tags(xml: &mut Xml, tags: &Tags) {
    xml.items("tagSet", tags, |xml, (key, value)| {
        xml.element("key", key);
        xml.element("value", value);
    });
}

pub(crate) fn write_state(xml: &mut Xml, name: &str, state: State) {
    xml.group(name, |xml| {
        xml.element("code", &state.code().to_string());
        xml.element("name", state.name());
    });
}
