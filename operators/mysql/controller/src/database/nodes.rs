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
//! A scheduler looks at the labels of a node only, and knows no node of a volume by its name: [`HOSTNAME`] has to be there.

use k8s_openapi::{
    api::core::v1::{
        Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
        PersistentVolumeClaim, Pod, VolumeNodeAffinity,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt as _;

use super::{names::Names, volumes::fixed_of};

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
    let answers = |pod: &&Pod| {
        let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref());
        let mut all = conditions.flatten();
        all.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    node(pods.iter().find(answers)?)
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

/// Why a Pod is on no node, with where its volumes are.
pub fn elsewhere(why: &str, node: &str, sight: Sight, names: &Names) -> String {
    let (data, backups) = (names.data_claim(), names.backup_claim());
    let more = match sight {
        Sight::There | Sight::Hidden => String::new(),
        Sight::Gone => format!(
            ", which is gone: bring it back under its name, or delete {data} and {backups}, and with them what they hold, \
             to begin on another one"
        ),
        Sight::Unlabelled => format!("; {}", unlabelled(node)),
    };
    format!("{why}; its volumes are folders of node {node}{more}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: Option<&str>, phase: &str, made: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "creationTimestamp": made},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    const EARLY: &str = "2026-11-21T11:00:00Z";
    const LATE: &str = "2026-11-21T12:00:00Z";

    #[test]
    fn work_is_where_it_was_done_else_where_it_goes_on_else_where_it_was_last_tried() {
        let failed = [pod(Some("a"), "Failed", EARLY), pod(Some("b"), "Failed", LATE)];
        assert_eq!(place(&failed), Some("b"));
        assert_eq!(done_on(&failed), None);
        let goes_on = [pod(Some("a"), "Running", EARLY), pod(Some("b"), "Failed", LATE)];
        assert_eq!(place(&goes_on), Some("a"));
        let done = [
            pod(Some("a"), "Succeeded", EARLY),
            pod(Some("b"), "Running", LATE),
        ];
        assert_eq!((place(&done), done_on(&done)), (Some("a"), Some("a")));
        assert_eq!(
            place(&[pod(None, "Pending", EARLY)]),
            None,
            "it is on no node yet"
        );
        assert_eq!(place(&[]), None);
    }

    #[rstest]
    #[case::at_home(&[pod(Some("a"), "Succeeded", EARLY)], Some("a"), false)]
    #[case::elsewhere(&[pod(Some("b"), "Succeeded", EARLY)], Some("a"), true)]
    #[case::nobody_can_say(&[], Some("a"), true)]
    #[case::not_done(&[pod(Some("a"), "Failed", EARLY)], Some("a"), true)]
    #[case::without_nodes(&[pod(None, "Succeeded", EARLY)], None, false)]
    fn what_was_done_elsewhere_does_not_count(
        #[case] pods: &[Pod],
        #[case] home: Option<&str>,
        #[case] is_astray: bool,
    ) {
        assert_eq!(astray(pods, home), is_astray);
    }

    #[test]
    fn only_a_server_that_answers_tells_where_data_are() {
        let mut server = pod(Some("a"), "Running", EARLY);
        assert_eq!(serving_on(std::slice::from_ref(&server)), None);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        server.status.as_mut().unwrap().conditions = serde_json::from_value(ready).unwrap();
        assert_eq!(serving_on(&[server]), Some("a"));
    }

    #[test]
    fn a_volume_is_tied_by_a_label_of_its_node() {
        let tied = affinity("host");
        assert_eq!(host_of(&tied), Some("host"));
        let text = serde_json::to_value(&tied).unwrap();
        assert_eq!(
            text["required"]["nodeSelectorTerms"][0]["matchExpressions"][0],
            json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["host"]})
        );
        let zone = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["host"]}]}]}});
        assert_eq!(host_of(&serde_json::from_value(zone).unwrap()), None);
    }

    #[rstest]
    #[case(json!({}), false, None)]
    #[case(json!({"otus.homework/volume": "v"}), true, None)]
    #[case(json!({"otus.homework/volume": "v", "otus.homework/node": "a"}), false, Some("a"))]
    fn a_folder_is_loose_until_it_is_tied(
        #[case] annotations: Value,
        #[case] loose: bool,
        #[case] node: Option<&str>,
    ) {
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
        assert_eq!((is_loose(&claim), tied(&claim)), (loose, node));
    }

    #[rstest]
    #[case(None, Sight::Gone, "delete m-pvc and backup-m-pvc")]
    #[case(Some(json!({})), Sight::Unlabelled, "no label kubernetes.io/hostname")]
    #[case(Some(json!({"kubernetes.io/hostname": "h"})), Sight::There, "folders of node a")]
    fn where_volumes_are_is_said_with_what_is_wrong_there(
        #[case] labels: Option<Value>,
        #[case] sight: Sight,
        #[case] words: &str,
    ) {
        let node =
            labels.map(|labels| serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap());
        assert_eq!(Sight::of(node.as_ref()), sight);
        let text = elsewhere("Pod p is on no node: why", "a", sight, &Names::new("m").unwrap());
        assert!(
            text.starts_with("Pod p is on no node: why; ") && text.contains(words),
            "{text}"
        );
    }
}
