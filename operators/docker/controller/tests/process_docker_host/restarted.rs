//! A real daemon that is killed, or ended in good order, and started again: what has become of the machines.

use std::{collections::BTreeMap, path::Path, time::Instant};

use serde_json::{Value, json};
use testkit::{
    docker::{Docker, own::OwnDaemon},
    image::{Image, Images},
};

use crate::{Bed, LIMIT, is, message_of, reason};

/// What machines are made from: an image that knows what a bootstrap needs, and whose container runtime nobody waits for.
const STAND_IN: &str = "kindest/node:v1.34.4";
const ENTRYPOINT: &str =
    r#"["sh", "-c", "rm -f /usr/bin/containerd; trap exit TERM; sleep infinity & wait"]"#;
/// Counts how often it is run in a machine; goes on and on in the one that is called `slow`.
const DATA: &str = "#cloud-config
runcmd:
- echo begun >> /var/begun
- case $(uname -n) in slow) sleep 600;; esac
";
/// The machines whose bootstrap is over before the daemon is ended.
const WELL: [&str; 2] = ["control-plane", "worker"];

/// Id, state and address of each container, by name.
type Containers = BTreeMap<String, [String; 3]>;

async fn containers(docker: &Docker) -> Containers {
    let ids = docker.run(&["ps", "--all", "--quiet"]).await.unwrap();
    let format = "{{.Name}} {{.Id}} {{.State.Status}} {{.NetworkSettings.Networks.nodes.IPAddress}}";
    let mut inspect = vec!["inspect", "--format", format];
    inspect.extend(ids.lines());
    if ids.is_empty() {
        return Containers::new();
    }
    let shown = docker.run(&inspect).await.unwrap();
    let parts = shown.lines().map(|line| line.trim_start_matches('/').split(' '));
    parts
        .map(|mut parts| {
            let mut next = || parts.next().unwrap_or_default().to_owned();
            (next(), [next(), next(), next()])
        })
        .collect()
}

/// A daemon with what the load balancer and the machines are made from, and nothing else.
async fn daemon() -> (OwnDaemon, String) {
    let daemon = OwnDaemon::start().await.unwrap();
    let images = Images::new(&Docker::connect().await.unwrap());
    let images = images
        .ensure_all(&[Image::Haproxy, Image::Toolbox])
        .await
        .unwrap();
    for image in &images {
        daemon.load(image).await.unwrap();
    }
    let dockerfile = format!("FROM {}\nENTRYPOINT {ENTRYPOINT}\n", images[1]);
    let build = ["build", "--quiet", "--tag", STAND_IN, "-"];
    let built = daemon.docker().run_with(&build, dockerfile.as_bytes()).await;
    built.unwrap();
    (daemon, images[0].clone())
}

impl Bed {
    /// Waits until every object is as it should be, the one whose bootstrap was cut off included.
    async fn is_whole(&self, slow: impl Fn(&Value) -> bool) {
        let ready = |object: &Value| is(object, "Ready", "True");
        self.wait("DockerCluster", "c1", ready).await;
        for machine in WELL {
            self.wait("DockerMachine", machine, ready).await;
        }
        self.wait("DockerMachine", "slow", slow).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_a_daemon_that_is_killed_or_ended_brings_back_what_it_had_and_nothing_is_made_twice() {
    reconcile::cli::install_crypto_provider();
    let (mut daemon, balancer) = daemon().await;
    let bed = Bed::make().await;
    bed.objects.set_data(&json!({"value": DATA})).await.unwrap();
    for machine in ["control-plane", "slow"] {
        bed.objects.machine(machine).await.unwrap();
    }
    let environment = [("LOAD_BALANCER_IMAGE", Path::new(&balancer))];
    let _running = bed.start(&[], daemon.host(), &environment);
    bed.wait("DockerCluster", "c1", |object| is(object, "Ready", "True"))
        .await;
    let status = json!({"initialization": {"infrastructureProvisioned": true}});
    bed.objects.status("Cluster", "c1", status).await.unwrap();
    let under_way = |object: &Value| {
        message_of(object, "BootstrapCompleted").is_some_and(|message| message.contains("runcmd 2"))
    };
    bed.is_whole(under_way).await;
    let before = containers(daemon.docker()).await;
    assert_eq!(before.len(), 4, "{before:?}");
    assert!(
        before.values().all(|[_, state, _]| state == "running"),
        "{before:?}"
    );

    for signal in ["KILL", "TERM"] {
        daemon.end(signal).await.unwrap();
        bed.complaint().await;
        daemon.start_again().await.unwrap();
        let deadline = Instant::now() + LIMIT;
        loop {
            let now = containers(daemon.docker()).await;
            if now == before {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "after {signal}: {now:#?}\nbefore: {before:#?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        bed.is_whole(|object| reason(object, "BootstrapCompleted") == Some("Interrupted"))
            .await;
        assert_eq!(containers(daemon.docker()).await, before, "after {signal}");
    }
    for machine in ["control-plane", "worker", "slow"] {
        let node = format!("{machine}.{}", bed.namespace.name());
        let begun = daemon.docker().exec(&node, &["cat", "/var/begun"]).await.unwrap();
        assert_eq!(begun, "begun", "the bootstrap of {machine} was repeated");
    }

    for (kind, name) in [
        ("DockerMachine", "control-plane"),
        ("DockerMachine", "worker"),
        ("DockerMachine", "slow"),
        ("DockerCluster", "c1"),
    ] {
        bed.objects.delete(kind, name).await.unwrap();
        bed.wait(kind, name, Value::is_null).await;
    }
    assert_eq!(containers(daemon.docker()).await, Containers::new());
    let networks = ["network", "ls", "--filter", "name=^nodes$", "--quiet"];
    assert_eq!(daemon.docker().run(&networks).await.unwrap(), "");
}
