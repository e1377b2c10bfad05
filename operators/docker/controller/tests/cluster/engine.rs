//! The engine over a real daemon: what it refuses, and what mounts and limits come to.

mod bootstrap;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use docker_api::{DockerMachineSpec, ImagePullPolicy, PortProtocol};
use docker_controller::{
    engine::{
        Command, ContainerPlan, ContainerState, Engine as _, Failure, HostMount, MachinePlan, PublishedPort,
        docker::DockerEngine,
    },
    identity::{ClusterId, NAMESPACE_LABEL, Role},
    launch::{Launch, ensure_network, launch},
    node::{self, Machine},
};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testkit::{
    docker::Docker,
    image::{Image, Images},
    process::{Janitor, ScratchFolder},
};

/// How long a node's runtime may take to come up, on a machine that does other things as well.
const RUNTIME_LIMIT: Duration = Duration::from_mins(5);

const SWEEP: &str = r#"docker ps -aq --filter "label=capdkc.cluster.x-k8s.io/namespace=$1" | xargs -r docker rm -fv
docker network ls -q --filter "name=^$1" | xargs -r docker network rm"#;

struct Bed {
    docker: Docker,
    engine: DockerEngine,
    image: String,
    namespace: String,
    folder: ScratchFolder,
    _janitor: Janitor,
}

impl Bed {
    async fn start(image: Image) -> Self {
        let docker = Docker::connect().await.unwrap();
        let images = Images::new(&docker).ensure_all(&[image]).await.unwrap();
        let folder = ScratchFolder::create("capdkc-engine").unwrap();
        let namespace = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        let engine = DockerEngine::new(host);
        let janitor = Janitor::engage(SWEEP, &[&namespace]).unwrap();
        ensure_network(&engine, &namespace).await.unwrap();
        Self {
            _janitor: janitor,
            docker,
            engine,
            image: images[0].clone(),
            namespace,
            folder,
        }
    }

    fn plan(&self, name: &str) -> ContainerPlan {
        ContainerPlan {
            name: format!("{name}.{}", self.namespace),
            hostname: name.into(),
            image: self.image.clone(),
            labels: [(NAMESPACE_LABEL.to_owned(), self.namespace.clone())].into(),
            entrypoint: Some(["sleep", "600"].map(str::to_owned).into()),
            network: self.namespace.clone(),
            ..ContainerPlan::default()
        }
    }

    fn mount(&self, host: &str, container: &str, read_only: bool) -> HostMount {
        HostMount {
            host_path: self.folder.path().join(host).to_str().unwrap().to_owned(),
            container_path: container.into(),
            read_only,
        }
    }

