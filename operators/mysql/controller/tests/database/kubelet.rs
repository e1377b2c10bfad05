//! What nodes do, without nodes: volumes are provided, the programs in Pods run to their end, servers become ready. What
//! the programs do to volumes is in [`crate::disks`]; Deployments, Jobs and claims are the real controllers' business.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher,
    },
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::nodes::{Claims, Machines, Place, Scheduler};
use crate::disks::{Disks, End};

#[path = "kubelet/nodes.rs"]
mod nodes;

/// How often is looked.
const TICK: Duration = Duration::from_millis(50);

/// The nodes of one namespace.
pub(crate) struct Kubelet {
    pub(crate) disks: Disks,
    failures: Arc<Mutex<HashMap<String, End>>>,
    waiting: Arc<Mutex<HashMap<String, String>>>,
    machines: Machines,
    running: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Kubelet {
    pub(crate) fn start(client: Client, namespace: &str, disks: Disks) -> Self {
        let failures = Arc::<Mutex<HashMap<String, End>>>::default();
        let waiting = Arc::<Mutex<HashMap<String, String>>>::default();
        let machines = Machines::default();
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let (claims, claims_seen) = watched(Api::namespaced(client.clone(), namespace));
        let (pods_there, pods_seen) = watched(pods.clone());
        let mut node = Node {
            claims,
            pods_there,
            pods,
            scheduler: Scheduler::new(&client, namespace, machines.clone()),
            volumes: Api::all(client),
            disks: disks.clone(),
            failures: failures.clone(),
            waiting: waiting.clone(),
            done: HashSet::new(),
            known: HashSet::new(),
        };
        let running = tokio::spawn(async move {
            let work = async {
                loop {
                    // A server that is stopped answers later.
                    let _ = node.look().await;
                    tokio::time::sleep(TICK).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = claims_seen => {}
                () = pods_seen => {}
            }
        });
        Self {
            disks,
            failures,
            waiting,
            machines,
            running,
        }
    }

    /// From now on Pods are put on nodes, this many, whose names it returns.
    pub(crate) async fn nodes(
        &self,
        client: &Client,
        namespace: &str,
        count: usize,
    ) -> kube::Result<Vec<String>> {
        self.machines.make(client, namespace, count).await
    }

    /// Whether nodes have no room for now.
    pub(crate) fn be_full(&self, full: bool) {
        self.machines.be_full(full);
    }

    /// Lets a program (`backup`, `restore`, `mysql`) end like this until it is repaired.
    pub(crate) fn break_(&self, program: &str, status: i32, words: Value) {
        self.failures.lock().insert(program.to_owned(), (status, words));
    }

    /// Keeps the Pods of a program from beginning, for this reason, until it is let go; an empty one says nothing.
    pub(crate) fn hold(&self, program: &str, reason: &str) {
        self.waiting.lock().insert(program.to_owned(), reason.to_owned());
    }

    pub(crate) fn let_go(&self, program: &str) {
        self.waiting.lock().remove(program);
    }

    pub(crate) fn repair(&self, program: &str) {
        self.failures.lock().remove(program);
    }
}

/// What is there of a kind, as far as a watch has shown, and the watch.
fn watched<K>(api: Api<K>) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource<DynamicType: Default + Eq + Hash + Clone>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
{
    let (there, seen) = reflector::store();
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let seen = reflector::reflector(seen, events).for_each(|_| std::future::ready(()));
    (there, seen)
}

struct Node {
    claims: Store<PersistentVolumeClaim>,
    pods_there: Store<Pod>,
    pods: Api<Pod>,
    scheduler: Scheduler,
    volumes: Api<PersistentVolume>,
    disks: Disks,
    failures: Arc<Mutex<HashMap<String, End>>>,
    waiting: Arc<Mutex<HashMap<String, String>>>,
    done: HashSet<String>,
    /// UIDs of the claims that were there when last looked.
    known: HashSet<String>,
}

impl Node {
    async fn look(&mut self) -> kube::Result<()> {
        let claims = self.claims.state();
        for claim in &claims {
            self.provide(claim).await?;
        }
        let present: HashSet<_> = claims.iter().filter_map(|claim| claim.uid()).collect();
        let claims: Claims = claims
            .iter()
            .map(|claim| (claim.name_any(), PersistentVolumeClaim::clone(claim)))
            .collect();
        for gone in self.known.difference(&present) {
            self.disks.lose(gone);
        }
        self.known = present;
        self.scheduler.beat().await?;
        let pods = self.pods_there.state();
        let servers: HashSet<_> = pods.iter().flat_map(|pod| served(pod)).collect();
        for pod in &pods {
            self.run(pod, &claims, &servers).await?;
        }
        Ok(())
    }

    /// A volume for a claim of a class.
    async fn provide(&self, claim: &PersistentVolumeClaim) -> kube::Result<()> {
        let spec = claim.spec.clone().unwrap_or_default();
        let class = spec.storage_class_name.unwrap_or_default();
        let uid = claim.uid().unwrap_or_default();
        if spec.volume_name.is_some() || class.is_empty() || claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": format!("pvc-{uid}")},
            "spec": {
                "capacity": spec.resources.and_then(|resources| resources.requests),
                "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name_any(),
                             "namespace": claim.namespace(), "uid": uid},
            },
        }))
        .map_err(kube::Error::SerdeError)?;
        match self.volumes.create(&PostParams::default(), &volume).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    /// A Pod that is on a node, and whose container does not begin.
    async fn wait(&self, pod: &Pod, program: &str, reason: &str) -> kube::Result<()> {
        if reason.is_empty() || waits_for(pod).as_deref() == Some(reason) {
            return Ok(());
        }
        let state = json!({"waiting": {"reason": reason}});
        let status = json!({"phase": "Pending", "containerStatuses": container(program, false, &state)});
        let patch = Patch::Merge(json!({ "status": status }));
        let (name, params) = (pod.name_any(), PatchParams::default());
        match self.pods.patch_status(&name, &params, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn run(&mut self, pod: &Pod, claims: &Claims, servers: &HashSet<String>) -> kube::Result<()> {
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            return self.scheduler.end(pod).await;
        }
        if self.done.contains(&uid) {
            return Ok(());
        }
        let place = self.scheduler.place(pod, claims).await?;
        if matches!(place, Place::Waiting) {
            return Ok(());
        }
        let Some(container) = pod.spec.as_ref().and_then(|spec| spec.containers.first()) else {
            return Ok(());
        };
        let program = container.name.clone();
        let environment: BTreeMap<String, String> = container
            .env
            .iter()
            .flatten()
            .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
            .collect();
        let broken = self.failures.lock().get(&program).cloned();
        let held = self.waiting.lock().get(&program).cloned();
        if let Some(reason) = held {
            return self.wait(pod, &program, &reason).await;
        }
        let uid_of = |claim: &str| claims.get(claim).and_then(kube::ResourceExt::uid);
        let scheduler = &mut self.scheduler;
        let mut mounted = |volume: &str| -> Option<String> {
            let all = pod.spec.as_ref()?.volumes.as_ref()?;
            let found = all.iter().find(|found| found.name == volume)?;
            let claim = uid_of(&found.persistent_volume_claim.as_ref()?.claim_name)?;
            Some(scheduler.folder(&claim, &place))
        };
        let status = match (program.as_str(), broken) {
            ("restore" | "backup", Some(end)) => ended(&program, &end),
            ("restore", None) => {
                let (Some(data), Some(backups)) = (mounted("data"), mounted("backups")) else {
                    return Ok(());
                };
                if claims_of(pod).any(|claim| servers.contains(&claim)) {
                    self.disks.accuse("a folder was filled beside its server");
                }
                ended(&program, &self.disks.fill(&data, &backups, &environment))
            }
            ("backup", None) => {
                let Some(backups) = mounted("backups") else {
                    return Ok(());
                };
                // Where its server is: no other folder was ever served from.
                let data = uid_of(&format!("{}-pvc", environment["HOST"]));
                let end = self.disks.back_up(data.as_deref(), &backups, &environment);
                ended(&program, &end)
            }
            (_, Some((code, _))) => crashing(&program, code),
            (_, None) => {
                let Some(data) = mounted("data") else {
                    return Ok(());
                };
                // Said once; a server that was broken, or has started again, says it again.
                let restarts = self.disks.restarts(&data);
                if is_ready(pod) && restarts_of(pod) == restarts || !self.disks.serve(&data) {
                    return Ok(());
                }
                serving(&program, restarts)
            }
        };
        let patch = Patch::Merge(json!({ "status": status }));
        match self
            .pods
            .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {
                // A server may be broken and repaired.
                if !matches!(program.as_str(), "mysql") {
                    self.done.insert(uid);
                }
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Why its container does not begin, if that was said.
fn waits_for(pod: &Pod) -> Option<String> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    container.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

/// Names of the claims that a Pod has.
fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
}

/// Names of the claims that it has as a server, whichever operator's, that has not ended.
fn served(pod: &Pod) -> Vec<String> {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let serves = containers.any(|container| container.name == "mysql");
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    claims_of(pod).filter(|_| serves && !ended).collect()
}

fn restarts_of(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    containers
        .and_then(|all| all.first())
        .map_or(0, |container| container.restart_count)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut all = conditions.into_iter().flatten();
    all.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn container(program: &str, ready: bool, state: &Value) -> Value {
    json!([{"name": program, "image": "i", "imageID": "i", "restartCount": 0, "ready": ready, "started": ready,
            "state": state, "lastState": {}}])
}

fn ended(program: &str, (code, words): &End) -> Value {
    let now = Timestamp::now().to_string();
    let state = json!({"terminated": {"exitCode": code, "message": words.to_string(),
                                      "finishedAt": now, "startedAt": now}});
    let phase = if *code == 0 { "Succeeded" } else { "Failed" };
    json!({"phase": phase, "containerStatuses": container(program, false, &state)})
}

fn conditions(ready: &str) -> Value {
    json!([{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn serving(program: &str, restarts: i32) -> Value {
    let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let mut all = container(program, true, &state);
    all[0]["restartCount"] = json!(restarts);
    json!({"phase": "Running", "conditions": conditions("True"), "containerStatuses": all})
}

fn crashing(program: &str, code: i32) -> Value {
    let state = json!({"waiting": {"reason": "CrashLoopBackOff"},
                       "terminated": null, "running": null});
    let mut all = container(program, false, &state);
    all[0]["lastState"] = json!({"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}});
    json!({"phase": "Running", "conditions": conditions("False"), "containerStatuses": all})
}
