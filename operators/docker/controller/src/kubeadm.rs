//! kubeadm's configuration, adapted to a node that is a container.
//!
//! The bootstrap provider writes the configuration of any machine; a container needs some settings of its own. Only
//! what its author left open is filled in.
//!
//! # Guarantees
//! - A setting that is there stays as it is, in both forms of extra arguments (a mapping in older API versions, a
//!   list of name and value in newer ones).
//! - A document that is not understood is left alone.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The file from which `kubeadm init` is configured.
pub const INIT_CONFIG: &str = "/run/kubeadm/kubeadm.yaml";
/// The file from which `kubeadm join` is configured.
pub const JOIN_CONFIG: &str = "/run/kubeadm/kubeadm-join-config.yaml";

/// Checks that fail in every container, for reasons that do no harm there.
const IGNORED_CHECKS: [&str; 3] = [
    "SystemVerification",
    "Swap",
    "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables",
];

/// Kubelet flags of a node that shares disk, swap and cgroup tree with its host.
const KUBELET_FLAGS: [(&str, &str); 5] = [
    ("cgroup-root", "/kubelet"),
    ("runtime-cgroups", "/system.slice/containerd.service"),
    ("fail-swap-on", "false"),
    ("image-gc-high-threshold", "100"),
    (
        "eviction-hard",
        "nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%",
    ),
];

/// Under these names the control plane is reached from the Docker host.
const HOST_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// The runtime's socket in a node image.
const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// `text` (one or more YAML documents) with what a container needs; `text` itself if it cannot be parsed.
pub fn adapt(text: &str, provider_id: &str) -> String {
    let Ok(mut documents) = serde_saphyr::from_multiple::<Value>(text) else {
        return text.to_owned();
    };
    let mut has_proxy = false;
    let mut initializes = false;
    for document in &mut documents {
        let Some(fields) = document.as_object_mut() else {
            continue;
        };
        match fields.get("kind").and_then(Value::as_str) {
            Some("InitConfiguration" | "JoinConfiguration") => registration(fields, provider_id),
            Some("ClusterConfiguration") => {
                initializes = true;
                certificate_names(fields);
            }
            Some("KubeProxyConfiguration") => has_proxy = true,
            _ => {}
        }
    }
    if initializes && !has_proxy {
        // Connection tracking limits belong to the host; kube-proxy must not try to set them.
        documents.push(json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "conntrack": {"maxPerCore": 0, "min": 0},
        }));
    }
    // JSON is YAML; each document on a line of its own keeps the file readable enough.
    documents.iter().fold(String::new(), |mut all, document| {
        let _ = writeln!(
            all,
            "---
{document}"
        );
        all
    })
}

fn registration(fields: &mut Map<String, Value>, provider_id: &str) {
    let newer = fields
        .get("apiVersion")
        .and_then(Value::as_str)
        .is_some_and(|v| !v.ends_with("v1beta3") && !v.ends_with("v1beta2"));
    let node = object(fields, "nodeRegistration");
    let Some(node) = node else { return };
    let socket = node.get("criSocket").and_then(Value::as_str).unwrap_or_default();
    if socket.is_empty() {
        node.insert("criSocket".into(), CRI_SOCKET.into());
    }
    let checks = node.entry("ignorePreflightErrors").or_insert_with(|| json!([]));
    if let Some(checks) = checks.as_array_mut()
        && !checks
            .iter()
            .any(|check| check.as_str().is_some_and(|c| c.eq_ignore_ascii_case("all")))
    {
        for check in IGNORED_CHECKS {
            if !checks.iter().any(|present| present == check) {
                checks.push(check.into());
            }
        }
    }
    for (name, value) in KUBELET_FLAGS.into_iter().chain([("provider-id", provider_id)]) {
        kubelet_flag(node, newer, name, value);
    }
}

fn kubelet_flag(node: &mut Map<String, Value>, newer: bool, name: &str, value: &str) {
    let empty = if newer { json!([]) } else { json!({}) };
    let flags = node.entry("kubeletExtraArgs").or_insert_with(|| empty.clone());
    if flags.is_null() {
        *flags = empty;
    }
    match flags {
        Value::Object(flags) => {
            flags.entry(name).or_insert_with(|| value.into());
        }
        Value::Array(flags)
            if !flags
                .iter()
                .any(|flag| flag.get("name").and_then(Value::as_str) == Some(name)) =>
        {
            flags.push(json!({"name": name, "value": value}));
        }
        _ => {}
    }
}

fn certificate_names(fields: &mut Map<String, Value>) {
    let Some(server) = object(fields, "apiServer") else {
        return;
    };
    let names = server.entry("certSANs").or_insert_with(|| json!([]));
    if names.is_null() {
        *names = json!([]);
    }
    if let Some(names) = names.as_array_mut() {
        for name in HOST_NAMES {
            if !names.iter().any(|present| present == name) {
                names.push(name.into());
            }
        }
    }
}

fn object<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let value = fields.entry(name).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

#[cfg(test)]
#[path = "kubeadm/tests.rs"]
mod tests;
