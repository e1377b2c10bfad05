//! What many servers cost while nothing happens: no write at all.

use std::time::Duration;

use kube::api::ListParams;
use serde_json::json;
use testkit::{audit::Filter, progress};
use tokio::time::Instant;

use crate::bed::{Bed, spec};

/// How long nobody may write, in real time: with the operator's clock every object is looked at twice meanwhile.
const QUIET: Duration = Duration::from_secs(14);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_servers_that_are_as_they_should_be_cost_no_write() {
    let full = std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1");
    let count: u32 = if full { 100 } else { 10 };
    let bed = Bed::new().await;
    for n in 0..count {
        bed.create(&format!("idle-{n}"), spec(&json!({"password": "in-clear"})))
            .await;
    }
    for n in 0..count {
        bed.ready(&format!("idle-{n}")).await;
    }
    let audit = bed.plane().audit();
    let all = Filter::all()
        .user_agent("mysql-operator")
        .namespace(bed.namespace.name());
    let writes = Filter::writes()
        .user_agent("mysql-operator")
        .namespace(bed.namespace.name());
    // What is still on its way (an event, a Pod that has just become ready) arrives first.
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        let begin = audit.settle(&bed.client).await.unwrap();
        tokio::time::sleep(QUIET).await;
        let wrote = audit.query(&bed.client, begin, &writes).await.unwrap();
        if wrote.is_empty() {
            let asked = audit.query(&bed.client, begin, &all).await.unwrap();
            assert!(
                asked.len() >= count as usize,
                "it looked at them meanwhile: {}",
                asked.len()
            );
            progress::line(&format!(
                "{count} servers: {} requests in two looks, no write",
                asked.len()
            ));
            break;
        }
        assert!(Instant::now() < deadline, "still written to: {wrote:#?}");
    }
    let objects = bed.databases.list(&ListParams::default()).await.unwrap();
    assert_eq!(objects.items.len(), count as usize);
    bed.stop().await;
}
