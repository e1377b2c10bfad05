//! The node whose folders stand in for volumes.
//!
//! In a cluster without any StorageClass a volume is a folder of a node ([`super::volumes::fixed`]), and a Pod that is put
//! on another node finds an empty one there. So a volume is tied to a node as soon as a Pod that has it was given one: from
//! then on the scheduler puts no Pod elsewhere, and no other kubelet mounts it.
//!
//! # Guarantees
//! - What ties a volume is set once, and never changed.
//! - What a restore has done on another node than that of its volumes does not count ([`astray`]).
//!
//! # Caveats
//! A scheduler looks at the labels of a node only, and knows no node of a volume by its name: `kubernetes.io/hostname` has to be there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
        PersistentVolumeClaim, Pod, VolumeNodeAffinity,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt as _;

use super::{
    job::{Phase, Seen, Whose},
    pods,
    server::unplaced,
    volumes::fixed_of,
};

/// Annotation on the claim of a volume that is a folder: name of the node that it is tied to.
pub const NODE: &str = "otus.homework/node";
/// The label by which a volume is tied.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The node that the folder of this claim is tied to.
pub fn tied(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.annotations().get(NODE).map(String::as_str)
}

/// Whether the volume of this claim is a folder that is tied to no node yet.
pub fn is_loose(claim: &PersistentVolumeClaim) -> bool {
    fixed_of(claim).is_some() && tied(claim).is_none()
}

/// A claim whose folder is tied to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// Name of the claim.
    pub claim: String,
    /// Name of the node.
    pub node: String,
}

/// What ties this claim, if its folder is tied.
pub fn tie(claim: &PersistentVolumeClaim) -> Option<Tie> {
    tied(claim).map(|node| Tie {
        claim: claim.name_any(),
        node: node.to_owned(),
    })
}

/// The label of a node that its volumes are tied by.
pub fn hostname(node: &Node) -> Option<&str> {
    let label = node.labels().get(HOSTNAME).map(String::as_str);
    label.filter(|label| !label.is_empty())
}

/// What ties a volume to the node with this label.
pub fn affinity(hostname: &str) -> VolumeNodeAffinity {
    let is_it = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![hostname.to_owned()]),
    };
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![is_it]),
                match_fields: None,
            }],
        }),
    }
}

/// What a volume is tied by.
pub fn binding(volume: &PersistentVolume) -> Option<&VolumeNodeAffinity> {
    volume.spec.as_ref()?.node_affinity.as_ref()
}

/// The label of the one node that this names; nothing if it is not one of ours, and names several or otherwise.
pub fn host_of(binding: &VolumeNodeAffinity) -> Option<&str> {
    let terms = &binding.required.as_ref()?.node_selector_terms;
    let [term] = terms.as_slice() else { return None };
    let [only] = term.match_expressions.as_deref()? else {
        return None;
    };
    let [value] = only.values.as_deref()? else {
        return None;
    };
    (only.key == HOSTNAME && only.operator == "In").then_some(value)
}

fn phase(pod: &Pod) -> &str {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The node where the work of a Job is: of the Pod that has done it, else of one that is at it, else of the last one that
/// failed.
pub fn place(pods: &[Pod]) -> Option<&str> {
    let rank = |pod: &&Pod| match phase(pod) {
        "Succeeded" => 2,
        "Failed" => 0,
        _ => 1,
    };
    let made = |pod: &&Pod| pod.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
    let on_a_node = pods.iter().filter(|pod| node(pod).is_some());
    node(on_a_node.max_by_key(|pod| (rank(pod), made(pod)))?)
}

/// The node where the work of a Job was done.
pub fn done_on(pods: &[Pod]) -> Option<&str> {
    node(pods.iter().find(|pod| phase(pod) == "Succeeded")?)
}

/// The node of the server that answers.
pub fn serving_on(pods: &[Pod]) -> Option<&str> {
    node(pods.iter().find(|pod| pods::answers(pod))?)
}

/// Where the folder with the backups is that is tied to no node yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace<'a> {
    /// Nothing is on it, wherever it is.
    Nowhere,
    /// On this node.
    On(&'a str),
    /// On one that nobody can tell, or not yet.
    Unknown,
}

/// Where the backups are, of which `newest` is the last that is known of, as the Job for backups with its Pods tells it; on
/// the volume of a claim that was `made` then.
pub fn trace<'a>(
    newest: Option<&str>,
    made: Option<Timestamp>,
    job: Option<&Seen>,
    pods: &'a [Pod],
) -> Trace<'a> {
    let told = |node: Option<&'a str>| node.map_or(Trace::Unknown, Trace::On);
    // What an earlier object of the name had taken before there was this volume is on another.
    let earlier = |job: &Seen| {
        job.whose != Whose::Ours && job.phase == Phase::Succeeded && job.made.is_some() && job.made < made
    };
    let job = job.filter(|job| job.whose != Whose::Foreign && !earlier(job));
    match (newest, job.map(|job| (&job.phase, &job.id))) {
        (Some(newest), Some((Phase::Succeeded, Some(id)))) if id == newest => told(done_on(pods)),
        // Another backup may be under way elsewhere: only its end says that it is the newest.
        (Some(_), _) => Trace::Unknown,
        (None, Some((Phase::Succeeded, _))) => told(done_on(pods)),
        (None, Some((Phase::Running, _))) => {
            // What is not there yet may be, any time.
            let mut at_it = pods.iter().filter(|pod| phase(pod) != "Failed");
            told(at_it.find_map(node))
        }
        (None, None | Some((Phase::Failed { .. }, _))) => Trace::Nowhere,
    }
}

