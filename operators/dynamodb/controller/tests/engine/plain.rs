//! Without faults: every kind of key, every size, nothing but the partition.

use dynamodb_api::{Reason, RunMode, SortKeyBounds, SortKeyPredicate};
use dynamodb_controller::partition::{End, Request, Tuning};
use rstest::rstest;
use testkit::dynamodb::{KeyType, Table};

use crate::bed::Bed;

#[rstest]
#[case::strings(KeyType::S, KeyType::S)]
#[case::numbers(KeyType::N, KeyType::N)]
#[case::bytes(KeyType::B, KeyType::B)]
#[case::mixed(KeyType::N, KeyType::S)]
#[tokio::test]
async fn a_partition_of_any_key_type_is_emptied_and_others_stay(#[case] key: KeyType, #[case] sort: KeyType) {
    let bed = Bed::new(Table::new("Things", "pk", key).sorted_by("sk", sort), key, 3000).await;
    let finished = bed.run(bed.request()).await.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(finished.totals.keys_acknowledged, 3000);
    assert_eq!(finished.totals.keys_read, 3000, "each key is read once");
    assert!(finished.totals.wcu_milli >= 3_000_000, "{:?}", finished.totals);
    assert_eq!(bed.left().await, 0);
    bed.others_are_untouched().await;
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(25)]
#[case(26)]
#[case(501)]
#[tokio::test]
async fn a_partition_of_any_size_is_emptied(#[case] items: u64) {
    let bed = Bed::orders(items).await;
    let finished = bed.run(bed.request()).await.unwrap();
    assert_eq!(
        (finished.end, finished.totals.keys_acknowledged),
        (End::Empty, items)
    );
    assert_eq!(bed.left().await, 0);
    bed.others_are_untouched().await;
}

/// A hundred thousand items under `--full`.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_partition_is_emptied_in_one_pass() {
    let full = std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1");
    let items = if full { 100_000 } else { 20_000 };
    let bed = Bed::orders(items).await;
    let finished = bed.run(bed.request()).await.unwrap();
    assert_eq!((finished.end, finished.rounds), (End::Empty, 1));
    assert_eq!(finished.totals.keys_acknowledged, items);
    assert_eq!(finished.totals.keys_read, items, "nothing is read twice");
    assert_eq!(bed.left().await, 0);
    bed.others_are_untouched().await;
}

#[rstest]
#[case::reserved("status", "order")]
#[case::odd("order-id", "line.no#1 x")]
#[case::like_an_alias("#p", ":p")]
#[tokio::test]
async fn any_attribute_name_works(#[case] partition: &str, #[case] sort: &str) {
    let bed = Bed::new(
        Table::new("Things", partition, KeyType::S).sorted_by(sort, KeyType::N),
        KeyType::S,
        60,
    )
    .await;
    assert_eq!(bed.run(bed.request()).await.unwrap().end, End::Empty);
    assert_eq!(bed.left().await, 0);
    bed.others_are_untouched().await;
}

#[tokio::test]
async fn a_table_without_a_sort_key_loses_one_item() {
    let bed = Bed::unsorted().await;
    let before = bed.server.count_table(&bed.table).await.unwrap();
    let finished = bed.run(bed.request()).await.unwrap();
    assert_eq!((finished.end, finished.totals.keys_acknowledged), (End::Empty, 1));
    assert_eq!(bed.server.count_table(&bed.table).await.unwrap(), before - 1);
}

#[tokio::test]
async fn a_table_with_a_local_index_is_worked_on_in_one_range() {
    let table = Table::new("Things", "pk", KeyType::S)
        .sorted_by("sk", KeyType::S)
        .local_index("at", KeyType::S);
    let bed = Bed::new(table, KeyType::S, 2500).await;
    let finished = bed.run(bed.request()).await.unwrap();
    assert_eq!(
        (finished.end, finished.totals.keys_acknowledged),
        (End::Empty, 2500)
    );
    assert!(
        finished.totals.wcu_milli >= 5_000_000,
        "the index is counted: {:?}",
        finished.totals
    );
    assert_eq!(bed.left().await, 0);
    bed.others_are_untouched().await;
}

/// A condition of each kind on 3,000 numbered sort keys, and how many it selects.
fn conditions() -> Vec<(SortKeyPredicate, u64)> {
    let key = |n: u64| Some(format!("{n:012}"));
    let none = SortKeyPredicate::default;
    vec![
        (SortKeyPredicate { eq: key(5), ..none() }, 1),
        (
            SortKeyPredicate {
                lt: key(1000),
                ..none()
            },
            1000,
        ),
        (
            SortKeyPredicate {
                le: key(1000),
                ..none()
            },
            1001,
        ),
        (
            SortKeyPredicate {
                gt: key(1000),
                ..none()
            },
            1999,
        ),
        (
            SortKeyPredicate {
                ge: key(1000),
                ..none()
            },
            2000,
        ),
        (
            SortKeyPredicate {
                begins_with: Some("0000000012".into()),
                ..none()
            },
            100,
        ),
        (
            SortKeyPredicate {
                between: Some(SortKeyBounds {
                    from: format!("{:012}", 100),
                    to: format!("{:012}", 2899),
                }),
                ..none()
            },
            2800,
        ),
    ]
}

