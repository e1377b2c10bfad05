//! Single requests that fail, and what no plan of faults brings about.

use std::sync::Arc;

use anyhow::{Result, ensure};
use docker_controller::engine::{ContainerPlan, Failure};
use testkit::fault::{Fault, FaultPlan, Schedule};

use crate::{
    objects::reason,
    world::{CONTROL_PLANE, Operator, WORKER, check, coverage, full, harness, run, up, world},
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_at_random_cost_no_machine() {
    let seeds = if full() { 300 } else { 5 };
    let schedules = (0..seeds).map(|seed| Schedule::default().seeded(seed, 150, 2));
    let report = harness("random faults")
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(5, 20, 0)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_got_lost_is_found_out() {
    let schedules = [
        "create",
        "start",
        "exec",
        "write",
        "signal",
        "remove",
        "create network",
    ]
    .map(|operation| {
        Schedule::default().at(
            &format!("Docker {operation}"),
            testkit::fault::schedule::Which::Nth(1),
            Fault::Lose,
        )
    });
    let report = harness("lost answers")
        .schedules(schedules, world, run, check)
        .await
        .unwrap();
    report.at_least(coverage(7, 20, 0)).unwrap();
}

/// A machine whose container is gone is not made a second time: its data went with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_published_machine_that_is_lost_is_reported_and_not_made_again() -> Result<()> {
    let plan = FaultPlan::new(Schedule::default());
    let world = Arc::new(world(plan.clone()).await?);
    let operator = Operator::start(&world, &plan);
    let objects = world.objects();
    up(&world, &objects).await?;
    let name = format!("{WORKER}.{}", world.namespace.name());
    world.daemon.lock().remove(&name)?;
    loop {
        let object = objects.get("DockerMachine", WORKER).await?.unwrap_or_default();
        if reason(&object, "ContainerProvisioned") == Some("NotProvisioned") {
            break;
        }
        ensure!(
            world.daemon.lock().started[WORKER] == 1,
            "the machine was made again"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    operator.stop().await;
    Ok(())
}

/// A stranger's container of the very name that a machine would have.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_container_of_our_name_is_left_alone() -> Result<()> {
    let plan = FaultPlan::new(Schedule::default());
    let world = Arc::new(world(plan.clone()).await?);
    let name = format!("{CONTROL_PLANE}.{}", world.namespace.name());
    let stranger = ContainerPlan {
        name: name.clone(),
        network: "strangers".into(),
        ..ContainerPlan::default()
    };
    world.daemon.lock().create(&stranger)?;
    let operator = Operator::start(&world, &plan);
    let objects = world.objects();
    loop {
        objects
            .status(
                "Cluster",
                "c1",
                serde_json::json!({"initialization": {"infrastructureProvisioned": true}}),
            )
            .await?;
        let object = objects
            .get("DockerMachine", CONTROL_PLANE)
            .await?
            .unwrap_or_default();
        if reason(&object, "Ready") == Some("NameConflict") {
            break;
        }
        ensure!(
            object["spec"]["providerID"].is_null(),
            "the stranger's container was taken for the machine"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let error = world.daemon.lock().create(&stranger).unwrap_err();
    ensure!(
        error.kind == Failure::NameTaken,
        "the stranger's container is gone"
    );
    operator.stop().await;
    Ok(())
}
