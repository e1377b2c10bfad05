//! The rights in Kubernetes that the operator documents are those that it needs, all of them and no others.

use std::time::Duration;

use fake_ec2::StateReason;
use k8s_openapi::api::{
    core::v1::{Namespace, PersistentVolumeClaim, Pod, Service},
    events::v1::Event,
    rbac::v1::PolicyRule,
};
use kube::{
    Api, Client, Config, Resource as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use mysql_api::{
    MySQL,
    cluster::{FINALIZER, OTHER_FINALIZER},
};
use reconcile::{
    clock::Clock,
    conditions,
    leader::{LeaderConfig, Timing},
    manager::Options,
};
use serde_json::{Value, json};
use testkit::{
    audit::{Filter, Rights},
    control_plane::{ControlPlane, TestNamespace},
    progress,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    bed::{Bed, SPEED, Setup, manager, sample, says, sdk},
    disks::Disks,
    fleet::Fleet,
    kubelet::Kubelet,
};

/// Asked for by an admission plugin that this API server does not run.
const FOR_A_PLUGIN: [&str; 2] = [
    "mysql.alx.ke/mysqlclusters/finalizers",
    "otus.homework/mysqls/finalizers",
];
const RBAC: &str = "rbac.authorization.k8s.io";
const LIMIT: Duration = Duration::from_mins(5);

/// The manifests that stand beside the source, and that the operator is installed with.
fn documented() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("../../../controller/rbac.yaml")).unwrap()
}

fn user(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:operator")
}

async fn create(client: &Client, namespace: Option<&str>, kind: &str, mut object: Value) {
    object["apiVersion"] = json!(format!("{RBAC}/v1"));
    object["kind"] = json!(kind);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(RBAC, "v1", kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// The rules of a role, but for one verb on one resource.
fn rules_but(document: &Value, lacking: Option<(&str, &str)>) -> Value {
    let mut rules = document["rules"].clone();
    for rule in rules.as_array_mut().unwrap() {
        let of = |resource: &str| rule["resources"].as_array().unwrap().contains(&json!(resource));
        if let Some((_, verb)) = lacking.filter(|(resource, _)| of(resource)) {
            let verbs = rule["verbs"].as_array_mut().unwrap();
            verbs.retain(|one| *one != verb);
        }
    }
    rules
}

/// Gives the account of `namespace` what its grant has left out.
pub(crate) async fn permit(client: &Client, namespace: &str) {
    let kinds = documented()
        .into_iter()
        .filter(|document| document["kind"] == "ClusterRole");
    for document in kinds {
        let name = format!("{}-{namespace}", document["metadata"]["name"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(RBAC, "v1", "ClusterRole"));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let rules = json!({"rules": document["rules"]});
        let patched = api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&rules))
            .await;
        patched.unwrap();
    }
}

/// Grants the account of `namespace` the documented roles there, and in `own` what its lease takes, but for one verb on one
/// resource, under names of its own: others' tests run on the same API server. They go with the namespace.
pub(crate) async fn grant(client: &Client, namespace: &str, own: &str, lacking: Option<(&str, &str)>) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let owner = namespaces.get(namespace).await.unwrap().owner_ref(&()).unwrap();
    for document in documented() {
        let kind = document["kind"].as_str().unwrap();
        let documented = document["metadata"]["name"].as_str().unwrap();
        let name = format!("{documented}-{namespace}");
        let metadata = json!({"name": name, "ownerReferences": [owner]});
        let place = (kind == "Role").then_some(own);
        let role = json!({"metadata": metadata, "rules": rules_but(&document, lacking)});
        create(client, place, kind, role).await;
        let subject = json!({"kind": "ServiceAccount", "name": "operator", "namespace": namespace});
        let binding = json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [subject],
        });
        if documented.ends_with("-definitions") {
            create(client, None, "ClusterRoleBinding", binding).await;
        } else {
            create(client, place.or(Some(namespace)), "RoleBinding", binding).await;
        }
    }
}

/// With the account's rights, by a lease in `own`.
pub(crate) fn adjust(namespace: &str, own: &str, config: &mut Config, options: &mut Options) {
    config.auth_info.impersonate = Some(user(namespace));
    let mut election = LeaderConfig::new("mysql-operator", own);
    election.timing = Timing::DEFAULT;
    options.leader_election = Some(election);
    options.crds = vec![
        "mysqlclusters.mysql.alx.ke".to_owned(),
        "mysqls.otus.homework".to_owned(),
    ];
}

