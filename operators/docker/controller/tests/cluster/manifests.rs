//! A small cluster: one control plane machine, one worker.

use serde_json::{Value, json};

/// A pod network that ends at the node: enough for nodes to be Ready. Every machine gets it as a file.
const POD_NETWORK: &str = r#"{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

const VERSION: &str = "v1.34.4";

/// Whether this machine can give CAP_SYS_RESOURCE to its containers; where not, kubelet must not count on it.
fn kubelet_arguments() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    if bounding >> 24 & 1 == 1 {
        json!([])
    } else {
        json!([{"name": "feature-gates", "value": "KubeletInUserNamespace=true"}])
    }
}

fn files() -> Value {
    json!([{"path": "/etc/cni/net.d/10-pods.conflist", "permissions": "0644", "content": POD_NETWORK}])
}

/// The objects of the cluster `c1`.
pub fn cluster(namespace: &str, image: &str) -> Vec<Value> {
    let registration = json!({"nodeRegistration": {"kubeletExtraArgs": kubelet_arguments()}});
    let infrastructure =
        |kind: &str, name: &str| json!({"apiGroup": docker_api::GROUP, "kind": kind, "name": name});
    let object = |version: &str, kind: &str, name: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let ours = format!("{}/v1beta2", docker_api::GROUP);
    vec![
        object(
            "cluster.x-k8s.io/v1beta2",
            "Cluster",
            "c1",
            json!({
                "clusterNetwork": {"pods": {"cidrBlocks": ["10.244.0.0/16"]}, "services": {"cidrBlocks": ["10.96.0.0/16"]}},
                "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "c1"},
                "infrastructureRef": infrastructure("DockerCluster", "c1"),
            }),
        ),
        object(&ours, "DockerCluster", "c1", json!({})),
        object(
            &ours,
            "DockerMachineTemplate",
            "nodes",
            json!({"template": {"spec": {"customImage": image}}}),
        ),
        object(
            "controlplane.cluster.x-k8s.io/v1beta2",
            "KubeadmControlPlane",
            "c1",
            json!({
                "replicas": 1,
                "version": VERSION,
                "machineTemplate": {"spec": {"infrastructureRef": infrastructure("DockerMachineTemplate", "nodes")}},
                "kubeadmConfigSpec": {
                    "initConfiguration": registration, "joinConfiguration": registration, "files": files(),
                },
            }),
        ),
        object(
            "bootstrap.cluster.x-k8s.io/v1beta2",
            "KubeadmConfigTemplate",
            "workers",
            json!({"template": {"spec": {"joinConfiguration": registration, "files": files()}}}),
        ),
        object(
            "cluster.x-k8s.io/v1beta2",
            "MachineDeployment",
            "workers",
            json!({
                "clusterName": "c1",
                "replicas": 1,
                "selector": {"matchLabels": {}},
                "template": {"spec": {
                    "clusterName": "c1",
                    "version": VERSION,
                    "bootstrap": {"configRef": {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfigTemplate", "name": "workers"}},
                    "infrastructureRef": infrastructure("DockerMachineTemplate", "nodes"),
                }},
            }),
        ),
    ]
}
