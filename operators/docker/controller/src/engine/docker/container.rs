//! Containers, to and from Docker's own types.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, EndpointIpamConfig, EndpointSettings,
    HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType, NetworkingConfig,
    PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use docker_api::PortProtocol;

use crate::engine::{Container, ContainerPlan, ContainerState, HostMount, MachinePlan, PublishedPort};

/// What a list says of a container.
pub(super) fn of_summary(summary: ContainerSummary) -> Container {
    let networks = summary
        .network_settings
        .and_then(|settings| settings.networks)
        .unwrap_or_default();
    let keeps = |endpoint: &EndpointSettings| {
        let config = endpoint.ipam_config.as_ref();
        config
            .and_then(|config| config.ipv4_address.as_deref())
            .is_some_and(|address| !address.is_empty())
    };
    let kept = networks
        .iter()
        .filter(|(_, endpoint)| keeps(endpoint))
        .map(|(network, _)| network.clone())
        .collect();
    let attached = networks.keys().cloned().collect();
    let addresses = networks.into_iter().filter_map(|(network, endpoint)| {
        let kept = endpoint.ipam_config.and_then(|config| config.ipv4_address);
        let address = endpoint
            .ip_address
            .filter(|address| !address.is_empty())
            .or(kept)?;
        Some((network, address.parse().ok()?))
    });
    let ports = summary.ports.unwrap_or_default();
    let name = summary
        .names
        .unwrap_or_default()
        .into_iter()
        .next()
        .unwrap_or_default();
    Container {
        id: summary.id.unwrap_or_default(),
        name: name.trim_start_matches('/').to_owned(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        state: match summary.state {
            Some(ContainerSummaryStateEnum::CREATED) => ContainerState::Created,
            Some(ContainerSummaryStateEnum::RUNNING) => ContainerState::Running,
            Some(ContainerSummaryStateEnum::RESTARTING) => ContainerState::Restarting,
            _ => ContainerState::Stopped,
        },
        networks: attached,
        addresses: addresses.collect(),
        kept,
        ports: ports
            .iter()
            .filter_map(|port| Some((port.private_port, port.public_port?)))
            .collect(),
    }
}

/// The request that makes a container.
pub(super) fn of_plan(plan: &ContainerPlan) -> ContainerCreateBody {
    let endpoint = EndpointSettings {
        ipam_config: plan.address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    ContainerCreateBody {
        hostname: Some(plan.hostname.clone()),
        image: Some(plan.image.clone()),
        labels: Some(plan.labels.clone().into_iter().collect()),
        env: Some(plan.environment.clone()),
        entrypoint: plan.entrypoint.clone(),
        cmd: plan.entrypoint.as_ref().map(|_| Vec::new()),
        tty: Some(plan.machine.is_some()),
        volumes: plan.machine.as_ref().map(|_| vec!["/var".to_owned()]),
        exposed_ports: Some(plan.ports.iter().map(port_key).collect()),
        host_config: Some(host_config(plan)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(plan.network.clone(), endpoint)].into()),
        }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(plan: &ContainerPlan) -> HostConfig {
    let common = HostConfig {
        network_mode: Some(plan.network.clone()),
        port_bindings: Some(port_map(&plan.ports)),
        // The daemon brings it back after its own restart. `unless-stopped` would not after a crash of the daemon, which
        // then stops what has outlived it, nor ever after a signal, as a load balancer's reload is one: to Docker, either
        // is somebody's wish that it be stopped.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ALWAYS),
            maximum_retry_count: None,
        }),
        init: Some(false),
        ..HostConfig::default()
    };
    match &plan.machine {
        None => HostConfig {
            // Its log is read back after a reload, so it must be one that can be read, and must not grow for ever.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some([("max-size".to_owned(), "10m".to_owned())].into()),
            }),
            ..common
        },
        Some(machine) => of_machine(machine, common),
    }
}

/// The kernel's modules, for those who load one. A kernel without modules needs no such folder, so it is not asked for as a
/// mount, which fails where it is missing, but as a bind, for which Docker then makes an empty one.
const MODULES: &str = "/lib/modules";

