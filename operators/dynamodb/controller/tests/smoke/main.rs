//! The shipped program as pods of a real cluster, installed from its chart with the rights that the chart gives it and
//! no others, under the restricted Pod Security Standard.

use std::{net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use testkit::{
    cluster::{
        Cluster,
        installation::{CRASH, Installation, Plan, UPDATE},
    },
    dynamodb::{Fill, KeyType, Server, Table},
};
use tokio::net::{TcpListener, TcpStream};

const ITEMS: u64 = 5000;
/// Slow enough for the pod to be killed in mid-run.
const WCU_PER_SECOND: u32 = 250;
const UNTOUCHED: u64 = 40;

const PLAN: Plan = Plan {
    chart: "dynamoctl-dp-operator",
    name: "dynamodb-smoke",
    kinds: "ddbctldpjobs",
    pod_security: "restricted",
    everywhere: &[],
    sweep: "",
};

/// Makes `server`, which listens on loopback, reachable from the cluster's pods; returns its address for them.
async fn published(cluster: &Cluster, server: &Server) -> Result<SocketAddr> {
    let host = cluster.host_address().await?;
    let listener = TcpListener::bind((host, 0)).await?;
    let (address, target) = (listener.local_addr()?, server.address());
    tokio::spawn(async move {
        while let Ok((mut pod, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    // Either side may hang up.
                    tokio::io::copy_bidirectional(&mut pod, &mut server).await.ok();
                }
            });
        }
    });
    Ok(address)
}

fn partition(number: u64) -> AttributeValue {
    AttributeValue::S(format!("tenant-{number}"))
}

async fn filled(server: &Server) -> Result<Table> {
    let table = Table::new("Orders", "tenant", KeyType::S).sorted_by("order", KeyType::S);
    server.create_table(&table).await?;
    for (number, items) in [(1, ITEMS), (11, UNTOUCHED)] {
        let fill = Fill::new(partition(number), 0..items);
        server.fill(&table, &fill).await?;
    }
    Ok(table)
}

fn job(endpoint: &str) -> String {
    json!({
        "apiVersion": "dynamoctl.dp.operators.sanjivmadhavan.io/v1alpha1",
        "kind": "DdbctlDpJob",
        "metadata": { "name": "tenant-1" },
        "spec": {
            "tableName": "Orders",
            "partitionValue": "tenant-1",
            "endpointURL": endpoint,
            "maxWcuPerSecond": WCU_PER_SECOND,
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn smoke_as_a_pod_it_empties_a_partition_although_its_pod_is_killed_in_mid_run() -> Result<()> {
    reconcile::cli::install_crypto_provider();
    let operator = Installation::prepare(Cluster::shared().await?, PLAN).await?;
    let server = Server::embedded()?;
    let table = filled(&server).await?;
    let endpoint = format!("http://{}", published(operator.cluster(), &server).await?);
    let program = Path::new(env!("CARGO_BIN_EXE_dynamoctl"));
    operator
        .install(program, &json!({"allowedEndpoints": [endpoint]}))
        .await?;
    operator.test().await?;
    for namespace in [&operator.add_neighbour().await?, operator.name()] {
        let apply = ["--namespace", namespace, "apply", "--filename=-"];
        operator.kubectl(&apply, &job(&endpoint)).await?;
    }

    let left = async || server.count_partition(&table, partition(1)).await;
    operator
        .eventually("some items are gone", async || Ok(left().await? < ITEMS))
        .await?;
    let handover = operator.kill_leader().await?;
    let at_the_kill = left().await?;
    ensure!(at_the_kill > 0, "it was done before it could be killed");

    // Every pod is replaced while it deletes.
    ensure!(left().await? > 0, "it was done before its pods were replaced");
    let gap = operator.update().await?;
    ensure!(gap < UPDATE, "nobody led for {gap:?} during an update");
    let succeeded = [
        "wait",
        "--for=condition=Succeeded",
        "ddbctldpjob/tenant-1",
        "--timeout=120s",
    ];
    operator.kubectl(&succeeded, "").await?;
    ensure!(left().await? == 0);
    ensure!(server.count_partition(&table, partition(11)).await? == UNTOUCHED);
    operator.spares_its_neighbour().await?;
    let crash = operator.takeover(&handover).await?;
    ensure!(crash < CRASH, "nobody led for {crash:?} after a crash");
    testkit::progress::line(&format!(
        "dynamoctl: crash to takeover {crash:?}, longest gap of an update {gap:?}"
    ));

    operator
        .kubectl(&["delete", "ddbctldpjob/tenant-1", "--timeout=60s"], "")
        .await?;
    let left = operator.uninstall().await?;
    let lease = format!("lease.coordination.k8s.io/{}", operator.name());
    ensure!(
        left.iter()
            .all(|name| *name == lease || name.starts_with("configmap/ddbctldpjob-ran-")),
        "{left:?}"
    );
    Ok(())
}
