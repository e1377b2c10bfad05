//! What a machine's container is made from: pure, from the spec and the Machine.
//!
//! # Guarantees
//! - What cannot be used is refused with the field's name, before anything is created.
//! - Paths of the host are mounted, never created.

use std::net::Ipv4Addr;

use docker_api::{DockerMachineSpec, Mount, PortMapping};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{
    engine::{ContainerPlan, HostMount, MachinePlan, PublishedPort},
    identity::{self, ClusterId, Role},
};

/// The image of a Machine that names none.
const DEFAULT_IMAGE: &str = "kindest/node";

/// A machine to be.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// Its cluster.
    pub cluster: &'a ClusterId,
    /// Name of the DockerMachine.
    pub name: &'a str,
    /// Its role.
    pub role: Role,
    /// Kubernetes version that the Machine asks for.
    pub version: Option<&'a str>,
    /// Failure domain that the Machine asks for.
    pub failure_domain: Option<&'a str>,
    /// Which attempt at its bootstrap this is, counted from 1.
    pub attempt: i32,
}

/// Why a machine cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither an image nor a version to choose one by.
    #[error("neither spec.customImage nor the Machine's spec.version is set; set one of them")]
    NoImage,
    /// A mount lacks a path, or a path is relative.
    #[error("spec.extraMounts[{index}].{field} must be an absolute path")]
    Mount {
        /// Place in the list.
        index: usize,
        /// The field.
        field: &'static str,
    },
    /// A quantity cannot be read, or is not positive.
    #[error("spec.resources.{field} is {value:?}, which is not a positive quantity such as 2, 1500m or 4Gi")]
    Quantity {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A label of ours was asked for.
    #[error("spec.labels: {0:?} belongs to the controller; remove it")]
    Label(String),
}

/// The image of the machine.
pub fn image(spec: &DockerMachineSpec, version: Option<&str>) -> Result<String, Error> {
    if let Some(image) = spec.custom_image.as_deref().filter(|image| !image.is_empty()) {
        return Ok(image.to_owned());
    }
    let version = version
        .map(str::trim)
        .filter(|version| !version.is_empty())
        .ok_or(Error::NoImage)?;
    // A plus sign is legal in a version and not in a tag.
    Ok(format!(
        "{DEFAULT_IMAGE}:v{}",
        version.trim_start_matches('v').replace('+', "_")
    ))
}

/// The container of the machine.
pub fn plan(
    machine: &Machine,
    spec: &DockerMachineSpec,
    network: &str,
    address: Option<Ipv4Addr>,
) -> Result<ContainerPlan, Error> {
    let own = identity::node_labels(
        machine.cluster,
        machine.name,
        machine.role,
        machine.failure_domain,
    );
    if let Some(key) = spec
        .labels
        .keys()
        .find(|key| key.starts_with(identity::LABEL_PREFIX))
    {
        return Err(Error::Label(key.clone()));
    }
    let mut labels = spec.labels.clone();
    labels.extend(own);
    if machine.attempt > 1 {
        labels.insert(identity::ATTEMPT_LABEL.into(), machine.attempt.to_string());
    }
    let mut environment = proxy_environment(|name| std::env::var(name).ok());
    if machine.role == Role::ControlPlane {
        environment.push("KUBECONFIG=/etc/kubernetes/admin.conf".into());
    }
    Ok(ContainerPlan {
        name: identity::node_name(&machine.cluster.namespace, machine.name),
        hostname: identity::hostname(machine.name),
        image: image(spec, machine.version)?,
        labels,
        entrypoint: None,
        environment,
        network: network.to_owned(),
        address,
        ports: spec.ports.iter().map(port).collect(),
        machine: Some(MachinePlan {
            mounts: mounts(spec.all_mounts())?,
            nano_cpus: limit(spec, "cpus", 1_000_000_000)?,
            memory: limit(spec, "memory", 1)?,
            pids: spec.resources.as_ref().and_then(|limits| limits.pids),
            sysctls: spec.sysctls.clone(),
        }),
    })
}

