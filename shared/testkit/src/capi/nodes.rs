//! What machines need so that they become nodes here, beyond what a flavor says.

use serde_json::{Value, json};

use crate::docker::lacks_nothing;

/// A pod network that ends at the node: enough for nodes to be Ready. Every machine gets it as a file.
const POD_NETWORK: &str = r#"{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

/// How full the host's disk is does not concern its nodes.
const NO_EVICTION: &str = "nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%";

/// The objects of a Cluster API cluster, with a pod network on every machine and kubelets that run on this host.
pub fn fit_for_this_machine(mut objects: Vec<Value>) -> Vec<Value> {
    let registration = json!({"nodeRegistration": {"kubeletExtraArgs": kubelet_arguments(lacks_nothing())}});
    for object in &mut objects {
        let spec = match object["kind"].as_str() {
            Some("KubeadmControlPlane") => &mut object["spec"]["kubeadmConfigSpec"],
            Some("KubeadmConfigTemplate") => &mut object["spec"]["template"]["spec"],
            _ => continue,
        };
        spec["joinConfiguration"] = registration.clone();
        spec["files"] = json!([{"path": "/etc/cni/net.d/10-pods.conflist", "permissions": "0644", "content": POD_NETWORK}]);
        if object["kind"] == "KubeadmControlPlane" {
            object["spec"]["kubeadmConfigSpec"]["initConfiguration"] = registration.clone();
        }
    }
    objects
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
