//! What an operator may do in Kubernetes, as named templates.
//!
//! The rules stand once, beside the operator: either in a table of three documents (rules in namespaces, rules of the
//! cluster, rules of the election), or in the components that install it without the chart.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{ORIGIN, read};
use crate::workspace;

/// Where the rules of an operator stand, by its path in the workspace.
pub(super) enum Source {
    /// A file of three roles, in the order of [`NAMES`].
    Table(&'static str),
    /// Components with one ClusterRole, and one Role for the election.
    Components(&'static str),
}

/// The named templates.
const NAMES: [&str; 3] = [
    "operator.rules",
    "operator.clusterRules",
    "operator.leaderElectionRules",
];

/// The groups whose objects a ClusterRole is about wherever they are, whichever namespaces are served.
pub(super) const CLUSTER_WIDE: [&str; 2] = ["apiextensions.k8s.io", "coordination.k8s.io"];

/// Rules in namespaces, rules of the cluster, rules of the election.
type Rules = [Vec<Value>; 3];

/// `templates/_rules.tpl`: the rules, and the kinds of `definitions` with those that can be scaled, by group.
pub(super) fn template(source: &Source, definitions: &[CustomResourceDefinition]) -> Result<String> {
    let mut text = format!("{{{{/*\n{ORIGIN}\n*/}}}}\n");
    for (name, rules) in NAMES.iter().zip(&source.rules()?) {
        let rules = serde_saphyr::to_string(rules).context("cannot write rules as YAML")?;
        define(&mut text, name, rules.trim_end());
    }
    let (mut kinds, mut scaled) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for crd in definitions {
        let plural = &crd.spec.names.plural;
        kinds.entry(&crd.spec.group).or_default().push(plural.clone());
        if is_scaled(crd) {
            let subresource = format!("{plural}/scale");
            scaled.entry(&crd.spec.group).or_default().push(subresource);
        }
    }
    define(&mut text, "operator.kinds", &serde_json::to_string(&kinds)?);
    define(&mut text, "operator.scaled", &serde_json::to_string(&scaled)?);
    Ok(text)
}

/// Whether `kubectl scale` works on it.
fn is_scaled(crd: &CustomResourceDefinition) -> bool {
    let mut subresources = crd
        .spec
        .versions
        .iter()
        .filter_map(|version| version.subresources.as_ref());
    subresources.any(|of| of.scale.is_some())
}

fn define(text: &mut String, name: &str, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{{{{- define \"{name}\" -}}}}\n{content}\n{{{{- end -}}}}");
}

impl Source {
    fn rules(&self) -> Result<Rules> {
        let (Self::Table(path) | Self::Components(path)) = self;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&read(&workspace::root().join(path))?)
            .with_context(|| format!("cannot read the YAML of {path}"))?;
        match self {
            Self::Table(_) => of_table(&documents),
            Self::Components(_) => of_components(&documents),
        }
        .with_context(|| format!("{path} has not the roles that a chart needs"))
    }
}

fn of_table(documents: &[Value]) -> Result<Rules> {
    ensure!(
        documents.len() == NAMES.len(),
        "there must be {} documents: rules in namespaces, rules of the cluster, rules of the election",
        NAMES.len()
    );
    let mut rules = documents.iter().map(rules_of);
    let mut next = || rules.next().context("a document is missing")?;
    Ok([next()?, next()?, next()?])
}

/// Components serve every namespace by one role; in a chart what is no namespace's stands by itself.
fn of_components(documents: &[Value]) -> Result<Rules> {
    let of = |kind: &str| {
        let mut found = documents.iter().filter(|document| document["kind"] == kind);
        let role = found.next().with_context(|| format!("no {kind}"))?;
        ensure!(found.next().is_none(), "more than one {kind}");
        rules_of(role)
    };
    let (cluster, namespaced) = of("ClusterRole")?.into_iter().partition(|rule: &Value| {
        CLUSTER_WIDE
            .iter()
            .any(|group| rule["apiGroups"] == json!([group]))
    });
    let mut election = of("Role")?;
    let events = |rule: &Value| rule["resources"] == json!(["events"]);
    if !election.iter().any(events) {
        // There the ClusterRole has it, which in a chart may be bound in other namespaces only.
        election.push(json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}));
    }
    Ok([namespaced, cluster, election])
}

fn rules_of(role: &Value) -> Result<Vec<Value>> {
    let rules = role["rules"].as_array().context("a role has no rules")?;
    ensure!(!rules.is_empty(), "a role has no rules");
    Ok(rules.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(kind: &str, groups: &[&str]) -> Value {
        let rule = |group: &&str| json!({"apiGroups": [group], "resources": ["things"], "verbs": ["get"]});
        json!({"kind": kind, "rules": groups.iter().map(rule).collect::<Vec<_>>()})
    }

    #[test]
    fn of_components_what_is_no_namespaces_stands_by_itself() {
        let documents = [
            role("Role", &["coordination.k8s.io"]),
            role("ClusterRole", &["a", CLUSTER_WIDE[0], "b", CLUSTER_WIDE[1]]),
        ];
        let [namespaced, cluster, election] = of_components(&documents).unwrap();
        let groups = |rules: &[Value]| {
            let mut all: Vec<_> = rules.iter().map(|rule| rule["apiGroups"][0].clone()).collect();
            all.sort_by_key(ToString::to_string);
            all
        };
        assert_eq!(groups(&namespaced), ["a", "b"]);
        assert_eq!(groups(&cluster), CLUSTER_WIDE);
        assert_eq!(groups(&election), ["coordination.k8s.io", "events.k8s.io"]);
    }

    #[test]
    fn a_table_without_its_three_roles_is_refused() {
        let two = [role("ClusterRole", &["a"]), role("ClusterRole", &["b"])];
        assert!(of_table(&two).is_err());
        let empty = [
            role("ClusterRole", &["a"]),
            role("ClusterRole", &[]),
            role("Role", &["b"]),
        ];
        assert!(of_table(&empty).is_err());
    }
}
