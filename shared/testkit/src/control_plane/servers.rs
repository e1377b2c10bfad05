//! The command lines of a control plane's three processes.

use std::{path::Path, process::Command};

/// The loopback ports of one control plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) peers: u16,
    pub(super) apiserver: u16,
}

/// Everything is logged at the level of metadata, once per request, when it is answered.
pub(super) const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;

/// Collect garbage when the heap has grown fivefold, not twofold: a sixth less of the processor for some hundred megabytes,
/// where servers and tests share two cores.
const GARBAGE: (&str, &str) = ("GOGC", "400");

/// A store that does not survive a power failure, which no test needs: a write costs no disk flush.
pub(super) fn etcd(program: &Path, folder: &Path, ports: Ports) -> Command {
    let url = format!("http://127.0.0.1:{}", ports.etcd);
    let mut command = Command::new(program);
    command
        .args([
            "--unsafe-no-fsync",
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", ports.peers)])
        .args(["--quota-backend-bytes", "8589934592", "--log-level", "warn"])
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .env(GARBAGE.0, GARBAGE.1);
    command
}

/// An API server with RBAC, the default admission plugins and an audit log written before each answer is complete.
pub(super) fn apiserver(program: &Path, folder: &Path, ports: Ports, extra: &[String]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
        .args(["--etcd-servers", &format!("http://127.0.0.1:{}", ports.etcd)])
        .args(["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"])
        .args(["--secure-port", &ports.apiserver.to_string(), "--cert-dir", "pki"])
        .args([
            "--tls-cert-file",
            "pki/apiserver.crt",
            "--tls-private-key-file",
            "pki/apiserver.key",
        ])
        .args(["--client-ca-file", "pki/ca.crt"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--service-account-key-file", "pki/sa.pub"])
        .args(["--service-account-signing-key-file", "pki/sa.key"])
        .args(["--service-cluster-ip-range", "10.0.0.0/16", "--allow-privileged"])
        .args([
            "--authorization-mode",
            "RBAC",
            "--endpoint-reconciler-type",
            "none",
        ])
        .args([
            "--audit-policy-file",
            "audit-policy.json",
            "--audit-log-path",
            "audit.log",
        ])
        .args(["--audit-log-format", "json", "--audit-log-mode", "blocking"])
        // In megabytes: never rotate, the reader follows one file.
        .args(["--audit-log-maxsize", "1000000"])
        .args(extra)
        .env(GARBAGE.0, GARBAGE.1);
    command
}

/// The controllers that work without nodes: garbage collection, namespaces, jobs, service accounts, volumes.
pub(super) fn controller_manager(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .args(["--kubeconfig", "controller-manager.kubeconfig"])
        .args([
            "--service-account-private-key-file",
            "pki/sa.key",
            "--root-ca-file",
            "pki/ca.crt",
        ])
        .args(["--leader-elect=false", "--controllers=*,-nodeipam"])
        .args(["--kube-api-qps", "500", "--kube-api-burst", "1000"])
        // What a volume and its claim did not come to at once is looked at again every second, not every fifteen.
        .args(["--pvclaimbinder-sync-period", "1s"])
        // Certificates and health are served to nobody.
        .args(["--secure-port", "0"])
        .env(GARBAGE.0, GARBAGE.1);
    command
}
