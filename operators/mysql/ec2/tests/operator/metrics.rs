//! What `/metrics` says.

use reconcile::manager::Options;
use testkit::{bench::Exposition, process::free_port};

use crate::bed::{Bed, eventually, sample, says};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_are_counted_under_the_names_that_dashboards_know() {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let metrics = address.clone();
    let bed = Bed::with(async |_, setup| {
        setup.options = Options {
            metrics_address: metrics,
            ..setup.options.clone()
        };
    })
    .await;
    let scrape = async || Exposition::scrape(address.parse().unwrap()).await.unwrap();
    let total = "mysqlcluster_reconciles_total";

    bed.create("counted", sample(1)).await;
    bed.until("counted", "it is ready", |cluster| {
        says(cluster, "Ready", "True", "Replicating")
    })
    .await;
    let seen = scrape().await;
    let passes = seen.sum(total, &[("error", "")]);
    assert!(passes >= 1.0);
    assert!(seen.sum("mysqlcluster_reconciles_duration_seconds_count", &[]) >= passes);
    assert!(seen.sum("mysqlcluster_reconciles_duration_seconds_sum", &[]) > 0.0);
    let standard = [("controller", "mysqlcluster")];
    assert!(seen.sum("controller_runtime_reconcile_total", &standard) >= passes);

    bed.ec2
        .world()
        .deny("DescribeInstances", Some("UnauthorizedOperation"));
    bed.create("denied", sample(1)).await;
    bed.until("denied", "it says so", |cluster| {
        says(cluster, "Ready", "False", "CredentialsInvalid")
    })
    .await;
    // A pass is counted when it is over, which is after it has said so.
    eventually("it is counted", async || {
        scrape().await.sum(total, &[("error", "denied")]) >= 1.0
    })
    .await;
    bed.stop().await;
}
