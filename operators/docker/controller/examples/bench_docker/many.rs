//! Many machines at once, and many at rest, over the stand-in of Docker.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use testkit::{
    audit::Filter,
    bench::Report,
    control_plane::{ControlPlane, Options},
};

use crate::{
    Size,
    daemon::Daemon,
    objects::{CORE, INFRASTRUCTURE, Objects, is, until},
    provider::Ours,
};

/// Requests in flight while objects are made.
const PARALLEL: usize = 16;
const LIMIT: Duration = Duration::from_mins(10);
/// Seldom enough to cost the API server next to nothing.
const LOOK: Duration = Duration::from_millis(250);
/// For how long machines at rest are watched.
const REST: Duration = Duration::from_secs(60);

/// One cluster of machines.
struct Scene {
    plane: ControlPlane,
    daemon: Arc<Daemon>,
    ours: Ours,
    objects: Objects,
}

/// Measures how fast machines are made and what they cost, made and at rest.
pub(crate) async fn measure(size: &Size, report: &mut Report) -> Result<()> {
    let mut rates = Vec::new();
    for _ in 0..size.runs {
        let scene = Scene::set(size.program.as_deref()).await?;
        let at_rest = scene.ours.usage()?.resident_mb();
        let made = scene.make(size.machines).await?;
        rates.push((at_rest, made));
    }
    let all = |part: fn(&(f64, Made)) -> f64| rates.iter().map(part).collect::<Vec<_>>();
    report.median("many_rss_before", "MB", &all(|run| run.0))?;
    report.median("many_machines_per_second", "machines/s", &all(|run| run.1.rate))?;
    report.median("many_rss_peak", "MB", &all(|run| run.1.peak))?;
    report.median("many_rss_after", "MB", &all(|run| run.1.after))?;
    report.median("many_processor_per_machine", "ms", &all(|run| run.1.processor))?;
    report.median(
        "many_docker_calls_per_machine",
        "requests",
        &all(|run| run.1.docker),
    )?;
    report.median(
        "many_kubernetes_calls_per_machine",
        "requests",
        &all(|run| run.1.kubernetes),
    )?;
    report.median(
        "many_kubernetes_writes_per_machine",
        "requests",
        &all(|run| run.1.writes),
    )?;
    let scene = Scene::set(size.program.as_deref()).await?;
    let made = scene.make(size.idle).await?;
    scene.rest(made.after, report).await
}

/// What making machines took.
struct Made {
    rate: f64,
    peak: f64,
    after: f64,
    processor: f64,
    docker: f64,
    kubernetes: f64,
    writes: f64,
}

