//! A plain client, once through the fault proxy and once beside it.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    operation::batch_write_item::{BatchWriteItemError, BatchWriteItemOutput},
    types::{AttributeValue, DeleteRequest, ReturnConsumedCapacity, WriteRequest},
};

use super::*;
use crate::{
    dynamodb::{Fill, KeyType, Server, Table, client, client_as},
    fault::{
        FaultPlan,
        proxy::{Options, Proxy},
    },
};

struct Bed {
    server: Server,
    table: Table,
    faults: Faults,
    proxy: Proxy,
    client: Client,
}

/// One tenant's items behind a fault proxy whose clock runs 100 times as fast.
async fn bed(items: u64, change: impl FnOnce(&mut Settings)) -> Bed {
    let server = Server::embedded().unwrap();
    let table = Table::new("orders", "pk", KeyType::S).sorted_by("sk", KeyType::N);
    server.create_table(&table).await.unwrap();
    server.fill(&table, &Fill::new(tenant(), 0..items)).await.unwrap();
    let faults = Faults::new(Clock::accelerated(100)).with(change);
    let proxy = Proxy::start(
        server.address(),
        faults.clone(),
        Options::new(&FaultPlan::default()),
    )
    .unwrap();
    let client = client(&proxy.endpoint());
    Bed {
        server,
        table,
        faults,
        proxy,
        client,
    }
}

fn tenant() -> AttributeValue {
    AttributeValue::S("tenant".into())
}

fn key(n: u64) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("pk".to_owned(), tenant()),
        ("sk".to_owned(), KeyType::N.value(n)),
    ])
}

fn deletes(numbers: impl IntoIterator<Item = u64>) -> Vec<WriteRequest> {
    let delete = |n| DeleteRequest::builder().set_key(Some(key(n))).build().unwrap();
    numbers
        .into_iter()
        .map(|n| WriteRequest::builder().delete_request(delete(n)).build())
        .collect()
}

impl Bed {
    async fn delete(&self, writes: Vec<WriteRequest>) -> Result<BatchWriteItemOutput, BatchWriteItemError> {
        let request = self.client.batch_write_item().request_items("orders", writes);
        let request = request.return_consumed_capacity(ReturnConsumedCapacity::Total);
        request
            .send()
            .await
            .map_err(aws_sdk_dynamodb::error::SdkError::into_service_error)
    }

    async fn left(&self) -> u64 {
        self.server.count_partition(&self.table, tenant()).await.unwrap()
    }

    async fn listed(&self, consistent: bool, limit: Option<i32>) -> Vec<u64> {
        let query = self
            .client
            .query()
            .table_name("orders")
            .consistent_read(consistent)
            .set_limit(limit);
        let page = query
            .key_condition_expression("pk = :pk AND sk BETWEEN :low AND :high")
            .expression_attribute_values(":pk", tenant())
            .expression_attribute_values(":low", KeyType::N.value(0))
            .expression_attribute_values(":high", KeyType::N.value(99))
            .projection_expression("pk, sk")
            .send()
            .await
            .unwrap();
        let numbers = page.items().iter().map(|item| {
            assert!(!item.contains_key("payload"), "more was returned than asked for");
            item["sk"].as_n().unwrap().parse().unwrap()
        });
        numbers.collect()
    }
}

fn unprocessed(output: &BatchWriteItemOutput) -> Vec<WriteRequest> {
    output
        .unprocessed_items()
        .and_then(|items| items.get("orders"))
        .cloned()
        .unwrap_or_default()
}

fn units(output: &BatchWriteItemOutput) -> f64 {
    output
        .consumed_capacity()
        .iter()
        .filter_map(|capacity| capacity.capacity_units)
        .sum()
}

#[tokio::test]
async fn unprocessed_keys_are_exactly_those_that_stay() {
    let bed = bed(500, |settings| settings.unprocessed = 20).await;
    let mut withheld = 0;
    for batch in 0..20 {
        let output = bed.delete(deletes(batch * 25..(batch + 1) * 25)).await.unwrap();
        let here = u32::try_from(unprocessed(&output).len()).unwrap();
        assert!(
            (units(&output) - f64::from(25 - here)).abs() < 0.01,
            "capacity of what was not done was reported"
        );
        withheld += u64::from(here);
    }
    assert!(
        (60..140).contains(&withheld),
        "{withheld} of 500 were withheld at 20 %"
    );
    assert_eq!(bed.left().await, withheld);
    assert_eq!(bed.faults.deleted(), 500 - withheld);
}