/// systemd, a container runtime and kubelet need what no ordinary container gets.
fn of_machine(machine: &MachinePlan, common: HostConfig) -> HostConfig {
    let is_given = machine.mounts.iter().any(|mount| mount.container_path == MODULES);
    let modules = (!is_given).then(|| format!("{MODULES}:{MODULES}:ro"));
    let temporary: HashMap<_, _> = ["/tmp", "/run"]
        .map(|path| (path.to_owned(), String::new()))
        .into();
    HostConfig {
        privileged: Some(true),
        security_opt: Some(
            ["seccomp=unconfined", "apparmor=unconfined"]
                .map(str::to_owned)
                .into(),
        ),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        tmpfs: Some(temporary),
        binds: Some(modules.into_iter().collect()),
        mounts: Some(machine.mounts.iter().map(bind).collect()),
        nano_cpus: machine.nano_cpus,
        memory: machine.memory,
        pids_limit: machine.pids,
        sysctls: Some(machine.sysctls.clone().into_iter().collect()),
        ..common
    }
}

/// A mount, unlike Docker's older binds, fails where the path of the host is missing.
fn bind(mount: &HostMount) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.host_path.clone()),
        target: Some(mount.container_path.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    }
}

fn port_key(port: &PublishedPort) -> String {
    let protocol = match port.protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.container_port)
}

fn port_map(ports: &[PublishedPort]) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: Some(port.listen_address.clone()),
            host_port: Some(port.host_port.map(|port| port.to_string()).unwrap_or_default()),
        };
        map.entry(port_key(port))
            .or_insert_with(|| Some(Vec::new()))
            .get_or_insert_default()
            .push(binding);
    }
    map
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_machine_keeps_its_address_and_its_data_and_is_restarted() {
        let plan = ContainerPlan {
            name: "m.ns".into(),
            network: "kind".into(),
            address: Some(Ipv4Addr::new(172, 30, 128, 1)),
            machine: Some(MachinePlan::default()),
            ..ContainerPlan::default()
        };
        let body = of_plan(&plan);
        let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
        let kept = endpoints["kind"]
            .ipam_config
            .as_ref()
            .unwrap()
            .ipv4_address
            .as_deref();
        assert_eq!(kept, Some("172.30.128.1"));
        assert_eq!(body.volumes, Some(vec!["/var".to_owned()]));
        let host = body.host_config.unwrap();
        assert_eq!(
            host.restart_policy.unwrap().name,
            Some(RestartPolicyNameEnum::ALWAYS)
        );
        assert_eq!(host.privileged, Some(true));
        assert_eq!(host.mounts, Some(Vec::new()));
        assert_eq!(host.binds, Some(vec!["/lib/modules:/lib/modules:ro".to_owned()]));
    }

    #[test]
    fn a_mount_of_the_user_is_no_bind_which_would_make_what_is_missing_and_comes_before_ours() {
        let mount = HostMount {
            host_path: "/mine".into(),
            container_path: "/lib/modules".into(),
            read_only: false,
        };
        let plan = ContainerPlan {
            machine: Some(MachinePlan {
                mounts: vec![mount.clone()],
                ..MachinePlan::default()
            }),
            ..ContainerPlan::default()
        };
        let host = of_plan(&plan).host_config.unwrap();
        assert_eq!(host.mounts, Some(vec![bind(&mount)]));
        assert_eq!(host.binds, Some(Vec::new()));
    }

    #[test]
    fn a_plain_container_is_not_privileged_and_its_log_is_bounded() {
        let port = PublishedPort {
            container_port: 6443,
            host_port: Some(30000),
            listen_address: "127.0.0.1".into(),
            protocol: PortProtocol::Tcp,
        };
        let plan = ContainerPlan {
            ports: vec![port],
            ..ContainerPlan::default()
        };
        let host = of_plan(&plan).host_config.unwrap();
        assert_eq!(host.privileged, None);
        assert!(host.log_config.is_some());
        let binding = &host.port_bindings.unwrap()["6443/tcp"].clone().unwrap()[0];
        assert_eq!(
            (binding.host_ip.as_deref(), binding.host_port.as_deref()),
            (Some("127.0.0.1"), Some("30000"))
        );
    }
}
