//! Kubeconfigs that hold everything inline, so that the file may be copied and handed to any process.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde_json::json;

use super::Pair;

/// The kubeconfig of one user of one server. JSON, which is YAML too.
pub(super) fn render(server: &str, authority: &str, user: &Pair) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "test-bed",
            "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(authority) },
        }],
        "users": [{
            "name": "test-bed",
            "user": {
                "client-certificate-data": STANDARD.encode(&user.certificate),
                "client-key-data": STANDARD.encode(&user.key),
            },
        }],
        "contexts": [{ "name": "test-bed", "context": { "cluster": "test-bed", "user": "test-bed" } }],
        "current-context": "test-bed",
    });
    format!("{config:#}\n")
}

/// Reads a kubeconfig's current context.
pub(super) async fn read(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}
