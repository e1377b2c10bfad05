//! Another tenant of the cluster, whom the operator does not serve.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Installation;

/// What every operator's account may do in any namespace: ask about itself, find the definitions, and see who else leads.
const HARMLESS: [&str; 5] = [
    "customresourcedefinitions.apiextensions.k8s.io get",
    "leases.coordination.k8s.io list",
    "selfsubjectaccessreviews.authorization.k8s.io create",
    "selfsubjectreviews.authentication.k8s.io create",
    "selfsubjectrulesreviews.authorization.k8s.io create",
];
/// A Secret of the neighbour's.
const SECRET: &str = "private";

impl Installation {
    fn neighbour(&self) -> String {
        format!("{}-neighbour", self.name)
    }

    /// Makes the namespace of another tenant, whom the operator does not serve, with a Secret; its name.
    pub async fn add_neighbour(&self) -> Result<String> {
        let name = self.neighbour();
        let metadata = json!({"name": SECRET, "namespace": name});
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}),
        ] {
            let create = ["create", "--filename=-"];
            self.cluster.kubectl(&create, &object.to_string()).await?;
        }
        Ok(name)
    }

    /// The operator has touched none of the neighbour's objects, of which there are some, and may do nothing there but
    /// what every operator may and what [`Plan::everywhere`](super::Plan::everywhere) has.
    pub async fn spares_its_neighbour(&self) -> Result<()> {
        let name = self.neighbour();
        let kubectl = async |arguments: &[&str]| {
            let whole = [&["--namespace", &name], arguments].concat();
            self.cluster.kubectl(&whole, "").await
        };
        let objects = kubectl(&["get", self.plan.kinds, "--output=json"]).await?;
        let objects: Value = serde_json::from_str(&objects)?;
        let objects = objects["items"].as_array().context("no list")?;
        ensure!(!objects.is_empty(), "the neighbour has no {}", self.plan.kinds);
        for object in objects {
            let untouched = object["status"].is_null() && object["metadata"]["finalizers"].is_null();
            ensure!(untouched, "the neighbour's object was touched: {object}");
        }
        let account = format!(
            "--as=system:serviceaccount:{}:{}-controller-manager",
            self.name, self.name
        );
        let rights = kubectl(&["auth", "can-i", "--list", "--no-headers", &account]).await?;
        let rights: BTreeSet<_> = rights.lines().filter_map(right).collect();
        let harmless = HARMLESS.iter().chain(self.plan.everywhere);
        let expected = harmless.map(|right| (*right).to_owned()).collect();
        ensure!(
            rights == expected,
            "in another tenant's namespace it may {rights:#?}, not {expected:#?}"
        );
        let refused = kubectl(&["get", "secret", SECRET, &account]).await;
        ensure!(
            refused
                .as_ref()
                .is_err_and(|why| why.to_string().contains("orbidden")),
            "it may read the neighbour's Secret: {refused:?}"
        );
        Ok(())
    }
}

/// Resource and verbs of a line of `kubectl auth can-i --list`; nothing for paths outside the resources.
fn right(line: &str) -> Option<String> {
    let resource = line
        .split_whitespace()
        .next()
        .filter(|word| !word.starts_with('['))?;
    let (_, verbs) = line.trim_end().strip_suffix(']')?.rsplit_once('[')?;
    Some(format!("{resource} {verbs}"))
}

#[cfg(test)]
mod tests {
    use super::right;

    #[test]
    fn a_right_is_its_resource_and_its_verbs() {
        let line = "persistentvolumes     []    []    [get create]  ";
        assert_eq!(right(line).as_deref(), Some("persistentvolumes get create"));
        let named = "customresourcedefinitions.apiextensions.k8s.io  []  [a.b c.d]  [get]";
        assert_eq!(
            right(named).as_deref(),
            Some("customresourcedefinitions.apiextensions.k8s.io get")
        );
        assert_eq!(right("      [/healthz]   []   [get]"), None);
    }
}
