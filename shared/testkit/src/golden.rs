//! What a release leaves, kept as files beside the tests: `<version>.json`, one for each release, which later ones are held
//! to. A release writes its own when the variable `GOLDEN` names its version (`GOLDEN=v0.1.0`).
//!
//! Objects are put back into etcd as they were ([`Upgrade`]), UIDs included, since what one object says of another is by UID.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, TypeMeta},
    core::GroupVersionKind,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    audit::{Filter, Position},
    control_plane::{ControlPlane, Options},
};

/// Writes what this release leaves into `folder`, if that is asked for.
pub fn record(folder: &Path, left: &impl Serialize) -> Result<()> {
    let Ok(version) = std::env::var("GOLDEN") else {
        return Ok(());
    };
    let path = folder.join(format!("{version}.json"));
    let text = serde_json::to_string_pretty(left)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What each release has left in `folder`, by the name of its file; an error if there is none.
pub fn releases<T: DeserializeOwned>(folder: &Path) -> Result<Vec<(String, T)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let left = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        found.push((path.display().to_string(), left));
    }
    ensure!(
        !found.is_empty(),
        "there is nothing to upgrade from in {}",
        folder.display()
    );
    Ok(found)
}

/// What an API server makes in each namespace by itself.
const NOT_OURS: &str = "kube-root-ca.crt";

/// Every object of these kinds (`apiVersion` and `kind`) in a namespace, after the namespace itself.
pub async fn objects(client: &Client, namespace: &str, kinds: &[(&str, &str)]) -> Result<Vec<Value>> {
    let own = api(client, None, "v1", "Namespace")?.get(namespace).await?;
    let mut all = vec![whole("v1", "Namespace", &own)?];
    for (version, kind) in kinds {
        let listed = api(client, Some(namespace), version, kind)?
            .list(&ListParams::default())
            .await
            .with_context(|| format!("cannot list {kind}"))?;
        let ours = listed.iter().filter(|object| object.name_any() != NOT_OURS);
        for object in ours {
            all.push(whole(version, kind, object)?);
        }
    }
    Ok(all)
}

/// With its kind, which an entry of a list has not.
fn whole(version: &str, kind: &str, object: &DynamicObject) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = json!(version);
    value["kind"] = json!(kind);
    Ok(value)
}

fn resource(version: &str, kind: &str) -> Result<ApiResource> {
    let types = TypeMeta {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
    };
    Ok(ApiResource::from_gvk(&GroupVersionKind::try_from(types)?))
}

fn api(client: &Client, namespace: Option<&str>, version: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let resource = resource(version, kind)?;
    Ok(match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A control plane in which the objects of a release are. It runs no controllers: nothing but an operator changes anything.
#[derive(Debug)]
pub struct Upgrade {
    /// The control plane.
    pub plane: ControlPlane,
    /// Where its audit log ended before any operator was started.
    pub begin: Position,
    objects: Vec<Value>,
    before: BTreeMap<String, String>,
}

impl Upgrade {
    /// With these definitions, and the objects as [`objects`] has found them.
    pub async fn begin(definitions: &[CustomResourceDefinition], objects: &[Value]) -> Result<Self> {
        reconcile::cli::install_crypto_provider();
        let plane = ControlPlane::start(Options {
            without_controllers: true,
            ..Options::default()
        })
        .await?;
        plane.apply_crds(definitions).await?;
        let address = etcd(&plane)?;
        for object in objects {
            store(&address, object)?;
        }
        let before = versions(&plane.client(), objects).await?;
        let begin = plane.audit().settle(&plane.client()).await?;
        Ok(Self {
            plane,
            begin,
            objects: objects.to_vec(),
            before,
        })
    }

    /// The namespace of the objects.
    pub fn namespace(&self) -> &str {
        self.objects
            .first()
            .map_or("", |namespace| text(namespace, "/metadata/name"))
    }

    /// Fails if the operator with this user agent has written anything: its lease and its events do not count.
    pub async fn untouched(&self, operator: &str) -> Result<()> {
        let client = self.plane.client();
        let writes = Filter::writes().user_agent(operator);
        let mut written = self.plane.audit().query(&client, self.begin, &writes).await?;
        written.retain(|event| {
            let resource = event.object_ref.as_ref().map(|object| object.resource.as_str());
            resource != Some("events")
        });
        ensure!(written.is_empty(), "{operator} has written: {written:#?}");
        let after = versions(&client, &self.objects).await?;
        ensure!(after == self.before, "{after:#?} were {:#?}", self.before);
        Ok(())
    }
}

/// The version of each of these objects, by kind and name; leases apart, which an operator renews.
async fn versions(client: &Client, objects: &[Value]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for object in objects.iter().filter(|object| object["kind"] != "Lease") {
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let what = format!("{kind} {name}");
        let there = api(client, namespace, text(object, "/apiVersion"), kind)?
            .get(name)
            .await
            .with_context(|| format!("{what} is not there"))?;
        found.insert(what, there.resource_version().unwrap_or_default());
    }
    Ok(found)
}

/// Where an API server stores an object: the kinds of its own groups by their plural alone.
fn key(object: &Value) -> Result<String> {
    let resource = resource(text(object, "/apiVersion"), text(object, "/kind"))?;
    let builtin = !resource.group.contains('.') || resource.group.ends_with(".k8s.io");
    let folder = match resource.plural.as_str() {
        "services" => "services/specs".to_owned(),
        plural if builtin => plural.to_owned(),
        plural => format!("{}/{plural}", resource.group),
    };
    let path = [
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name"),
    ];
    let path: Vec<_> = path.into_iter().filter(|part| !part.is_empty()).collect();
    Ok(format!("/registry/{folder}/{}", path.join("/")))
}

/// The address of a control plane's etcd.
fn etcd(plane: &ControlPlane) -> Result<String> {
    let process = plane.process_ids().first().copied();
    let process = process.context("the control plane is somebody else's")?;
    let arguments = fs::read_to_string(format!("/proc/{process}/cmdline"))?;
    let mut words = arguments
        .split('\0')
        .skip_while(|word| *word != "--listen-client-urls");
    let address = words.nth(1).context("etcd has no address for clients")?;
    Ok(address.trim_start_matches("http://").to_owned())
}

/// Stores an object as if the API server had.
fn store(etcd: &str, object: &Value) -> Result<()> {
    let mut stored = object.clone();
    if let Some(metadata) = stored["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let encode = |text: String| BASE64_STANDARD.encode(text);
    let body = json!({"key": encode(key(object)?), "value": encode(stored.to_string())}).to_string();
    let mut stream = TcpStream::connect(etcd)?;
    write!(
        stream,
        "POST /v3/kv/put HTTP/1.1\r\nHost: {etcd}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "etcd says {answer}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_stored_where_an_api_server_looks_for_them() {
        let object = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "n", "name": "x"}});
        for (version, kind, expected) in [
            ("v1", "Secret", "/registry/secrets/n/x"),
            ("v1", "Service", "/registry/services/specs/n/x"),
            ("coordination.k8s.io/v1", "Lease", "/registry/leases/n/x"),
            ("otus.homework/v1", "MySQL", "/registry/otus.homework/mysqls/n/x"),
            (
                "cluster.x-k8s.io/v1beta2",
                "Cluster",
                "/registry/cluster.x-k8s.io/clusters/n/x",
            ),
        ] {
            assert_eq!(key(&object(version, kind)).unwrap(), expected);
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        assert_eq!(key(&namespace).unwrap(), "/registry/namespaces/n");
    }
}
