//! The promises that the generated definitions keep, and their CEL rules evaluated without an API server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]

use kube_cel::Validator;
use serde_json::{Value, json};

fn definitions() -> Vec<Value> {
    docker_api::crds()
        .iter()
        .map(|crd| serde_json::to_value(crd).unwrap())
        .collect()
}

fn schema(kind: &str) -> Value {
    let crd = definitions()
        .into_iter()
        .find(|crd| crd["spec"]["names"]["kind"] == kind)
        .unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema")
        .cloned()
        .unwrap()
}

fn visit(path: &str, node: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, node);
    for (name, child) in node
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        visit(&format!("{path}.{name}"), child, check);
    }
    if let Some(items) = node.get("items") {
        visit(&format!("{path}[]"), items, check);
    }
}

fn nodes() -> Vec<(String, Value)> {
    let mut nodes = Vec::new();
    for kind in [
        "DockerCluster",
        "DockerClusterTemplate",
        "DockerMachine",
        "DockerMachineTemplate",
    ] {
        let schema = schema(kind);
        for part in ["spec", "status"] {
            if let Some(part_schema) = schema["properties"].get(part) {
                visit(&format!("{kind}.{part}"), part_schema, &mut |path, node| {
                    nodes.push((path.to_owned(), node.clone()));
                });
            }
        }
    }
    assert!(nodes.len() > 150, "only {} nodes visited", nodes.len());
    nodes
}

#[test]
fn every_field_says_what_it_means() {
    for (path, node) in nodes() {
        let described = node
            .get("description")
            .and_then(Value::as_str)
            .is_some_and(|text| text.len() > 5);
        assert!(
            described || path.ends_with("[]") || path.ends_with(".status"),
            "{path} has no description"
        );
    }
}

#[test]
fn every_string_number_and_list_is_bounded() {
    for (path, node) in nodes() {
        let has = |key: &str| node.get(key).is_some();
        match node.get("type").and_then(Value::as_str) {
            Some("string") => {
                let quantity = ["cpus", "memory"].iter().any(|q| path.ends_with(q));
                let time = node.get("format") == Some(&json!("date-time"));
                assert!(
                    has("maxLength") || has("enum") || time || quantity,
                    "{path}: {node}"
                );
            }
            Some("integer") => assert!(has("minimum") || path.contains("conditions"), "{path}: {node}"),
            Some("number") => panic!("{path} is a float"),
            Some("array") => assert!(has("maxItems"), "{path}: {node}"),
            _ => {}
        }
        assert!(!has("nullable"), "{path} may be null");
    }
}

