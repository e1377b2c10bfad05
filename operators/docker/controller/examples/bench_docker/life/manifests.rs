//! The same cluster for either provider: the released flavor, with what this machine's nodes need.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testkit::capi::nodes::fit_for_this_machine;

use crate::provider::Kind;

/// Where a node writes down when its kubeadm began, in seconds since 1970.
pub(super) const BEGAN: &str = "/run/bench-began";
const FLAVOR: &str = include_str!("../../../../config/cluster-template.yaml");
/// What upstream's own load balancer configuration comes to, but for the number of connections: where a process may open only 20,000
/// files its own never takes effect.
const CONFIGURATION: &str = include_str!("haproxy.tmpl");

pub(super) struct Wanted<'a> {
    pub(super) cluster: &'a str,
    pub(super) node_image: &'a str,
    pub(super) balancer_image: &'a str,
}

/// One control plane machine and one worker.
pub(super) fn cluster(kind: Kind, wanted: &Wanted) -> Result<Vec<Value>> {
    let variables = [
        (r#"${CAPDKC_NODE_IMAGE:=""}"#, wanted.node_image),
        ("${POD_CIDR:=10.244.0.0/16}", "10.244.0.0/16"),
        ("${SERVICE_CIDR:=10.96.0.0/16}", "10.96.0.0/16"),
        ("${CLUSTER_NAME}", wanted.cluster),
        ("${NAMESPACE}", "default"),
        ("${KUBERNETES_VERSION}", "v1.34.4"),
        ("${CONTROL_PLANE_MACHINE_COUNT}", "1"),
        ("${WORKER_MACHINE_COUNT}", "1"),
    ];
    let text = variables
        .into_iter()
        .fold(FLAVOR.to_owned(), |text, (name, value)| text.replace(name, value));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("the flavor cannot be read")?;
    let mut objects = fit_for_this_machine(objects);
    let (repository, tag) = wanted
        .balancer_image
        .rsplit_once("/haproxy:")
        .context("the load balancer's image has another name")?;
    for object in &mut objects {
        let spec = match object["kind"].as_str() {
            Some("DockerCluster") => {
                let mut balancer = json!({"imageRepository": repository, "imageTag": tag});
                if kind == Kind::Upstream {
                    balancer["customHAProxyConfigTemplateRef"] = json!({"name": "haproxy"});
                }
                object["spec"] = json!({"loadBalancer": balancer});
                continue;
            }
            Some("KubeadmControlPlane") => &mut object["spec"]["kubeadmConfigSpec"],
            Some("KubeadmConfigTemplate") => &mut object["spec"]["template"]["spec"],
            _ => continue,
        };
        spec["preKubeadmCommands"] = json!([format!("date +%s.%3N > {BEGAN}")]);
    }
    objects.insert(
        0,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "haproxy", "namespace": "default"},
               "data": {"value": CONFIGURATION}}),
    );
    Ok(objects)
}
