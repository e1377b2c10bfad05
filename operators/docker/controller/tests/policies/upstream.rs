//! What Cluster API's own Docker provider leaves behind and ships: its definitions, the objects stored by them, and the
//! manifests, templates and classes of its last releases.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams, ValidationDirective},
};
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, Options};

use super::resource;

/// The folder of `tools` that pins it, and the module.
const MODULE: [&str; 2] = ["cluster-api-test", "sigs.k8s.io/cluster-api/test"];
const DEFINITIONS: &str = "infrastructure/docker/config/crd/bases";
/// Where manifests of the last releases are, and those of the examples.
const MANIFESTS: [&str; 5] = [
    "infrastructure/docker/templates",
    "infrastructure/docker/examples",
    "e2e/data/infrastructure-docker/v1.11",
    "e2e/data/infrastructure-docker/v1.12",
    "e2e/data/infrastructure-docker/main",
];
const OURS: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
const KINDS: [&str; 4] = [
    "DockerCluster",
    "DockerClusterTemplate",
    "DockerMachine",
    "DockerMachineTemplate",
];

/// What docs/docker.md has people do to upstream's definitions before ours come. They ask a webhook of the provider that has gone,
/// which a merge leaves in them; the API server takes it beside no other strategy.
const HANDED_OVER: &str = r#"{"spec":{"conversion":{"strategy":"None","webhook":null}}}"#;

fn module() -> PathBuf {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/testkit/tools");
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command
            .args(arguments)
            .current_dir(Path::new(tools).join(MODULE[0]));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "go {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    go(&["mod", "download", MODULE[1]]);
    PathBuf::from(go(&["list", "-m", "-f", "{{.Dir}}", MODULE[1]]))
}

/// Every YAML file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text with its default, or else a word, in place of each of clusterctl's variables.
fn without_variables(text: &str) -> String {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap_or((part, ""));
        let default = variable.split_once(":-").or_else(|| variable.split_once(":="));
        filled.push_str(default.map_or("x1", |(_, default)| default));
        filled.push_str(rest);
    }
    filled
}

/// The objects of our kinds in a file; patches of Kustomize, which are none, are left out.
fn objects(file: &Path) -> Vec<Value> {
    let text = without_variables(&std::fs::read_to_string(file).unwrap());
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_default();
    let is_ours = |document: &Value| {
        document["apiVersion"] == OURS && KINDS.iter().any(|kind| document["kind"] == *kind)
    };
    documents.into_iter().filter(is_ours).collect()
}

/// Objects of the provider that this one began as, and what it wrote into their status.
fn seeds() -> [(Value, Value); 2] {
    let of = |kind: &str, name: &str, spec: Value| {
        let version = "infrastructure.cluster.x-k8s.io/v1alpha1";
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
    };
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let cluster = json!({
        "controlPlaneEndpoint": {"host": "172.18.0.4", "port": 6443},
        "loadbalancerImage": "kindest/haproxy:v1",
    });
    let machine = json!({
        "providerID": "docker:////m1",
        "customImage": "kindest/node:v1.34.0",
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "readOnly": true}],
    });
    let status = json!({"ready": true, "conditions": [condition]});
    let mut of_machine = status.clone();
    of_machine["loadBalancerConfigured"] = json!(true);
    [
        (of("DockerCluster", "seed", cluster), status),
        (of("DockerMachine", "seed", machine), of_machine),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_manifests_apply_unchanged_and_what_it_has_stored_stays() {
    let module = module();
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let theirs: Vec<CustomResourceDefinition> = KINDS
        .iter()
        .map(|kind| {
            let name = format!("infrastructure.cluster.x-k8s.io_{}s.yaml", kind.to_lowercase());
            let text = std::fs::read_to_string(module.join(DEFINITIONS).join(name)).unwrap();
            serde_saphyr::from_str(&text).unwrap()
        })
        .collect();
    plane.apply_crds(&theirs).await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let api = |object: &Value| -> Api<DynamicObject> {
        Api::namespaced_with(plane.client(), namespace.name(), &resource(object))
    };
    let spec = json!({
        "controlPlaneEndpoint": {"host": "172.18.0.3", "port": 6443},
        "failureDomains": [{"name": "fd1", "controlPlane": true}],
        "loadBalancer": {"imageRepository": "kindest"},
    });
    let stored =
        json!({"apiVersion": OURS, "kind": "DockerCluster", "metadata": {"name": "stored"}, "spec": spec});
    let made = serde_json::from_value(stored.clone()).unwrap();
    api(&stored).create(&PostParams::default(), &made).await.unwrap();

    let definitions: Api<CustomResourceDefinition> = Api::all(plane.client());
    // As its kustomization has them.
    let webhook = json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "capd-system", "name": "capd-webhook-service", "path": "/convert"}},
    }}}});
    let docs = include_str!("../../../../../docs/docker.md");
    assert!(docs.contains(HANDED_OVER), "docs/docker.md has another patch");
    let handed_over: Value = serde_json::from_str(HANDED_OVER).unwrap();
    for ours in docker_api::crds() {
        let name = ours.metadata.name.clone().unwrap();
        let merged = async |patch: &Value| {
            let params = PatchParams::default();
            definitions.patch(&name, &params, &Patch::Merge(patch)).await
        };
        merged(&webhook).await.unwrap();
        // As clusterctl brings it.
        let brought = serde_json::to_value(&ours).unwrap();
        let refused = merged(&brought).await.unwrap_err().to_string();
        assert!(refused.contains("strategy is not set to Webhook"), "{refused}");
        merged(&handed_over).await.unwrap();
        merged(&brought).await.unwrap();
    }
    plane.apply_crds(&docker_api::crds()).await.unwrap();
    let found = api(&stored).get("stored").await.unwrap();
    assert_eq!(found.data["spec"], spec, "what was stored reads as before");
    for (object, status) in seeds() {
        let mut read = object.clone();
        read["apiVersion"] = OURS.into();
        let name = object["metadata"]["name"].as_str().unwrap();
        let made = serde_json::from_value(object.clone()).unwrap();
        api(&object).create(&PostParams::default(), &made).await.unwrap();
        let patch = Patch::Merge(json!({"status": status}));
        let seeds = api(&object);
        let written = seeds.patch_status(name, &PatchParams::default(), &patch).await;
        written.unwrap();
        let found = api(&read).get(name).await.unwrap();
        assert_eq!(found.types.unwrap().api_version, OURS);
        assert_eq!(found.data["spec"], object["spec"], "{name}");
        assert_eq!(found.data["status"], status, "{name}");
    }

    let mut params = PatchParams::apply("test").force();
    params.dry_run = true;
    // A field that our kinds do not have is an error, where it would be dropped otherwise.
    params.field_validation = Some(ValidationDirective::Strict);
    let mut tried = 0;
    for file in MANIFESTS.iter().flat_map(|folder| files(&module.join(folder))) {
        for mut object in objects(&file) {
            object["metadata"]["namespace"] = namespace.name().into();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let applied = api(&object).patch(&name, &params, &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{}: {name}: {error}", file.display()));
            tried += 1;
        }
    }
    assert!(tried >= 30, "only {tried} objects were found");
}
