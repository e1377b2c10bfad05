//! What others do to the table while a job runs.

use std::sync::Arc;

use serde_json::json;
use testkit::dynamodb::{
    Fill, KeyType,
    faults::{Hook, Limit, Throttle},
};

use crate::{
    bed::{BYSTANDERS, Bed, Gate, VICTIM, acknowledged, message, server, servers},
    writer::{aside, writer},
};

#[tokio::test(flavor = "multi_thread")]
async fn items_that_are_written_behind_the_readers_are_found_and_deleted_before_success() {
    for server in servers().await {
        let bed = Bed::new(server, 500).await;
        let operator = bed.operator();
        bed.faults.set(|settings| {
            settings.hooks = vec![(490, writer(&bed, 0..20)), (515, writer(&bed, 0..5))];
        });
        bed.create("x", bed.spec()).await;
        let status = bed.until("x", "True", "PartitionEmpty").await;
        assert_eq!(bed.counts().await, (0, BYSTANDERS));
        assert!(acknowledged(&status) >= 525, "{status:?}");
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_somebody_keeps_writing_to_is_never_called_empty() {
    let bed = Bed::new(server().await, 100).await;
    let operator = bed.operator();
    // Each deletion is followed by another item.
    bed.faults.set(|settings| {
        settings.hooks = (100..1000).map(|deleted| (deleted, writer(&bed, 7..8))).collect();
    });
    bed.create("x", bed.spec()).await;
    let status = bed.until("x", "False", "PartitionNotEmpty").await;
    assert!(
        message(&status).contains("stop the writers"),
        "{}",
        message(&status)
    );
    bed.until_event("x", "PartitionNotEmpty").await;
    assert_eq!(bed.counts().await, (1, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_replaced_while_the_job_rested_loses_nothing() {
    for server in servers().await {
        let bed = Bed::new(server, 1000).await;
        let operator = bed.operator();
        let gate = Gate::after(&bed.faults, 100);
        bed.create("x", bed.spec()).await;
        gate.until_held().await;
        bed.patch("x", json!({ "spec": { "suspend": true } })).await;
        bed.until("x", "Unknown", "Running").await;
        gate.open();
        bed.until_condition("x", "Suspended", "True", "Suspended").await;
        bed.server.recreate_table(&bed.table).await.unwrap();
        bed.fill(VICTIM, 0..60).await;
        bed.patch("x", json!({ "spec": { "suspend": false } })).await;
        let status = bed.until("x", "False", "TableReplaced").await;
        assert!(message(&status).contains("created again"), "{}", message(&status));
        bed.until_event("x", "TableReplaced").await;
        assert_eq!(bed.count(VICTIM).await, 60, "the new table's items stay");
        operator.stop().await;
    }
}

/// Drops the table, makes it anew and writes 60 items with other keys to it.
fn replacement(bed: &Bed) -> Hook {
    let (server, table) = (bed.server.clone(), bed.table.clone());
    let fill = Fill::new(bed.key_type.value(VICTIM), 5000..5060);
    Arc::new(move || {
        let (server, table, fill) = (server.clone(), table.clone(), fill.clone());
        aside(move || async move {
            server.recreate_table(&table).await.unwrap();
            server.fill(&table, &fill).await.unwrap();
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_replaced_in_mid_run_ends_the_job_and_its_new_items_stay() {
    // Every key of this partition is known before the first is deleted. At the end, the consistent read finds items.
    for deleted in [100, 400] {
        let bed = Bed::new(server().await, 400).await;
        let operator = bed.operator();
        bed.faults
            .set(|settings| settings.hooks = vec![(deleted, replacement(&bed))]);
        bed.create("x", bed.spec()).await;
        let reason = bed.until_failed("x").await;
        // Between the two tables there is none.
        assert!(
            ["TableReplaced", "TableNotFound"].contains(&reason.as_str()),
            "{reason}"
        );
        bed.until_event("x", &reason).await;
        operator.stop().await;
        assert_eq!(
            bed.count(VICTIM).await,
            60,
            "the new table's items stay (after {deleted})"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_cannot_follow_is_named_as_the_bottleneck_and_the_job_still_ends() {
    let bed = Bed::with(server().await, 1000, KeyType::S, |table| {
        table.global_index("state", KeyType::S)
    })
    .await;
    let operator = bed.operator();
    let limit = Limit::index(bed.table.name(), "state-index", 5.0);
    bed.faults.set(|settings| settings.limits = vec![limit]);
    bed.create("x", bed.spec()).await;
    let status = bed
        .until_condition("x", "Throttled", "True", "IndexThrottled")
        .await;
    let condition = reconcile::conditions::find(&status.conditions, "Throttled").unwrap();
    assert!(condition.message.contains("state-index"), "{}", condition.message);
    let event = bed.until_event("x", "IndexThrottled").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    bed.faults.set(|settings| settings.limits.clear());
    let status = bed.until("x", "True", "PartitionEmpty").await;
    let progress = status.progress.unwrap();
    assert!(progress.throttles + progress.unprocessed_retries > 0);
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_fails_no_job_however_long_it_lasts_and_counts_as_no_idle_round() {
    let bed = Bed::new(server().await, 200).await;
    let operator = bed.operator();
    let throttle = Throttle {
        percent: 100,
        on_demand: true,
        reason: "TableWriteAccountLimitExceeded",
        index: None,
    };
    bed.faults.set(|settings| settings.throttle = Some(throttle));
    let mut spec = bed.spec();
    spec.backoff_limit = 0;
    bed.create("x", spec).await;
    bed.until_condition("x", "Throttled", "True", "AccountThrottled")
        .await;
    bed.until_event("x", "AccountThrottled").await;
    bed.faults.set(|settings| settings.throttle = None);
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}
