//! A replica that takes over.

use dynamodb_api::DdbctlDpJobSpec;
use dynamodb_controller::manager;
use reconcile::{
    client::wire_layer,
    conditions,
    leader::{LeaderConfig, Timing},
};
use serde_json::json;
use testkit::fault::{FaultPlan, kube::FaultLayer};

use crate::{
    bed::{BYSTANDERS, Bed, Gate, VICTIM, eventually, server},
    operator::Operator,
};

/// One of several operators, by a lease in the bed's namespace; `plan` stands between it and the API server.
fn replica(bed: &Bed, plan: Option<&FaultPlan>) -> Operator {
    bed.operator_with(|options, _| {
        let mut election = LeaderConfig::new(manager::NAME, bed.namespace.name());
        election.timing = Timing::DEFAULT;
        options.leader_election = Some(election);
        options.wire = plan.map(|plan| wire_layer(FaultLayer::new(plan)));
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_watch_stood_still_takes_over_what_the_job_is_and_not_what_it_was() {
    let bed = Bed::new(server().await, 60).await;
    let gate = Gate::after(&bed.faults, 1);
    let leader = replica(&bed, None);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    // Its list shows the job at work. After that nothing reaches it.
    let deaf = FaultPlan::clocked("WATCH ddbctldpjobs#1+=hang".parse().unwrap(), bed.clock.clone());
    let standby = replica(&bed, Some(&deaf));
    eventually("the standby has not listed the jobs", async || {
        let sites = deaf.sites();
        let watches = sites.contains_key("WATCH ddbctldpjobs");
        if watches {
            Ok(())
        } else {
            Err(format!("{sites:?}"))
        }
    })
    .await;
    gate.open();
    bed.until("x", "True", "PartitionEmpty").await;
    bed.fill(VICTIM, 0..50).await;
    let ended = bed.jobs.get("x").await.unwrap();

    leader.stop().await;
    eventually("the standby has not looked at the job", async || {
        let passes = standby.counter(&["controller_runtime_reconcile_total", "success"]);
        if passes > 0.0 {
            Ok(())
        } else {
            Err(passes.to_string())
        }
    })
    .await;
    standby.stop().await;
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    assert_eq!(bed.jobs.get("x").await.unwrap(), ended, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_begun_waits_while_the_operators_flags_forbid_it_and_goes_on_when_they_do_not() {
    let bed = Bed::new(server().await, 2000).await;
    let gate = Gate::after(&bed.faults, 30);
    let operator = bed.operator();
    // Slow enough not to end before it is stopped.
    let slow = DdbctlDpJobSpec {
        max_wcu_per_second: Some(5),
        ..bed.spec()
    };
    bed.create("x", slow).await;
    gate.until_held().await;
    gate.open();
    operator.stop().await;
    let left = bed.count(VICTIM).await;
    assert!(left > 0, "it had ended before the flags changed");

    let other = bed.operator_with(|_, policy| policy.endpoints = "aws".parse().unwrap());
    let status = bed.until("x", "Unknown", "EndpointNotAllowed").await;
    assert!(conditions::is_true(&status.conditions, "Stalled"), "{status:?}");
    let told = &conditions::find(&status.conditions, "Succeeded").unwrap().message;
    assert!(
        told.contains("waits until") && !told.contains("create the job"),
        "{told}"
    );
    // One that has not begun is refused for good.
    bed.create("new", bed.spec()).await;
    bed.until("new", "False", "EndpointNotAllowed").await;
    assert_eq!(bed.count(VICTIM).await, left);
    other.stop().await;

    let operator = bed.operator();
    bed.patch("x", json!({ "spec": { "maxWcuPerSecond": null } }))
        .await;
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}