#[tokio::test]
async fn retrying_the_unprocessed_ends() {
    let bed = bed(25, |settings| settings.unprocessed = 60).await;
    let mut writes = deletes(0..25);
    while !writes.is_empty() {
        match bed.delete(writes.clone()).await {
            Ok(output) => writes = unprocessed(&output),
            Err(error) => assert!(error.is_provisioned_throughput_exceeded_exception(), "{error:?}"),
        }
    }
    assert_eq!(bed.left().await, 0);
}

#[tokio::test]
async fn a_throttled_batch_says_why_and_changes_nothing() {
    for on_demand in [false, true] {
        let throttle = Throttle {
            percent: 100,
            on_demand,
            reason: "IndexWriteProvisionedThroughputExceeded",
            index: Some("byStatus".into()),
        };
        let bed = bed(25, |settings| settings.throttle = Some(throttle)).await;
        let reasons = match bed.delete(deletes(0..25)).await.unwrap_err() {
            BatchWriteItemError::ProvisionedThroughputExceededException(error) if !on_demand => {
                error.throttling_reasons().to_vec()
            }
            BatchWriteItemError::ThrottlingException(error) if on_demand => {
                error.throttling_reasons().to_vec()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            reasons[0].reason(),
            Some("IndexWriteProvisionedThroughputExceeded")
        );
        assert!(
            reasons[0]
                .resource()
                .unwrap()
                .ends_with("table/orders/index/byStatus")
        );
        assert_eq!(bed.left().await, 25);
        bed.faults.set(|settings| settings.throttle = None);
        bed.delete(deletes(0..25)).await.unwrap();
        assert_eq!(bed.left().await, 0);
    }
}

#[tokio::test]
async fn partitions_by_sort_key_have_limits_of_their_own() {
    let limit = Limit::ranges("orders", "sk", vec![serde_json::json!({ "N": "100" })], 0.1);
    let bed = bed(200, |settings| {
        settings.limits = vec![limit.burst(Duration::from_secs(100))];
    })
    .await;
    // Ten units each, refilled at ten per second of real time: the first batch meets ten of the lower partition.
    let output = bed.delete(deletes(0..25)).await.unwrap();
    let left = unprocessed(&output).len();
    assert!((5..=15).contains(&left), "{left}");
    let refused = bed.delete(deletes(0..25)).await;
    let processed = refused.map_or(0, |output| 25 - unprocessed(&output).len());
    assert!(processed <= 5, "the lower partition took {processed} more");
    let upper = bed.delete(deletes(100..110)).await.unwrap();
    assert!(
        unprocessed(&upper).is_empty(),
        "the upper partition paid for the lower one"
    );
}

#[tokio::test]
async fn a_partition_delivers_its_rate() {
    let limit = Limit::hashed("orders", 4, 25.0).burst(Duration::from_millis(100));
    let bed = bed(500, |settings| settings.limits = vec![limit]).await;
    let clock = Clock::accelerated(100);
    let mut writes = deletes(0..500);
    while !writes.is_empty() {
        let batch: Vec<_> = writes.drain(..writes.len().min(25)).collect();
        match bed.delete(batch.clone()).await {
            Ok(output) => writes.extend(unprocessed(&output)),
            Err(_) => writes.extend(batch),
        }
    }
    // 500 units at 100 per second, less what was saved up, plus what one slow client wastes.
    let took = clock.elapsed();
    assert!(
        took >= Duration::from_secs(4),
        "500 units passed in {took:?} at 100 per second"
    );
    assert_eq!(bed.left().await, 0);
}

#[tokio::test]
async fn an_index_throttles_by_name() {
    let bed = bed(50, |settings| {
        settings.limits = vec![Limit::index("orders", "byStatus", 0.01)];
    })
    .await;
    assert_eq!(unprocessed(&bed.delete(deletes(0..25)).await.unwrap()).len(), 24);
    let error = bed.delete(deletes(1..25)).await.unwrap_err();
    let BatchWriteItemError::ProvisionedThroughputExceededException(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        error.throttling_reasons()[0].reason(),
        Some("IndexWriteProvisionedThroughputExceeded")
    );
}

#[tokio::test]
async fn deleted_items_are_still_seen_for_a_while_except_by_consistent_reads() {
    let bed = bed(10, |settings| settings.stale = Duration::from_hours(1)).await;
    bed.delete(deletes([2, 3, 9])).await.unwrap();
    assert_eq!(bed.listed(true, None).await, [0, 1, 4, 5, 6, 7, 8]);
    assert_eq!(bed.listed(false, None).await, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(bed.listed(false, Some(4)).await, [0, 1, 2, 3]);
    bed.faults
        .set(|settings| settings.stale = Duration::from_nanos(1));
    assert_eq!(bed.listed(false, None).await, [0, 1, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_stale_query_pages_to_its_end_without_loss_or_repetition() {
    let bed = bed(60, |settings| settings.stale = Duration::from_hours(1)).await;
    bed.delete(deletes((0..25).map(|n| n * 2))).await.unwrap();
    for forward in [true, false] {
        let pages = bed
            .client
            .query()
            .table_name("orders")
            .limit(7)
            .scan_index_forward(forward);
        let pages = pages
            .key_condition_expression("#p = :p")
            .expression_attribute_names("#p", "pk");
        let pages = pages
            .expression_attribute_values(":p", tenant())
            .into_paginator()
            .items()
            .send();
        let items = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        let mut seen: Vec<u64> = items
            .iter()
            .map(|item| item["sk"].as_n().unwrap().parse().unwrap())
            .collect();
        if !forward {
            seen.reverse();
        }
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_token_expires_after_its_calls_and_a_fresh_one_works() {
    let bed = bed(0, |settings| settings.expire_after = Some(2)).await;
    let describe = async |client: &Client| client.describe_table().table_name("orders").send().await;
    describe(&bed.client).await.unwrap();
    describe(&bed.client).await.unwrap();
    let expired = describe(&bed.client).await.unwrap_err();
    assert_eq!(expired.code(), Some("ExpiredTokenException"));
    describe(&client_as(&bed.proxy.endpoint(), "FRESH"))
        .await
        .unwrap();
    assert_eq!(bed.proxy.audit().signers().len(), 2);
}

#[tokio::test]
async fn a_denied_operation_is_named_and_others_pass() {
    let bed = bed(1, |settings| settings.denied = vec!["DescribeTable".into()]).await;
    let denied = bed
        .client
        .describe_table()
        .table_name("orders")
        .send()
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Some("AccessDeniedException"));
    assert!(denied.message().unwrap().contains("dynamodb:DescribeTable"));
    bed.delete(deletes([0])).await.unwrap();
}

#[tokio::test]
async fn a_hook_runs_once_in_the_middle_of_a_run() {
    let bed = bed(100, |_| ()).await;
    let (server, table) = (bed.server.clone(), bed.table.clone());
    let recreate: Hook = Arc::new(move || {
        let (server, table) = (server.clone(), table.clone());
        Box::pin(async move { server.recreate_table(&table).await.unwrap() })
    });
    bed.faults.set(|settings| settings.hooks.push((50, recreate)));
    bed.delete(deletes(0..25)).await.unwrap();
    assert_eq!(bed.left().await, 75);
    bed.delete(deletes(25..50)).await.unwrap();
    assert_eq!(bed.left().await, 0, "the table was not replaced");
    bed.server
        .fill(&bed.table, &Fill::new(tenant(), 50..60))
        .await
        .unwrap();
    bed.delete(deletes(50..55)).await.unwrap();
    assert_eq!(bed.left().await, 5, "the hook ran twice");
}

#[tokio::test]
async fn injected_statuses_are_worded_as_the_service_words_them() {
    use crate::fault::{Fault, Schedule, schedule::Which};

    let server = Server::embedded().unwrap();
    let schedule = Schedule::default()
        .at("DynamoDB ListTables", Which::Nth(1), Fault::status(500))
        .at("DynamoDB ListTables", Which::Nth(2), Fault::throttle(1));
    let faults = Faults::new(Clock::system());
    let proxy = Proxy::start(server.address(), faults, Options::new(&FaultPlan::new(schedule))).unwrap();
    let client = client(&proxy.endpoint());
    assert_eq!(
        client.list_tables().send().await.unwrap_err().code(),
        Some("InternalServerError")
    );
    assert_eq!(
        client.list_tables().send().await.unwrap_err().code(),
        Some("ThrottlingException")
    );
    client.list_tables().send().await.unwrap();
    assert_eq!(proxy.audit().count("DynamoDB ListTables"), 3);
}
