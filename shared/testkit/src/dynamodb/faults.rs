//! What real DynamoDB does and no emulator does: throttle, lag, refuse.
//!
//! [`Faults`] is a [`Protocol`] for the fault proxy. It has settings that a test may change at any time and that
//! are all off at first; requests pass byte for byte while nothing has to be rewritten.
//!
//! # Guarantees
//! - A response is consistent with what the backend did: what is reported as unprocessed was not forwarded,
//!   capacity is what the forwarded part consumed.
//! - A batch of which nothing may pass is refused whole with an exception, as the service does it.
//! - Which key is withheld by [`Settings::unprocessed`] follows from the seed, the key and how often it was
//!   withheld before, not from the order of arrival.
//!
//! # Caveats
//! Write limits and unprocessed keys apply to BatchWriteItem, PutItem, UpdateItem and DeleteItem; transactions and
//! PartiQL pass. Stale reads apply to Query of a table, not of an index and not with a filter. Read capacity is not
//! simulated. A stale Query whose projection leaves out the sort key is returned unsorted. Requests that the proxy adds (reading what is about to be deleted) carry the original's signature,
//! which emulators do not check.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use reconcile::clock::Clock;
use serde_json::{Value, json};
use tower::BoxError;

use crate::fault::{
    Body, full,
    plan::{Call, Kind},
    proxy::{Backend, Protocol, key_id},
};

mod batch;
mod capacity;
mod key_condition;
mod number;
mod stale;
#[cfg(test)]
mod tests;

pub use capacity::Limit;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// Something that a test does in the middle of a run, before the response that completed the deletes is returned.
pub type Hook = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Refuses whole batches.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// Of a hundred writing requests, how many.
    pub percent: u32,
    /// With `ThrottlingException` rather than `ProvisionedThroughputExceededException`.
    pub on_demand: bool,
    /// The documented reason, for example `TableWriteKeyRangeThroughputExceeded`.
    pub reason: &'static str,
    /// The index that is the bottleneck, if it is one.
    pub index: Option<String>,
}

/// What goes wrong. The default is nothing.
#[derive(Clone, Default)]
pub struct Settings {
    /// Decides what percentages hit.
    pub seed: u64,
    /// Of a hundred keys of a batch, how many are not processed.
    pub unprocessed: u32,
    /// Whole batches that are refused.
    pub throttle: Option<Throttle>,
    /// Write limits of partitions and indexes. A key has to pass all.
    pub limits: Vec<Limit>,
    /// How long an eventually consistent Query goes on returning a deleted item, in the clock's time.
    pub stale: Duration,
    /// How many calls an access key id is good for; then its token has expired.
    pub expire_after: Option<u64>,
    /// Operations that are denied, for example `DescribeTable`.
    pub denied: Vec<String>,
    /// The exception with which every request is refused, for example `KMSDisabledException`.
    pub refused: Option<&'static str>,
    /// What to do once this many keys were deleted, once.
    pub hooks: Vec<(u64, Hook)>,
}

/// The faults of one DynamoDB. Clones share settings and state.
#[derive(Clone)]
pub struct Faults(Arc<Inner>);

struct Inner {
    clock: Clock,
    settings: Mutex<Settings>,
    calls: Mutex<HashMap<String, u64>>,
    withheld: Mutex<HashMap<u64, u64>>,
    draws: AtomicU64,
    deleted: AtomicU64,
    past: stale::Past,
}

impl Faults {
    /// No faults yet; limits and lag will run on this clock.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            settings: Mutex::default(),
            calls: Mutex::default(),
            withheld: Mutex::default(),
            draws: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            past: stale::Past::default(),
        }))
    }

    /// Changes the settings; requests that arrive later see them.
    #[must_use = "a clone of the faults is what the proxy is given"]
    pub fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.set(change);
        self
    }

    /// Changes the settings; requests that arrive later see them.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.0.settings.lock());
    }

    /// How many keys were deleted through the proxy, whether or not an item was there.
    pub fn deleted(&self) -> u64 {
        self.0.deleted.load(Ordering::SeqCst)
    }

    /// The refusal of a request that needs no look at its body.
    fn refusal(&self, operation: &str, request: &Request<Bytes>) -> Option<Response<Body>> {
        let settings = self.0.settings.lock();
        if let Some(name) = settings.refused {
            let kind = format!("com.amazonaws.dynamodb.v20120810#{name}");
            return Some(exception(&kind, "refused by the test", &[]));
        }
        if let Some(most) = settings.expire_after {
            let mut calls = self.0.calls.lock();
            let calls = calls
                .entry(key_id(request).unwrap_or_default().to_owned())
                .or_default();
            *calls += 1;
            if *calls > most {
                let message = "The security token included in the request is expired";
                return Some(exception(
                    "com.amazon.coral.service#ExpiredTokenException",
                    message,
                    &[],
                ));
            }
        }
        settings.denied.iter().any(|denied| denied == operation).then(|| {
            let message = format!(
                "User: arn:aws:iam::000000000000:user/testkit is not authorized to perform: dynamodb:{operation}"
            );
            exception("com.amazon.coral.service#AccessDeniedException", &message, &[])
        })
    }

    /// Whether writes have to be looked at.
    fn minds_writes(&self) -> bool {
        let settings = self.0.settings.lock();
        settings.unprocessed > 0
            || settings.throttle.is_some()
            || !settings.limits.is_empty()
            || !settings.stale.is_zero()
            || !settings.hooks.is_empty()
    }

    async fn take(&self, request: Request<Bytes>, backend: Backend) -> Result<Response<Body>, BoxError> {
        let operation = operation(&request).to_owned();
        if let Some(refusal) = self.refusal(&operation, &request) {
            return Ok(refusal);
        }
        let stale = self.0.settings.lock().stale;
        match operation.as_str() {
            "BatchWriteItem" if self.minds_writes() => self.batch(request, &backend).await,
            "PutItem" | "UpdateItem" | "DeleteItem" if self.minds_writes() => {
                self.single(&operation, request, &backend).await
            }
            "Query" if !stale.is_zero() => self.0.past.query(request, &backend, &self.0.clock, stale).await,
            "CreateTable" | "DeleteTable" => {
                self.0.past.forget();
                backend.send(request).await
            }
            _ => backend.send(request).await,
        }
    }

    /// Counts deletes, and runs what was to happen at this number of them.
    async fn deletes(&self, keys: usize) {
        let deleted = self.0.deleted.fetch_add(keys as u64, Ordering::SeqCst) + keys as u64;
        let due: Vec<Hook> = {
            let mut settings = self.0.settings.lock();
            let (due, later) = settings.hooks.drain(..).partition(|(at, _)| *at <= deleted);
            settings.hooks = later;
            due.into_iter().map(|(_, hook): (u64, Hook)| hook).collect()
        };
        for hook in due {
            hook().await;
        }
    }
}

