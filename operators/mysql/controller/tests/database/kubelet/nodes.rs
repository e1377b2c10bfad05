//! Nodes, and what a scheduler does: Pods are put on them as far as their volumes allow, and each time on another one where
//! they do. A folder of one node is none of another's.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How often a node says that it is there, so that the controller of nodes believes it.
const BEAT: Duration = Duration::from_secs(5);
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The nodes of one namespace; without any Pods are on none, and volumes are nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machines(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: Vec<String>,
    /// No Pod is put on any.
    full: bool,
}

impl Machines {
    /// Makes this many nodes, which go with the namespace, and returns their names.
    pub(super) async fn make(
        &self,
        client: &Client,
        namespace: &str,
        count: usize,
    ) -> kube::Result<Vec<String>> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let owner = namespaces.get(namespace).await?.owner_ref(&());
        let nodes: Api<Node> = Api::all(client.clone());
        let mut names = Vec::new();
        for letter in ('a'..='z').take(count) {
            let name = format!("{namespace}-{letter}");
            let node = json!({"metadata": {"name": name, "ownerReferences": [owner],
                                           "labels": {HOSTNAME: format!("host-of-{name}")}}});
            let node: Node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
            nodes.create(&PostParams::default(), &node).await?;
            beat(&nodes, &name).await?;
            names.push(name);
        }
        self.0.lock().names.clone_from(&names);
        Ok(names)
    }

    /// Whether Pods find no room for now.
    pub(super) fn be_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    fn are_there(&self) -> bool {
        !self.0.lock().names.is_empty()
    }
}

/// Says that a node is well.
async fn beat(nodes: &Api<Node>, name: &str) -> kube::Result<()> {
    let now = Timestamp::now().to_string();
    let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": now});
    let patch = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
    match nodes.patch_status(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Claims by name.
pub(super) type Claims = HashMap<String, PersistentVolumeClaim>;

/// Where a Pod is.
pub(super) enum Place {
    /// There are no nodes.
    Nowhere,
    /// On none yet.
    Waiting,
    /// On this one.
    On(String),
}

pub(super) struct Scheduler {
    machines: Machines,
    nodes: Api<Node>,
    pods: Api<Pod>,
    volumes: Api<PersistentVolume>,
    /// How many Pods were given a node.
    given: usize,
    /// The node where a claim's folder was first seen, by UID.
    homes: HashMap<String, String>,
    beaten: Option<Instant>,
}

impl Scheduler {
    pub(super) fn new(client: &Client, namespace: &str, machines: Machines) -> Self {
        Self {
            machines,
            nodes: Api::all(client.clone()),
            pods: Api::namespaced(client.clone(), namespace),
            volumes: Api::all(client.clone()),
            given: 0,
            homes: HashMap::new(),
            beaten: None,
        }
    }

    pub(super) async fn beat(&mut self) -> kube::Result<()> {
        if self.beaten.is_some_and(|beaten| beaten.elapsed() < BEAT) {
            return Ok(());
        }
        let names = self.machines.0.lock().names.clone();
        for name in names {
            beat(&self.nodes, &name).await?;
        }
        self.beaten = Some(Instant::now());
        Ok(())
    }

    /// The folder of a claim, as a Pod there finds it.
    pub(super) fn folder(&mut self, claim: &str, place: &Place) -> String {
        let Place::On(node) = place else {
            return claim.to_owned();
        };
        let home = self.homes.entry(claim.to_owned()).or_insert_with(|| node.clone());
        if home == node {
            claim.to_owned()
        } else {
            format!("{claim} of {node}")
        }
    }

    /// What a kubelet does with a Pod that is deleted: without a node the API server does it.
    pub(super) async fn end(&self, pod: &Pod) -> kube::Result<()> {
        if !self.machines.are_there() {
            return Ok(());
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.pods.delete(&pod.name_any(), &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Where a Pod is; one that is on no node is put on one.
    pub(super) async fn place(&mut self, pod: &Pod, claims: &Claims) -> kube::Result<Place> {
        let on = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        if !self.machines.are_there() {
            return Ok(Place::Nowhere);
        }
        if let Some(node) = on {
            return Ok(Place::On(node));
        }
        let Some(bindings) = self.bindings(pod, claims).await? else {
            return Ok(Place::Waiting);
        };
        let (names, full) = {
            let state = self.machines.0.lock();
            (state.names.clone(), state.full)
        };
        let mut fits = Vec::new();
        for name in names.iter().filter(|_| !full) {
            let node = self.nodes.get_opt(name).await?;
            let host = node.and_then(|node| node.labels().get(HOSTNAME).cloned());
            let allowed = |binding: &Value| binding.as_str() == host.as_deref();
            fits.extend(bindings.iter().all(allowed).then_some(name));
        }
        let Some(name) = fits.get(self.given % fits.len().max(1)) else {
            return self.refuse(pod, names.len()).await;
        };
        let pod = pod.name_any();
        let target = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
                            "target": {"apiVersion": "v1", "kind": "Node", "name": name}});
        let params = PostParams::default();
        let bound = self
            .pods
            .create_subresource::<_, Value>("binding", &pod, &params, &target);
        match bound.await {
            Ok(_) => self.given += 1,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
        Ok(Place::Waiting)
    }

    /// The labels that its volumes are tied by; nothing if one of them is not to be had.
    async fn bindings(&self, pod: &Pod, claims: &Claims) -> kube::Result<Option<Vec<Value>>> {
        let mounted = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mounted = mounted.filter_map(|volume| volume.persistent_volume_claim.as_ref());
        let mut bindings = Vec::new();
        for source in mounted {
            let claim = claims.get(&source.claim_name);
            let bound = claim.filter(|claim| {
                let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
                claim.metadata.deletion_timestamp.is_none() && phase == Some("Bound")
            });
            let volume = bound.and_then(|claim| claim.spec.as_ref()?.volume_name.clone());
            let Some(volume) = volume else { return Ok(None) };
            let Some(volume) = self.volumes.get_opt(&volume).await? else {
                return Ok(None);
            };
            let volume = serde_json::to_value(volume).map_err(kube::Error::SerdeError)?;
            let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
            if terms.is_array() {
                bindings.push(terms[0]["matchExpressions"][0]["values"][0].clone());
            }
        }
        Ok(Some(bindings))
    }

    /// Says that no node is to be had, once.
    async fn refuse(&self, pod: &Pod, count: usize) -> kube::Result<Place> {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let said = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        if !said {
            let message = format!(
                "0/{count} nodes are available: {count} node(s) didn't match PersistentVolume's node affinity."
            );
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                   "message": message});
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            let (name, params) = (pod.name_any(), PatchParams::default());
            match self.pods.patch_status(&name, &params, &patch).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        Ok(Place::Waiting)
    }
}