#[tokio::test]
async fn a_sort_key_condition_deletes_exactly_what_it_selects() {
    for (condition, selected) in conditions() {
        let bed = Bed::orders(3000).await;
        let request = Request {
            sort_key: Some(condition.clone()),
            // Small pages cut the range often.
            tuning: Tuning {
                page_keys: 100,
                ..Tuning::default()
            },
            ..bed.request()
        };
        let finished = bed.run(request).await.unwrap();
        assert_eq!(
            (finished.end, finished.totals.keys_acknowledged),
            (End::Empty, selected),
            "{condition:?}"
        );
        assert_eq!(bed.left().await, 3000 - selected, "{condition:?}");
    }
}

#[tokio::test]
async fn a_dry_run_plans_exactly_and_deletes_nothing() {
    let bed = Bed::orders(12_345).await;
    let engine = dynamodb_controller::partition::Engine::default();
    let request = Request {
        mode: RunMode::DryRun,
        ..bed.request()
    };
    let prepared = engine
        .prepare(&bed.client(), request, bed.control())
        .await
        .unwrap();
    let plan = prepared.plan().unwrap().clone();
    assert_eq!((plan.items, plan.complete), (12_345, true));
    assert!(plan.wcu_min >= 12_345 && plan.wcu_min <= plan.wcu_max, "{plan:?}");
    assert!((12_345 * 100..12_345 * 400).contains(&plan.bytes), "{plan:?}");
    assert_eq!(prepared.execute().await.unwrap().end, End::Planned);
    assert_eq!(bed.left().await, 12_345);
}

#[tokio::test]
async fn a_plan_does_not_count_the_key_behind_a_prefix() {
    let bed = Bed::orders(3000).await;
    // The least key above everything that begins with 000000001.
    let put = bed.client().put_item().table_name("Orders");
    let put = put.item("pk", bed.key_type.value(crate::bed::TENANT)).item(
        "sk",
        aws_sdk_dynamodb::types::AttributeValue::S("000000002".into()),
    );
    put.send().await.unwrap();
    for (prefix, selected) in [("000000001", 1000), ("000000000012", 1)] {
        let request = Request {
            mode: RunMode::DryRun,
            sort_key: Some(SortKeyPredicate {
                begins_with: Some(prefix.into()),
                ..SortKeyPredicate::default()
            }),
            ..bed.request()
        };
        let engine = dynamodb_controller::partition::Engine::default();
        let prepared = engine.prepare(&bed.client(), request, bed.control()).await;
        let plan = prepared.unwrap().plan().cloned().unwrap();
        assert_eq!(
            (plan.items, plan.complete),
            (selected, true),
            "{prefix}: {plan:?}"
        );
    }
}

#[tokio::test]
async fn a_plan_above_the_limits_deletes_nothing() {
    let bed = Bed::orders(200).await;
    for request in [
        Request {
            max_items: Some(199),
            ..bed.request()
        },
        Request {
            max_wcu_total: Some(100),
            ..bed.request()
        },
    ] {
        assert_eq!(bed.run(request).await.unwrap_err().reason, Reason::LimitExceeded);
    }
    assert_eq!(bed.left().await, 200);
    let exact = Request {
        max_items: Some(200),
        max_wcu_total: Some(200),
        ..bed.request()
    };
    assert_eq!(bed.run(exact).await.unwrap().end, End::Empty);
}

#[tokio::test]
async fn bad_input_is_refused_with_its_reason_before_anything_is_deleted() {
    let bed = Bed::new(
        Table::new("Things", "pk", KeyType::N).sorted_by("sk", KeyType::N),
        KeyType::N,
        10,
    )
    .await;
    let value = |value: &str| Request {
        partition_value: value.into(),
        ..bed.request()
    };
    for (request, reason) in [
        (
            Request {
                table: "nothing".into(),
                ..bed.request()
            },
            Reason::TableNotFound,
        ),
        (value("abc"), Reason::PartitionValueInvalid),
        (value(&"1".repeat(39)), Reason::PartitionValueInvalid),
        (value(""), Reason::PartitionValueInvalid),
        (
            Request {
                key_type: Some(dynamodb_api::AttributeType::S),
                ..bed.request()
            },
            Reason::KeyTypeMismatch,
        ),
        (
            Request {
                table_id: Some("another".into()),
                ..bed.request()
            },
            Reason::TableReplaced,
        ),
        (
            Request {
                require_point_in_time_recovery: true,
                ..bed.request()
            },
            Reason::PointInTimeRecoveryDisabled,
        ),
        (
            Request {
                table: "x".repeat(300),
                ..bed.request()
            },
            Reason::RequestRejected,
        ),
    ] {
        let failure = bed.run(request).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{failure}");
    }
    assert_eq!(bed.left().await, 10);
}
