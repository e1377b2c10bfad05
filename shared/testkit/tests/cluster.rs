//! What a cluster promises to the tests that stand on it. One at a time: each takes the whole machine.
#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint's own exception does not reach their helper functions"
)]

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rand::{RngExt, SeedableRng};
use testkit::{
    cluster::{Cluster, ClusterError, Spec},
    docker::{Docker, LABEL},
    image::{Image, Images},
    process::Janitor,
};
use tokio::{sync::Mutex, time::Instant};

static TURN: Mutex<()> = Mutex::const_new(());

const LIMIT: Duration = Duration::from_mins(3);

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Everything of Docker's that belongs to the cluster `name`.
async fn traces(docker: &Docker, name: &str) -> Vec<String> {
    let filter = format!("label={LABEL}.cluster={name}");
    let mut found = Vec::new();
    for kind in [["ps", "--all"].as_slice(), &["volume", "ls"], &["network", "ls"]] {
        let listed = docker
            .run(&[kind, &["--quiet", "--filter", &filter]].concat())
            .await
            .unwrap();
        found.extend(listed.lines().map(str::to_owned));
    }
    found
}

/// A name of a cluster that is removed when the test ends, however it ends.
struct Name(String);

impl Name {
    fn new() -> Self {
        Self(format!(
            "smoke-{}",
            &uuid::Uuid::new_v4().simple().to_string()[..8]
        ))
    }

