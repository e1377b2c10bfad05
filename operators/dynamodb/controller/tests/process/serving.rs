//! Probes, metrics, and a start without what is needed.

use testkit::control_plane::{ControlPlane, Options};

use crate::{
    bed::{Bed, crd, eventually, server},
    replica::{Replica, Start, get},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_crd_the_operator_waits_unready_and_begins_when_it_is_there() {
    reconcile::cli::install_crypto_provider();
    // Others need the CRD: a control plane of its own.
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let replica = Replica::of(&plane, "default", "aws", Start::default());
    let unready = eventually("the probes are served", async || {
        get(replica.probes, "/readyz").ok_or_else(|| replica.log())
    })
    .await;
    assert_eq!(unready.0, 500, "{unready:?}");
    assert!(unready.1.contains("crds"), "{unready:?}");
    assert_eq!(get(replica.probes, "/healthz"), Some((200, "ok".to_owned())));
    eventually("the missing CRD is named", async || {
        let log = replica.log();
        if log.contains("ddbctldpjobs.dynamoctl") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    plane.apply_crds(&[crd()]).await.unwrap();
    replica.until_ready().await;
    assert_eq!(get(replica.probes, "/readyz"), Some((200, "ok".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_and_ends_the_operator() {
    let bed = Bed::new(server().await, 0).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut replica = Replica::start(
        &bed,
        Start {
            probes: Some(address),
            ..Start::default()
        },
    );
    assert!(!replica.ended().await);
    let log = replica.log();
    assert!(
        log.contains(&address.to_string()) && log.to_lowercase().contains("in use"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_with_the_names_that_dashboards_know_beside_the_operators_own() {
    let bed = Bed::new(server().await, 200).await;
    let replica = Replica::start(&bed, Start::default());
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    let wanted = [
        "controller_runtime_reconcile_total{controller=\"ddbctldpjob\",result=\"success\"}",
        "controller_runtime_max_concurrent_reconciles{controller=\"ddbctldpjob\"} 10",
        "workqueue_depth{",
        "rest_client_requests_total{",
        "process_resident_memory_bytes",
        "dynamoctl_partition_keys_acknowledged_total 200",
        "dynamoctl_partition_tasks 0",
    ];
    eventually("a metric is missing", async || {
        let (_, body) = get(replica.metrics, "/metrics").ok_or_else(|| replica.log())?;
        let missing: Vec<_> = wanted.iter().filter(|wanted| !body.contains(**wanted)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} in\n{body}"))
        }
    })
    .await;
    // No label holds the name of an object, a table or a key.
    let (_, body) = get(replica.metrics, "/metrics").unwrap();
    assert!(!body.contains(bed.table.name()), "{body}");
}
