//! One job, from creation to success, in a world of its own.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use dynamodb_api::DdbctlDpJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::ListParams};
use reconcile::{client::wire_layer, clock::Clock, conditions};
use testkit::{
    dynamodb::{KeyType, Server},
    fault::{CrashSite, FaultPlan, Report, Schedule, crash::Harness, kube::FaultLayer},
};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, server},
    operator::Operator,
};

/// Items of the victim: three requests delete them.
pub const ITEMS: u64 = 60;
/// How much faster than real time: fast enough for backoffs, slow enough that timers send no request of their own in
/// most runs.
pub const SPEED: u32 = 20;
/// Batches that delete them.
const BATCHES: u64 = ITEMS.div_ceil(25);
/// Pages that one life reads: the first of a range is often its last. To measure, to delete, and to prove.
const PAGES: u64 = 6;
/// Looks at the table that one life takes: to measure, to delete, and to prove.
const LOOKS: u64 = 3;
/// How often the table is looked at besides, in seconds of the operator's clock, while items are deleted from it.
const GUARD_SECONDS: u64 = 2;

/// Every kind of request that a job's run takes, apart from those of a Secret and of a lease, which it has none of: what
/// `rbac.yaml` grants, and what the documentation asks for in AWS.
pub const SITES: [&str; 11] = [
    "GET customresourcedefinitions",
    "LIST ddbctldpjobs",
    "WATCH ddbctldpjobs",
    "GET ddbctldpjobs",
    "PATCH ddbctldpjobs",
    "PATCH ddbctldpjobs/status",
    "GET configmaps",
    "POST configmaps",
    "DynamoDB DescribeTable",
    "DynamoDB Query",
    "DynamoDB BatchWriteItem",
];

pub const JOB: &str = "x";

/// Whether the long loops were asked for.
pub fn full() -> bool {
    std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1")
}

/// A harness for this suite.
pub fn harness(name: &str) -> Harness {
    Harness::new(name)
        .clock(Clock::accelerated(SPEED))
        .deadline(Duration::from_secs(120))
}

/// A bed with a job in it, and a bystander that another client wrote.
pub async fn world(plan: FaultPlan) -> anyhow::Result<Bed> {
    sized(plan, ITEMS).await
}

/// A world whose victim has this many items.
pub async fn sized(plan: FaultPlan, items: u64) -> anyhow::Result<Bed> {
    Ok(sized_on(server().await, plan, items).await)
}

/// The same, on this implementation of DynamoDB.
pub async fn sized_on(server: Server, plan: FaultPlan, items: u64) -> Bed {
    let key = (KeyType::S, |table| table);
    let bed = Bed::planned(&plan, SPEED, server, items, key).await;
    bed.create(JOB, bed.spec()).await;
    bed
}

/// Crashes at every `stride`-th request of a job's run, as far as it needs requests.
///
/// What an operator leaves behind when it dies is what its requests have done so far, and nothing else. That is the same
/// whether it dies when a request has taken effect and is not answered yet, or when the answer has come, or before the next
/// one is sent. So by default each request has one of the first two in turn, and every fourth also the last; the long loops
/// try all three at each.
pub async fn crash_at_every_request(
    harness: Harness,
    stride: u64,
    make: impl AsyncFn(FaultPlan) -> anyhow::Result<Bed>,
    run: impl AsyncFn(Arc<Bed>, FaultPlan) -> anyhow::Result<()> + Copy + Send + Sync + 'static,
    check: impl AsyncFn(Arc<Bed>) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    if full() {
        return harness.crash_at_every_request(make, run, check).await;
    }
    let crashes = |request: u64| {
        let turn = request / stride;
        let mut sites = vec![[CrashSite::Lost, CrashSite::After][usize::from(turn.is_multiple_of(2))]];
        if turn.is_multiple_of(4) {
            sites.push(CrashSite::Before);
        }
        sites
            .into_iter()
            .map(move |site| Schedule::default().crash(request, site))
    };
    let mut report = harness
        .schedules([Schedule::default()], &make, run, &check)
        .await?;
    let (mut from, mut to) = (1, report.requests);
    while !report.replayed {
        let schedules = (from..=to).step_by(usize::try_from(stride)?).flat_map(crashes);
        let crashed = harness.schedules(schedules, &make, run, &check).await?;
        let done = from > 1 && crashed.injected == 0;
        report.merge(crashed);
        if done {
            break;
        }
        // Timing may let a run need more requests than the first did.
        (from, to) = (to + 1, to + stride);
    }
    Ok(report)
}

/// A crash at the first request of this kind, in each of the ways.
pub fn crash_at_first(kind: &str) -> impl Iterator<Item = Schedule> {
    let others = SITES.into_iter().chain(["POST events", "PATCH events"]);
    let spared = others
        .filter(|other| *other != kind)
        .fold(Schedule::default(), Schedule::sparing);
    CrashSite::ALL
        .into_iter()
        .map(move |site| spared.clone().crash(1, site))
}