    /// What `script` prints in the container.
    async fn shell(&self, container: &str, script: &str) -> Vec<String> {
        let command = Command {
            argv: ["sh", "-c", script].map(str::to_owned).into(),
            stdin: Vec::new(),
            limit: Duration::from_secs(60),
        };
        let mut lines = Vec::new();
        self.engine
            .run(container, command, &mut |line| lines.push(line))
            .await
            .unwrap();
        lines
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_mounts_lead_to_what_is_there_and_nothing_else_is_made() {
    let bed = Bed::start(Image::Node).await;
    let missing = bed.mount("missing", "/missing", false);
    let mut plan = bed.plan("missing");
    plan.machine = Some(MachinePlan {
        mounts: vec![missing.clone()],
        ..MachinePlan::default()
    });
    let error = bed.engine.create(&plan).await.unwrap_err();
    assert_eq!(error.kind, Failure::MountMissing, "{error}");
    assert!(error.to_string().contains(&missing.host_path), "{error}");
    assert!(
        !std::path::Path::new(&missing.host_path).exists(),
        "a missing path is never made"
    );

    let real = bed.folder.path().join("real");
    std::fs::create_dir(&real).unwrap();
    std::fs::write(real.join("file"), "found").unwrap();
    std::os::unix::fs::symlink(&real, bed.folder.path().join("link")).unwrap();
    let mut plan = bed.plan("mounted");
    plan.machine = Some(MachinePlan {
        mounts: vec![
            bed.mount("link", "/read", true),
            bed.mount("real", "/write", false),
        ],
        memory: Some(256 << 20),
        pids: Some(77),
        ..MachinePlan::default()
    });
    bed.engine.create(&plan).await.unwrap();
    bed.engine.start(&plan.name).await.unwrap();
    assert_eq!(bed.shell(&plan.name, "cat /read/file; echo").await, ["found"]);
    let tried = bed
        .shell(
            &plan.name,
            "touch /read/new 2>/dev/null && echo written || echo refused; touch /write/new",
        )
        .await;
    assert_eq!(tried, ["refused"]);
    assert!(real.join("new").exists(), "what is not read-only can be written");
    let limits = [
        "inspect",
        "--format",
        "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}",
        &plan.name,
    ];
    assert_eq!(bed.docker.run(&limits).await.unwrap().trim(), "268435456 77");
    let found = bed.engine.container(&plan.name).await.unwrap().unwrap();
    assert_eq!(found.state, ContainerState::Running);
    bed.engine.remove(&found.id).await.unwrap();
    assert_eq!(bed.engine.container(&plan.name).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_what_a_machine_asks_for_reaches_docker() {
    let bed = Bed::start(Image::Toolbox).await;
    let cluster = ClusterId::new(bed.namespace.as_str(), "c1");
    let machine = Machine {
        cluster: &cluster,
        name: "limited",
        role: Role::Worker,
        version: None,
        failure_domain: Some("a"),
        attempt: 1,
    };
    let spec = json!({
        "customImage": bed.image,
        "resources": {"cpus": "1500m", "memory": "256Mi", "pids": 200},
        "labels": {"team": "red"},
        "sysctls": {"kernel.shm_rmid_forced": "1"},
        "ports": [
            {"containerPort": 80},
            {"containerPort": 53, "protocol": "UDP", "listenAddress": "127.0.0.2"},
        ],
    });
    let spec: DockerMachineSpec = serde_json::from_value(spec).unwrap();
    let mut plan = node::plan(&machine, &spec, &bed.namespace, None).unwrap();
    plan.entrypoint = bed.plan("").entrypoint;
    bed.engine.create(&plan).await.unwrap();
    bed.engine.start(&plan.name).await.unwrap();

    let shown = bed.docker.run(&["inspect", &plan.name]).await.unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let at = |pointer: &str| shown.pointer(&format!("/0{pointer}")).cloned();
    for (pointer, expected) in [
        ("/HostConfig/NanoCpus", json!(1_500_000_000)),
        ("/HostConfig/Memory", json!(256 << 20)),
        ("/HostConfig/PidsLimit", json!(200)),
        ("/HostConfig/Sysctls", json!({"kernel.shm_rmid_forced": "1"})),
        ("/Config/Labels/team", json!("red")),
        (
            "/Config/Labels/capdkc.cluster.x-k8s.io~1failure-domain",
            json!("a"),
        ),
        ("/NetworkSettings/Ports/80~1tcp/0/HostIp", json!("127.0.0.1")),
        ("/NetworkSettings/Ports/53~1udp/0/HostIp", json!("127.0.0.2")),
    ] {
        assert_eq!(at(pointer), Some(expected), "{pointer}");
    }
    let networks = at("/NetworkSettings/Networks").unwrap();
    let networks: Vec<_> = networks.as_object().unwrap().keys().collect();
    assert_eq!(networks, [&bed.namespace]);
    let parameter = "cat /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(bed.shell(&plan.name, parameter).await, ["1"]);
}

/// As the machines of a cluster do whose load balancer is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_a_network_that_many_ask_for_at_once_is_made_once() {
    let bed = Bed::start(Image::Toolbox).await;
    for round in 0..4 {
        let name = format!("{}-{round}", bed.namespace);
        let asked = (0..8).map(|_| ensure_network(&bed.engine, &name));
        let found = try_join_all(asked).await.unwrap();
        let filter = format!("name=^{name}$");
        let list = ["network", "ls", "--no-trunc", "--quiet", "--filter", &filter];
        let there = bed.docker.run(&list).await.unwrap();
        let there: Vec<_> = there.lines().collect();
        assert_eq!(there.len(), 1, "{there:?}");
        assert!(found.iter().all(|network| network.id == there[0]), "{found:?}");
        bed.engine.remove_network(&name).await.unwrap();
    }
}

/// Docker chose the subnet, as it does for the network that kind makes; a look at the network does not tell.
#[tokio::test(flavor = "multi_thread")]
async fn smoke_a_container_starts_where_docker_chose_the_subnet_and_keeps_its_address_where_we_did() {
    let bed = Bed::start(Image::Node).await;
    let network = format!("{}-any", bed.namespace);
    bed.docker.run(&["network", "create", &network]).await.unwrap();
    for (name, network, kept) in [("keeps", &bed.namespace, true), ("moves", &network, false)] {
        let mut plan = bed.plan(name);
        plan.network.clone_from(network);
        let name = plan.name.clone();
        let launching = Launch {
            plan,
            address: None,
            host_ports: Vec::new(),
            files: Vec::new(),
        };
        launch(&bed.engine, launching, None).await.unwrap();
        let found = bed.engine.container(&name).await.unwrap().unwrap();
        assert_eq!(found.state, ContainerState::Running);
        assert!(found.addresses.contains_key(network), "{found:?}");
        assert_eq!(found.kept.contains(network), kept, "{found:?}");
        let seen = bed.engine.network(network).await.unwrap().unwrap();
        assert_eq!(seen.assigns, !kept, "{seen:?}");
        bed.engine.remove(&found.id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_an_image_is_copied_from_the_host_and_one_that_is_not_there_is_told_at_once() {
    let bed = Bed::start(Image::Node).await;
    let there = Images::new(&bed.docker)
        .ensure_all(&[Image::Haproxy])
        .await
        .unwrap();
    let mut plan = bed.plan("runtime");
    plan.entrypoint = Some(["containerd"].map(str::to_owned).into());
    plan.machine = Some(MachinePlan::default());
    bed.engine.create(&plan).await.unwrap();
    bed.engine.start(&plan.name).await.unwrap();
    assert!(bed.engine.has_image(&there[0]).await.unwrap());
    let deadline = Instant::now() + RUNTIME_LIMIT;
    while let Err(error) = bed.engine.copy_image(&plan.name, &there[0]).await {
        assert_eq!(error.kind, Failure::Import, "the runtime comes up: {error}");
        assert!(
            Instant::now() < deadline,
            "the runtime is not up after {RUNTIME_LIMIT:?}: {error}"
        );
    }
    let images = "ctr --namespace=k8s.io images list --quiet";
    let copied = bed.shell(&plan.name, images).await;
    assert!(copied.iter().any(|name| name.contains(&there[0])), "{copied:?}");

    // What a failing importer says is part of its name.
    let named = format!("operators-testbed/ctr:{}", bed.namespace.to_lowercase());
    bed.docker.run(&["tag", &there[0], &named]).await.unwrap();
    let taken = bed.engine.copy_image(&plan.name, &named).await;
    bed.docker.run(&["rmi", &named]).await.unwrap();
    taken.unwrap();
    let mut without = bed.plan("no-runtime");
    without.image.clone_from(&there[0]);
    without.entrypoint = Some(["cat", "/dev/zero"].map(str::to_owned).into());
    bed.engine.create(&without).await.unwrap();
    bed.engine.start(&without.name).await.unwrap();
    let error = bed.engine.copy_image(&without.name, &there[0]).await.unwrap_err();
    assert_eq!(error.kind, Failure::Import, "{error}");
    assert!(
        error.message.contains("status 12") && error.message.contains("ctr"),
        "{error}"
    );

    let missing = "operators-testbed/there-is-none:1";
    assert!(!bed.engine.has_image(missing).await.unwrap());
    let error = bed.engine.copy_image(&plan.name, missing).await.unwrap_err();
    assert_eq!(error.kind, Failure::Image, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_what_docker_refuses_is_told_apart() {
    let bed = Bed::start(Image::Haproxy).await;
    let plan = bed.plan("first");
    bed.engine.create(&plan).await.unwrap();
    let error = bed.engine.create(&plan).await.unwrap_err();
    assert_eq!(error.kind, Failure::NameTaken, "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = bed.plan("port");
    plan.ports.push(PublishedPort {
        container_port: 80,
        host_port: Some(taken.local_addr().unwrap().port()),
        listen_address: "127.0.0.1".into(),
        protocol: PortProtocol::Tcp,
    });
    bed.engine.create(&plan).await.unwrap();
    let error = bed.engine.start(&plan.name).await.unwrap_err();
    assert_eq!(error.kind, Failure::PortTaken, "{error}");

    let image = "operators-testbed/there-is-none:1";
    let error = bed
        .engine
        .ensure_image(image, ImagePullPolicy::Never, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind, Failure::Image, "{error}");
    assert!(error.to_string().contains("imagePullPolicy is Never"), "{error}");

    let mut plan = bed.plan("nowhere");
    plan.network = format!("{}-none", bed.namespace);
    let made = bed.engine.create(&plan).await;
    let error = match made {
        Ok(()) => bed.engine.start(&plan.name).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.to_string().contains(&plan.network), "{error}");
    bed.engine.remove("there-is-none").await.unwrap();

    let nobody = DockerEngine::new(format!("unix://{}/none.sock", bed.folder.path().display()));
    let error = nobody.host().await.unwrap_err();
    assert_eq!(error.kind, Failure::Unavailable, "{error}");
    assert!(
        error.to_string().contains("none.sock") && error.to_string().contains("is Docker installed"),
        "{error}"
    );
}
