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

/// `templates/_rules.tpl`: the rules, those of `optional` resources where their value is true, and the kinds of
/// `definitions` with those that can be scaled, by group.
pub(super) fn template(
    source: &Source,
    optional: &[(&str, &str)],
    definitions: &[CustomResourceDefinition],
) -> Result<String> {
    let mut text = format!("{{{{/*\n{ORIGIN}\n*/}}}}\n");
    let rules = source.rules()?;
    for (resource, value) in optional {
        ensure!(
            rules.iter().flatten().any(|rule| is_about(rule, resource)),
            "no rule is about {resource} alone, which {value} is to grant"
        );
    }
    for (name, rules) in NAMES.iter().zip(&rules) {
        define(&mut text, name, written(rules, optional)?.trim_end());
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

/// The rules as YAML, those of optional resources in a condition.
fn written(rules: &[Value], optional: &[(&str, &str)]) -> Result<String> {
    let value_of = |rule: &Value| {
        let mut values = optional.iter().filter(|(resource, _)| is_about(rule, resource));
        values.next().map(|(_, value)| *value)
    };
    let mut text = String::new();
    for rule in rules {
        let yaml = serde_saphyr::to_string(&[rule]).context("cannot write rules as YAML")?;
        let yaml = yaml.trim_end();
        // Writing to a String cannot fail.
        let _ = match value_of(rule) {
            Some(value) => writeln!(text, "{{{{- if .Values.{value} }}}}\n{yaml}\n{{{{- end }}}}"),
            None => writeln!(text, "{yaml}"),
        };
    }
    Ok(text)
}

fn is_about(rule: &Value, resource: &str) -> bool {
    rule["resources"] == json!([resource])
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

    #[test]
    fn rules_of_optional_resources_stand_in_a_condition() {
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let text = written(&[rule("pods"), rule("nodes")], &[("nodes", "folders.enabled")]).unwrap();
        let (always, optional) = text.split_once("\n{{- if .Values.folders.enabled }}\n").unwrap();
        assert!(always.contains("pods") && !always.contains("nodes"), "{text}");
        assert!(
            optional.contains("nodes") && optional.ends_with("\n{{- end }}\n"),
            "{text}"
        );
    }
}