impl Protocol for Faults {
    fn call(&self, request: &Request<Bytes>) -> Call {
        Call {
            site: format!("DynamoDB {}", operation(request)),
            kind: Kind::Call,
            list: None,
        }
    }

    fn failure(&self, status: StatusCode, _: Option<u32>) -> Response<Body> {
        let kind = match status.as_u16() {
            429 => "com.amazon.coral.availability#ThrottlingException",
            503 => "com.amazon.coral.service#ServiceUnavailableException",
            400..=499 => "com.amazon.coral.validate#ValidationException",
            _ => "com.amazonaws.dynamodb.v20120810#InternalServerError",
        };
        let mut response = exception(kind, "injected fault", &[]);
        // The service throttles with 400; 429 is what a plan calls it.
        let status = if status.as_u16() == 429 {
            StatusCode::BAD_REQUEST
        } else {
            status
        };
        *response.status_mut() = status;
        response
    }

    fn exchange(
        self: Arc<Self>,
        request: Request<Bytes>,
        backend: Backend,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        Box::pin(async move { self.take(request, backend).await })
    }
}

/// The operation that a request names.
fn operation(request: &Request<Bytes>) -> &str {
    let target = request
        .headers()
        .get(TARGET)
        .and_then(|target| target.to_str().ok());
    target
        .and_then(|target| target.rsplit_once('.'))
        .map_or("unknown", |(_, operation)| operation)
}

/// An exception as the service words it; fields go beside type and message.
fn exception(kind: &str, message: &str, fields: &[(&str, Value)]) -> Response<Body> {
    let mut body = json!({ "__type": kind, "message": message });
    for (name, value) in fields {
        body[*name] = value.clone();
    }
    answer(StatusCode::BAD_REQUEST, &body)
}

/// The exception for a throttled write.
fn throttled(on_demand: bool, reason: &str, resource: &str) -> Response<Body> {
    let reasons = json!([{ "reason": reason, "resource": resource }]);
    if on_demand {
        let message = "Throughput exceeds the current capacity of your table or index.";
        exception(
            "com.amazon.coral.availability#ThrottlingException",
            message,
            &[("throttlingReasons", reasons)],
        )
    } else {
        let message = "The level of configured provisioned throughput for the table was exceeded. \
                       Consider increasing your provisioning level with the UpdateTable API.";
        let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
        exception(kind, message, &[("ThrottlingReasons", reasons)])
    }
}

/// The name that AWS gives a table or one of its indexes.
fn arn(table: &str, index: Option<&str>) -> String {
    let index = index.map(|index| format!("/index/{index}")).unwrap_or_default();
    format!("arn:aws:dynamodb:us-east-1:000000000000:table/{table}{index}")
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Sends a request with another body, and another operation if one is named.
///
/// Returns the status and the body, which is null if it is no JSON; not the headers, whose checksum will be wrong.
async fn ask(
    backend: &Backend,
    like: &http::request::Parts,
    operation: Option<&str>,
    body: &Value,
) -> Result<(StatusCode, Value), BoxError> {
    use http_body_util::BodyExt as _;

    let mut parts = like.clone();
    parts.headers.remove(header::CONTENT_LENGTH);
    if let Some(operation) = operation {
        parts.headers.insert(
            TARGET,
            HeaderValue::from_str(&format!("DynamoDB_20120810.{operation}"))?,
        );
    }
    let response = backend
        .send(Request::from_parts(parts, Bytes::from(body.to_string())))
        .await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
