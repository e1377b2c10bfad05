//! One process of the operator, and what a test does to it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use testkit::{
    audit::{Event, Filter},
    control_plane::ControlPlane,
    process::{ProcessError, Supervised, free_address, tail},
};

use crate::bed::{Bed, eventually};

/// A running `dynamoctl manager`. It is killed when dropped.
pub struct Replica {
    process: Supervised,
    /// The user that it is to the API server.
    pub user: String,
    pub probes: SocketAddr,
    pub metrics: SocketAddr,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

/// How a replica is started.
#[derive(Clone, Debug, Default)]
pub struct Start<'a> {
    /// The user that it acts as, apart from other replicas.
    pub user: &'a str,
    /// Further flags.
    pub flags: Vec<String>,
    /// Where to listen, instead of free ports.
    pub probes: Option<SocketAddr>,
    /// Where to find Kubernetes, instead of the API server; who listens there acts for the replica's user.
    pub kubernetes: Option<String>,
}

/// The flags of a replica among several, in this namespace.
pub fn elected(namespace: &str) -> Vec<String> {
    vec![
        "--leader-elect".to_owned(),
        "--leader-elect-preset=fast".to_owned(),
        format!("--leader-election-namespace={namespace}"),
    ]
}

impl Replica {
    /// Starts one for the bed's namespace.
    pub fn start(bed: &Bed, start: Start<'_>) -> Self {
        Self::of(bed.plane, bed.namespace.name(), &bed.endpoint(), start)
    }

    pub fn of(plane: &ControlPlane, namespace: &str, endpoint: &str, start: Start<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let user = if start.user.is_empty() {
            "operator"
        } else {
            start.user
        };
        fs::write(&kubeconfig, acting_as(plane, user, start.kubernetes.as_deref())).unwrap();
        let (probes, metrics) = (
            start.probes.unwrap_or_else(|| free_address().unwrap()),
            free_address().unwrap(),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynamoctl"));
        command
            .arg("manager")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--namespace={namespace}"))
            .arg(format!("--allowed-endpoints={endpoint}"))
            .arg(format!("--health-probe-bind-address={probes}"))
            .arg(format!("--metrics-bind-address={metrics}"))
            .args(start.flags)
            // The operator's own identity.
            .env("AWS_ACCESS_KEY_ID", "OPERATORSOWN")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        let log = folder.path().join("log");
        let process = Supervised::spawn("dynamoctl", &command, &log).unwrap();
        Self {
            process,
            user: user.to_owned(),
            probes,
            metrics,
            log,
            _folder: folder,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal by its name to the program alone.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.process.id(), name), "{}", self.log());
    }

    /// Waits until it has ended, and returns whether it said that all is well.
    pub async fn ended(&mut self) -> bool {
        eventually("it still runs", async || match self.process.check() {
            Err(ProcessError::Ended { status, .. }) => Ok(status.success()),
            Err(other) => Err(other.to_string()),
            Ok(()) => Err(tail(&self.log, 5)),
        })
        .await
    }

    /// What it asked of Kubernetes that changes something and was granted, leases included.
    pub async fn writes(&self, bed: &Bed) -> Vec<Event> {
        let theirs = Filter::writes()
            .username(&self.user)
            .namespace(bed.namespace.name())
            .successes();
        let (client, audit) = (bed.plane.client(), bed.plane.audit());
        audit.query(&client, bed.begin, &theirs).await.unwrap()
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        tail(&self.log, 30)
    }

    /// Waits until it is ready.
    pub async fn until_ready(&self) {
        eventually("it is not ready", async || match get(self.probes, "/readyz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        })
        .await;
    }
}

/// Waits until somebody holds the lease in the bed's namespace.
pub async fn until_led(bed: &Bed, candidate: &Replica) {
    let leases: Api<Lease> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    eventually("nobody leads", async || {
        let all = leases.list(&ListParams::default()).await.unwrap().items;
        let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let held = all.iter().filter_map(holder).any(|holder| !holder.is_empty());
        if held { Ok(()) } else { Err(candidate.log()) }
    })
    .await;
}

/// Sends a signal by its name to one process; says whether that worked.
pub fn signal(id: u32, name: &str) -> bool {
    let sent = Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .status();
    sent.is_ok_and(|status| status.success())
}

/// The kubeconfig of the administrator, acting for another user who may do the same; at another address, nobody's.
fn acting_as(plane: &ControlPlane, user: &str, address: Option<&str>) -> String {
    let text = fs::read_to_string(plane.kubeconfig_path()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    if let Some(address) = address {
        config["clusters"][0]["cluster"] = json!({ "server": address });
        config["users"][0]["user"] = json!({});
        return config.to_string();
    }
    config["users"][0]["user"]["as"] = json!(user);
    config["users"][0]["user"]["as-groups"] = json!(["system:masters"]);
    config.to_string()
}

/// Status and body of a GET, or nothing if nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
