//! What kubeadm is told, and what is applied once it is done.

use serde_json::{Value, json};

/// The range of all pods; each node gets a /24 of it.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";
/// The range of services.
const SERVICE_RANGE: &str = "10.96.0.0/16";
/// Where kube-controller-manager's host-path provisioner makes its volumes; it knows no other place.
pub(super) const VOLUMES: &str = "/tmp/hostpath_pv";

/// What a cluster's configuration depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The cluster.
    pub(super) name: &'a str,
    /// Kubernetes', without a leading `v`.
    pub(super) version: &'a str,
    /// Whether the machine can give CAP_SYS_RESOURCE to its containers.
    pub(super) has_sys_resource: bool,
    /// Whether the control plane is the only node, and runs pods.
    pub(super) alone: bool,
}

/// The configuration of `kubeadm init`, as YAML documents.
pub(super) fn configuration(facts: Facts<'_>) -> String {
    let documents = [init(facts), cluster(facts), kubelet(facts), kube_proxy()];
    documents.map(|document| format!("{document:#}\n")).join("---\n")
}

fn init(facts: Facts<'_>) -> Value {
    let mut node = json!({ "criSocket": "unix:///run/containerd/containerd.sock" });
    if facts.alone {
        node["taints"] = json!([]);
    }
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "nodeRegistration": node,
        // A container is no machine, which the checks are for: swap, kernel configuration, modules.
        "skipPhases": ["preflight"],
    })
}

fn cluster(facts: Facts<'_>) -> Value {
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": facts.name,
        "kubernetesVersion": format!("v{}", facts.version),
        "networking": { "podSubnet": POD_RANGE, "serviceSubnet": SERVICE_RANGE },
        "apiServer": { "certSANs": ["localhost", "127.0.0.1"] },
        "controllerManager": {
            "extraArgs": [{ "name": "enable-hostpath-provisioner", "value": "true" }],
            "extraVolumes": [{
                "name": "volumes",
                "hostPath": VOLUMES,
                "mountPath": VOLUMES,
                "pathType": "DirectoryOrCreate",
            }],
        },
        // Nothing here survives a power failure anyway.
        "etcd": { "local": { "extraArgs": [{ "name": "unsafe-no-fsync", "value": "true" }] } },
    })
}

fn kubelet(facts: Facts<'_>) -> Value {
    let mut kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "failSwapOn": false,
        // The disk is the host's, and how full it is no concern of the cluster's.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": { "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
    });
    if !facts.has_sys_resource {
        kubelet["featureGates"] = json!({ "KubeletInUserNamespace": true });
    }
    kubelet
}

fn kube_proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        // The host's limits may not be changed from a container.
        "conntrack": { "maxPerCore": 0, "min": 0 },
    })
}

/// The pod network's agent and the default StorageClass.
pub(crate) fn manifests(pod_network_image: &str) -> String {
    include_str!("manifests.yaml")
        .replace("POD_NETWORK_IMAGE", pod_network_image)
        .replace("POD_RANGE", POD_RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        name: "dev",
        version: "1.34.4",
        has_sys_resource: true,
        alone: true,
    };

    #[test]
    fn a_lone_control_plane_runs_pods_and_one_with_workers_does_not() {
        assert_eq!(init(FACTS)["nodeRegistration"]["taints"], json!([]));
        assert_eq!(
            init(Facts {
                alone: false,
                ..FACTS
            })["nodeRegistration"]
                .get("taints"),
            None
        );
    }

    #[test]
    fn the_user_namespace_gate_is_set_only_where_the_capability_is_missing() {
        assert_eq!(kubelet(FACTS).get("featureGates"), None);
        let gates = &kubelet(Facts {
            has_sys_resource: false,
            ..FACTS
        })["featureGates"];
        assert_eq!(gates["KubeletInUserNamespace"], json!(true));
    }

    #[test]
    fn every_placeholder_of_the_manifests_is_filled() {
        let manifests = manifests("localhost/x:1");
        assert!(manifests.contains("image: localhost/x:1") && manifests.contains(POD_RANGE));
        assert!(!manifests.contains("POD_NETWORK_IMAGE") && !manifests.contains("POD_RANGE"));
    }
}
