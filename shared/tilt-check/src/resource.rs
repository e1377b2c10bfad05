//! What a Tiltfile says of resources: `local_resource`, `k8s_resource`, buttons.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::{
    arguments::{Arguments, own_type},
    files,
    interpreter::Call,
    outcome::{Kind, Resource},
};

/// `k8s_resource`: what is said of a workload's resource, or of a new one.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) at: String,
    pub(crate) workload: String,
    pub(crate) new_name: String,
    pub(crate) objects: Vec<String>,
    pub(crate) settings: Resource,
}

impl Options {
    pub(crate) fn parse(call: &Call, arguments: &Arguments, default_manual: bool) -> Result<Self, String> {
        let (workload, new_name) = (arguments.text("workload"), arguments.text("new_name"));
        let objects = arguments.texts("objects");
        if workload.is_empty() && (objects.is_empty() || new_name.is_empty()) {
            return Err("must be given a workload, or objects and a new_name".to_owned());
        }
        one_of(arguments, "pod_readiness", &["", "wait", "ignore"])?;
        one_of(
            arguments,
            "discovery_strategy",
            &["", "default", "selectors-only"],
        )?;
        let mut settings = common(arguments, Kind::Kubernetes, default_manual)?;
        for forward in arguments.list("port_forwards") {
            settings.port_forwards.push(port_forward(&forward)?);
        }
        Ok(Self {
            at: call.at.clone(),
            workload,
            new_name,
            objects,
            settings,
        })
    }
}

/// `local_resource`, with what looks like a mistake.
pub(crate) fn local(
    call: &Call,
    arguments: &Arguments,
    default_manual: bool,
    warnings: &mut Vec<String>,
) -> Result<(String, Resource), String> {
    let name = arguments.text("name");
    let commands = [arguments.texts("cmd"), arguments.texts("serve_cmd")];
    if name.is_empty() {
        return Err("must have a name".to_owned());
    }
    if commands.iter().all(|words| words.join("").is_empty()) {
        return Err(format!(
            "local_resource {name:?} must have a cmd and/or a serve_cmd, but both were empty"
        ));
    }
    if let Some(probe) = arguments.value("readiness_probe")
        && own_type(probe) != Some("Probe")
    {
        return Err(format!("readiness_probe of {name:?} is no probe()"));
    }
    let mut resource = common(arguments, Kind::Local, default_manual)?;
    resource.command = commands.concat().join(" ");
    for path in arguments.texts("deps") {
        let path = files::absolute(call, &path);
        if !Path::new(&path).exists() {
            warnings.push(format!(
                "{}: {name:?} depends on {path}, which does not exist",
                call.at
            ));
        }
        resource.deps.push(path);
    }
    Ok((name, resource))
}

fn common(arguments: &Arguments, kind: Kind, default_manual: bool) -> Result<Resource, String> {
    let mut resource = Resource::new(kind);
    for label in arguments.texts("labels") {
        ensure_label(&label)?;
        resource.labels.insert(label);
    }
    for link in arguments.list("links") {
        if !(link.is_string() || own_type(&link) == Some("Link")) {
            return Err(format!("a link must be a string or link(), got {link}"));
        }
    }
    resource.resource_deps = arguments.texts("resource_deps");
    resource.auto_init = arguments.truth("auto_init", true);
    resource.manual = arguments
        .value("trigger_mode")
        .map_or(default_manual, |mode| mode["value"] == "TRIGGER_MODE_MANUAL");
    Ok(resource)
}

fn one_of(arguments: &Arguments, name: &str, allowed: &[&str]) -> Result<(), String> {
    let value = arguments.text(name);
    if allowed.contains(&value.as_str()) {
        return Ok(());
    }
    Err(format!(
        "Invalid value {value:?} of {name}. Must be one of {allowed:?}"
    ))
}

/// What Kubernetes takes for the value of a label, which Tilt makes of the groups of its user interface.
fn ensure_label(label: &str) -> Result<(), String> {
    let alphanumeric = |at: Option<char>| at.is_some_and(|of| of.is_ascii_alphanumeric());
    let inner = |of: char| of.is_ascii_alphanumeric() || "-_.".contains(of);
    if label.len() <= 63
        && alphanumeric(label.chars().next())
        && alphanumeric(label.chars().last())
        && label.chars().all(inner)
    {
        return Ok(());
    }
    Err(format!(
        "Invalid label {label:?}: alphanumeric characters, '-', '_' or '.', at most 63, alphanumeric at both ends"
    ))
}

/// `local:container`.
fn port_forward(value: &Value) -> Result<String, String> {
    let port = |port: Option<i64>| match port {
        Some(port @ 1..=65535) => Ok(port),
        _ => Err(format!("port_forwards: {value} has no valid port")),
    };
    if own_type(value) == Some("PortForward") {
        let value = &value["value"];
        let local = port(value["local"].as_i64())?;
        let container = value["container"].as_i64().filter(|&port| port != 0);
        return Ok(format!("{local}:{}", port(Some(container.unwrap_or(local)))?));
    }
    if let Some(number) = value.as_i64() {
        let number = port(Some(number))?;
        return Ok(format!("{number}:{number}"));
    }
    let Some(text) = value.as_str() else {
        return Err(format!(
            "port_forwards: {value} is no port, string or port_forward()"
        ));
    };
    let parts: Vec<_> = text.split(':').collect();
    let number = |part: &str| port(part.parse().ok());
    match parts.as_slice() {
        [both] => number(both).map(|port| format!("{port}:{port}")),
        [local, container] | [_, local, container] => {
            Ok(format!("{}:{}", number(local)?, number(container)?))
        }
        _ => Err(format!("port_forwards: {text:?} has too many parts")),
    }
}

/// The names of resources that are said to be somebody's dependency and do not exist.
pub(crate) fn missing_deps<'a>(
    resources: impl Iterator<Item = (&'a String, &'a Resource)> + Clone,
) -> BTreeSet<(String, String)> {
    let names: BTreeSet<_> = resources.clone().map(|(name, _)| name).collect();
    resources
        .flat_map(|(name, resource)| resource.resource_deps.iter().map(move |dep| (name, dep)))
        .filter(|(_, dep)| !names.contains(dep))
        .map(|(name, dep)| (name.clone(), dep.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forwards_are_written_in_four_ways() {
        let made = json!({"$": "PortForward", "value": {"local": 9000, "container": null}});
        for (value, expected) in [
            (json!(8080), "8080:8080"),
            (json!("9000"), "9000:9000"),
            (json!("9000:8080"), "9000:8080"),
            (json!("host:9000:8080"), "9000:8080"),
            (made, "9000:9000"),
        ] {
            assert_eq!(port_forward(&value).unwrap(), expected);
        }
        for bad in [json!(0), json!(70000), json!("a"), json!("1:2:3:4"), json!(true)] {
            port_forward(&bad).unwrap_err();
        }
    }

    #[test]
    fn labels_are_those_of_kubernetes() {
        for good in ["CAPDKC", "ALL.controllers", "a-b_c"] {
            ensure_label(good).unwrap();
        }
        for bad in ["", "-a", "a b", "a.", &"a".repeat(64)] {
            ensure_label(bad).unwrap_err();
        }
    }
}
