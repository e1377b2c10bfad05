//! Writes on their way through: what is withheld, what is refused, what the backend did with the rest.

use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::BoxError;

use super::{Backend, Body, Bytes, Faults, Settings, Throttle, answer, arn, ask, throttled};
use crate::fault::plan::mix;

/// Why a key may not pass.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) resource: String,
}

/// One table's part of a batch.
struct Part {
    table: String,
    passed: Vec<Value>,
    withheld: Vec<Value>,
}

impl Faults {
    /// BatchWriteItem.
    pub(super) async fn batch(
        &self,
        request: Request<Bytes>,
        backend: &Backend,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, bytes) = request.into_parts();
        let mut body: Value = serde_json::from_slice(&bytes)?;
        let Some(items) = body["RequestItems"].as_object().cloned() else {
            return backend.send(Request::from_parts(parts, bytes)).await;
        };
        let table = items.keys().next().cloned().unwrap_or_default();
        if let Some(refused) = self.refused_whole(&table) {
            return Ok(refused);
        }
        let (split, refusal) = self.split(items);
        if let Some(refusal) = refusal.filter(|_| split.iter().all(|part| part.passed.is_empty())) {
            return Ok(throttled(false, refusal.reason, &refusal.resource));
        }
        let wanted = body["ReturnConsumedCapacity"]
            .as_str()
            .is_some_and(|wanted| wanted != "NONE");
        if !wanted {
            body["ReturnConsumedCapacity"] = "TOTAL".into();
        }
        body["RequestItems"] = split
            .iter()
            .filter(|part| !part.passed.is_empty())
            .map(|part| (part.table.clone(), Value::from(part.passed.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let stale = self.0.settings.lock().stale;
        if !stale.is_zero() {
            for part in &split {
                let keys = part.passed.iter().filter_map(deleted_key).collect();
                self.0
                    .past
                    .remember(&parts, backend, &part.table, keys, self.0.clock.elapsed())
                    .await?;
            }
        }
        let (status, mut response) = ask(backend, &parts, None, &body).await?;
        if status != StatusCode::OK {
            return Ok(answer(status, &response));
        }
        self.settle(&split, &response);
        let deleted = split
            .iter()
            .flat_map(|part| &part.passed)
            .filter_map(deleted_key)
            .count();
        self.deletes(deleted).await;
        give_back(&mut response, split);
        if !wanted && let Some(response) = response.as_object_mut() {
            response.remove("ConsumedCapacity");
        }
        Ok(answer(status, &response))
    }

    /// PutItem, UpdateItem, DeleteItem.
    pub(super) async fn single(
        &self,
        operation: &str,
        request: Request<Bytes>,
        backend: &Backend,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, bytes) = request.into_parts();
        let body: Value = serde_json::from_slice(&bytes)?;
        let table = body["TableName"].as_str().unwrap_or_default().to_owned();
        if let Some(refused) = self.refused_whole(&table) {
            return Ok(refused);
        }
        let key = if operation == "PutItem" {
            &body["Item"]
        } else {
            &body["Key"]
        };
        if let Err(refusal) = self.admit(&table, key) {
            return Ok(throttled(false, refusal.reason, &refusal.resource));
        }
        let deletes = operation == "DeleteItem";
        let stale = self.0.settings.lock().stale;
        if deletes && !stale.is_zero() {
            let now = self.0.clock.elapsed();
            self.0
                .past
                .remember(&parts, backend, &table, vec![key.clone()], now)
                .await?;
        }
        let response = backend.send(Request::from_parts(parts, bytes)).await?;
        if deletes && response.status() == StatusCode::OK {
            self.deletes(1).await;
        }
        Ok(response)
    }

    /// Whether chance refuses this request.
    fn refused_whole(&self, table: &str) -> Option<Response<Body>> {
        let settings = self.0.settings.lock();
        let Throttle {
            percent,
            on_demand,
            reason,
            index,
        } = settings.throttle.as_ref()?;
        let draw = self.0.draws.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let hit = mix(settings.seed ^ mix(draw)) % 100 < u64::from(*percent);
        hit.then(|| throttled(*on_demand, reason, &arn(table, index.as_deref())))
    }

    /// Which keys pass; and why another does not, should all be withheld.
    fn split(&self, items: serde_json::Map<String, Value>) -> (Vec<Part>, Option<Refusal>) {
        let mut refusal = None;
        let mut split = Vec::new();
        for (table, writes) in items {
            let mut part = Part {
                table,
                passed: Vec::new(),
                withheld: Vec::new(),
            };
            for write in writes.as_array().cloned().unwrap_or_default() {
                match self
                    .unlucky(&part.table, &write)
                    .and_then(|()| self.admit(&part.table, key(&write)))
                {
                    Ok(()) => part.passed.push(write),
                    Err(reason) => {
                        refusal = Some(reason);
                        part.withheld.push(write);
                    }
                }
            }
            split.push(part);
        }
        (split, refusal)
    }

    /// Whether chance withholds this key this time.
    fn unlucky(&self, table: &str, write: &Value) -> Result<(), Refusal> {
        let (seed, percent) = {
            let settings = self.0.settings.lock();
            (settings.seed, u64::from(settings.unprocessed))
        };
        if percent == 0 {
            return Ok(());
        }
        let key = fingerprint(key(write));
        let mut withheld = self.0.withheld.lock();
        let before = withheld.get(&key).copied().unwrap_or(0);
        if mix(seed ^ mix(key.wrapping_add(before))) % 100 >= percent {
            return Ok(());
        }
        withheld.insert(key, before + 1);
        Err(Refusal {
            reason: "TableWriteProvisionedThroughputExceeded",
            resource: arn(table, None),
        })
    }

    /// Whether every limit lets this key pass.
    fn admit(&self, table: &str, key: &Value) -> Result<(), Refusal> {
        let now = self.0.clock.elapsed();
        let Settings { limits, .. } = &mut *self.0.settings.lock();
        let mut limits: Vec<_> = limits.iter_mut().filter(|limit| limit.table() == table).collect();
        // All are asked before any is charged: a key that one refuses consumes nothing elsewhere.
        for limit in &mut limits {
            if !limit.has_room(key, now) {
                return Err(Refusal {
                    reason: limit.reason(),
                    resource: arn(table, limit.index_name()),
                });
            }
        }
        for limit in limits {
            limit.charge(key, 1.0);
        }
        Ok(())
    }

    /// Charges what a batch really consumed: a key was let through at one unit.
    fn settle(&self, split: &[Part], response: &Value) {
        let mut settings = self.0.settings.lock();
        for part in split.iter().filter(|part| !part.passed.is_empty()) {
            let capacity = response["ConsumedCapacity"].as_array().into_iter().flatten();
            let units: f64 = capacity
                .filter(|capacity| capacity["TableName"] == part.table.as_str())
                .filter_map(|capacity| capacity["CapacityUnits"].as_f64())
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "a batch has at most 25 keys")]
            let more = units / part.passed.len() as f64 - 1.0;
            let limits = settings
                .limits
                .iter_mut()
                .filter(|limit| limit.table() == part.table);
            for limit in limits.filter(|_| more > 0.0) {
                part.passed
                    .iter()
                    .for_each(|write| limit.charge(key(write), more));
            }
        }
    }
}

/// Adds what was withheld to what the backend itself left unprocessed.
fn give_back(response: &mut Value, split: Vec<Part>) {
    if !response["UnprocessedItems"].is_object() {
        response["UnprocessedItems"] = json!({});
    }
    for part in split.into_iter().filter(|part| !part.withheld.is_empty()) {
        let unprocessed = &mut response["UnprocessedItems"][&part.table];
        let mut writes = unprocessed.as_array().cloned().unwrap_or_default();
        writes.extend(part.withheld);
        *unprocessed = writes.into();
    }
}

/// The key of a write, or the item that holds it.
fn key(write: &Value) -> &Value {
    let delete = &write["DeleteRequest"]["Key"];
    if delete.is_null() {
        &write["PutRequest"]["Item"]
    } else {
        delete
    }
}

fn deleted_key(write: &Value) -> Option<Value> {
    Some(write["DeleteRequest"]["Key"].clone()).filter(|key| !key.is_null())
}

/// A number for a key; the same for equal keys in one process.
pub(super) fn fingerprint(key: &Value) -> u64 {
    key.to_string()
        .bytes()
        .fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}
