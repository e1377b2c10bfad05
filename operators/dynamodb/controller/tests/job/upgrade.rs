//! Jobs that an earlier release has left are not touched: one that is done, and one that was suspended half-way.
//!
//! `golden/<version>.json` has them with the record of the first and the operator's lease, as the API server stored them under that
//! release. A release writes its own: `GOLDEN=v0.1.0 cargo test --test job -- can_be_recorded`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dynamodb_api::DdbctlDpJob;
use dynamodb_controller::manager;
use kube::{Api, api::DeleteParams};
use reconcile::{
    clock::Clock,
    leader::{LeaderConfig, Timing},
};
use serde_json::{Value, json};
use testkit::golden::{self, Upgrade};

use crate::{
    bed::{Bed, Gate, SPEED, VICTIM, crd, eventually, server},
    operator::Operator,
};

const KINDS: [(&str, &str); 3] = [
    ("dynamoctl.dp.operators.sanjivmadhavan.io/v1alpha1", "DdbctlDpJob"),
    ("v1", "ConfigMap"),
    ("coordination.k8s.io/v1", "Lease"),
];

/// The lease that it leads by.
fn election(namespace: &str) -> LeaderConfig {
    let mut election = LeaderConfig::new(manager::NAME, namespace);
    election.timing = Timing::FAST;
    election
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/job/golden")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_release_leaves_can_be_recorded() {
    let bed = Bed::new(server().await, 50).await;
    let lease = election(bed.namespace.name());
    let operator = bed.operator_with(|options, _| options.leader_election = Some(lease));
    bed.create("done", bed.spec()).await;
    bed.until("done", "True", "PartitionEmpty").await;
    bed.fill(VICTIM, 0..1200).await;
    let gate = Gate::after(&bed.faults, 300);
    bed.create("suspended", bed.spec()).await;
    gate.until_held().await;
    bed.patch("suspended", json!({ "spec": { "suspend": true } }))
        .await;
    bed.until("suspended", "Unknown", "Running").await;
    gate.open();
    bed.until_condition("suspended", "Suspended", "True", "Suspended")
        .await;
    operator.stop().await;
    let client = bed.plane.client();
    let left = golden::objects(&client, bed.namespace.name(), &KINDS)
        .await
        .unwrap();
    let count = |kind: &str| left.iter().filter(|object| object["kind"] == kind).count();
    // The job that is done has left its record.
    let counts = (count("DdbctlDpJob"), count("ConfigMap"), count("Lease"));
    assert_eq!(counts, (2, 1, 1), "{left:#?}");
    golden::record(&folder(), &left).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_releases_have_left_is_not_touched_and_what_happens_meanwhile_is_not_lost() {
    for (release, left) in golden::releases::<Vec<Value>>(&folder()).unwrap() {
        eprintln!("{release}");
        let upgrade = Upgrade::begin(&[crd()], &left).await.unwrap();
        let jobs: Vec<_> = left
            .iter()
            .filter(|object| object["kind"] == "DdbctlDpJob")
            .collect();
        // Nobody is there any more: whoever asks DynamoDB fails.
        let endpoint = jobs[0]["spec"]["endpointURL"].as_str().unwrap();
        let config = upgrade.plane.config().clone();
        let operator = Operator::start(config, &[upgrade.namespace()], endpoint, |options, _| {
            options.clock = Clock::accelerated(SPEED);
            options.sync_period = Duration::from_secs(30);
            options.leader_election = Some(election(upgrade.namespace()));
        });
        let passes = |result: &str| operator.counter(&["controller_runtime_reconcile_total", result]);
        eventually("every job is looked at twice", async || match passes("") {
            enough if enough >= 2.0 * jobs.len() as f64 => Ok(()),
            few => Err(few.to_string()),
        })
        .await;
        upgrade.untouched(manager::NAME).await.unwrap();
        assert!(passes("result=\"error\"") < 1.0, "a pass failed");
        operator.stop().await;

        // What somebody deletes while no operator runs.
        let namespace = upgrade.namespace();
        let all: Api<DdbctlDpJob> = Api::namespaced(upgrade.plane.client(), namespace);
        all.delete("suspended", &DeleteParams::default()).await.unwrap();
        let config = upgrade.plane.config().clone();
        let operator = Operator::start(config, &[namespace], endpoint, |options, _| {
            options.clock = Clock::accelerated(SPEED);
            options.leader_election = Some(election(namespace));
        });
        eventually("the deletion is carried out", async || {
            match all.get_opt("suspended").await.unwrap() {
                None => Ok(()),
                Some(job) => Err(format!("{job:#?}")),
            }
        })
        .await;
        operator.stop().await;
    }
}
