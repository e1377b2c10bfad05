//! Many of them: memory, requests to the API server, and what they cost while nothing happens. The nodes are played, as in
//! the tests; API server, controllers and operator are real.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use mysql_api::MySQL;
use reconcile::conditions;
use serde_json::json;
use testkit::{
    audit::Filter,
    bench::{Report, Usage},
    control_plane::{ControlPlane, Options},
    process::{ScratchFolder, Supervised, free_address},
};

use crate::{disks::Disks, kubelet::Kubelet, operator};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_mins(15);
const POLL: Duration = Duration::from_millis(200);
/// How much faster than real time the operator's clock runs.
const SPEED: u32 = 20;
/// How long nothing may have been written before nothing is expected to be.
const CALM: Duration = Duration::from_secs(20);
/// How long it is at rest, in real time: with the operator's clock every object is looked at four times meanwhile.
const REST: Duration = Duration::from_mins(1);
/// Volumes that somebody else provides.
const CLASS: &str = "by-hand";

/// Makes so many of them.
pub(crate) async fn measure(count: usize, report: &mut Report) -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    plane.apply_crds(&mysql_api::crds()).await?;
    let class = json!({
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/by-hand",
    });
    let classes: Api<k8s_openapi::api::storage::v1::StorageClass> = Api::all(plane.client());
    classes
        .create(&PostParams::default(), &serde_json::from_value(class)?)
        .await?;
    let namespace = plane.namespace().await?;
    let _nodes = Kubelet::start(plane.client(), namespace.name(), Disks::default());
    let folder = ScratchFolder::create("bench-mysql-crowd")?;
    let metrics = free_address()?;
    let log = folder.path().join("operator.log");
    let mut process = operator::start(plane.kubeconfig_path(), namespace.name(), SPEED, metrics, &log)?;
    let databases: Api<MySQL> = Api::namespaced(plane.client(), namespace.name());
    settle(&plane, namespace.name()).await?;
    let before = Usage::of(process.id())?;

    let begin = plane.audit().settle(&plane.client()).await?;
    for number in 0..count {
        let spec = json!({"image": "mysql:9.7", "database": "d", "storage_size": "1Gi"});
        let object = MySQL::new(&format!("m-{number}"), serde_json::from_value(spec)?);
        databases.create(&PostParams::default(), &object).await?;
    }
    ready(&databases, count, &mut process).await?;
    settle(&plane, namespace.name()).await?;
    let requests = theirs(&plane, namespace.name(), begin, Filter::all()).await?;
    let writes = theirs(&plane, namespace.name(), begin, Filter::writes()).await?;

    let begin = plane.audit().settle(&plane.client()).await?;
    let usage = Usage::of(process.id())?;
    tokio::time::sleep(REST).await;
    let busy = Usage::of(process.id())?.processor.saturating_sub(usage.processor);
    let looks = theirs(&plane, namespace.name(), begin, Filter::all()).await?;
    let idle_writes = theirs(&plane, namespace.name(), begin, Filter::writes()).await?;

    let after = Usage::of(process.id())?;
    report.median("crowd_resident_before", "MB", &[before.resident_mb()])?;
    report.median("crowd_resident_after", "MB", &[after.resident_mb()])?;
    report.median("crowd_resident_peak", "MB", &[after.peak_mb()])?;
    let each = |total: usize| total as f64 / count as f64;
    report.median("crowd_requests_each", "requests", &[each(requests)])?;
    report.median("crowd_writes_each", "writes", &[each(writes)])?;
    // Sixty seconds at this speed are that many of the operator's.
    let minutes = REST.as_secs_f64() * f64::from(SPEED) / 60.0;
    report.median(
        "crowd_rest_reads_each_per_minute",
        "requests",
        &[each(looks) / minutes],
    )?;
    report.median("crowd_rest_writes", "writes", &[idle_writes as f64])?;
    let millicores = busy.as_secs_f64() / (REST.as_secs_f64() * f64::from(SPEED)) * 1e3;
    report.median("crowd_rest_processor", "millicores", &[millicores])?;
    ensure!(
        idle_writes == 0,
        "{count} databases at rest were written to {idle_writes} times"
    );
    Ok(())
}

async fn ready(databases: &Api<MySQL>, count: usize, process: &mut Supervised) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let all = databases.list(&ListParams::default()).await?.items;
        let ready = |object: &&MySQL| {
            let conditions = object.status.as_ref().map(|status| &status.conditions);
            conditions
                .and_then(|conditions| conditions::find(conditions, "Ready"))
                .is_some_and(|ready| ready.status == "True")
        };
        let ready = all.iter().filter(ready).count();
        if ready == count {
            return Ok(());
        }
        process.check()?;
        ensure!(
            Instant::now() < deadline,
            "{ready} of {count} databases are ready after {DEADLINE:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the operator has written nothing for a while.
async fn settle(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let begin = plane.audit().settle(&plane.client()).await?;
        tokio::time::sleep(CALM).await;
        if theirs(plane, namespace, begin, Filter::writes()).await? == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the operator still writes after {DEADLINE:?}"
        );
    }
}

/// How many of the operator's requests there were since `begin`.
async fn theirs(
    plane: &ControlPlane,
    namespace: &str,
    begin: testkit::audit::Position,
    filter: Filter,
) -> Result<usize> {
    let filter = filter.user_agent("mysql-operator").namespace(namespace);
    let found = plane.audit().query(&plane.client(), begin, &filter).await?;
    Ok(found.len())
}