#[test]
fn all_versions_have_one_schema_and_nothing_is_converted() {
    for crd in definitions() {
        assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(crd["metadata"]["labels"]["cluster.x-k8s.io/v1beta2"], "v1beta2");
        assert_eq!(
            crd["metadata"]["labels"]["clusterctl.cluster.x-k8s.io"], "",
            "`clusterctl move` leaves its objects behind"
        );
        assert_eq!(crd["spec"]["names"]["categories"], json!(["cluster-api"]));
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let facts: Vec<_> = versions
            .iter()
            .map(|v| {
                (
                    v["name"].as_str().unwrap(),
                    v["served"].as_bool().unwrap(),
                    v["storage"].as_bool().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("v1alpha1", true, false),
                ("v1beta1", false, false),
                ("v1beta2", true, true)
            ]
        );
        assert!(versions.iter().all(|v| v["schema"] == versions[0]["schema"]));
    }
}

#[test]
fn names_follow_the_plural_that_cluster_api_computes() {
    let names: Vec<_> = definitions()
        .iter()
        .map(|crd| crd["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "dockerclusters",
            "dockerclustertemplates",
            "dockermachines",
            "dockermachinetemplates"
        ]
        .map(|plural| format!("{plural}.{}", docker_api::GROUP))
    );
}

fn check(kind: &str, new: &Value, old: Option<&Value>) -> Result<(), String> {
    let object =
        |spec: &Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    Validator::new()
        .validate(&schema(kind), &object(new), old.map(object).as_ref())
        .map_err(|errors| errors.to_string())
}

#[track_caller]
fn refused(kind: &str, new: &Value, old: Option<&Value>, words: &str) {
    let errors = check(kind, new, old).expect_err("must be refused");
    assert!(errors.contains(words), "{errors}");
}

#[test]
fn each_spelling_works_alone_and_both_together_are_refused() {
    let mount = json!([{"hostPath": "/a", "containerPath": "/b"}]);
    check("DockerMachine", &json!({"mounts": mount}), None).unwrap();
    check("DockerMachine", &json!({"extraMounts": mount}), None).unwrap();
    refused(
        "DockerMachine",
        &json!({"mounts": mount, "extraMounts": mount}),
        None,
        "older spelling",
    );
    check("DockerCluster", &json!({"loadbalancerImage": "a"}), None).unwrap();
    check(
        "DockerCluster",
        &json!({"loadbalancerImage": "a", "loadBalancer": {"hostPort": 1}}),
        None,
    )
    .unwrap();
    refused(
        "DockerCluster",
        &json!({"loadbalancerImage": "a", "loadBalancer": {"imageTag": "t"}}),
        None,
        "the same image",
    );
}

#[test]
fn what_names_the_machine_to_others_cannot_change() {
    let id = |id: &str| json!({"providerID": id});
    check("DockerMachine", &id("docker:////a"), Some(&json!({}))).unwrap();
    refused(
        "DockerMachine",
        &id("docker:////b"),
        Some(&id("docker:////a")),
        "must not change",
    );
    refused(
        "DockerMachine",
        &json!({}),
        Some(&id("docker:////a")),
        "must not change",
    );
    refused(
        "DockerMachine",
        &json!({"customImage": "b"}),
        Some(&json!({"customImage": "a"})),
        "replace the machine",
    );
    let mounting = |field: &str, path: &str| json!({field: [{"hostPath": path, "containerPath": "/x"}]});
    for field in ["extraMounts", "mounts"] {
        refused(
            "DockerMachine",
            &mounting(field, "/b"),
            Some(&mounting(field, "/a")),
            "mounts must not change",
        );
        check(
            "DockerMachine",
            &mounting(field, "/a"),
            Some(&mounting(field, "/a")),
        )
        .unwrap();
    }
    let network = |name: &str| json!({"network": {"name": name}});
    check("DockerCluster", &network("a"), Some(&network("a"))).unwrap();
    check(
        "DockerCluster",
        &json!({"loadBalancer": {"hostPort": 1}}),
        Some(&json!({})),
    )
    .unwrap();
    for (new, old) in [
        (network("b"), network("a")),
        (network("a"), json!({})),
        (json!({}), network("a")),
    ] {
        refused(
            "DockerCluster",
            &new,
            Some(&old),
            "`network.name` must not change",
        );
    }
    let endpoint = |host: &str| json!({"controlPlaneEndpoint": {"host": host, "port": 6443}});
    check("DockerCluster", &endpoint("a"), Some(&json!({}))).unwrap();
    check(
        "DockerCluster",
        &endpoint("a"),
        Some(&json!({"controlPlaneEndpoint": {"port": 6443}})),
    )
    .unwrap();
    refused(
        "DockerCluster",
        &endpoint("b"),
        Some(&endpoint("a")),
        "must not change",
    );
    refused(
        "DockerCluster",
        &json!({}),
        Some(&endpoint("a")),
        "must not change",
    );
    let port = |port: u16| json!({"controlPlaneEndpoint": {"port": port}});
    let host = json!({"controlPlaneEndpoint": {"host": "a"}});
    check("DockerCluster", &endpoint("a"), Some(&host)).unwrap();
    for to in [json!({}), port(8443)] {
        refused(
            "DockerCluster",
            &to,
            Some(&port(6443)),
            "`controlPlaneEndpoint.port` must not change",
        );
    }
}

#[test]
fn an_endpoint_is_a_host_name_or_an_address_and_nothing_else() {
    let endpoint = |host: &str| json!({"controlPlaneEndpoint": {"host": host, "port": 6443}});
    let template = |host: &str| json!({"template": {"spec": endpoint(host)}});
    for host in [
        "10.0.0.1",
        "255.255.255.255",
        "localhost",
        "c1.example.com",
        "C1-lb.Example.com.",
        "10.0.0.1.nip.io",
        "fd00::1",
        "::1",
        "::ffff:10.0.0.1",
        "2001:db8:0:0:0:0:2:1",
    ] {
        check("DockerCluster", &endpoint(host), None).unwrap();
        check("DockerClusterTemplate", &template(host), None).unwrap();
    }
    for host in [
        "10.0.0.1:6443",
        "c1.example.com:6443",
        "https://c1.example.com",
        "c1.example.com/path",
        "[fd00::1]",
        "fd00::1%eth0",
        "10.0.0.256",
        "10.0.0",
        "42",
        "two words",
        "under_score",
        "-c1",
        "c1..com",
        "c1,c2",
        "\n",
    ] {
        refused(
            "DockerCluster",
            &endpoint(host),
            None,
            "must be a host name or an IP",
        );
        refused(
            "DockerClusterTemplate",
            &template(host),
            None,
            "must be a host name or an IP",
        );
    }
    // What Cluster API's topology controller leaves out, and what nobody has set yet.
    for spec in [json!({}), json!({"controlPlaneEndpoint": {"port": 6443}})] {
        check("DockerCluster", &spec, None).unwrap();
    }
}
