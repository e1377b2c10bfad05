//! The admission policies of the release, held by a real API server of their own: they are for a whole cluster.
#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]

mod upstream;

use std::time::{Duration, Instant};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, Options, TestNamespace};

const POLICIES: &str = include_str!("../../../config/policies.yaml");
const SYSTEM: &str = "capdkc-system";
/// How long the API server may take to notice a policy or its parameters.
const LIMIT: Duration = Duration::from_mins(4);

struct Bed {
    client: Client,
    namespace: TestNamespace,
    _plane: ControlPlane,
}

fn resource(object: &Value) -> ApiResource {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        group,
        version,
        object["kind"].as_str().unwrap(),
    ))
}

impl Bed {
    async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        plane.apply_crds(&docker_api::crds()).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let bed = Self {
            client: plane.client(),
            namespace,
            _plane: plane,
        };
        bed.install(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}))
            .await;
        for document in serde_saphyr::from_multiple::<Value>(POLICIES).unwrap() {
            bed.install(document).await;
        }
        bed
    }

    async fn install(&self, object: Value) {
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource(&object)),
            None => Api::all_with(self.client.clone(), &resource(&object)),
        };
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object))
            .await
            .unwrap();
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let object = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": kind});
        Api::namespaced_with(self.client.clone(), self.namespace.name(), &resource(&object))
    }

    /// Asks for an object without making it; the words of a refusal.
    async fn try_create(&self, kind: &str, spec: &Value) -> Result<(), String> {
        let object = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": kind,
            "metadata": {"name": "tried"}, "spec": spec,
        });
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let tried = self
            .api(kind)
            .create(&params, &serde_json::from_value(object).unwrap())
            .await;
        tried.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Waits until a machine with a mount of `path` is let in, or is refused with these words.
    async fn expect(&self, path: &str, refusal: Option<&str>) {
        let spec = json!({"extraMounts": [{"hostPath": path, "containerPath": "/x"}]});
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = self.try_create("DockerMachine", &spec).await;
            let as_expected = match (&answer, refusal) {
                (Ok(()), None) => true,
                (Err(said), Some(words)) => said.contains(words),
                _ => false,
            };
            if as_expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{path}: expected {refusal:?}, got {answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn allow(&self, lines: &str) {
        self.install(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "capdkc-host-paths", "namespace": SYSTEM},
            "data": {"allowed": lines},
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_paths_of_the_host_that_the_operator_allows_are_mounted() {
    let bed = Bed::start().await;
    let refused = Some("is not allowed");
    bed.expect("/srv/models", refused).await;
    bed.try_create("DockerMachine", &json!({})).await.unwrap();

    bed.allow("/srv/models\n  /var/cache/, /opt/x\nrelative\n").await;
    bed.expect("/srv/models", None).await;
    bed.expect("/srv/models/a", None).await;
    bed.expect("/var/cache/a", None).await;
    bed.expect("/opt/x", None).await;
    bed.expect("relative", refused).await;
    bed.expect("/srv/models-of-others", refused).await;
    bed.expect("/srv/models/../../etc", refused).await;
    bed.expect("/etc", refused).await;
    let both = |path: &str| json!([{"hostPath": "/srv/models", "containerPath": "/a"}, {"hostPath": path, "containerPath": "/b"}]);
    let older = bed
        .try_create("DockerMachine", &json!({"mounts": both("/etc")}))
        .await
        .unwrap_err();
    assert!(older.contains("/etc is not allowed"), "{older}");
    let template = json!({"template": {"spec": {"extraMounts": both("/etc")}}});
    let template = bed
        .try_create("DockerMachineTemplate", &template)
        .await
        .unwrap_err();
    assert!(
        template.contains("capdkc-host-paths beside the provider lists what is"),
        "{template}"
    );

    let parameters = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let parameters: Api<DynamicObject> =
        Api::namespaced_with(bed.client.clone(), SYSTEM, &resource(&parameters));
    parameters
        .delete("capdkc-host-paths", &DeleteParams::default())
        .await
        .unwrap();
    bed.expect("/srv/models", Some("no params found")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_immutable_except_for_the_dry_runs_of_the_topology_controller() {
    let bed = Bed::start().await;
    bed.expect("/etc", Some("is not allowed")).await;
    for (kind, before, after) in [
        (
            "DockerMachineTemplate",
            json!({"customImage": "a"}),
            json!({"customImage": "b"}),
        ),
        (
            "DockerClusterTemplate",
            json!({"network": {"name": "a"}}),
            json!({"network": {"name": "b"}}),
        ),
    ] {
        let api = bed.api(kind);
        let object = |spec: &Value| {
            json!({
                "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": "t"},
                "spec": {"template": {"spec": spec}},
            })
        };
        let made = serde_json::from_value(object(&before)).unwrap();
        api.create(&PostParams::default(), &made).await.unwrap();
        let apply = async |mut object: Value, annotated: bool, dry_run: bool| {
            if annotated {
                object["metadata"]["annotations"] = json!({"topology.cluster.x-k8s.io/dry-run": ""});
            }
            let mut params = PatchParams::apply("topology").force();
            params.dry_run = dry_run;
            let patched = api.patch("t", &params, &Patch::Apply(&object)).await;
            patched.map(|_| ()).map_err(|error| error.to_string())
        };
        apply(object(&after), true, true).await.unwrap();
        for (annotated, dry_run) in [(false, false), (false, true), (true, false)] {
            let said = apply(object(&after), annotated, dry_run).await.unwrap_err();
            assert!(
                said.contains("create a new template"),
                "{kind} {annotated} {dry_run}: {said}"
            );
        }
        let mut relabelled = object(&before);
        relabelled["metadata"]["labels"] = json!({"team": "a"});
        apply(relabelled, false, false).await.unwrap();
    }
}

/// A schema's own rules about changes would forbid the dry runs, too.
#[test]
fn no_rule_of_a_templates_schema_compares_with_what_was_before() {
    for crd in docker_api::crds() {
        let text = serde_json::to_string(&crd).unwrap();
        let is_template = crd.spec.names.kind.ends_with("Template");
        assert_eq!(text.contains("oldSelf"), !is_template, "{}", crd.spec.names.kind);
    }
}
