//! A workload cluster from within: its nodes, a pod network, a pod that answers.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Service},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use testkit::capi::nodes;

use crate::bed::Bed;

/// What a pod of the test serves.
const COREFILE: &str = ".:8053 {\n    health :8080\n}\n";
/// Asks `$0` over HTTP, with nothing but a shell.
const ASK: &str = r#"exec 3<>"/dev/tcp/$0/80" && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && cat <&3"#;

/// A workload cluster, with the kubeconfig that users get.
pub struct Workload<'a> {
    bed: &'a Bed,
    /// Of an administrator.
    pub client: Client,
    /// Its nodes.
    pub nodes: Api<Node>,
}

impl<'a> Workload<'a> {
    /// The cluster `name`, as soon as there is a kubeconfig.
    pub async fn of(bed: &'a Bed, name: &str) -> Self {
        let client = bed.workload_client(name).await;
        Self {
            nodes: Api::all(client.clone()),
            bed,
            client,
        }
    }

    /// The nodes that are Ready; none while the API server does not answer.
    pub async fn ready_nodes(&self) -> Vec<Node> {
        let listed = self.nodes.list(&ListParams::default()).await;
        let items = listed.map(|list| list.items).unwrap_or_default();
        items.into_iter().filter(nodes::is_ready).collect()
    }

    /// Waits until exactly `count` nodes are Ready, and there are no others.
    pub async fn has_ready_nodes(&self, count: usize) {
        let what = format!("{count} nodes, all of them Ready");
        self.bed
            .eventually(&what, async || {
                let listed = self.nodes.list(&ListParams::default()).await;
                let all = listed.map_or(0, |list| list.items.len());
                all == count && self.ready_nodes().await.len() == count
            })
            .await;
    }

    /// Applies a pod network, as users do; the first that the API server is asked for.
    pub async fn install_pod_network(&self) {
        self.apply(nodes::pod_network().unwrap(), "kube-system").await;
    }

    /// Applies objects, and again until the API server takes them.
    async fn apply(&self, objects: Vec<Value>, namespace: &str) {
        for object in objects {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
            let (group, version) = version.split_once('/').unwrap_or(("", &version));
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
            let cluster_wide = kind.starts_with("Cluster") || kind == "StorageClass";
            let api: Api<DynamicObject> = if cluster_wide {
                Api::all_with(self.client.clone(), &resource)
            } else {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            };
            let name = text(&object["metadata"]["name"]);
            let params = PatchParams::apply("test").force();
            self.bed
                .eventually(&format!("{kind} {name} is applied"), async || {
                    api.patch(&name, &params, &Patch::Apply(&object)).await.is_ok()
                })
                .await;
        }
    }

    /// A pod of the test's own, on whichever node takes it, answers the node `asker` through a Service.
    pub async fn a_pod_answers_through_a_service(&self, asker: &str) {
        let servers: Api<Deployment> = Api::namespaced(self.client.clone(), "kube-system");
        let server = servers.get("coredns").await.unwrap();
        // Every node has this image.
        let image = server.spec.unwrap().template.spec.unwrap().containers[0]
            .image
            .clone();
        let pod = json!({
            "containers": [{
                "name": "echo", "image": image, "imagePullPolicy": "Never", "args": ["-conf", "/echo/Corefile"],
                "volumeMounts": [{"name": "echo", "mountPath": "/echo"}],
            }],
            "volumes": [{"name": "echo", "configMap": {"name": "echo"}}],
            "terminationGracePeriodSeconds": 1,
        });
        let labelled = json!({"name": "echo", "labels": {"app": "echo"}});
        let objects = vec![
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": labelled, "data": {"Corefile": COREFILE}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": labelled, "spec": pod}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": labelled,
                   "spec": {"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        ];
        self.apply(objects, "default").await;
        let services: Api<Service> = Api::namespaced(self.client.clone(), "default");
        let service = services.get("echo").await.unwrap();
        let address = service.spec.unwrap().cluster_ip.unwrap();
        let ask = ["timeout", "5", "bash", "-c", ASK, &address];
        self.bed
            .eventually("a pod answers through a Service", async || {
                let answer = self.bed.docker.exec(asker, &ask).await;
                answer.is_ok_and(|answer| answer.contains("200 OK") && answer.ends_with("OK"))
            })
            .await;
    }
}