impl Scene {
    /// A cluster that is provisioned and has no machines yet.
    async fn set(program: Option<&Path>) -> Result<Self> {
        let options = Options {
            without_controllers: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await?;
        plane.apply_crds(&definitions()?).await?;
        plane.apply_crds(&docker_api::crds()).await?;
        let (daemon, address) = Daemon::start().await?;
        let ours = start(program, &plane, address)?;
        let objects = Objects {
            client: plane.client(),
            namespace: "default".into(),
        };
        let cluster = json!({
            "apiVersion": CORE, "kind": "Cluster", "metadata": {"name": "c1"},
            "spec": {"infrastructureRef": reference("DockerCluster", "c1")},
        });
        let cluster = serde_json::to_value(objects.apply(&cluster).await?)?;
        let owned = json!({
            "apiVersion": INFRASTRUCTURE, "kind": "DockerCluster",
            "metadata": metadata("c1", &cluster), "spec": {},
        });
        objects.apply(&owned).await?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "data"},
            "stringData": {"value": "#cloud-config\nruncmd: [kubeadm join]"},
        });
        objects.apply(&secret).await?;
        let scene = Self {
            plane,
            daemon,
            ours,
            objects,
        };
        let provisioned = async || {
            // Fails as soon as the provider has ended.
            scene.ours.usage()?;
            let found = scene.objects.list(INFRASTRUCTURE, "DockerCluster").await?;
            Ok(found.iter().any(|object| is(object, "Ready")).then_some(()))
        };
        until("the cluster is provisioned", LOOK, LIMIT, provisioned)
            .await
            .with_context(|| scene.ours.last_words())?;
        Ok(scene)
    }

    /// Makes `count` machines that may all be launched at the same moment.
    async fn make(&self, count: usize) -> Result<Made> {
        stream::iter(0..count)
            .map(|index| self.machine(index))
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<()>>()
            .await?;
        let waiting = async || {
            let found = self.objects.list(INFRASTRUCTURE, "DockerMachine").await?;
            let told = found.iter().filter(|object| object.data.get("status").is_some());
            Ok((told.count() == count).then_some(()))
        };
        until("every machine waits", LOOK, LIMIT, waiting).await?;
        let audit = self.plane.audit();
        let position = audit.settle(&self.objects.client).await?;
        let (before, began) = (self.ours.usage()?, Instant::now());
        self.daemon.take_counts();
        let status =
            json!({"initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true}});
        self.objects.status(CORE, "Cluster", "c1", status).await?;
        let ready = async || {
            let found = self.objects.list(INFRASTRUCTURE, "DockerMachine").await?;
            let ready = found.iter().filter(|object| is(object, "Ready")).count();
            Ok((ready == count).then_some(()))
        };
        until("every machine is ready", LOOK, LIMIT, ready)
            .await
            .with_context(|| self.ours.last_words())?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(
            self.daemon.len() == count + 1,
            "there are {} containers",
            self.daemon.len()
        );
        let after = self.ours.usage()?;
        let calls = self.daemon.take_counts();
        for (kind, times) in &calls {
            eprintln!("docker {kind}: {times}");
        }
        let ours = Filter::all().user_agent("capdkc");
        let asked = audit.query(&self.objects.client, position, &ours).await?;
        let writes = asked.iter().filter(|event| event.is_write()).count();
        let each = |number: u64| as_f64(number) / as_f64(count as u64);
        Ok(Made {
            rate: as_f64(count as u64) / seconds,
            peak: after.peak_mb(),
            after: after.resident_mb(),
            processor: after.processor.saturating_sub(before.processor).as_secs_f64() * 1000.0
                / as_f64(count as u64),
            docker: each(calls.values().sum()),
            kubernetes: each(asked.len() as u64),
            writes: each(writes as u64),
        })
    }

    async fn machine(&self, index: usize) -> Result<()> {
        let name = format!("m-{index}");
        let machine = json!({
            "apiVersion": CORE, "kind": "Machine", "metadata": {"name": name, "labels": {"cluster.x-k8s.io/cluster-name": "c1"}},
            "spec": {"clusterName": "c1", "version": "v1.34.4", "bootstrap": {"dataSecretName": "data"},
                     "infrastructureRef": reference("DockerMachine", &name)},
        });
        let machine = serde_json::to_value(self.objects.apply(&machine).await?)?;
        let owned = json!({
            "apiVersion": INFRASTRUCTURE, "kind": "DockerMachine",
            "metadata": metadata(&name, &machine), "spec": {},
        });
        self.objects.apply(&owned).await?;
        Ok(())
    }

    /// Watches machines at rest.
    async fn rest(&self, resident: f64, report: &mut Report) -> Result<()> {
        let audit = self.plane.audit();
        // What follows the last change, such as events of it, is not rest yet.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let position = audit.settle(&self.objects.client).await?;
        self.daemon.take_counts();
        let (before, began) = (self.ours.usage()?.processor, Instant::now());
        tokio::time::sleep(REST).await;
        let used =
            self.ours.usage()?.processor.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
        let docker: u64 = self.daemon.take_counts().values().sum();
        let filter = Filter::writes().user_agent("capdkc");
        let writes = audit.query(&self.objects.client, position, &filter).await?.len();
        let from = "processor time of a minute, divided by it";
        report.figure("idle_processor", used * 1000.0, "millicores", from)?;
        report.figure(
            "idle_rss",
            resident,
            "MB",
            "resident memory when the last machine was ready",
        )?;
        report.figure(
            "idle_docker_calls",
            as_f64(docker),
            "requests/min",
            "counted by the stand-in",
        )?;
        report.figure(
            "idle_kubernetes_writes",
            as_f64(writes as u64),
            "requests/min",
            "audit log",
        )?;
        Ok(())
    }
}

fn start(program: Option<&Path>, plane: &ControlPlane, docker: SocketAddr) -> Result<Ours> {
    let docker = format!("tcp://{docker}");
    // Without its own limit the client shows what the provider can do; the default of 100 requests/s is a flag.
    let flags = [
        "--docker-host",
        &docker,
        "--network",
        "bench",
        "--kube-api-qps=-1",
    ];
    Ours::start(program, plane.kubeconfig_path(), &flags)
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"apiGroup": docker_api::GROUP, "kind": kind, "name": name})
}

/// Of an object that `owner` owns.
fn metadata(name: &str, owner: &Value) -> Value {
    json!({
        "name": name, "labels": {"cluster.x-k8s.io/cluster-name": "c1"},
        "ownerReferences": [{"apiVersion": CORE, "kind": owner["kind"], "name": owner["metadata"]["name"],
                             "uid": owner["metadata"]["uid"], "controller": true}],
    })
}

/// Cluster API's kinds, with any content.
fn definitions() -> Result<Vec<CustomResourceDefinition>> {
    let define = |kind: &str| {
        let singular = kind.to_lowercase();
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"type": "object", "properties": {"spec": open, "status": open}});
        let definition = json!({
            "metadata": {"name": format!("{singular}s.cluster.x-k8s.io")},
            "spec": {
                "group": "cluster.x-k8s.io", "scope": "Namespaced",
                "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular},
                "versions": [{"name": "v1beta2", "served": true, "storage": true, "subresources": {"status": {}},
                              "schema": {"openAPIV3Schema": schema}}],
            },
        });
        serde_json::from_value(definition).context("a definition is malformed")
    };
    ["Cluster", "Machine"].into_iter().map(define).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
