//! Many jobs at once.

use kube::api::ListParams;
use reconcile::conditions;

use crate::bed::{BYSTANDERS, Bed, Gate, eventually, server, written};

const SMALL: u64 = 100;
/// Items of each small job.
const FEW: u64 = 10;
/// The first small partition.
const FIRST: u64 = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_small_jobs_pass_by_a_big_one_whose_requests_all_hang() {
    let bed = Bed::new(server().await, 20_000).await;
    let operator = bed.operator_with(|_, policy| {
        policy.endpoints = format!("{},{}", bed.endpoint(), bed.server.endpoint())
            .parse()
            .unwrap();
    });
    let gate = Gate::after(&bed.faults, 500);
    bed.create("big", bed.spec()).await;
    gate.until_held().await;
    for number in FIRST..FIRST + SMALL {
        bed.fill(number, 0..FEW).await;
        let mut spec = bed.spec();
        // Past the gate, to the same table.
        spec.endpoint_url = Some(bed.server.endpoint());
        spec.partition_value = Some(written(bed.key_type, number));
        bed.create(&format!("small-{number}"), spec).await;
    }
    eventually("the small jobs succeed", async || {
        let all = bed.jobs.list(&ListParams::default()).await.unwrap();
        let succeeded = all.iter().filter(|job| {
            let status = job.status.as_ref();
            status.is_some_and(|status| conditions::is_true(&status.conditions, "Succeeded"))
        });
        match succeeded.count() {
            count if u64::try_from(count).unwrap() == SMALL => Ok(()),
            count => Err(format!("{count} of {SMALL}")),
        }
    })
    .await;
    gate.open();
    bed.until("big", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    assert_eq!(
        bed.server.count_table(&bed.table).await.unwrap(),
        BYSTANDERS,
        "each partition is empty"
    );
    operator.stop().await;
}
