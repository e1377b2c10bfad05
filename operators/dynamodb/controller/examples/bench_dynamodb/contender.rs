//! Who empties a partition: the engine, and what it is compared with.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, DeleteRequest, WriteRequest},
};
use dynamodb_controller::partition::{Control, End, Engine, Request, Tuning};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reconcile::clock::Clock;
use testkit::dynamodb::KeyType;

use crate::bed::{VICTIM, partition_text, partition_value};

/// Keys per request: the most that DynamoDB takes.
const BATCH: usize = 25;

/// A way to empty a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The engine as the command line calls it: looks at the table, measures, deletes what it has read, proves.
    Engine,
    /// The engine as the operator calls it: it measures, keeps the plan and where items lie, and reads the keys anew to delete
    /// them in another run.
    Operator,
    /// BatchWriteItem alone, of keys known before, as many in flight as the engine has.
    Ceiling,
    /// One cursor that reads pages, and as many batches in flight as the engine has.
    Loop,
    /// Reads a page, deletes its items batch by batch, reads the next: one request at a time.
    Serial,
}

/// How long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// From the first request to the last answer.
    pub(crate) whole: Duration,
    /// Of that, what the engine spends once it has a plan; for the others the same as the whole.
    pub(crate) deleting: Duration,
}

impl Contender {
    /// The name in figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Operator => "operator",
            Self::Ceiling => "ceiling",
            Self::Loop => "loop",
            Self::Serial => "serial",
        }
    }

    /// Whether it is the engine.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Engine | Self::Operator)
    }

    /// Of so many items, how many it is given: one request at a time takes long and gets no faster.
    pub(crate) fn items(self, items: u64) -> u64 {
        if self == Self::Serial { items / 4 } else { items }
    }

    /// Empties the victim, which holds this many items; at most so many batches are in flight.
    pub(crate) async fn run(
        self,
        client: &Client,
        table: &str,
        items: u64,
        in_flight: usize,
    ) -> Result<Time> {
        let began = Instant::now();
        match self {
            Self::Engine => return engine(client, table, in_flight).await,
            Self::Operator => return operator(client, table, in_flight).await,
            Self::Ceiling => ceiling(client, table, items, in_flight).await?,
            Self::Loop => query_and_write(client, table, in_flight).await?,
            Self::Serial => query_and_write(client, table, 1).await?,
        }
        let whole = began.elapsed();
        Ok(Time {
            whole,
            deleting: whole,
        })
    }
}

async fn engine(client: &Client, table: &str, in_flight: usize) -> Result<Time> {
    let mut request = Request::new(table, partition_text(VICTIM));
    request.tuning = Tuning {
        max_in_flight: in_flight,
        ..Tuning::default()
    };
    let began = Instant::now();
    let prepared = Engine::default()
        .prepare(client, request, Control::unattended(Clock::system()))
        .await?;
    let planned = began.elapsed();
    let finished = prepared.execute().await?;
    ensure!(
        finished.end == End::Empty,
        "the engine ended with {:?}",
        finished.end
    );
    let whole = began.elapsed();
    Ok(Time {
        whole,
        deleting: whole.saturating_sub(planned),
    })
}

async fn operator(client: &Client, table: &str, in_flight: usize) -> Result<Time> {
    let tuning = Tuning {
        max_in_flight: in_flight,
        keep_keys: false,
        ..Tuning::default()
    };
    let request = || Request {
        tuning,
        ..Request::new(table, partition_text(VICTIM))
    };
    let (engine, control) = (Engine::default(), || Control::unattended(Clock::system()));
    let began = Instant::now();
    let measured = engine.prepare(client, request(), control()).await?;
    let planned = began.elapsed();
    let request = Request {
        plan: measured.plan().cloned(),
        table_id: Some(measured.table().id.clone()),
        landmarks: measured.landmarks().clone(),
        ..request()
    };
    let finished = engine.delete_partition(client, request, control()).await?;
    ensure!(
        finished.end == End::Empty,
        "the operator ended with {:?}",
        finished.end
    );
    let whole = began.elapsed();
    Ok(Time {
        whole,
        deleting: whole.saturating_sub(planned),
    })
}

async fn ceiling(client: &Client, table: &str, items: u64, in_flight: usize) -> Result<()> {
    let keys: Vec<_> = (0..items).map(|number| KeyType::S.value(number)).collect();
    let batches = keys
        .chunks(BATCH)
        .map(|keys| delete(client, table, keys.to_vec()));
    stream::iter(batches)
        .buffer_unordered(in_flight)
        .try_collect()
        .await
}

/// With one request in flight the next page is read when the last one's items are gone; with more, meanwhile.
async fn query_and_write(client: &Client, table: &str, in_flight: usize) -> Result<()> {
    let pages = client
        .query()
        .table_name(table)
        .key_condition_expression("#p = :p")
        .projection_expression("#s")
        .expression_attribute_names("#p", "pk")
        .expression_attribute_names("#s", "sk")
        .expression_attribute_values(":p", partition_value())
        .into_paginator()
        .send();
    let batches = stream::unfold(pages, |mut pages| async {
        let page = pages.next().await?;
        Some((page, pages))
    })
    .map(|page| {
        let mut keys = Vec::new();
        for mut item in page
            .context("a page could not be read")?
            .items
            .unwrap_or_default()
        {
            keys.push(item.remove("sk").context("an item has no sort key")?);
        }
        let batches: Vec<_> = keys.chunks(BATCH).map(<[_]>::to_vec).collect();
        anyhow::Ok(stream::iter(batches.into_iter().map(anyhow::Ok)))
    })
    .try_flatten();
    batches
        .try_for_each_concurrent(in_flight, |keys| delete(client, table, keys))
        .await
}

async fn delete(client: &Client, table: &str, keys: Vec<AttributeValue>) -> Result<()> {
    let request = |sort| {
        let key = HashMap::from([("pk".to_owned(), partition_value()), ("sk".to_owned(), sort)]);
        let delete = DeleteRequest::builder().set_key(Some(key)).build()?;
        anyhow::Ok(WriteRequest::builder().delete_request(delete).build())
    };
    let requests = keys.into_iter().map(request).collect::<Result<Vec<_>>>()?;
    let written = client
        .batch_write_item()
        .request_items(table, requests)
        .send()
        .await;
    let written = written.context("a batch was refused")?;
    let left = written.unprocessed_items().map_or(0, HashMap::len);
    ensure!(left == 0, "a server without limits left keys unprocessed");
    Ok(())
}
