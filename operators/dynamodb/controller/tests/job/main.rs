//! What a `DdbctlDpJob` promises, against a real API server and a real DynamoDB implementation.

#![allow(unreachable_pub, reason = "modules of a test are not a crate's surface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod bed;
mod credentials;
mod crowd;
mod input;
mod lifecycle;
mod limits;
mod manifests;
mod operator;
mod quiet;
mod reach;
mod recovery;
mod removal;
mod rerun;
mod rights;
mod rounds;
mod schema;
mod scope;
mod surprises;
mod takeover;
mod tenants;
mod tuning;
mod upgrade;
mod writer;

use bed::{BYSTANDERS, Bed, acknowledged, servers};

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_job_empties_its_partition_proves_it_and_touches_no_other() {
    for server in servers().await {
        let bed = Bed::new(server, 1000).await;
        let operator = bed.operator();
        bed.create("x", bed.spec()).await;
        let status = bed.until("x", "True", "PartitionEmpty").await;
        assert_eq!(bed.counts().await, (0, BYSTANDERS));
        assert_eq!(status.plan.as_ref().unwrap().items, 1000);
        assert_eq!(acknowledged(&status), 1000);
        assert!(status.completion_time.is_some() && status.table_id.is_some());
        let told = bed.until_event("x", "PartitionEmpty").await.note.unwrap();
        assert!(told.contains("1000 deletions acknowledged"), "{told}");
        operator.stop().await;
    }
}
