//! Cluster API's part, played by the test: its kinds without their rules, and the two objects that it would keep.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

/// How long anything may take on a machine that is slow and busy.
pub const DEADLINE: Duration = Duration::from_mins(4);

/// Cluster and Machine, with any content.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let define = |kind: &str| {
        let singular = kind.to_lowercase();
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{singular}s.cluster.x-k8s.io")},
            "spec": {
                "group": "cluster.x-k8s.io",
                "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular},
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1beta2", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
                    "subresources": {"status": {}},
                }],
            },
        }))
        .unwrap()
    };
    ["Cluster", "Machine"].map(define).into()
}

/// Objects of any kind in the namespace of a test.
#[derive(Clone)]
pub struct Objects {
    pub client: Client,
    pub namespace: String,
}

impl Objects {
    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let group = if kind.starts_with("Docker") {
            docker_api::GROUP
        } else {
            "cluster.x-k8s.io"
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1beta2", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub async fn get(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        Ok(self
            .api(kind)
            .get_opt(name)
            .await?
            .map(serde_json::to_value)
            .transpose()?)
    }

    /// Waits until an object is as `holds` says; returns it.
    pub async fn wait(&self, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let wait = async {
            loop {
                last = self.get(kind, name).await?.unwrap_or_default();
                if holds(&last) {
                    return Ok(last.clone());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.with_context(|| format!("{kind} {name} stays {last:#}"))?
    }

    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        match self
            .api(kind)
            .delete(name, &kube::api::DeleteParams::default())
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => Ok(other.map(|_| ())?),
        }
    }

    pub async fn status(&self, kind: &str, name: &str, status: Value) -> Result<()> {
        let patch = json!({"status": status});
        self.api(kind)
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Merges `patch` into an object.
    pub async fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Puts other bootstrap data into the machines' Secret.
    pub async fn set_data(&self, data: &Value) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = json!({"data": null, "stringData": data});
        secrets
            .patch("data", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    pub async fn create(&self, kind: &str, name: &str, owner: Option<&Value>, spec: Value) -> Result<Value> {
        let owners = owner.map(|owner| {
            json!([{"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"], "controller": true}])
        });
        let mut labels = json!({"cluster.x-k8s.io/cluster-name": "c1"});
        if name.starts_with("control-plane") {
            labels["cluster.x-k8s.io/control-plane"] = json!("");
        }
        let api = self.api(kind);
        let group = if kind.starts_with("Docker") {
            docker_api::GROUP
        } else {
            "cluster.x-k8s.io"
        };
        let object = json!({
            "apiVersion": format!("{group}/v1beta2"),
            "kind": kind,
            "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
            "spec": spec,
        });
        let made = api
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await;
        Ok(serde_json::to_value(
            made.with_context(|| format!("create {kind} {name}"))?,
        )?)
    }

    /// A Cluster with its DockerCluster, and the named machines with bootstrap data.
    pub async fn cluster(&self, machines: &[&str]) -> Result<()> {
        let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerCluster", "name": "c1"});
        let spec = json!({"infrastructureRef": reference});
        let cluster = self.create("Cluster", "c1", None, spec).await?;
        self.create("DockerCluster", "c1", Some(&cluster), json!({}))
            .await?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = json!({"metadata": {"name": "data"}, "stringData": {"value": "#cloud-config\nruncmd: [kubeadm init]"}});
        secrets
            .create(&PostParams::default(), &serde_json::from_value(secret)?)
            .await?;
        for name in machines {
            self.machine(name).await?;
        }
        Ok(())
    }

    /// A Machine of the cluster with its DockerMachine.
    pub async fn machine(&self, name: &str) -> Result<()> {
        let reference = json!({"apiGroup": docker_api::GROUP, "kind": "DockerMachine", "name": name});
        let spec = json!({
            "clusterName": "c1", "version": "v1.34.4", "bootstrap": {"dataSecretName": "data"},
            "infrastructureRef": reference,
        });
        let machine = self.create("Machine", name, None, spec).await?;
        self.create("DockerMachine", name, Some(&machine), json!({}))
            .await?;
        Ok(())
    }
}

/// Whether `object` has this condition with this status.
pub fn is(object: &Value, type_: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == type_ && condition["status"] == status)
}

/// The reason of a condition.
pub fn reason<'a>(object: &'a Value, type_: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_)?["reason"]
        .as_str()
}

/// The message of a condition.
pub fn message_of<'a>(object: &'a Value, type_: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)?["message"].as_str()
}
