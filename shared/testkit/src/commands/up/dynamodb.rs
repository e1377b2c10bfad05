//! A DynamoDB with the table that the example deletes a partition of.

use anyhow::ensure;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use testkit::{
    dynamodb::{Fill, KeyType, Server, Table},
    progress::Step,
};

use super::operator::{Operator, Settings};

/// The partition that is deleted.
const DELETED: &str = "tenant-42";

/// Partitions that must stay as they are, among them neighbours by name; and how many items each has.
const UNTOUCHED: [&str; 4] = ["tenant-4", "tenant-41", "tenant-420", "tenant-43"];
const ITEMS_UNTOUCHED: u64 = 500;

/// The server and its table.
#[derive(Debug)]
pub(super) struct World {
    server: Server,
    table: Table,
}

impl World {
    /// Starts the server in this process and fills the table.
    pub(super) async fn start(items: u64) -> anyhow::Result<Self> {
        let server = Server::embedded()?;
        let table = Table::new("Orders", "tenant", KeyType::S).sorted_by("order", KeyType::S);
        let world = Self { server, table };
        world.server.create_table(&world.table).await?;
        let step = Step::start(format!("writing {items} items into the partition {DELETED}"));
        world.fill(DELETED, items).await?;
        step.done();
        for partition in UNTOUCHED {
            world.fill(partition, ITEMS_UNTOUCHED).await?;
        }
        Ok(world)
    }

    /// Where the server is.
    pub(super) fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// What the operator must be told of it.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            arguments: vec!["--allowed-endpoints".to_owned(), self.endpoint()],
            ..Settings::default()
        }
    }

    /// Points the job at this server.
    pub(super) fn adapt(&self, object: &mut Value) {
        if object["kind"] == "DdbctlDpJob" {
            object["spec"]["endpointURL"] = json!(self.endpoint());
        }
    }

    /// Counts by consistent reads: nothing is left of the one partition, and nothing is gone of the others.
    pub(super) async fn verify(&self) -> anyhow::Result<String> {
        let left = self.count(DELETED).await?;
        ensure!(left == 0, "{left} items are left in the partition {DELETED}");
        for partition in UNTOUCHED {
            let present = self.count(partition).await?;
            ensure!(
                present == ITEMS_UNTOUCHED,
                "{present} of {ITEMS_UNTOUCHED} items are in {partition}"
            );
        }
        Ok(format!(
            "checked with another client: 0 items left in {DELETED}, {} × {ITEMS_UNTOUCHED} items in its neighbours",
            UNTOUCHED.len()
        ))
    }

    /// What a person may try next.
    pub(super) fn hints(&self, operator: &Operator) -> String {
        format!(
            "  kubectl get ddbctldpjobs -o wide\n  kubectl describe ddbctldpjob quick-start\n  \
             sed 's|http://127.0.0.1:8000|{endpoint}|; s/tenant-42/tenant-43/; s/quick-start/another/' {example} \
             | kubectl apply -f - && kubectl get ddbctldpjobs -w",
            endpoint = self.endpoint(),
            example = operator.example
        )
    }

    async fn fill(&self, partition: &str, items: u64) -> anyhow::Result<()> {
        self.server
            .fill(
                &self.table,
                &Fill::new(AttributeValue::S(partition.to_owned()), 0..items),
            )
            .await
    }

    async fn count(&self, partition: &str) -> anyhow::Result<u64> {
        self.server
            .count_partition(&self.table, AttributeValue::S(partition.to_owned()))
            .await
    }
}
