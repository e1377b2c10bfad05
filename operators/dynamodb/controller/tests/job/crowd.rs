//! Many jobs at once.

use std::time::Duration;

use serde_json::json;
use testkit::audit::Filter;

use crate::bed::{BYSTANDERS, Bed, Gate, eventually, server, written};

const SMALL: u64 = 100;
/// Items of each small job.
const FEW: u64 = 10;
/// The first small partition.
const FIRST: u64 = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_small_jobs_pass_by_a_big_one_whose_requests_all_hang() {
    let bed = Bed::new(server().await, 3000).await;
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
    // One after the other: a look at all of them at once would keep the machine busier than they do.
    for number in FIRST..FIRST + SMALL {
        bed.until(&format!("small-{number}"), "True", "PartitionEmpty")
            .await;
    }
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

/// How often a table is looked at while items are deleted from it.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_dozen_jobs_on_a_table_look_at_it_as_often_as_one() {
    let bed = Bed::new(server().await, 0).await;
    let operator = bed.operator();
    // None gets an answer to its deletions, so that all of them are at it.
    let gate = Gate::after(&bed.faults, 1);
    let jobs: Vec<_> = (FIRST..FIRST + 12).collect();
    let name = |number: &u64| format!("held-{number}");
    for number in &jobs {
        bed.fill(*number, 0..FEW).await;
        let mut spec = bed.spec();
        spec.partition_value = Some(written(bed.key_type, *number));
        bed.create(&name(number), spec).await;
    }
    for number in &jobs {
        bed.until(&name(number), "Unknown", "Deleting").await;
    }
    let looks = || bed.proxy.audit().count("DynamoDB DescribeTable");
    let (began, before) = (bed.clock.elapsed(), looks());
    let more = eventually("they look at the table", async || match looks() - before {
        more if more >= 12 => Ok(more),
        more => Err(more.to_string()),
    })
    .await;
    let took = bed.clock.elapsed().saturating_sub(began);
    // Each on its own, they would take these looks, and as many again, in the time of one.
    let most = took.as_secs() / BETWEEN_LOOKS.as_secs() + jobs.len() as u64 / 2;
    assert!(more <= most, "{more} looks in {took:?}");
    gate.open();
    for number in &jobs {
        bed.until(&name(number), "True", "PartitionEmpty").await;
    }
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

/// Items of a job that takes minutes at one a second, also by a clock that is sped up.
const LONG: u64 = 3000;

/// Whoever takes over waits for the lease meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_goes_only_tells_what_its_jobs_have_done() {
    let bed = Bed::new(server().await, 0).await;
    let client = bed.plane.client();
    let begin = bed.plane.audit().settle(&client).await.unwrap();
    let operator = bed.operator();
    let jobs: Vec<_> = (FIRST..FIRST + 6).collect();
    for number in &jobs {
        bed.fill(*number, 0..LONG).await;
        let mut spec = bed.spec();
        spec.partition_value = Some(written(bed.key_type, *number));
        spec.max_wcu_per_second = Some(1);
        bed.create(&format!("slow-{number}"), spec).await;
    }
    for number in &jobs {
        bed.until(&format!("slow-{number}"), "Unknown", "Deleting").await;
    }
    let reads = Filter::default().namespace(bed.namespace.name()).verb("get");
    let asked = bed.plane.audit().query(&client, begin, &reads).await.unwrap();
    assert!(asked.len() >= jobs.len(), "it reads before it begins: {asked:?}");
    let before = bed.plane.audit().settle(&client).await.unwrap();
    operator.stop().await;
    let asked = bed.plane.audit().query(&client, before, &reads).await.unwrap();
    assert!(asked.is_empty(), "to begin what is not begun any more: {asked:?}");
    // And the jobs go on from there.
    let operator = bed.operator();
    for number in &jobs {
        let name = format!("slow-{number}");
        bed.patch(&name, json!({"spec": {"maxWcuPerSecond": null}})).await;
        bed.until(&name, "True", "PartitionEmpty").await;
    }
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}
