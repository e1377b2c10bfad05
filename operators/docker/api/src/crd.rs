//! The CustomResourceDefinitions, complete: versions, contract label, schema corrections.

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionVersion,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::CustomResourceExt as _;
use schemars::{JsonSchema as _, Schema, SchemaGenerator};
use serde_json::Value;

use crate::{DockerCluster, DockerClusterTemplate, DockerMachine, DockerMachineTemplate};

/// The label by which Cluster API finds the versions that keep its contract v1beta2.
pub const CONTRACT_LABEL: &str = "cluster.x-k8s.io/v1beta2";

/// Served beside the stored version: the first published version of these kinds.
const OLDER: &str = "v1alpha1";
/// Known and not served. Storage of clusters that once ran upstream's provider may list it, and the API server
/// refuses a definition that lacks a version which its storage lists.
const RETIRED: &str = "v1beta1";

/// All definitions, in a stable order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        DockerCluster::crd(),
        DockerClusterTemplate::crd(),
        DockerMachine::crd(),
        DockerMachineTemplate::crd(),
    ]
    .into_iter()
    .map(complete)
    .collect()
}

/// clusterctl puts it on what it installs, and moves the objects of those definitions alone that have it. Of a provider that
/// others have installed it would move the Machines without what they run on, which would be removed behind them.
const CLUSTERCTL_LABEL: &str = "clusterctl.cluster.x-k8s.io";

fn complete(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let labels = crd.metadata.labels.get_or_insert_default();
    labels.insert(CONTRACT_LABEL.into(), crate::STORAGE_VERSION.into());
    labels.insert(CLUSTERCTL_LABEL.into(), String::new());
    crd.spec.conversion = Some(CustomResourceConversion {
        strategy: "None".into(),
        ..Default::default()
    });
    let is_template = crd.spec.names.kind.ends_with("Template");
    let Some(stored) = crd.spec.versions.pop().map(|version| tidy(version, is_template)) else {
        return crd;
    };
    let older = CustomResourceDefinitionVersion {
        name: OLDER.into(),
        storage: false,
        ..stored.clone()
    };
    let retired = CustomResourceDefinitionVersion {
        name: RETIRED.into(),
        storage: false,
        served: false,
        deprecated: Some(true),
        ..stored.clone()
    };
    crd.spec.versions = vec![older, retired, stored];
    crd
}

/// The version with a schema in which an optional field is absent or present, never null: the API server then drops
/// a null, and `has(self.x)` in a rule means what it says.
///
/// A template has no rules about changes: what it is made into must not change, but Cluster API tries changes of
/// templates as dry runs to see whether it must make a new one. An admission policy, which can tell those apart, keeps
/// templates as they are.
fn tidy(version: CustomResourceDefinitionVersion, is_template: bool) -> CustomResourceDefinitionVersion {
    let Ok(mut value) = serde_json::to_value(&version) else {
        return version;
    };
    visit(&mut value);
    if is_template {
        forget_changes(&mut value);
    } else {
        open_spec(&mut value);
    }
    serde_json::from_value(value).unwrap_or(version)
}

fn visit(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            let unknown = matches!(fields.get("format"), Some(Value::String(f)) if !["int32", "int64", "date-time"].contains(&f.as_str()));
            if unknown {
                fields.remove("format");
            }
            fields.values_mut().for_each(visit);
        }
        Value::Array(items) => items.iter_mut().for_each(visit),
        _ => {}
    }
}

/// An object without a spec has an empty one, in which every field is open: upstream's manifests leave it out.
fn open_spec(version: &mut Value) {
    let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else {
        return;
    };
    schema["properties"]["spec"]["default"] = Value::Object(serde_json::Map::new());
    // It is all that kube requires of an object.
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
    }
}

/// Drops the rules that compare with what was before.
fn forget_changes(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(rules)) = fields.get_mut("x-kubernetes-validations") {
                rules.retain(|rule| !rule["rule"].as_str().is_some_and(|rule| rule.contains("oldSelf")));
            }
            fields.values_mut().for_each(forget_changes);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_changes),
        _ => {}
    }
}

/// The list of conditions: keyed by type, bounded, every string with the limit that Kubernetes itself gives it.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut item = Condition::json_schema(generator);
    for (field, limit) in [
        ("type", 316),
        ("status", 16),
        ("reason", 1024),
        ("message", 32_768),
    ] {
        if let Some(property) = item
            .pointer_mut(&format!("/properties/{field}"))
            .and_then(Value::as_object_mut)
        {
            property.insert("maxLength".into(), limit.into());
        }
    }
    schemars::json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
