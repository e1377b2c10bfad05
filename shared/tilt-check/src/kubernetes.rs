//! Objects of the cluster, and the resources that Tilt makes of them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::image;

/// The kinds that have pods.
const WORKLOADS: [&str; 8] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
    "Pod",
];

/// Contexts of clusters that are known to be local.
const LOCAL_CONTEXTS: [&str; 8] = [
    "minikube",
    "docker-desktop",
    "docker-for-desktop",
    "microk8s",
    "rancher-desktop",
    "colima",
    "orbstack",
    "kind",
];
const LOCAL_PREFIXES: [&str; 3] = ["kind-", "k3d-", "krucible-"];

/// Whether Tilt deploys there without being told that it may.
pub(crate) fn is_local(context: &str) -> bool {
    LOCAL_CONTEXTS.contains(&context) || LOCAL_PREFIXES.iter().any(|prefix| context.starts_with(prefix))
}

/// An object that is deployed.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    group: String,
    pub(crate) images: Vec<String>,
    /// Labels of its pods.
    pod_labels: BTreeMap<String, String>,
    /// The labels that a Service selects.
    selector: BTreeMap<String, String>,
    pub(crate) has_pods: bool,
}

impl Object {
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        if kind.is_empty() || text("/apiVersion").is_empty() {
            return Err(format!(
                "an object of the YAML has no kind or no apiVersion: {name:?}"
            ));
        }
        if name.is_empty() {
            return Err(format!("a {kind} of the YAML has no name"));
        }
        let labels = |pointer: &str| {
            let entries = value
                .pointer(pointer)
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            entries
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let namespace = match text("/metadata/namespace") {
            "" => "default",
            namespace => namespace,
        };
        Ok(Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            group: text("/apiVersion")
                .split_once('/')
                .map_or("", |(group, _)| group)
                .to_owned(),
            images: image::of_object(value),
            pod_labels: labels("/spec/template/metadata/labels"),
            selector: if kind == "Service" {
                labels("/spec/selector")
            } else {
                BTreeMap::new()
            },
            has_pods: WORKLOADS.contains(&kind),
        })
    }

    /// `name:Kind:namespace`.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}:{}", self.name, self.kind, self.namespace)
    }

    /// What must be there once only.
    pub(crate) fn identity(&self) -> String {
        format!("{}:{}", self.shown(), self.group).to_lowercase()
    }

    /// Whether a selector, `name[:kind[:namespace[:group]]]`, means it.
    pub(crate) fn is(&self, selector: &str) -> bool {
        let own = [&self.name, &self.kind, &self.namespace, &self.group];
        let parts: Vec<_> = selector.split(':').collect();
        parts.len() <= own.len()
            && parts
                .iter()
                .zip(own)
                .all(|(part, own)| part.is_empty() || part.eq_ignore_ascii_case(own))
    }

    /// Whether it is a Service of the other's pods.
    pub(crate) fn selects(&self, other: &Self) -> bool {
        !self.selector.is_empty()
            && self.namespace == other.namespace
            && self
                .selector
                .iter()
                .all(|(key, value)| other.pod_labels.get(key) == Some(value))
    }
}

/// The names of the resources of workloads: the shortest that tells them apart.
pub(crate) fn workload_names(workloads: &[&Object]) -> Vec<String> {
    let candidates = |object: &Object| {
        [
            object.name.clone(),
            format!("{}:{}", object.name, object.kind.to_lowercase()),
            format!(
                "{}:{}:{}",
                object.name,
                object.kind.to_lowercase(),
                object.namespace
            ),
        ]
    };
    let all: Vec<_> = workloads.iter().map(|object| candidates(object)).collect();
    let name = |index: usize| {
        let unique = (0..3).find(|&length| {
            all.iter()
                .enumerate()
                .all(|(other, names)| other == index || names[length] != all[index][length])
        });
        all[index][unique.unwrap_or(2)].clone()
    };
    (0..all.len()).map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, namespace: &str) -> Object {
        Object::parse(&json!({"apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}}))
        .unwrap()
    }

    #[test]
    fn workloads_have_the_shortest_names_that_tell_them_apart() {
        let [a, b, c, d] = [
            object("Deployment", "api", "x"),
            object("Job", "api", "x"),
            object("Deployment", "web", "x"),
            object("Job", "api", "y"),
        ];
        assert_eq!(
            workload_names(&[&a, &b, &c, &d]),
            ["api:deployment", "api:job:x", "web", "api:job:y"]
        );
    }

    #[test]
    fn selectors_match_whole_parts_whatever_their_case() {
        let deployment = object("Deployment", "api", "x");
        for selector in [
            "api",
            "api:deployment",
            "API:Deployment:x",
            "api:deployment:x:apps",
            ":deployment",
        ] {
            assert!(deployment.is(selector), "{selector}");
        }
        for selector in ["ap", "api:job", "api:deployment:y", "api:deployment:x:batch"] {
            assert!(!deployment.is(selector), "{selector}");
        }
    }

    #[test]
    fn only_clusters_that_are_known_to_be_local_need_no_permission() {
        assert!(is_local("kind-kind") && is_local("minikube") && is_local("k3d-dev"));
        assert!(!is_local("production") && !is_local("arn:aws:eks:eu-west-1:1:cluster/kind"));
    }
}
