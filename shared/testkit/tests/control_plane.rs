//! What the control plane promises to the tests that stand on it.
#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::json;
use testkit::{
    audit::{Filter, Position},
    control_plane::{ADMIN, ControlPlane, Options},
};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(1);

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn crd() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.testkit.example.com" },
        "spec": {
            "group": "testkit.example.com",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": { "spec": {
                        "type": "object",
                        "properties": { "size": { "type": "integer" } },
                        "x-kubernetes-validations": [
                            { "rule": "self.size <= 3", "message": "size must not exceed 3" }
                        ],
                    } },
                } },
            }],
        },
    }))
    .unwrap()
}

fn widgets(client: Client, namespace: &str) -> (Api<DynamicObject>, ApiResource) {
    let kind = GroupVersionKind::gvk("testkit.example.com", "v1", "Widget");
    let resource = ApiResource::from_gvk(&kind);
    (Api::namespaced_with(client, namespace, &resource), resource)
}

#[tokio::test]
async fn what_an_object_owns_is_collected_after_it() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(namespace.client());
    let owner = maps
        .create(&PostParams::default(), &config_map("owner"))
        .await
        .unwrap();
    let mut child = config_map("child");
    child.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap(),
        ..OwnerReference::default()
    }]);
    maps.create(&PostParams::default(), &child).await.unwrap();
    maps.delete("owner", &DeleteParams::background()).await.unwrap();
    eventually("the child is gone", async || {
        maps.get_opt("child").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_crd_is_served_once_applied_and_its_rules_hold() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    plane.apply_crds(&[crd()]).await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let (api, resource) = widgets(plane.client(), namespace.name());
    let widget =
        |name: &str, size: u32| DynamicObject::new(name, &resource).data(json!({ "spec": { "size": size } }));
    api.create(&PostParams::default(), &widget("small", 3))
        .await
        .unwrap();
    let refused = api
        .create(&PostParams::default(), &widget("large", 4))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("size must not exceed 3"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_crd_is_applied_again_only_where_it_is_another_by_now() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.client();
    let applied = async || {
        let patches = Filter::all().verb("patch").resource("customresourcedefinitions");
        let position = Position::default();
        plane
            .audit()
            .query(&client, position, &patches.username(ADMIN))
            .await
            .unwrap()
            .len()
    };
    plane.apply_crds(&[crd()]).await.unwrap();
    plane.apply_crds(&[crd()]).await.unwrap();
    assert_eq!(applied().await, 1);

    let definitions: Api<CustomResourceDefinition> = Api::all(plane.client());
    let name = crd().name_any();
    let short = json!({ "spec": { "names": { "shortNames": ["wd"] } } });
    definitions
        .patch(&name, &PatchParams::default(), &Patch::Merge(short))
        .await
        .unwrap();
    plane.apply_crds(&[crd()]).await.unwrap();
    assert_eq!(applied().await, 3);

    definitions.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("the definition is gone", async || {
        definitions.get_opt(&name).await.unwrap().is_none()
    })
    .await;
    plane.apply_crds(&[crd()]).await.unwrap();
    assert_eq!(applied().await, 4);
}

#[tokio::test]
async fn each_request_is_in_the_audit_log_once() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let client = namespace.client();
    let before = plane.audit().settle(&client).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for name in ["one", "two", "three"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
        maps.get(name).await.unwrap();
    }
    maps.create(&PostParams::default(), &config_map("one"))
        .await
        .unwrap_err();
    let mine = |filter: Filter| filter.namespace(namespace.name()).username(ADMIN);
    let count = async |filter| {
        plane
            .audit()
            .query(&client, before, &mine(filter))
            .await
            .unwrap()
            .len()
    };
    assert_eq!(count(Filter::writes()).await, 4);
    assert_eq!(count(Filter::writes().successes()).await, 3);
    assert_eq!(count(Filter::all().verb("get").resource("configmaps")).await, 3);
}

#[tokio::test]
async fn a_client_that_acts_for_a_user_has_that_users_rights() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let nobody: Api<ConfigMap> = Api::namespaced(plane.client_as("tenant", &[]), namespace.name());
    let refused = nobody
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("forbidden"), "{refused}");
    let admin: Api<ConfigMap> =
        Api::namespaced(plane.client_as("boss", &["system:masters"]), namespace.name());
    admin
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restarted_api_server_has_kept_its_data() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    maps.create(&PostParams::default(), &config_map("kept"))
        .await
        .unwrap();
    plane.stop_apiserver().unwrap();
    maps.get("kept").await.unwrap_err();
    plane.start_apiserver().await.unwrap();
    maps.get("kept").await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), "default");
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the controllers work again", async || {
        accounts.get_opt("default").await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_killed_holder_leaves_no_process_and_no_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("plane");
    let mut holder = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .arg("control-plane")
        .arg("--dir")
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let announced: Vec<String> = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .take(2)
        .map(Result::unwrap)
        .collect();
    let value = |name: &str| {
        let line = announced
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        PathBuf::from(line.unwrap_or_else(|| panic!("{name} is missing in {announced:?}")))
    };
    let plane = ControlPlane::attach(value("TESTKIT_KUBECONFIG"), value("TESTKIT_AUDIT_LOG"))
        .await
        .unwrap();
    plane.audit().settle(&plane.client()).await.unwrap();
    assert!(
        processes_below(&folder) >= 3,
        "etcd, kube-apiserver and kube-controller-manager run"
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the processes are gone", async || processes_below(&folder) == 0).await;
    eventually("the folder is gone", async || !folder.exists()).await;
}

/// How many processes name `folder` in their command line or work in it.
fn processes_below(folder: &Path) -> usize {
    let needle = folder.as_os_str().as_encoded_bytes();
    let uses = |process: &Path| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let names_it = command.windows(needle.len()).any(|part| part == needle);
        let alive = !command.is_empty();
        let works_in_it = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        alive && (works_in_it || (names_it && !command.windows(9).any(|part| part == b"control-p")))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| uses(&entry.path())).count()
}