fn mounts(mounts: &[Mount]) -> Result<Vec<HostMount>, Error> {
    let absolute = |path: &Option<String>, index, field| {
        path.clone()
            .filter(|path| path.starts_with('/'))
            .ok_or(Error::Mount { index, field })
    };
    let host_mount = |(index, mount): (usize, &Mount)| {
        Ok(HostMount {
            host_path: absolute(&mount.host_path, index, "hostPath")?,
            container_path: absolute(&mount.container_path, index, "containerPath")?,
            read_only: mount.read_only.unwrap_or(false),
        })
    };
    mounts.iter().enumerate().map(host_mount).collect()
}

fn port(mapping: &PortMapping) -> PublishedPort {
    PublishedPort {
        container_port: u16::try_from(mapping.container_port).unwrap_or_default(),
        host_port: mapping.host_port.and_then(|port| u16::try_from(port).ok()),
        listen_address: mapping
            .listen_address
            .clone()
            .unwrap_or_else(|| "127.0.0.1".into()),
        protocol: mapping.protocol.unwrap_or_default(),
    }
}

fn limit(spec: &DockerMachineSpec, field: &'static str, scale: i128) -> Result<Option<i64>, Error> {
    let Some(limits) = &spec.resources else {
        return Ok(None);
    };
    let quantity = if field == "cpus" {
        &limits.cpus
    } else {
        &limits.memory
    };
    let Some(Quantity(text)) = quantity else {
        return Ok(None);
    };
    let scaled = scaled(text, scale)
        .and_then(|value| i64::try_from(value).ok())
        .filter(|value| *value > 0);
    scaled.map(Some).ok_or_else(|| Error::Quantity {
        field,
        value: text.clone(),
    })
}

/// The quantity `text`, times `scale`, rounded down.
pub fn scaled(text: &str, scale: i128) -> Option<i128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (multiplier, divisor): (i128, i128) = match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.len() > 9 || whole.len() > 15 {
        return None;
    }
    let power = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let units: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(units * multiplier * scale / divisor / power)
}

/// Environment that says what goes through which proxy, and what through none.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", NO_PROXY];
const NO_PROXY: &str = "NO_PROXY";
/// Names of Services, as every cluster has them.
const SERVICES: [&str; 3] = [".svc", ".svc.cluster", ".svc.cluster.local"];

/// The proxy settings of this process, which its machines need as well, under both spellings of each name.
fn proxy_environment(read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    PROXIES
        .into_iter()
        .flat_map(|name| {
            let lower = name.to_ascii_lowercase();
            let value = read(name)
                .or_else(|| read(&lower))
                .filter(|value| !value.is_empty());
            value
                .into_iter()
                .flat_map(move |value| [format!("{name}={value}"), format!("{lower}={value}")])
        })
        .collect()
}

/// Where `plan` hands on any proxy setting, adds what must go through none of them: its neighbours on the network of
/// `subnet`, the control plane's endpoint among them, itself, and Services.
pub fn keep_from_proxies(plan: &mut ContainerPlan, subnet: Option<(Ipv4Addr, u8)>) {
    let value = |name: &str| {
        let mut entries = plan.environment.iter();
        entries.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    if PROXIES.iter().all(|name| value(name).is_none()) {
        return;
    }
    let subnet = subnet.map(|(base, prefix)| format!("{base}/{prefix}"));
    let kept: Vec<_> = subnet
        .into_iter()
        .chain(value(NO_PROXY))
        .chain([plan.hostname.clone()])
        .chain(SERVICES.map(str::to_owned))
        .collect();
    for name in [NO_PROXY.to_owned(), NO_PROXY.to_ascii_lowercase()] {
        plan.environment
            .retain(|entry| entry.split('=').next() != Some(name.as_str()));
        plan.environment.push(format!("{name}={}", kept.join(",")));
    }
}

#[cfg(test)]
#[path = "node/tests.rs"]
mod tests;
