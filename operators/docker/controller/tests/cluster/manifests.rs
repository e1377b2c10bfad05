//! What the nodes of this machine need beyond what a flavor says.

use serde_json::{Value, json};

/// A pod network that ends at the node: enough for nodes to be Ready. Every machine gets it as a file.
const POD_NETWORK: &str = r#"{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

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

/// The objects of a flavor, with a pod network on every node.
pub fn fit_for_this_machine(mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        let path = match object["kind"].as_str() {
            Some("KubeadmControlPlane") => "/spec/kubeadmConfigSpec",
            Some("KubeadmConfigTemplate") => "/spec/template/spec",
            _ => continue,
        };
        let registration = json!({"nodeRegistration": {"kubeletExtraArgs": kubelet_arguments()}});
        let mut wanted = json!({"joinConfiguration": registration, "files": files()});
        if path == "/spec/kubeadmConfigSpec" {
            wanted["initConfiguration"] = registration;
        }
        let spec = object.pointer_mut(path).unwrap().as_object_mut().unwrap();
        spec.extend(wanted.as_object().unwrap().clone());
    }
    objects
}
