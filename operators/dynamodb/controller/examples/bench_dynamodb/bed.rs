//! A server, a table, and a client as the operator makes them.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use dynamodb_controller::{connection::Connector, credentials, endpoint::Endpoint};
use testkit::dynamodb::{Fill, KeyType, Server, Table};

/// The distance of a server in the same region, there and back.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);
/// The partition that is emptied.
pub(crate) const VICTIM: u64 = 1;

/// A table on a server.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) table: Table,
}

impl Bed {
    /// An empty table.
    pub(crate) async fn new(server: Server) -> Result<Self> {
        let table = Table::new("bench", "pk", KeyType::S).sorted_by("sk", KeyType::S);
        server.create_table(&table).await?;
        Ok(Self { server, table })
    }

    /// Fills a partition with items of this many bytes beside their keys.
    pub(crate) async fn fill(&self, partition: u64, items: u64, payload: usize) -> Result<()> {
        let fill = Fill::new(KeyType::S.value(partition), 0..items).payload(payload);
        self.server.fill(&self.table, &fill).await
    }

    /// Fails unless the victim is empty.
    pub(crate) async fn check_empty(&self, by: &str) -> Result<()> {
        let left = self
            .server
            .count_partition(&self.table, KeyType::S.value(VICTIM))
            .await?;
        ensure!(left == 0, "{by} left {left} items on {}", self.server.name());
        Ok(())
    }
}

/// A client as the operator makes it, for whoever is measured: connections, timeouts, no retries.
pub(crate) fn client(endpoint: &str) -> Result<Client> {
    let endpoint = Endpoint::parse(endpoint)?;
    Ok(Connector::new().client(&endpoint, "us-east-1", credentials::placeholder()))
}

/// The partition's value in the form that requests take.
pub(crate) fn partition_value() -> AttributeValue {
    KeyType::S.value(VICTIM)
}

/// The partition's value as users write it.
pub(crate) fn partition_text(partition: u64) -> String {
    match KeyType::S.value(partition) {
        AttributeValue::S(text) => text,
        other => format!("{other:?}"),
    }
}

/// For ratios and rates.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
