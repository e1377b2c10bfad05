//! The life of a cluster with real nodes, with one provider or the other.

mod hand_over;
mod manifests;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use testkit::{
    bench::Report,
    capi::{ClusterApi, nodes},
    control_plane::{ControlPlane, Options},
    docker::Docker,
    image::{Image, Images},
    process::Janitor,
};

use crate::{
    Size,
    objects::{CORE, INFRASTRUCTURE, Objects, until},
    provider::{Kind, Provider},
};
use hand_over::{DataSeen, HandOver, now};
use manifests::Wanted;

const LIMIT: Duration = Duration::from_mins(5);
/// How often the workload cluster is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Where upstream's provider puts its machines, unconditionally.
const NETWORK: &str = "kind";

/// Removes what a run that was killed has left: containers of the cluster, whichever provider made them, and the network
/// if it is nobody else's. `$1` is the cluster, `$2` whether the network is ours.
const SWEEP: &str = r#"for label in capdkc.cluster.x-k8s.io/cluster io.x-k8s.kind.cluster; do
    docker ps --all --quiet --filter "label=$label=$1" | xargs -r docker rm --force --volumes
done
[ "$2" = made ] && docker network rm kind"#;

/// What one cluster took, in seconds, and the provider's memory.
struct Life {
    /// Of each machine, from its `dataSecretName` to the begin of kubeadm.
    hand_over: Vec<HandOver>,
    /// From the first object to the control plane machine's `dataSecretName`, which is Cluster API's time and that of
    /// the load balancer.
    before_data: f64,
    control_plane_ready: f64,
    worker_ready: f64,
    scaled: f64,
    deleted: f64,
    resident: f64,
    peak: f64,
}

/// Measures both in turns.
pub(crate) async fn measure(size: &Size, report: &mut Report) -> Result<()> {
    let docker = Docker::connect().await?;
    let images = Images::new(&docker)
        .ensure_all(&[Image::Node, Image::Haproxy])
        .await?;
    let cluster = format!("bench-{}", std::process::id());
    let made = !docker.exists("network", NETWORK).await?;
    let _janitor = Janitor::engage(SWEEP, &[cluster.as_str(), if made { "made" } else { "found" }])?;
    if made {
        docker
            .run(&["network", "create", "--subnet", "172.29.0.0/16", NETWORK])
            .await?;
    }
    let wanted = Wanted {
        cluster: &cluster,
        node_image: &images[0],
        balancer_image: &images[1],
    };
    let program = size.program.as_deref();
    let mut lives: BTreeMap<&str, Vec<Life>> = BTreeMap::new();
    for run in 0..size.runs {
        // The one that goes first changes: the second finds warm caches.
        let mut order = [Kind::Upstream, Kind::Ours];
        order.rotate_left(run % 2);
        for kind in order {
            eprintln!("run {}: {}", run + 1, kind.name());
            let life = live(kind, program, &docker, &wanted)
                .await
                .with_context(|| kind.name())?;
            lives.entry(kind.name()).or_default().push(life);
        }
    }
    for (name, lives) in &lives {
        tell(name, lives, report)?;
    }
    compare(&lives, report)
}

/// A figure of a life.
type Part = (&'static str, fn(&Life) -> f64);

/// The parts of a life that are compared.
const PARTS: [Part; 4] = [
    ("control_plane_ready", |life| life.control_plane_ready),
    ("worker_ready", |life| life.worker_ready),
    ("one_to_three_workers", |life| life.scaled),
    ("delete", |life| life.deleted),
];

fn tell(name: &str, lives: &[Life], report: &mut Report) -> Result<()> {
    let all = |part: fn(&Life) -> f64| lives.iter().map(part).collect::<Vec<_>>();
    for (part, of) in PARTS {
        report.median(&format!("{name}_{part}"), "s", &all(of))?;
    }
    report.median(
        &format!("{name}_apply_to_data"),
        "s",
        &all(|life| life.before_data),
    )?;
    for (part, of) in hand_over::PARTS {
        let machines = lives.iter().flat_map(|life| &life.hand_over);
        report.median(
            &format!("{name}_{part}"),
            "s",
            &machines.map(of).collect::<Vec<_>>(),
        )?;
    }
    report.median(&format!("{name}_rss"), "MB", &all(|life| life.resident))?;
    report.median(&format!("{name}_rss_peak"), "MB", &all(|life| life.peak))
}

fn compare(lives: &BTreeMap<&str, Vec<Life>>, report: &mut Report) -> Result<()> {
    let (Some(ours), Some(theirs)) = (lives.get("ours"), lives.get("upstream")) else {
        return Ok(());
    };
    let parts = PARTS
        .into_iter()
        .chain([("rss", (|life| life.resident) as fn(&Life) -> f64)]);
    for (part, of) in parts {
        let ratios: Vec<_> = ours.iter().zip(theirs).map(|(a, b)| of(a) / of(b)).collect();
        report.median(&format!("ratio_{part}"), "of upstream's", &ratios)?;
    }
    Ok(())
}

/// One cluster from its first object to its last, on a control plane of its own.
async fn live(kind: Kind, program: Option<&Path>, docker: &Docker, wanted: &Wanted<'_>) -> Result<Life> {
    let plane = ControlPlane::start(Options::default()).await?;
    let managers = ClusterApi::start(&plane).await?;
    let provider = Provider::start(kind, program, &plane, NETWORK).await?;
    let objects = Objects {
        client: plane.client(),
        namespace: "default".into(),
    };
    let lived = Lived {
        kind,
        docker,
        wanted,
        provider: &provider,
        objects: &objects,
    };
    let life = lived.through().await;
    life.with_context(|| format!("{}\n{}", provider.last_words(), managers.last_words()))
}

struct Lived<'a> {
    kind: Kind,
    docker: &'a Docker,
    wanted: &'a Wanted<'a>,
    provider: &'a Provider,
    objects: &'a Objects,
}

