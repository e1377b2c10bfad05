//! The shipped program and where its Docker is: behind TLS with certificates of either side, behind a socket that it may
//! not open, nowhere.
//!
//! Docker is a stand-in that speaks its API; Kubernetes is real.
#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "modules of a test are not a crate's surface, and are shared with others"
)]

#[path = "../../examples/bench_docker/daemon.rs"]
mod daemon;
#[path = "../faults/objects.rs"]
mod objects;
mod restarted;
mod tls;

use std::{
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use daemon::Daemon;
use objects::{Objects, definitions, is, message_of, reason};
use serde_json::{Value, json};
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    process::{ScratchFolder, Supervised, tail},
};
use tls::Certificates;

const LIMIT: Duration = Duration::from_mins(4);
/// Somebody who is neither root nor whoever runs the tests.
const STRANGER: u32 = 65_534;

/// A namespace with a cluster of one worker, and a folder for what a test needs.
struct Bed {
    plane: &'static ControlPlane,
    namespace: TestNamespace,
    objects: Objects,
    folder: ScratchFolder,
}

impl Bed {
    async fn make() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        plane.apply_crds(&definitions()).await.unwrap();
        plane.apply_crds(&docker_api::crds()).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let objects = Objects {
            client: plane.client(),
            namespace: namespace.name().to_owned(),
        };
        objects.cluster(&["worker"]).await.unwrap();
        let folder = ScratchFolder::create("capdkc-host").unwrap();
        Self {
            plane,
            namespace,
            objects,
            folder,
        }
    }

    /// Starts the program with its Docker at `host`; `wrapper` is what it is started by.
    fn start(&self, wrapper: &[&str], host: &str, environment: &[(&str, &Path)]) -> Supervised {
        let program = env!("CARGO_BIN_EXE_capdkc");
        let mut words = wrapper.iter().copied().chain([program]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig_path())
            .args(["--namespace", self.namespace.name(), "--docker-host", host])
            .args(["--network", "nodes"])
            .args(["--metrics-bind-address", "0", "--health-probe-bind-address", "0"])
            .env_remove("DOCKER_TLS_VERIFY")
            .envs(environment.iter().copied());
        Supervised::spawn("capdkc", &command, &self.log()).unwrap()
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    async fn wait(&self, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let object = self.objects.get(kind, name).await.unwrap().unwrap_or_default();
            if holds(&object) {
                return object;
            }
            assert!(
                Instant::now() < deadline,
                "{kind} {name} stays {object:#}\n{}",
                tail(&self.log(), 20)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the DockerCluster says of a Docker that cannot be used.
    async fn complaint(&self) -> String {
        let unavailable = |object: &Value| reason(object, "Ready") == Some("DockerUnavailable");
        let object = self.wait("DockerCluster", "c1", unavailable).await;
        message_of(&object, "LoadBalancerAvailable").unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_machine_is_made_by_whom_the_daemon_knows_and_by_nobody_else() {
    reconcile::cli::install_crypto_provider();
    let bed = Bed::make().await;
    let certificates = Certificates::make();
    let (docker, address) = Daemon::start().await.unwrap();
    let guarded = tls::guard(address, &certificates).await;
    let host = format!("tcp://{guarded}");
    let environment = |folder: &'static str| {
        let folder = bed.folder.path().join(folder);
        certificates.write(&folder, folder.ends_with("stranger"));
        folder
    };
    let (ours, strangers) = (environment("ours"), environment("stranger"));
    let verify = Path::new("1");

    let with_strangers = [
        ("DOCKER_TLS_VERIFY", verify),
        ("DOCKER_CERT_PATH", strangers.as_path()),
    ];
    let refused = bed.start(&[], &host, &with_strangers);
    let said = bed.complaint().await;
    assert!(
        said.contains("connect to the daemon at tcp://127.0.0.1"),
        "{said}"
    );
    assert!(docker.take_counts().is_empty(), "a stranger reached the daemon");
    drop(refused);

    let with_ours = [
        ("DOCKER_TLS_VERIFY", verify),
        ("DOCKER_CERT_PATH", ours.as_path()),
    ];
    let _running = bed.start(&[], &host, &with_ours);
    bed.wait("DockerCluster", "c1", |object| is(object, "Ready", "True"))
        .await;
    let status = json!({"initialization": {"infrastructureProvisioned": true}});
    bed.objects.status("Cluster", "c1", status).await.unwrap();
    bed.wait("DockerMachine", "worker", |object| is(object, "Ready", "True"))
        .await;
    assert_eq!(docker.len(), 2, "the load balancer and the worker");
    let bootstraps = docker.take_counts().remove("POST exec/start");
    assert!(
        bootstraps.is_some_and(|count| count >= 2),
        "streams go through TLS as well"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_there_is_told_with_its_path() {
    let bed = Bed::make().await;
    let socket = bed.folder.path().join("none.sock");
    let _running = bed.start(&[], &format!("unix://{}", socket.display()), &[]);
    let said = bed.complaint().await;
    assert!(
        said.contains("none.sock") && said.contains("is Docker installed"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_may_not_be_opened_is_told_with_what_to_do() {
    let bed = Bed::make().await;
    let socket = bed.folder.path().join("closed.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root opens whatever it likes, unless it has put that right away and the socket is somebody else's.
    let is_root = std::os::unix::fs::chown(&socket, Some(STRANGER), Some(STRANGER)).is_ok();
    let wrapper: &[&str] = if is_root {
        &["setpriv", "--bounding-set=-dac_override"]
    } else {
        &[]
    };
    let _running = bed.start(wrapper, &format!("unix://{}", socket.display()), &[]);
    let said = bed.complaint().await;
    assert!(said.contains("may not be opened by this user"), "{said}");
}