/// The documented rules, each with the namespace where they are granted.
fn rules(namespace: &str, own: &str) -> Vec<(String, Vec<PolicyRule>)> {
    let granted = |mut document: Value| {
        let rules = serde_json::from_value(document["rules"].take()).unwrap();
        let name = document["metadata"]["name"].as_str().unwrap();
        let place = match document["kind"].as_str() {
            Some("Role") => own,
            _ if name.ends_with("-definitions") => "",
            _ => namespace,
        };
        (place.to_owned(), rules)
    };
    documented().into_iter().map(granted).collect()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A life in which everything is needed: two replicas, a refusal that is told twice, members that come up, a Service
/// that somebody has changed, the end with a finalizer of an older spelling.
async fn live(bed: &Bed) {
    let denied = "DescribeInstances";
    bed.ec2.world().deny(denied, Some("UnauthorizedOperation"));
    bed.create("whole", sample(3)).await;
    let events: Api<Event> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    eventually("an event is counted", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items.iter().any(|event| event.series.is_some())
    })
    .await;
    bed.ec2.world().deny(denied, None);
    bed.until("whole", "it is ready", |cluster| {
        says(cluster, "Ready", "True", "Replicating")
    })
    .await;

    let services: Api<Service> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let changed = json!({"spec": {"ports": [{"name": "mysql", "port": 3306, "targetPort": 1}]}});
    let params = PatchParams::default();
    services
        .patch("whole", &params, &Patch::Merge(&changed))
        .await
        .unwrap();
    let wrong = json!(1);
    eventually("the Service is as it was", async || {
        let service = serde_json::to_value(services.get("whole").await.unwrap()).unwrap();
        service["spec"]["ports"][0]["targetPort"] != wrong
    })
    .await;
    let lost = bed.ec2.world().instances().remove(2).id;
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&lost, &reason));
    bed.until("whole", "a member is replaced", |cluster| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        status.is_some_and(|status| status.launches.iter().any(|launch| launch.incarnation == 2))
    })
    .await;
    let older = json!({"metadata": {"finalizers": [FINALIZER, OTHER_FINALIZER]}});
    bed.patch("whole", older).await;
    bed.clusters
        .delete("whole", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("whole", "it is gone", |cluster| cluster.is_none())
        .await;
}

/// A database's life in which everything is needed: volumes of a node, a change of everything that can change, a second
/// backup, a volume that is lost with the Pod that had it, a deletion in the foreground.
async fn live_as_a_database(bed: &Bed) {
    let nodes = Kubelet::start(bed.client.clone(), bed.namespace.name(), Disks::default());
    nodes.nodes(&bed.client, bed.namespace.name(), 2).await.unwrap();
    let databases: Api<MySQL> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let spec = json!({"image": "mysql:9.7", "database": "d", "storage_size": "1Gi"});
    let object = MySQL::new("one", serde_json::from_value(spec).unwrap());
    databases.create(&PostParams::default(), &object).await.unwrap();
    let params = PatchParams::default();
    let patch = async |patch: Value| {
        databases
            .patch("one", &params, &Patch::Merge(patch))
            .await
            .unwrap();
    };
    let until = async |what: &str, condition: &str, reason: &str| {
        eventually(what, async || {
            let object = databases.get("one").await.unwrap();
            let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
            let found = conditions::find(&conditions, condition);
            found.is_some_and(|found| found.status == "True" && found.reason == reason)
        })
        .await;
    };
    until("the database is ready", "Ready", "Serving").await;
    patch(json!({"spec": {"password": "p", "config": {"max_connections": "9"}, "service": {"type": "ClusterIP"}}})).await;
    for value in ["1", "2"] {
        patch(json!({"metadata": {"annotations": {"otus.homework/backup-now": value}}})).await;
        eventually("a backup is there", async || {
            let status = databases.get("one").await.unwrap().status.unwrap_or_default();
            status.last_request.as_deref() == Some(value)
        })
        .await;
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    claims.delete("one-pvc", &DeleteParams::default()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let params = DeleteParams::default();
    // The one that has filled it holds it, too.
    let all = ListParams::default().labels("otus.homework/mysql=one");
    pods.delete_collection(&params, &all).await.unwrap();
    until("it is restored", "RestoreDone", "Restored").await;
    until("the database is ready again", "Ready", "Serving").await;
    databases
        .delete("one", &DeleteParams::foreground())
        .await
        .unwrap();
    eventually("the database is gone", async || {
        databases.get_opt("one").await.unwrap().is_none()
    })
    .await;
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rights_are_enough_for_whole_lives_and_none_is_left_over() {
    let plane = ControlPlane::shared().await.unwrap();
    let begin = plane.audit().position().unwrap();
    let own = plane.namespace().await.unwrap();
    let bed = Bed::with(async |namespace: &TestNamespace, setup: &mut Setup| {
        grant(&plane.client(), namespace.name(), own.name(), None).await;
        adjust(
            namespace.name(),
            own.name(),
            &mut setup.config,
            &mut setup.options,
        );
    })
    .await;
    let namespace = bed.namespace.name().to_owned();
    let (mut config, mut options) = (plane.config().clone(), Options::new("mysql-operator"));
    options.namespaces = vec![namespace.clone()];
    options.clock = Clock::accelerated(SPEED);
    adjust(&namespace, own.name(), &mut config, &mut options);
    // One leads, the other watches the lease.
    let other = manager(
        options,
        config,
        &sdk(&bed.ec2.endpoint()),
        Fleet::new(bed.ec2.world()),
    );
    let shutdown = CancellationToken::new();
    let other = tokio::spawn(other.run(shutdown.clone()));
    live(&bed).await;
    live_as_a_database(&bed).await;
    shutdown.cancel();
    other.await.unwrap().unwrap();
    bed.stop().await;

    let theirs = Filter::all().username(user(&namespace));
    let requests = plane
        .audit()
        .query(&plane.client(), begin, &theirs)
        .await
        .unwrap();
    let rights = Rights::of(rules(&namespace, own.name()), &requests, &FOR_A_PLUGIN);
    progress::line(&format!("mysql-operator\n{rights}"));
    rights.prove().unwrap();
}
