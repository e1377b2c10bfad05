//! What an earlier release has left is gone on with: nothing of it is touched, and nothing that happens meanwhile is lost.
//!
//! `golden/<version>.json` has every object of a namespace as the API server stored it under that release, its lease and the
//! definition among them. A release writes its own: `GOLDEN=v0.1.0 cargo test --test database -- can_be_recorded`.
//! They are put back into etcd as they were, UIDs included, since what one object says of another is by UID.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Secret, Service},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
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
    reconciler::Kind,
};
use serde_json::{Value, json};
use testkit::{
    audit::{Filter, Position},
    control_plane::{ControlPlane, Options as PlaneOptions},
    golden,
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
async fn objects(client: &Client, namespace: &str) -> Vec<Value> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut all = vec![serde_json::to_value(namespaces.get(namespace).await.unwrap()).unwrap()];
    all.extend(of::<MySQL>(client, namespace).await);
    all.extend(of::<Secret>(client, namespace).await);
    all.extend(of::<ConfigMap>(client, namespace).await);
    all.extend(of::<PersistentVolumeClaim>(client, namespace).await);
    all.extend(of::<Service>(client, namespace).await);
    all.extend(of::<Deployment>(client, namespace).await);
    all.extend(of::<Job>(client, namespace).await);
    all.extend(of::<Lease>(client, namespace).await);
    all
}

async fn of<K: Kind>(client: &Client, namespace: &str) -> Vec<Value> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await.unwrap().items;
    all.iter()
        .map(|object| {
            let mut value = serde_json::to_value(object).unwrap();
            value["apiVersion"] = json!(K::api_version(&()));
            value["kind"] = json!(K::kind(&()));
            value
        })
        .filter(|value| value["metadata"]["name"] != "kube-root-ca.crt")
        .collect()
}

fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// Below which key an API server stores the objects of each kind.
const KEYS: [(&str, &str); 9] = [
    ("Namespace", "namespaces"),
    ("MySQL", "otus.homework/mysqls"),
    ("Secret", "secrets"),
    ("ConfigMap", "configmaps"),
    ("PersistentVolumeClaim", "persistentvolumeclaims"),
    ("Service", "services/specs"),
    ("Deployment", "deployments"),
    ("Job", "jobs"),
    ("Lease", "leases"),
];

/// Where an API server stores an object.
fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    let (_, folder) = KEYS
        .into_iter()
        .find(|(kind, _)| object["kind"] == *kind)
        .unwrap();
    let path = [&metadata["namespace"], &metadata["name"]];
    let path: Vec<_> = path.into_iter().filter_map(Value::as_str).collect();
    format!("/registry/{folder}/{}", path.join("/"))
}

/// The address of a control plane's etcd.
fn etcd(plane: &ControlPlane) -> String {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", plane.process_ids()[0])).unwrap();
    let arguments = String::from_utf8(arguments).unwrap();
    let mut words = arguments
        .split('\0')
        .skip_while(|word| *word != "--listen-client-urls");
    words.nth(1).unwrap().trim_start_matches("http://").to_owned()
}

/// Stores an object as if the API server had.
fn store(etcd: &str, object: &Value) {
    let mut stored = object.clone();
    stored["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let put = json!({"key": encode(key(object).as_bytes()), "value": encode(stored.to_string().as_bytes())});
    let body = put.to_string();
    let mut stream = TcpStream::connect(etcd).unwrap();
    write!(
        stream,
        "POST /v3/kv/put HTTP/1.1\r\nHost: {etcd}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

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
    let left = objects(&bed.client, &namespace).await;
    for (kind, _) in KEYS {
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
    reconcile::cli::install_crypto_provider();
    // Without controllers nothing but the operator can change anything.
    let plane = ControlPlane::start(PlaneOptions {
        without_controllers: true,
        ..PlaneOptions::default()
    })
    .await
    .unwrap();
    let older: CustomResourceDefinition = serde_json::from_value(golden["definition"].clone()).unwrap();
    plane.apply_crds(&[older]).await.unwrap();
    let (address, recorded) = (etcd(&plane), golden["objects"].as_array().unwrap());
    for object in recorded {
        store(&address, object);
    }
    let namespace = recorded[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let client = plane.client();
    let before = versions(&client, &namespace).await;
    assert_eq!(before.len(), recorded.len(), "{before:?}");

    plane.apply_crds(&mysql_api::crds()).await.unwrap();
    let begin = plane.audit().settle(&client).await.unwrap();
    let operator = Operator::start(&plane, &namespace);
    eventually("the new operator has looked twice", async || {
        looks(&plane, begin).await >= 2
    })
    .await;
    let writes = Filter::writes().user_agent(OPERATOR);
    let written = plane.audit().query(&client, begin, &writes).await.unwrap();
    // Who leads is told, and nothing else.
    let touched: Vec<_> = written
        .iter()
        .filter(|event| {
            event
                .object_ref
                .as_ref()
                .is_none_or(|object| object.resource != "events")
        })
        .collect();
    assert!(touched.is_empty(), "{touched:#?}");
    let mut after = versions(&client, &namespace).await;
    after.retain(|name, _| !name.starts_with("Lease"));
    let mut same = before.clone();
    same.retain(|name, _| !name.starts_with("Lease"));
    assert_eq!(after, same);
    operator.stop().await;
    a_change_that_nobody_saw_is_carried_out(&plane, &namespace).await;
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

/// The version of each object.
async fn versions(client: &Client, namespace: &str) -> BTreeMap<String, String> {
    let all = objects(client, namespace).await;
    all.iter()
        .map(|object| {
            let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            (name_of(object), version.to_owned())
        })
        .collect()
}
