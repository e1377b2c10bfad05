//! Filling partitions and counting what is left of them.

use std::{collections::HashMap, ops::Range};

use anyhow::{Context as _, ensure};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, Select, WriteRequest},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Server, Table, table::Key};

/// Batches in flight while filling.
const PARALLEL: usize = 8;

/// Items of one partition to be written.
#[derive(Clone, Debug)]
pub struct Fill {
    partition: AttributeValue,
    items: Range<u64>,
    payload: usize,
}

impl Fill {
    /// The items of these numbers, with 100 bytes beside the keys.
    ///
    /// The sort key is [`super::KeyType::value`] of the number; attributes of local indexes too. Attributes of
    /// global indexes have the same value in all items.
    pub fn new(partition: AttributeValue, items: Range<u64>) -> Self {
        Self {
            partition,
            items,
            payload: 100,
        }
    }

    /// Sets how many bytes there are beside the keys.
    #[must_use]
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    fn item(&self, table: &Table, n: u64) -> HashMap<String, AttributeValue> {
        let numbered = |key: &Key| (key.0.clone(), key.1.value(n));
        let sort = table.sort.iter().map(numbered);
        let local = table.local.iter().map(|(_, key)| numbered(key));
        let global = table
            .global
            .iter()
            .map(|(_, key)| (key.0.clone(), key.1.value(0)));
        let payload = ("payload".to_owned(), AttributeValue::S("x".repeat(self.payload)));
        let partition = (table.partition.0.clone(), self.partition.clone());
        sort.chain(local)
            .chain(global)
            .chain([payload, partition])
            .collect()
    }
}

impl Server {
    /// Writes the items of a partition, 25 per batch, several batches at a time.
    pub async fn fill(&self, table: &Table, fill: &Fill) -> anyhow::Result<()> {
        let client = self.client();
        let numbers: Vec<u64> = fill.items.clone().collect();
        let batches = numbers.chunks(25).map(|batch| write(&client, table, fill, batch));
        stream::iter(batches)
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await
    }

    /// How many items a partition has, by consistent reads to the last page.
    pub async fn count_partition(&self, table: &Table, partition: AttributeValue) -> anyhow::Result<u64> {
        let mut pages = self
            .client()
            .query()
            .table_name(&table.name)
            .key_condition_expression("#partition = :partition")
            .expression_attribute_names("#partition", &table.partition.0)
            .expression_attribute_values(":partition", partition)
            .consistent_read(true)
            .select(Select::Count)
            .into_paginator()
            .send();
        let mut items = 0;
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("{} cannot count in {}", self.name(), table.name))?;
            items += u64::try_from(page.count())?;
        }
        Ok(items)
    }

    /// How many items a table has, by consistent reads to the last page.
    pub async fn count_table(&self, table: &Table) -> anyhow::Result<u64> {
        let scan = self
            .client()
            .scan()
            .table_name(&table.name)
            .consistent_read(true)
            .select(Select::Count);
        let mut pages = scan.into_paginator().send();
        let mut items = 0;
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("{} cannot count {}", self.name(), table.name))?;
            items += u64::try_from(page.count())?;
        }
        Ok(items)
    }
}

async fn write(client: &Client, table: &Table, fill: &Fill, numbers: &[u64]) -> anyhow::Result<()> {
    let put = |n: &u64| {
        let put = PutRequest::builder()
            .set_item(Some(fill.item(table, *n)))
            .build()?;
        Ok(WriteRequest::builder().put_request(put).build())
    };
    let batch = numbers.iter().map(put).collect::<anyhow::Result<Vec<_>>>()?;
    let written = client
        .batch_write_item()
        .request_items(&table.name, batch)
        .send()
        .await;
    let written = written.with_context(|| format!("cannot fill table {}", table.name))?;
    let left = written.unprocessed_items().map_or(0, HashMap::len);
    ensure!(
        left == 0,
        "table {} was not filled: a batch came back unprocessed",
        table.name
    );
    Ok(())
}