    fn create(&self) -> Child {
        testkit(&["cluster", "--name", &self.0]).spawn().unwrap()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let deleted = testkit(&["cluster", "delete", "--name", &self.0]).status();
        assert!(deleted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn testkit(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit"));
    command.args(arguments).stdout(Stdio::null());
    command
}

fn kubeconfig(name: &str) -> PathBuf {
    testkit::tools::cache_folder()
        .unwrap()
        .join("clusters")
        .join(format!("{name}.kubeconfig"))
}

#[tokio::test]
#[ignore = "takes minutes: --full"]
async fn smoke_a_deployment_with_a_volume_answers_by_name_across_nodes_and_is_gone_with_its_cluster() {
    let _turn = TURN.lock().await;
    let docker = Docker::connect().await.unwrap();
    let image = Images::new(&docker).ensure(Image::Haproxy).await.unwrap();
    let spec = Spec {
        name: "smoke".to_owned(),
        nodes: 2,
        load: vec![image.clone()],
    };
    let cluster = Cluster::ephemeral(spec).await.unwrap();
    let manifests = include_str!("cluster/answer.yaml")
        .replace("IMAGE", &image)
        .replace("CONTROL_PLANE", &cluster.nodes()[0])
        .replace("WORKER", &cluster.nodes()[1]);
    cluster
        .kubectl(&["apply", "--filename", "-"], &manifests)
        .await
        .unwrap();
    let available = [
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=120s",
    ];
    cluster.kubectl(&available, "").await.unwrap();
    cluster
        .kubectl(
            &["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"],
            "",
        )
        .await
        .unwrap();

    let ask = async |address: &str| {
        let command = format!("socat -t5 - {address} < /dev/null");
        cluster
            .kubectl(&["exec", "client", "--", "sh", "-c", &command], "")
            .await
            .unwrap_or_default()
    };
    eventually("the service answers by its name", async || {
        ask("TCP:web.default.svc.cluster.local:80").await == "written to the volume by user 1000"
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let web = pods
        .list(&kube::api::ListParams::default().labels("app=web"))
        .await
        .unwrap()
        .items
        .remove(0);
    let address = web.status.and_then(|status| status.pod_ip).unwrap();
    let answer = ask(&format!("TCP:{address}:8080")).await;
    assert_eq!(
        answer, "written to the volume by user 1000",
        "pod to pod across nodes"
    );
    let docker_answers =
        "printf 'GET /version HTTP/1.0\\r\\n\\r\\n' | socat -t5 - UNIX-CONNECT:/var/run/docker.sock";
    let version = cluster
        .kubectl(&["exec", "client", "--", "sh", "-c", docker_answers], "")
        .await
        .unwrap();
    assert!(version.contains("ApiVersion"), "{version}");

    let (name, file) = (cluster.name().to_owned(), cluster.kubeconfig_path().to_owned());
    assert!(!traces(&docker, &name).await.is_empty());
    drop(cluster);
    assert_eq!(traces(&docker, &name).await, Vec::<String>::new());
    assert!(!file.exists());
}

#[tokio::test]
#[ignore = "takes minutes: --full"]
async fn smoke_a_cluster_whose_making_was_killed_is_whole_after_the_next_try() {
    let _turn = TURN.lock().await;
    let docker = Docker::connect().await.unwrap();
    Images::new(&docker).ensure(Image::Node).await.unwrap();
    let name = Name::new();
    let node = format!("{}-control-plane", name.0);
    kill_when(&name, "its node was started", async || {
        docker.exists("container", &node).await.unwrap()
    })
    .await;
    let file = kubeconfig(&name.0);
    kill_when(&name, "kubeadm was done", async || file.exists()).await;
    for delay in delays() {
        let mut making = name.create();
        tokio::time::sleep(delay).await;
        making.kill().unwrap();
        making.wait().unwrap();
    }
    let absent = Cluster::find(&name.0).await.unwrap_err();
    assert!(matches!(absent, ClusterError::Absent(_)), "{absent}");

    assert!(name.create().wait().unwrap().success());
    let cluster = Cluster::find(&name.0).await.unwrap();
    let ready = cluster
        .kubectl(&["get", "nodes", "--no-headers"], "")
        .await
        .unwrap();
    assert!(ready.contains(" Ready "), "{ready}");
    let again = Instant::now();
    assert!(
        name.create().wait().unwrap().success(),
        "one that is whole is used as it is"
    );
    assert!(again.elapsed() < Duration::from_secs(10));
    std::fs::write(&file, "").unwrap();
    assert!(name.create().wait().unwrap().success());
    let cluster = Cluster::find(&name.0).await.unwrap();
    cluster.client().apiserver_version().await.unwrap();
}

#[tokio::test]
async fn smoke_a_container_of_somebody_else_with_a_nodes_name_is_left_alone() {
    let docker = Docker::connect().await.unwrap();
    let image = Images::new(&docker).ensure(Image::Pause).await.unwrap();
    let name = Name::new();
    let node = format!("{}-control-plane", name.0);
    let program = docker.program().to_string_lossy().into_owned();
    let _janitor = Janitor::engage(r#""$1" rm --force "$2""#, &[program, node.clone()]).unwrap();
    docker.run(&["create", "--name", &node, &image]).await.unwrap();
    let spec = Spec {
        name: name.0.clone(),
        ..Spec::default()
    };
    let refused = Cluster::create(&spec).await.unwrap_err();
    assert!(
        matches!(&refused, ClusterError::Foreign { container, .. } if *container == node),
        "{refused}"
    );
    Cluster::delete(&name.0).await.unwrap();
    assert!(docker.exists("container", &node).await.unwrap());
}

/// After how long the making is killed, again and again: twelve random times in a full run, else none. The longest is
/// shorter than a cluster ever takes. `REPLAY` repeats a run.
fn delays() -> Vec<Duration> {
    if std::env::var_os("TESTKIT_FULL").is_none() {
        return Vec::new();
    }
    let seed = std::env::var("REPLAY").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    testkit::progress::line(&format!("REPLAY='{seed}'"));
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    (0..12)
        .map(|_| Duration::from_millis(random.random_range(200..15_000)))
        .collect()
}

/// Starts to make the cluster and kills that process as soon as `reached` holds.
async fn kill_when(name: &Name, point: &str, reached: impl AsyncFnMut() -> bool) {
    let mut making = name.create();
    eventually(point, reached).await;
    making.kill().unwrap();
    making.wait().unwrap();
}

#[tokio::test]
#[ignore = "takes minutes: --full"]
async fn smoke_a_cluster_is_gone_soon_after_its_holder_was_killed() {
    let _turn = TURN.lock().await;
    let docker = Docker::connect().await.unwrap();
    Images::new(&docker).ensure(Image::Node).await.unwrap();
    let others = held_clusters(&docker).await;
    let mut holder = testkit(&["cluster", "hold"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = String::new();
    eventually("the node of the held cluster was started", async || {
        let new = held_clusters(&docker)
            .await
            .into_iter()
            .find(|name| !others.contains(name));
        held = new.unwrap_or_default();
        !held.is_empty()
    })
    .await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("nothing of it is left", async || {
        traces(&docker, &held).await.is_empty()
    })
    .await;
}

/// The names of clusters that somebody holds and whose node exists.
async fn held_clusters(docker: &Docker) -> Vec<String> {
    let label = format!("{LABEL}.cluster");
    let format = format!("{{{{.Label {label:?}}}}}");
    let ephemeral = format!("label={LABEL}.ephemeral");
    let listed = docker
        .run(&["ps", "--filter", &ephemeral, "--format", &format])
        .await
        .unwrap();
    let held = listed.lines().filter(|name| name.starts_with("held-"));
    held.map(str::to_owned).collect()
}

#[tokio::test]
async fn smoke_a_sweep_removes_what_an_old_run_has_left_and_nothing_else() {
    let docker = Docker::connect().await.unwrap();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let [left, fresh, person, elsewhere] =
        ["left", "fresh", "person", "elsewhere"].map(|what| format!("{what}-{}", &id[..8]));
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let lock = |name: &str| kubeconfig(name).with_extension("lock").display().to_string();
    let now = jiff::Timestamp::now().as_second();
    let labels = |name: &str, age: i64, machine: &str| {
        [
            format!("{LABEL}.holder={}:{}", machine.trim(), lock(name)),
            format!("{LABEL}.cluster={name}"),
            format!("{LABEL}.created={}", now - age),
            format!("{LABEL}.ephemeral=true"),
        ]
    };
    let make = async |kind: &str, name: &str, labels: &[String]| {
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        docker
            .run(&[&[kind, "create"], &labels[..], &[name]].concat())
            .await
            .unwrap();
    };
    let program = docker.program().to_string_lossy().into_owned();
    let script = r#"docker=$1; shift; "$docker" volume rm "$@"; "$docker" network rm "$@""#;
    let objects = [
        program,
        left.clone(),
        fresh.clone(),
        person.clone(),
        elsewhere.clone(),
    ];
    let _janitor = Janitor::engage(script, &objects).unwrap();
    for kind in ["volume", "network"] {
        make(kind, &left, &labels(&left, 3600, &machine)).await;
        make(kind, &fresh, &labels(&fresh, 0, &machine)).await;
        // Whose lock cannot be seen from here.
        make(kind, &elsewhere, &labels(&elsewhere, 3600, "another")).await;
        make(kind, &person, &["somebody.else=true".to_owned()]).await;
    }
    // What a build has left, and what runs an image that was committed with a build's labels.
    let image = Images::new(&docker).ensure(Image::Toolbox).await.unwrap();
    let (made, runs) = (format!("{LABEL}-making-{id}"), format!("runs-{id}"));
    let (build, created) = (
        format!("--label={LABEL}.build=x"),
        format!("--label={LABEL}.created={}", now - 7200),
    );
    let script = r#""$1" rm --force "$2" "$3""#;
    let program = docker.program().to_string_lossy().into_owned();
    let _containers = Janitor::engage(script, &[program, made.clone(), runs.clone()]).unwrap();
    for name in [&made, &runs] {
        let create = ["create", &build, &created, "--name", name, &image, "true"];
        docker.run(&create).await.unwrap();
    }
    // Others sweep too: whoever makes a cluster.
    assert!(testkit(&["cluster", "sweep"]).status().unwrap().success());
    let mut present = Vec::new();
    for name in [&left, &fresh, &person, &elsewhere] {
        let volume = docker.exists("volume", name).await.unwrap();
        present.push((volume, docker.exists("network", name).await.unwrap()));
    }
    assert_eq!(
        present,
        [(false, false), (true, true), (true, true), (true, true)]
    );
    assert!(!docker.exists("container", &made).await.unwrap());
    assert!(docker.exists("container", &runs).await.unwrap());
}
