//! The rights in Kubernetes that clusterctl and the chart grant are those that the provider needs, all and no others.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use docker_controller::{
    controllers::Settings,
    engine::Failure,
    manager::{CRDS, Concurrency, NAME, assemble},
};
use k8s_openapi::api::{core::v1::Namespace, events::v1::Event, rbac::v1::PolicyRule};
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
};
use reconcile::{
    leader::{LeaderConfig, Timing},
    manager::Options,
};
use serde_json::{Value, json};
use testkit::{
    audit::{Filter, Rights},
    fault::{FaultPlan, Schedule},
    progress,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    daemon::failure,
    docker::Docker,
    objects::{DEADLINE, is},
    scene::Scene,
    world::{down, up},
};

/// Asked for by an admission plugin that this API server does not run.
const FOR_A_PLUGIN: [&str; 2] = [
    "infrastructure.cluster.x-k8s.io/dockerclusters/finalizers",
    "infrastructure.cluster.x-k8s.io/dockermachines/finalizers",
];
const RBAC: &str = "rbac.authorization.k8s.io";
/// Groups whose objects the manifest's ClusterRole is about wherever they are.
const EVERYWHERE: [&str; 2] = ["apiextensions.k8s.io", "coordination.k8s.io"];
const MANIFEST: &str = include_str!("../../../config/manager.yaml");

/// The rules of the manifest's role of this kind.
fn rules(kind: &str) -> Vec<PolicyRule> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(MANIFEST).unwrap();
    let mut roles = documents.into_iter().filter(|document| document["kind"] == kind);
    serde_json::from_value(roles.next().unwrap()["rules"].take()).unwrap()
}

fn user(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:provider")
}

async fn create(client: &Client, namespace: Option<&str>, kind: &str, mut object: Value) -> Result<()> {
    object["apiVersion"] = json!(format!("{RBAC}/v1"));
    object["kind"] = json!(kind);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(RBAC, "v1", kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// Grants the account of `namespace` the rules there, those of its lease in `own`, and those of definitions and leases everywhere,
/// under names of its own: others' tests run on the same API server. They go with the namespace. Returns the rules, each with the
/// namespace where they are granted.
async fn grant(client: &Client, namespace: &str, own: &str) -> Result<Vec<(String, Vec<PolicyRule>)>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let owner = namespaces
        .get(namespace)
        .await?
        .owner_ref(&())
        .context("no UID")?;
    let is_everywhere = |rule: &PolicyRule| {
        let mut groups = rule.api_groups.iter().flatten();
        groups.any(|group| EVERYWHERE.contains(&group.as_str()))
    };
    let (everywhere, served): (Vec<_>, Vec<_>) = rules("ClusterRole").into_iter().partition(is_everywhere);
    let mut granted = Vec::new();
    for (part, place, rules) in [
        ("served", namespace, served),
        ("everywhere", "", everywhere),
        ("own", own, rules("Role")),
    ] {
        let name = format!("capdkc-{part}-{namespace}");
        let metadata = json!({"name": name, "ownerReferences": [owner]});
        let role = json!({"metadata": metadata, "rules": rules});
        create(client, None, "ClusterRole", role).await?;
        let binding = json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "provider", "namespace": namespace}],
        });
        if place.is_empty() {
            create(client, None, "ClusterRoleBinding", binding).await?;
        } else {
            create(client, Some(place), "RoleBinding", binding).await?;
        }
        granted.push((place.to_owned(), rules));
    }
    Ok(granted)
}

/// A replica with these rights, that leads by a lease in `own`.
fn replica(scene: &Scene, own: &str, shutdown: &CancellationToken) -> JoinHandle<()> {
    let namespace = scene.world.namespace.name();
    let mut config = scene.world.plane.config().clone();
    config.auth_info.impersonate = Some(user(namespace));
    let mut options = Options::new(NAME);
    options.namespaces = vec![namespace.to_owned()];
    options.clock = scene.world.clock.clone();
    options.crds = CRDS.map(str::to_owned).to_vec();
    let mut election = LeaderConfig::new(NAME, own);
    election.timing = Timing::DEFAULT;
    options.leader_election = Some(election);
    let docker = Docker {
        daemon: scene.world.daemon.clone(),
        boundary: FaultPlan::new(Schedule::default()).boundary(),
        noted: Arc::default(),
    };
    let settings = Settings {
        network: "nodes".into(),
        ..Settings::default()
    };
    let concurrency = Concurrency {
        clusters: 2,
        machines: 4,
    };
    let manager = assemble(docker, settings, concurrency, options, config).unwrap();
    let shutdown = shutdown.clone();
    tokio::spawn(async move { manager.run(shutdown).await.unwrap() })
}

/// A life in which everything is needed: a template, a Docker that refuses until that has been told twice, machines that
/// come up, the end.
async fn live(scene: &Scene) -> Result<()> {
    let refusal = failure(Failure::Unavailable, "it is being replaced");
    scene
        .world
        .daemon
        .lock()
        .refusals
        .insert("create".into(), refusal);
    let spec = json!({"template": {"spec": {}}});
    scene
        .objects
        .create("DockerMachineTemplate", "t1", None, spec)
        .await?;
    let events: Api<Event> = Api::namespaced(scene.objects.client.clone(), &scene.objects.namespace);
    while !events
        .list(&ListParams::default())
        .await?
        .items
        .iter()
        .any(|event| event.series.is_some())
    {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    scene.world.daemon.lock().refusals.clear();
    let capacity = |object: &Value| !object["status"]["capacity"].is_null();
    scene.wait("DockerMachineTemplate", "t1", capacity).await?;
    up(&scene.world, &scene.objects).await?;
    let ready = |object: &Value| is(object, "Ready", "True");
    scene.wait("DockerCluster", "c1", ready).await?;
    down(&scene.world, &scene.objects).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_granted_rights_are_enough_for_a_whole_life_and_none_is_left_over() -> Result<()> {
    let scene = Scene::set().await?;
    let (plane, namespace) = (scene.world.plane, scene.world.namespace.name());
    let begin = plane.audit().position()?;
    let own = plane.namespace().await?;
    let granted = grant(&plane.client(), namespace, own.name()).await?;
    let shutdown = CancellationToken::new();
    // One leads, the other watches the lease.
    let replicas = [(); 2].map(|()| replica(&scene, own.name(), &shutdown));
    tokio::time::timeout(DEADLINE, live(&scene))
        .await
        .context("its life does not end")??;
    shutdown.cancel();
    for replica in replicas {
        replica.await?;
    }

    let theirs = Filter::all().username(user(namespace));
    let requests = plane.audit().query(&plane.client(), begin, &theirs).await?;
    let rights = Rights::of(granted, &requests, &FOR_A_PLUGIN);
    progress::line(&format!("capdkc\n{rights}"));
    rights.prove()
}
