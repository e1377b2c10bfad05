//! What a job deletes, and how fast.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use testkit::dynamodb::{KeyType, faults::Hook};

use crate::bed::{BYSTANDERS, Bed, VICTIM, eventually, message, server, servers, written};

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_the_sort_key_deletes_its_range_and_nothing_beside_it() {
    for server in servers().await {
        let bed = Bed::new(server, 100).await;
        let operator = bed.operator();
        let mut left = 100;
        for (name, condition, items) in [
            ("eq", json!({ "eq": "99" }), 1),
            ("lt", json!({ "lt": "10" }), 10),
            ("le", json!({ "le": "10" }), 1),
            ("gt", json!({ "gt": "98" }), 0),
            ("ge", json!({ "ge": "90" }), 9),
            (
                "between",
                json!({ "between": { "from": "50", "to": "59.5" } }),
                10,
            ),
        ] {
            let mut spec = bed.spec();
            spec.sort_key = serde_json::from_value(condition).unwrap();
            bed.create(name, spec).await;
            let status = bed.until(name, "True", "PartitionEmpty").await;
            // The partition is not empty, and nobody says that it is.
            let extent = "asked range of sort keys of the partition";
            let found = format!("nothing left in the {extent}");
            assert!(message(&status).contains(&found), "{}", message(&status));
            let planned = bed.until_event(name, "Planned").await.note.unwrap();
            let ended = bed.until_event(name, "PartitionEmpty").await.note.unwrap();
            assert!(
                planned.contains(&format!("The {extent} holds {items} items")),
                "{planned}"
            );
            assert!(ended.contains(&found), "{ended}");
            assert_eq!(status.plan.unwrap().items, items, "{name}");
            left -= u64::try_from(items).unwrap();
            assert_eq!(bed.counts().await, (left, BYSTANDERS), "{name}");
        }
        operator.stop().await;
    }
}

/// Text and bytes have prefixes. The test bed's keys: numbers as twelve digits, or as eight bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_a_sort_key_of_text_or_bytes_deletes_its_range_and_nothing_beside_it() {
    let text = |n: u64| written(KeyType::S, n);
    let bytes = |n: u64| written(KeyType::B, n);
    let (fifty, sixty) = (bytes(50), bytes(60));
    // The first seven bytes of eight, in base64: all numbers from 256 to 511.
    let second_page = STANDARD.encode(&256_u64.to_be_bytes()[..7]);
    let conditions = [
        (KeyType::S, "prefix", json!({ "beginsWith": "00000000004" }), 10),
        (KeyType::S, "eq", json!({ "eq": text(99) }), 1),
        (KeyType::S, "lt", json!({ "lt": text(10) }), 10),
        (
            KeyType::S,
            "between",
            json!({ "between": { "from": text(50), "to": text(59) } }),
            10,
        ),
        (KeyType::S, "ge", json!({ "ge": text(290) }), 10),
        (KeyType::B, "prefix", json!({ "beginsWith": second_page }), 44),
        (KeyType::B, "le", json!({ "le": fifty }), 51),
        (
            KeyType::B,
            "between",
            json!({ "between": { "from": fifty, "to": sixty } }),
            10,
        ),
        (KeyType::B, "gt", json!({ "gt": bytes(250) }), 5),
    ];
    for server in servers().await {
        for key_type in [KeyType::S, KeyType::B] {
            let bed = Bed::with(server.clone(), 300, KeyType::S, |table| {
                table.sorted_by("sk", key_type)
            })
            .await;
            let operator = bed.operator();
            let mut left = 300;
            for (_, name, condition, items) in conditions.iter().filter(|(of, ..)| *of == key_type) {
                let mut spec = bed.spec();
                spec.sort_key = serde_json::from_value(condition.clone()).unwrap();
                bed.create(name, spec).await;
                let status = bed.until(name, "True", "PartitionEmpty").await;
                assert_eq!(status.plan.unwrap().items, *items, "{key_type:?} {name}");
                left -= u64::try_from(*items).unwrap();
                assert_eq!(bed.counts().await, (left, BYSTANDERS), "{key_type:?} {name}");
            }
            operator.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_write_capacity_is_kept_and_followed_while_the_job_runs() {
    const ITEMS: u64 = 8000;
    const SLOW: u64 = 2;
    /// Twice what may be in flight at once, so that most of it was sent at the pace.
    const SEEN: u64 = 800;
    const IN_FLIGHT: u64 = 16 * 25;
    let bed = Bed::new(server().await, ITEMS).await;
    let operator = bed.operator();
    let mut spec = bed.spec();
    spec.max_wcu_per_second = Some(i32::try_from(SLOW).unwrap());
    let began = bed.clock.elapsed();
    // Keys are only counted while something waits for a number of them.
    let never: Hook = Arc::new(|| Box::pin(async {}));
    bed.faults
        .set(|settings| settings.hooks = vec![(u64::MAX, never)]);
    bed.create("x", spec).await;
    eventually("deletions go on", async || {
        let deleted = bed.faults.deleted();
        if deleted >= SEEN {
            Ok(())
        } else {
            Err(deleted.to_string())
        }
    })
    .await;
    let (deleted, now) = (bed.faults.deleted(), bed.clock.elapsed());
    // What is in flight at once comes on top.
    let allowed = now.saturating_sub(began).as_secs() * SLOW + IN_FLIGHT;
    assert!(
        deleted <= allowed,
        "{deleted} keys at {SLOW} WCU/s, where {allowed} are allowed"
    );

    let tuned = bed.clock.elapsed();
    bed.patch("x", json!({ "spec": { "maxWcuPerSecond": 1_000_000 } }))
        .await;
    bed.until("x", "True", "PartitionEmpty").await;
    let took = bed.clock.elapsed().saturating_sub(tuned);
    let at_the_old_pace = Duration::from_secs((ITEMS - deleted - IN_FLIGHT) / SLOW);
    assert!(
        took < at_the_old_pace / 2,
        "the new limit was not followed: {took:?} instead of {at_the_old_pace:?}"
    );
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_partition_succeeds_at_once() {
    for server in servers().await {
        let bed = Bed::new(server, 0).await;
        let operator = bed.operator();
        bed.create("x", bed.spec()).await;
        let status = bed.until("x", "True", "PartitionEmpty").await;
        assert_eq!(status.plan.unwrap().items, 0);
        assert_eq!(bed.proxy.audit().count("DynamoDB BatchWriteItem"), 0);
        assert_eq!(bed.counts().await, (0, BYSTANDERS));
        assert_eq!(bed.count(VICTIM).await, 0);
        operator.stop().await;
    }
}