/// Whether what a Job of these Pods has done is not known to be on the node that its volumes are tied to.
pub fn astray(pods: &[Pod], home: Option<&str>) -> bool {
    let mut done = pods.iter().filter(|pod| phase(pod) == "Succeeded");
    !done.any(|pod| node(pod).is_none_or(|node| Some(node) == home))
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is there.
    There,
    /// There is none of this name.
    Gone,
    /// It is there without its label.
    Unlabelled,
    /// It may not be looked at.
    Hidden,
}

impl Sight {
    /// Of what was found under a node's name.
    pub fn of(found: Option<&Node>) -> Self {
        match found {
            None => Self::Gone,
            Some(node) if hostname(node).is_none() => Self::Unlabelled,
            Some(_) => Self::There,
        }
    }
}

/// What is said of a node without the label.
pub fn unlabelled(node: &str) -> String {
    format!(
        "node {node} has no label {HOSTNAME}, by which volumes are tied to it: give it back with `kubectl label node \
         {node} {HOSTNAME}={node}`, or with the value that it had"
    )
}

/// The nodes with folders that those of these Pods have which are on no node, and all the claims that are tied there.
pub fn homes<'a>(ties: &'a [Tie], pods: &[Pod]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let waits = |tie: &&Tie| {
        let mut all = pods.iter();
        all.any(|pod| unplaced(pod).is_some() && pods::mounts(pod, &tie.claim))
    };
    let nodes: BTreeSet<_> = ties.iter().filter(waits).map(|tie| tie.node.as_str()).collect();
    let claims = |node: &str| {
        let there = ties.iter().filter(|tie| tie.node == node);
        there.map(|tie| tie.claim.as_str()).collect()
    };
    nodes.into_iter().map(|node| (node, claims(node))).collect()
}

/// Where the folders of these claims are, and what is wrong there. Of other claims nothing is said: what they hold is not
/// lost.
pub fn elsewhere(node: &str, sight: Sight, claims: &[&str]) -> String {
    let (names, one) = (claims.join(" and "), claims.len() == 1);
    let are = if one { "is a folder" } else { "are folders" };
    let hold = if one {
        "it what it holds"
    } else {
        "them what they hold"
    };
    let more = match sight {
        Sight::There | Sight::Hidden => String::new(),
        Sight::Gone => format!(
            ", which is gone: bring the node back under its name, or delete {names}, and with {hold}, to begin on another \
             one"
        ),
        Sight::Unlabelled => format!("; {}", unlabelled(node)),
    };
    format!("{names} {are} of node {node}{more}")
}

/// Whether a volume is, or was, of the claim of this name; of that with this UID, if that is known of both.
pub fn is_of(volume: &PersistentVolume, namespace: &str, claim: &str, uid: Option<&str>) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        let other = uid.is_some_and(|uid| reference.uid.as_deref().is_some_and(|theirs| theirs != uid));
        reference.namespace.as_deref() == Some(namespace)
            && reference.name.as_deref() == Some(claim)
            && !other
    })
}

/// Whether a volume was given to a claim: it takes no other one after that, whether Kubernetes has marked it so yet or not.
pub fn had_claim(volume: &PersistentVolume) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| reference.uid.as_ref().is_some_and(|uid| !uid.is_empty()))
}

/// Where the folder is that a volume stands for.
pub fn folder(volume: &PersistentVolume) -> Option<String> {
    let spec = volume.spec.as_ref()?;
    let path = &spec.host_path.as_ref()?.path;
    Some(match spec.node_affinity.as_ref().and_then(host_of) {
        Some(host) => format!("{path} on node {host}"),
        None => path.clone(),
    })
}

#[cfg(test)]
mod tests;
