//! What an earlier release has left is gone on with: nothing of it is touched, and nothing that happens meanwhile is lost.
//!
//! `golden/<version>.json` has every object of a namespace as the API server stored it under that release, its lease and the
//! definition among them. A release writes its own: `GOLDEN=v0.1.0 cargo test --test database -- can_be_recorded`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use mysql_api::MySQL;
use reconcile::{
    clock::Clock,
    leader::{LeaderConfig, Timing},
    manager::Options,
};
use serde_json::{Value, json};
use testkit::{
    audit::{Filter, Position},
    control_plane::ControlPlane,
    golden::{self, Upgrade},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, SPEED, manager, says, spec};

const NAME: &str = "golden";
const DEFINITION: &str = "mysqls.otus.homework";
const OPERATOR: &str = "mysql-operator";
/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(50);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/database/golden")
}

/// Everything of a namespace that the operator makes or depends on.
const KINDS: [(&str, &str); 8] = [
    ("otus.homework/v1", "MySQL"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("coordination.k8s.io/v1", "Lease"),
];

/// Options of an operator that leads by the lease of this namespace.
fn options(namespace: &str) -> Options {
    let mut options = Options::new(OPERATOR);
    options.namespaces = vec![namespace.to_owned()];
    options.clock = Clock::accelerated(SPEED);
    options.crds = vec![DEFINITION.to_owned()];
    let mut election = LeaderConfig::new(OPERATOR, namespace);
    election.timing = Timing::FAST;
    options.leader_election = Some(election);
    options
}

struct Operator {
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Operator {
    fn start(plane: &ControlPlane, namespace: &str) -> Self {
        let (manager, shutdown) = (
            manager(options(namespace), plane.config().clone()),
            CancellationToken::new(),
        );
        let stopped = shutdown.clone();
        let running = tokio::spawn(async move { manager.run(stopped).await.unwrap() });
        Self { shutdown, running }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_release_leaves_can_be_recorded() {
    let bed = Bed::without_operator().await;
    let namespace = bed.namespace.name().to_owned();
    let operator = Operator::start(bed.plane(), &namespace);
    let given = json!({"password": "in-clear", "config": {"max_connections": "50"}});
    bed.create(NAME, spec(&given)).await;
    bed.ready(NAME).await;
    bed.patch(
        NAME,
        json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}}),
    )
    .await;
    bed.until(NAME, "a backup is there", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    bed.ready(NAME).await;
    // Killed, not stopped: its lease is still held.
    operator.running.abort();
    let left = golden::objects(&bed.client, &namespace, &KINDS).await.unwrap();
    for (_, kind) in KINDS {
        assert!(
            left.iter().any(|object| object["kind"] == kind),
            "no {kind} is left"
        );
    }
    let left = json!({"definition": definition(&bed.client).await, "objects": left});
    golden::record(&folder(), &left).unwrap();
}

async fn definition(client: &Client) -> Value {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = definitions.get(DEFINITION).await.unwrap();
    json!({"metadata": {"name": DEFINITION}, "spec": found.spec})
}

/// How often the operator has looked at everything: what it reads last is the Job of backups.
async fn looks(plane: &ControlPlane, begin: Position) -> usize {
    let last = Filter::all().user_agent(OPERATOR).resource("jobs").verb("get");
    let found = plane.audit().query(&plane.client(), begin, &last).await;
    found.unwrap().len()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_earlier_releases_have_left_is_not_touched_and_what_happens_meanwhile_is_not_lost() {
    for (release, golden) in golden::releases(&folder()).unwrap() {
        eprintln!("{release}");
        upgrade(&golden).await;
    }
}

async fn upgrade(golden: &Value) {
    let older: CustomResourceDefinition = serde_json::from_value(golden["definition"].clone()).unwrap();
    let recorded = golden["objects"].as_array().unwrap();
    let upgrade = Upgrade::begin(&[older], recorded).await.unwrap();
    let (plane, namespace) = (&upgrade.plane, upgrade.namespace());
    plane.apply_crds(&mysql_api::crds()).await.unwrap();
    let operator = Operator::start(plane, namespace);
    eventually("the new operator has looked twice", async || {
        looks(plane, upgrade.begin).await >= 2
    })
    .await;
    upgrade.untouched(OPERATOR).await.unwrap();
    operator.stop().await;
    a_change_that_nobody_saw_is_carried_out(plane, namespace).await;
}

/// What somebody changes while no operator runs.
async fn a_change_that_nobody_saw_is_carried_out(plane: &ControlPlane, namespace: &str) {
    let databases: Api<MySQL> = Api::namespaced(plane.client(), namespace);
    let changed = json!({"spec": {"config": {"max_connections": "77"}}});
    databases
        .patch(NAME, &PatchParams::default(), &Patch::Merge(changed))
        .await
        .unwrap();
    let operator = Operator::start(plane, namespace);
    let options: Api<ConfigMap> = Api::namespaced(plane.client(), namespace);
    eventually("the change is carried out", async || {
        let all = options.list(&ListParams::default()).await.unwrap().items;
        all.iter()
            .flat_map(|map| map.data.iter().flatten())
            .any(|(_, text)| text.contains("max_connections=\"77\""))
    })
    .await;
    operator.stop().await;
}