/// One incarnation: runs the operator until the job has ended.
pub async fn run(world: Arc<Bed>, plan: FaultPlan) -> anyhow::Result<()> {
    let operator = Operator::start(
        world.plane.config().clone(),
        &[world.namespace.name()],
        &world.endpoint(),
        |options, _| {
            options.clock = world.clock.clone();
            options.wire = Some(wire_layer(FaultLayer::new(&plan)));
        },
    );
    let jobs: Api<DdbctlDpJob> = Api::namespaced(world.plane.client(), world.namespace.name());
    loop {
        let status = jobs.get(JOB).await?.status.unwrap_or_default();
        let summary = conditions::find(&status.conditions, "Succeeded");
        match summary.map(|summary| summary.status.as_str()) {
            Some("True") => {
                // Whoever counts at the moment of success must find nothing.
                let value = world.key_type.value(VICTIM);
                let left = world.server.count_partition(&world.table, value).await?;
                ensure!(left == 0, "Succeeded=True with {left} items left");
                break;
            }
            Some("False") => bail!("the job failed: {summary:?}"),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    operator.stop().await;
    Ok(())
}

/// Nothing is left, and nothing else is gone, counted by another client.
pub async fn check_items(world: &Bed) -> anyhow::Result<()> {
    let (left, bystanders) = world.counts().await;
    ensure!(left == 0, "{left} items are left");
    ensure!(
        bystanders == BYSTANDERS,
        "{} foreign items are gone",
        BYSTANDERS - bystanders
    );
    Ok(())
}

/// What must hold afterwards, seen by other clients.
pub async fn check(world: Arc<Bed>) -> anyhow::Result<()> {
    check_items(&world).await?;
    let status = world.status(JOB).await;
    ensure!(
        conditions::is_true(&status.conditions, "Succeeded"),
        "it no longer succeeded: {status:?}"
    );
    ensure!(
        status.plan.is_some() && status.table_id.is_some(),
        "nothing was recorded: {status:?}"
    );
    let records: Api<ConfigMap> = Api::namespaced(world.plane.client(), world.namespace.name());
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=dynamoctl-dp-operator");
    let records = records.list(&ours).await.context("the records")?.items.len();
    ensure!(
        records == 1,
        "{records} records of the run: a job created again would run again"
    );
    Ok(())
}

/// [`check`], and that DynamoDB was asked little: what `lives` incarnations need, and each disturbed request again.
pub async fn check_bounded(world: Arc<Bed>, lives: u64) -> anyhow::Result<()> {
    let asked = world.proxy.audit().counts();
    let count = |operation: &str| asked.get(&format!("DynamoDB {operation}")).copied().unwrap_or(0);
    let guards = world.clock.elapsed().as_secs() / GUARD_SECONDS;
    // The request that is disturbed may be any of them, and is sent again by its own life or by the next.
    for (operation, most) in [
        ("BatchWriteItem", lives * BATCHES + 1),
        ("Query", lives * PAGES + 2),
        ("DescribeTable", lives * LOOKS + 1 + guards),
    ] {
        let asked = count(operation);
        ensure!(
            asked <= most,
            "{asked} of {operation}, {most} are enough for {lives} lives"
        );
    }
    check(world).await
}

/// Fails unless every kind of request was seen.
pub fn reached_every_site(report: &Report) {
    let missed: Vec<_> = SITES
        .iter()
        .filter(|site| !report.sites.contains(**site))
        .collect();
    assert!(
        missed.is_empty(),
        "no plan came to {missed:?}: {:?}",
        report.sites
    );
}

/// The kinds of requests at which no operator died.
pub fn never_crashed_at(report: &Report) -> Vec<&'static str> {
    let died = |site: &str| report.crash_sites.iter().any(|(at, _)| at == site);
    SITES.iter().copied().filter(|site| !died(site)).collect()
}

/// Fails unless operators died at every kind of request, before, in and after; the long loops do so in nearly each way at
/// each kind: the request of a number is not the same in every run.
pub fn crashed_at_every_site(report: &Report) {
    let died = |site: &str| report.crash_sites.iter().filter(|(at, _)| at == site).count();
    let missed = never_crashed_at(report);
    assert!(missed.is_empty(), "no operator died at {missed:?}");
    let by = |way| report.crash_sites.iter().any(|(_, site)| *site == way);
    assert!(CrashSite::ALL.into_iter().all(by), "{:?}", report.crash_sites);
    let (ways, all) = (
        SITES.iter().map(|site| died(site)).sum::<usize>(),
        3 * SITES.len(),
    );
    assert!(
        !full() || ways * 5 >= all * 4,
        "operators died in {ways} of {all} ways: {:?}",
        report.crash_sites
    );
}

/// No DynamoDB request is counted or disturbed.
pub fn kubernetes_only() -> Schedule {
    ["DescribeTable", "Query", "BatchWriteItem"]
        .into_iter()
        .fold(Schedule::default(), |schedule, operation| {
            schedule.sparing(&format!("DynamoDB {operation}"))
        })
}
