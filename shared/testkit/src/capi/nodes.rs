//! What machines need so that they become nodes here, beyond what a flavor says.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::{cluster, docker::lacks_nothing, image::POD_NETWORK_NAME};

/// A pod network that ends at the node: enough for nodes to be Ready. Every machine gets it as a file.
const POD_NETWORK: &str = r#"{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

/// How full the host's disk is does not concern its nodes.
const NO_EVICTION: &str = "nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%";

/// The objects of a Cluster API cluster, with a pod network on every machine and kubelets that run on this host.
pub fn fit_for_this_machine(objects: Vec<Value>) -> Vec<Value> {
    let mut objects = without_pod_network(objects);
    for spec in objects.iter_mut().filter_map(bootstrap_spec) {
        spec["files"] = json!([{"path": "/etc/cni/net.d/10-pods.conflist", "permissions": "0644", "content": POD_NETWORK}]);
    }
    objects
}

/// The objects of a Cluster API cluster, with kubelets that run on this host: nodes become Ready once somebody applies
/// a pod network.
pub fn without_pod_network(mut objects: Vec<Value>) -> Vec<Value> {
    let registration = json!({"nodeRegistration": {"kubeletExtraArgs": kubelet_arguments(lacks_nothing())}});
    for object in &mut objects {
        let is_control_plane = object["kind"] == "KubeadmControlPlane";
        let Some(spec) = bootstrap_spec(object) else {
            continue;
        };
        spec["joinConfiguration"] = registration.clone();
        if is_control_plane {
            spec["initConfiguration"] = registration.clone();
        }
    }
    objects
}

/// Where the object says how its machines are bootstrapped; nothing for one that has no machines.
pub fn bootstrap_spec(object: &mut Value) -> Option<&mut Value> {
    let path = match object["kind"].as_str()? {
        "KubeadmControlPlane" => "/spec/kubeadmConfigSpec",
        "KubeadmConfigTemplate" => "/spec/template/spec",
        _ => return None,
    };
    object.pointer_mut(path)
}

/// Whether pods may run there.
pub fn is_ready(node: &Node) -> bool {
    let status = node.status.as_ref();
    let mut conditions = status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A pod network to apply to a cluster of the test bed's node image whose pods have the range 10.244.0.0/16: pods reach
/// one another from every node.
pub fn pod_network() -> anyhow::Result<Vec<Value>> {
    let manifests = cluster::pod_network(POD_NETWORK_NAME);
    serde_saphyr::from_multiple(&manifests).context("the pod network's manifests cannot be read")
}

/// Where this machine can't give CAP_SYS_RESOURCE to its containers, kubelet must not count on it.
fn kubelet_arguments(has_sys_resource: bool) -> Value {
    let mut arguments = vec![json!({"name": "eviction-hard", "value": NO_EVICTION})];
    if !has_sys_resource {
        arguments.push(json!({"name": "feature-gates", "value": "KubeletInUserNamespace=true"}));
    }
    Value::Array(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_planes_and_workers_get_a_pod_network_and_the_rest_stays() {
        let objects = vec![
            json!({"kind": "Cluster", "spec": {"paused": false}}),
            json!({"kind": "KubeadmControlPlane", "spec": {"replicas": 3, "kubeadmConfigSpec": {"format": "cloud-config"}}}),
            json!({"kind": "KubeadmConfigTemplate", "spec": {"template": {"spec": {"format": "cloud-config"}}}}),
        ];
        let fitted = fit_for_this_machine(objects.clone());
        assert_eq!(fitted[0], objects[0]);
        assert_eq!(fitted[1]["spec"]["replicas"], 3);
        for (object, path) in [
            (&fitted[1], "/spec/kubeadmConfigSpec"),
            (&fitted[2], "/spec/template/spec"),
        ] {
            let spec = object.pointer(path).unwrap();
            assert_eq!(spec["format"], "cloud-config");
            assert_eq!(spec["files"][0]["path"], "/etc/cni/net.d/10-pods.conflist");
        }
        assert!(
            fitted[2]
                .pointer("/spec/template/spec/initConfiguration")
                .is_none()
        );
    }

    #[test]
    fn a_pod_network_is_brought_by_file_or_applied() {
        let objects = vec![
            json!({"kind": "KubeadmConfigTemplate", "spec": {"template": {"spec": {"format": "cloud-config"}}}}),
        ];
        let mut bare = without_pod_network(objects);
        let spec = bootstrap_spec(&mut bare[0]).unwrap();
        assert!(spec.get("files").is_none() && spec.get("joinConfiguration").is_some());
        let applied = pod_network().unwrap();
        assert!(applied.iter().any(|object| object["kind"] == "DaemonSet"));
    }

    #[test]
    fn kubelet_counts_on_a_capability_only_where_there_is_one() {
        let names = |has: bool| {
            let arguments = kubelet_arguments(has);
            let names = arguments.as_array().unwrap().iter();
            names
                .map(|argument| argument["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["eviction-hard"]);
        assert_eq!(names(false), ["eviction-hard", "feature-gates"]);
    }
}
