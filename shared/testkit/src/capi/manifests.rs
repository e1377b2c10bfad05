//! Cluster API's manifests, out of its Go module and fitted to processes on loopback.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::Command;

use super::output;

/// What needs pods, or is replaced by certificates of our own.
const LEFT_OUT: [&str; 4] = ["Deployment", "Service", "Certificate", "Issuer"];

/// Where the source of the Go module `path` is, in the version that `tools/<name>` pins; downloads it if need be.
///
/// # Errors
/// There is no Go compiler, or it cannot have the module.
pub async fn module(name: &str, path: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tools")).join(name);
    let mut download = Command::new("go");
    download.args(["mod", "download", path]).current_dir(&folder);
    output(download).await?;
    let mut list = Command::new("go");
    list.args(["list", "-m", "-f", "{{.Dir}}", path])
        .current_dir(&folder);
    let path = String::from_utf8(output(list).await?).context("go printed something else than a path")?;
    Ok(PathBuf::from(path.trim()))
}

/// Writes `tls.crt` and `tls.key` for webhooks on loopback; returns the certificate.
pub(super) fn write_certificate(folder: &Path) -> anyhow::Result<String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    std::fs::write(folder.join("tls.crt"), made.cert.pem())?;
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem())?;
    Ok(made.cert.pem())
}

/// A Cluster whose infrastructure is the DockerCluster of its name.
pub fn docker_backed(name: &str) -> Value {
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {"infrastructureRef": {
            "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DockerCluster", "name": name,
        }},
    })
}

/// The DockerCluster of a Cluster of its name with this UID, owned as Cluster API's manager would see to.
pub fn owned_infrastructure(name: &str, uid: &str) -> Value {
    let owner = json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": name, "uid": uid,
    });
    json!({
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2",
        "kind": "DockerCluster",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {},
    })
}

/// The manifests of one manager.
pub(super) struct Source<'a> {
    pub(super) folder: &'a Path,
    pub(super) kubectl: &'a Path,
    pub(super) scratch: &'a Path,
}

impl Source<'_> {
    /// Renders them for a manager whose webhooks listen on `port`.
    pub(super) async fn render(
        &self,
        name: &str,
        port: u16,
        certificate: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let copy = self.scratch.join(format!("{name}-config"));
        // Module caches are read-only, and kustomize wants everything below one root.
        let mut duplicate = Command::new("cp");
        duplicate
            .arg("-r")
            .arg("--no-preserve=mode")
            .arg(self.folder)
            .arg(&copy);
        output(duplicate).await?;
        let mut kustomize = Command::new(self.kubectl);
        kustomize.arg("kustomize").arg(copy.join("default"));
        let text = String::from_utf8(output(kustomize).await?).context("kustomize printed no text")?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&fill_in(&text)).context("Cluster API's manifests cannot be read")?;
        Ok(documents
            .into_iter()
            .map(|document| on_loopback(document, port, certificate))
            .collect())
    }
}

/// Writes what a manager that is a process needs of its manifests; returns the file.
pub(super) fn without_pods(scratch: &Path, name: &str, documents: Vec<Value>) -> anyhow::Result<PathBuf> {
    let items: Vec<_> = documents
        .into_iter()
        .filter(|document| !LEFT_OUT.iter().any(|kind| document["kind"] == *kind))
        .collect();
    let file = scratch.join(format!("{name}.json"));
    std::fs::write(
        &file,
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
    )?;
    Ok(file)
}

/// What is left where no manager runs: the kinds, in the versions that they are stored in, and the namespace.
pub(super) fn kinds_only(documents: Vec<Value>) -> Vec<Value> {
    let mut kept = Vec::new();
    for mut document in documents {
        if document["kind"] == "CustomResourceDefinition" {
            // Nobody is there to convert anything.
            if let Some(spec) = document["spec"].as_object_mut() {
                spec.remove("conversion");
            }
            kept.push(document);
        } else if document["kind"] == "Namespace" {
            kept.push(document);
        }
    }
    kept
}

/// Applies a file.
pub(super) async fn apply(kubectl: &Path, kubeconfig: &Path, file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig);
    command
        .args(["apply", "--server-side", "--force-conflicts", "-f"])
        .arg(file);
    output(command).await.map(|_| ())
}

/// Waits until the definitions of a file are served.
pub(super) async fn established(kubectl: &Path, kubeconfig: &Path, file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig);
    command
        .args(["wait", "--for=condition=Established", "--timeout=5m", "-f"])
        .arg(file);
    output(command).await.map(|_| ())
}

/// Puts the defaults in place of `${NAME:=default}`.
fn fill_in(text: &str) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}').map(|end| start + end) else {
            break;
        };
        filled.push_str(&rest[..start]);
        let variable = &rest[start + 2..end];
        filled.push_str(variable.split_once(":=").map_or("", |(_, default)| default));
        rest = &rest[end + 1..];
    }
    filled.push_str(rest);
    filled
}

/// The document with its webhooks on loopback.
fn on_loopback(mut document: Value, port: u16, certificate: &str) -> Value {
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    let mut configs: Vec<&mut Value> = Vec::new();
    if kind == "CustomResourceDefinition" {
        configs.extend(document.pointer_mut("/spec/conversion/webhook/clientConfig"));
    } else if kind.ends_with("WebhookConfiguration") {
        let webhooks = document.get_mut("webhooks").and_then(Value::as_array_mut);
        configs.extend(
            webhooks
                .into_iter()
                .flatten()
                .filter_map(|webhook| webhook.get_mut("clientConfig")),
        );
    }
    for config in configs {
        let path = config
            .pointer("/service/path")
            .and_then(Value::as_str)
            .unwrap_or_default();
        *config = json!({
            "url": format!("https://127.0.0.1:{port}{path}"),
            "caBundle": STANDARD.encode(certificate),
        });
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_take_their_defaults() {
        assert_eq!(fill_in("a=${X:=1},b=${Y:=p=q} ${Z}!"), "a=1,b=p=q !");
        assert_eq!(fill_in("no end ${X"), "no end ${X");
    }

    #[test]
    fn without_managers_kinds_are_converted_by_nobody() {
        let documents = vec![
            json!({"kind": "CustomResourceDefinition", "spec": {"group": "g", "conversion": {"strategy": "Webhook"}}}),
            json!({"kind": "Namespace"}),
            json!({"kind": "Deployment"}),
            json!({"kind": "ValidatingWebhookConfiguration"}),
        ];
        let expected = [
            json!({"kind": "CustomResourceDefinition", "spec": {"group": "g"}}),
            json!({"kind": "Namespace"}),
        ];
        assert_eq!(kinds_only(documents), expected);
    }

    #[test]
    fn webhooks_are_reached_on_loopback_and_pods_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let documents = vec![json!({"kind": "Deployment"}), json!({"kind": "Role"})];
        let file = without_pods(folder.path(), "part", documents).unwrap();
        let kept: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(kept["items"], json!([{"kind": "Role"}]));
        let webhook = json!({"kind": "ValidatingWebhookConfiguration",
            "webhooks": [{"clientConfig": {"service": {"name": "s", "path": "/validate"}}}]});
        let moved = on_loopback(webhook, 7, "c");
        assert_eq!(
            moved["webhooks"][0]["clientConfig"],
            json!({"url": "https://127.0.0.1:7/validate", "caBundle": "Yw=="})
        );
    }
}
