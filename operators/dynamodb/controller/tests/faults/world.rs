//! One job, from creation to success, in a world of its own.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use dynamodb_api::DdbctlDpJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::ListParams};
use reconcile::{client::wire_layer, clock::Clock, conditions};
use testkit::fault::{FaultPlan, Schedule, crash::Harness, kube::FaultLayer, report::Coverage};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, server},
    operator::Operator,
};

/// Items of the victim: three requests delete them.
pub const ITEMS: u64 = 60;
/// How much faster than real time: fast enough for backoffs, slow enough that timers send no request of their own in
/// most runs.
pub const SPEED: u32 = 20;
/// What DynamoDB is asked at most by one run, over all of its incarnations.
const MOST_REQUESTS: u64 = 150;
/// Of these, how many delete: each batch once, again after a lost answer, and again by the next incarnation.
const MOST_BATCHES: u64 = 15;

const JOB: &str = "x";

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
    let key = (testkit::dynamodb::KeyType::S, |table| table);
    let bed = Bed::planned(&plan, SPEED, server().await, items, key).await;
    bed.create(JOB, bed.spec()).await;
    Ok(bed)
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

/// What must hold afterwards, seen by other clients.
pub async fn check(world: Arc<Bed>) -> anyhow::Result<()> {
    let (left, bystanders) = world.counts().await;
    ensure!(left == 0, "{left} items are left");
    ensure!(
        bystanders == BYSTANDERS,
        "{} foreign items are gone",
        BYSTANDERS - bystanders
    );
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

/// [`check`], and that few requests were needed.
pub async fn check_bounded(world: Arc<Bed>) -> anyhow::Result<()> {
    let asked = world.proxy.audit().counts();
    let total: u64 = asked.values().sum();
    let batches = asked.get("DynamoDB BatchWriteItem").copied().unwrap_or(0);
    ensure!(
        total <= MOST_REQUESTS && batches <= MOST_BATCHES,
        "too many requests: {asked:?}"
    );
    check(world).await
}

/// The least that a loop over every `stride`-th request has to cover.
pub fn coverage(plans: usize, sites: usize, crash_sites: usize) -> Coverage {
    Coverage {
        plans,
        sites,
        crash_sites,
    }
}

/// No DynamoDB request is counted or disturbed.
pub fn kubernetes_only() -> Schedule {
    ["DescribeTable", "Query", "BatchWriteItem"]
        .into_iter()
        .fold(Schedule::default(), |schedule, operation| {
            schedule.sparing(&format!("DynamoDB {operation}"))
        })
}
