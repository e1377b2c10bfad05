//! What a `DdbctlDpJob` promises, against a real API server and a real DynamoDB implementation.

#![allow(unreachable_pub, reason = "modules of a test are not a crate's surface")]

mod bed;

use bed::{BYSTANDER, Bed, VICTIM};
use testkit::dynamodb::Server;

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_job_empties_its_partition_proves_it_and_touches_no_other() {
    for server in Server::all().await.unwrap() {
        let bed = Bed::new(server, 1000).await;
        let endpoint = bed.server.endpoint();
        let operator = bed.operator(&endpoint);
        bed.create("x", bed.spec(&endpoint)).await;
        let status = bed.until("x", "True", "PartitionEmpty").await;
        assert_eq!((bed.count(VICTIM).await, bed.count(BYSTANDER).await), (0, 30));
        assert_eq!(status.plan.unwrap().items, 1000);
        assert_eq!(status.progress.unwrap().keys_acknowledged, 1000);
        assert!(status.completion_time.is_some() && status.table_id.is_some());
        operator.stop().await;
    }
}