impl Lived<'_> {
    async fn through(&self) -> Result<Life> {
        let seen = DataSeen::watch(self.objects).await?;
        let (first, began) = (now(), Instant::now());
        for object in manifests::cluster(self.kind, self.wanted)? {
            self.objects.apply(&object).await?;
        }
        let nodes = self.workload_nodes().await?;
        let control_plane_ready = self
            .ready(&nodes, began, |ready| ready.control_plane == 1)
            .await?;
        let worker_ready = self.ready(&nodes, began, |ready| ready.workers == 1).await?;
        let began = Instant::now();
        self.scale(3).await?;
        let scaled = self.ready(&nodes, began, |ready| ready.workers == 3).await?;
        let before_data = seen.first().context("no machine had data")? - first;
        let hand_over = self.hand_over(&seen).await?;
        let usage = self.provider.usage()?;
        let began = Instant::now();
        let name = self.wanted.cluster;
        self.objects.delete(CORE, "Cluster", name).await?;
        let clusters = self.objects.api(CORE, "Cluster");
        let gone = async || Ok(clusters.get_opt(name).await?.is_none().then_some(()));
        until("the Cluster is gone", LOOK, LIMIT, gone).await?;
        Ok(Life {
            hand_over,
            before_data,
            control_plane_ready,
            worker_ready,
            scaled,
            deleted: began.elapsed().as_secs_f64(),
            resident: usage.resident_mb(),
            peak: usage.peak_mb(),
        })
    }

    /// Nodes of the workload cluster, with the kubeconfig that Cluster API made.
    async fn workload_nodes(&self) -> Result<Api<Node>> {
        let secrets: Api<Secret> = Api::namespaced(self.objects.client.clone(), &self.objects.namespace);
        let name = format!("{}-kubeconfig", self.wanted.cluster);
        let found = async || {
            let secret = secrets.get_opt(&name).await?;
            let value = secret.and_then(|secret| secret.data?.remove("value"));
            value
                .map(|value| Ok(Kubeconfig::from_yaml(&String::from_utf8_lossy(&value.0))?))
                .transpose()
        };
        let kubeconfig = until("there is a kubeconfig", LOOK, LIMIT, found).await?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Api::all(Client::try_from(config)?))
    }

    /// Seconds from `began` until `enough` nodes are Ready.
    async fn ready(&self, nodes: &Api<Node>, began: Instant, enough: fn(Ready) -> bool) -> Result<f64> {
        let found = async || {
            // Until the API server is up there is nobody to ask.
            let listed = nodes.list(&ListParams::default()).await;
            let ready = listed.map_or_else(|_| Ready::default(), |list| Ready::of(&list.items));
            Ok(enough(ready).then(|| began.elapsed().as_secs_f64()))
        };
        until("the nodes are Ready", LOOK, LIMIT, found).await
    }

    async fn scale(&self, replicas: i32) -> Result<()> {
        let deployments = self.objects.api(CORE, "MachineDeployment");
        let patch = kube::api::Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let name = format!("{}-workers", self.wanted.cluster);
        deployments
            .patch(&name, &kube::api::PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn hand_over(&self, seen: &DataSeen) -> Result<Vec<HandOver>> {
        let mut all = Vec::new();
        for object in self.objects.list(INFRASTRUCTURE, "DockerMachine").await? {
            let id = object.data.pointer("/spec/providerID").and_then(Value::as_str);
            let container = id.and_then(|id| id.strip_prefix("docker:////"));
            let container = container.context("a machine without an id")?;
            let owner = object
                .owner_references()
                .iter()
                .find(|owner| owner.kind == "Machine");
            let machine = owner.map(|owner| owner.name.as_str()).unwrap_or_default();
            let data = seen.of(machine).context("a machine whose data was never seen")?;
            all.push(HandOver::of(self.docker, container, data).await?);
        }
        Ok(all)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    control_plane: usize,
    workers: usize,
}

impl Ready {
    fn of(nodes: &[Node]) -> Self {
        let ready = nodes.iter().filter(|node| nodes::is_ready(node));
        let (control_plane, workers): (Vec<_>, Vec<_>) = ready.partition(|node| {
            node.labels()
                .contains_key("node-role.kubernetes.io/control-plane")
        });
        Self {
            control_plane: control_plane.len(),
            workers: workers.len(),
        }
    }
}
