//! The kind that is reconciled: as large as kinds usually are.

use std::collections::BTreeMap;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The finalizer of every gadget.
pub(crate) const FINALIZER: &str = "bench.example.com/finalizer";
/// The plural, as the audit log has it.
pub(crate) const PLURAL: &str = "gadgets";
/// The CRD's name.
pub(crate) const CRD: &str = "gadgets.bench.example.com";

#[derive(CustomResource, Serialize, Deserialize, Clone, Debug)]
#[kube(group = "bench.example.com", version = "v1", kind = "Gadget", namespaced)]
#[kube(status = "GadgetStatus", schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub(crate) struct GadgetSpec {
    pub(crate) replicas: i32,
    pub(crate) version: String,
    pub(crate) storage_class: String,
    pub(crate) parameters: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GadgetStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) endpoint: Option<String>,
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}

/// The name of the `number`-th gadget.
pub(crate) fn name(number: usize) -> String {
    format!("gadget-{number:05}")
}

/// The `number`-th gadget, as a user would write it.
pub(crate) fn gadget(number: usize) -> Gadget {
    let parameter = |n: usize| {
        (
            format!("innodb_parameter_{n}"),
            format!("value-{n}-of-gadget-{number}"),
        )
    };
    let spec = GadgetSpec {
        replicas: 3,
        version: "8.4.3".to_owned(),
        storage_class: "fast-and-replicated".to_owned(),
        parameters: (0..8).map(parameter).collect(),
    };
    let mut gadget = Gadget::new(&name(number), spec);
    let labels = [
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/part-of",
    ];
    gadget.metadata.labels = Some(labels.map(|label| (label.to_owned(), name(number))).into());
    gadget
}

/// Its definition.
pub(crate) fn crd() -> CustomResourceDefinition {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD},
        "spec": {
            "group": "bench.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Gadget", "plural": PLURAL, "singular": "gadget", "listKind": "GadgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": schema,
            }],
        },
    });
    #[expect(clippy::expect_used, reason = "a constant of this file")]
    serde_json::from_value(definition).expect("the definition is well formed")
}
