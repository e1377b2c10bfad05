//! The first time: ten thousand objects that nobody has reconciled yet, so that every pass writes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use testkit::bench::Report;

use crate::{
    Size,
    gadget::{FINALIZER, Gadget, gadget, name},
    load::{as_f64, of_objects, requests, since},
    operator::CONCURRENCY,
    replica::{Bed, Replica},
};

/// Requests in flight while objects are made.
const PARALLEL: usize = 16;
/// Objects that get the two writes of a first pass from a plain loop.
const BARE_OBJECTS: usize = 1000;
/// Objects edited while all the others wait.
const EDITS: usize = 10;
/// How long an edit may take to be reported.
const DEADLINE: Duration = Duration::from_mins(1);

/// Makes `count` gadgets.
pub(crate) async fn create(gadgets: &Api<Gadget>, count: usize) -> Result<()> {
    stream::iter((0..count).map(gadget))
        .map(async |gadget| gadgets.create(&PostParams::default(), &gadget).await.map(drop))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await
        .context("cannot make the objects")
}

/// An operator meets the objects of `namespace`. Its rate limit is off, or it would be all that is measured.
///
/// The API server's share is measured by a plain loop that sends the same two writes for other objects, as many at a
/// time. Meanwhile some of the objects that wait last are edited.
pub(crate) async fn measure(bed: &Bed, namespace: &str, size: Size, report: &mut Report) -> Result<()> {
    let bare = bare_writes(bed, size).await?;
    let before = bed.plane.audit().settle(&bed.plane.client()).await?;
    let mut replica = Replica::start(bed, "first", namespace, size.objects, &["--kube-api-qps", "0"])?;
    replica.until_ended(as_f64(size.objects / 20)).await?;
    let edits = edits(bed, namespace, size).await?;
    replica.until_ended(as_f64(size.objects)).await?;
    let took = since(replica.started, &replica.passes().await?);
    report.samples("create_all_reconciled", "s", &[took]);
    report.figure(
        "create_all_reconciled",
        took,
        "s",
        "create_all_reconciled: one run",
    )?;
    let per_object = took * 1e3 / as_f64(size.objects);
    report.samples("bare_writes_per_object", "ms", &[bare]);
    report.figure(
        "create_beside_bare_writes",
        per_object / bare,
        "ratio",
        "create_all_reconciled / objects / bare_writes_per_object",
    )?;
    report.median("edit_reported_while_all_wait", "ms", &edits)?;
    let peak = replica.usage()?.peak_mb();
    report.samples("create_rss_peak", "MB", &[peak]);
    report.figure("create_rss_peak", peak, "MB", "create_rss_peak: one run")?;
    replica.terminate().await?;
    let calls = requests(bed, before).await?;
    report.samples("create_calls", "requests", &[as_f64(of_objects(&calls))]);
    report.figure(
        "create_calls_per_object",
        as_f64(of_objects(&calls)) / as_f64(size.objects),
        "requests",
        "create_calls / objects",
    )
}

/// Milliseconds per object for what a first pass writes, finalizer and status, without an operator.
async fn bare_writes(bed: &Bed, size: Size) -> Result<f64> {
    let namespace = bed.plane.namespace().await?;
    let gadgets: Api<Gadget> = Api::namespaced(bed.plane.client(), namespace.name());
    let count = BARE_OBJECTS.min(size.objects);
    create(&gadgets, count).await?;
    let began = Instant::now();
    stream::iter(0..count)
        .map(async |number| {
            let name = name(number);
            let claim = Patch::Merge(json!({"metadata": {"finalizers": [FINALIZER]}}));
            gadgets.patch(&name, &PatchParams::default(), &claim).await?;
            let condition = |type_: &str| {
                json!({"type": type_, "status": "True", "reason": "AllReady", "message": "it is as specified",
                    "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"})
            };
            let status = Patch::Apply(json!({
                "apiVersion": "bench.example.com/v1", "kind": "Gadget", "metadata": {"name": name},
                "status": {"observedGeneration": 1, "endpoint": format!("{name}.databases.svc.cluster.local:3306"),
                    "conditions": [condition("Ready"), condition("Provisioned"), condition("Reachable")]},
            }));
            let params = PatchParams::apply("bare").force();
            gadgets.patch_status(&name, &params, &status).await.map(drop)
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
        .context("cannot write to the objects")?;
    let took = began.elapsed().as_secs_f64() * 1e3 / as_f64(count);
    // Away with the finalizers, or the namespace cannot go.
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for number in 0..count {
        gadgets
            .patch(&name(number), &PatchParams::default(), &free)
            .await?;
    }
    Ok(took)
}

/// Milliseconds from an edit of an object that is among the last in the queue until its status reports it.
async fn edits(bed: &Bed, namespace: &str, size: Size) -> Result<Vec<f64>> {
    let gadgets: Api<Gadget> = Api::namespaced(bed.plane.client(), namespace);
    let mut took = Vec::new();
    for number in (0..size.objects).rev().step_by(7).take(EDITS) {
        let name = name(number);
        let edit = Patch::Merge(json!({"spec": {"replicas": 5}}));
        let began = Instant::now();
        gadgets.patch(&name, &PatchParams::default(), &edit).await?;
        loop {
            let seen = gadgets.get(&name).await?.status;
            if seen.is_some_and(|status| status.observed_generation == Some(2)) {
                break;
            }
            anyhow::ensure!(began.elapsed() < DEADLINE, "{name} was edited and not reconciled");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}
