//! Eventually consistent reads: a Query goes on returning what was deleted a moment ago.

use std::{cmp::Ordering, collections::HashMap, time::Duration};

use http::{Request, Response, StatusCode, request::Parts};
use parking_lot::Mutex;
use reconcile::clock::Clock;
use serde_json::{Value, json};
use tower::BoxError;

use super::{
    Backend, Body, Bytes, answer, ask,
    key_condition::{matches, name},
    number::compare,
};

/// An item as it was, and when it was deleted.
#[derive(Clone, Debug)]
struct Ghost {
    item: Value,
    at: Duration,
}

/// A table's key attributes.
#[derive(Clone, Debug)]
struct Keys {
    partition: String,
    sort: Option<String>,
}

/// Recently deleted items, by table.
#[derive(Default)]
pub(super) struct Past {
    ghosts: Mutex<HashMap<String, Vec<Ghost>>>,
    keys: Mutex<HashMap<String, Keys>>,
}

impl Past {
    /// Tables come and go: whatever was known of them is no longer so.
    pub(super) fn forget(&self) {
        self.ghosts.lock().clear();
        self.keys.lock().clear();
    }

    /// Reads the items of these keys, which are about to be deleted.
    pub(super) async fn remember(
        &self,
        like: &Parts,
        backend: &Backend,
        table: &str,
        keys: Vec<Value>,
        now: Duration,
    ) -> Result<(), BoxError> {
        if keys.is_empty() {
            return Ok(());
        }
        let request = json!({ "RequestItems": { table: { "Keys": keys, "ConsistentRead": true } } });
        let (_, response) = ask(backend, like, Some("BatchGetItem"), &request).await?;
        let items = response["Responses"][table]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ghosts = items.into_iter().map(|item| Ghost { item, at: now });
        self.ghosts
            .lock()
            .entry(table.to_owned())
            .or_default()
            .extend(ghosts);
        Ok(())
    }

    /// Query, with what was deleted less than `lag` ago, unless it is a consistent read.
    pub(super) async fn query(
        &self,
        request: Request<Bytes>,
        backend: &Backend,
        clock: &Clock,
        lag: Duration,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, bytes) = request.into_parts();
        let query: Value = serde_json::from_slice(&bytes)?;
        let table = query["TableName"].as_str().unwrap_or_default().to_owned();
        let exact = query["ConsistentRead"] == true;
        if exact || !query["IndexName"].is_null() || !query["FilterExpression"].is_null() {
            return backend.send(Request::from_parts(parts, bytes)).await;
        }
        let began = clock.elapsed();
        let Some(keys) = self.keys(&parts, backend, &table).await? else {
            return backend.send(Request::from_parts(parts, bytes)).await;
        };
        let (status, mut page) = ask(backend, &parts, None, &query).await?;
        if status == StatusCode::OK {
            let ghosts = self.recent(&table, began.saturating_sub(lag));
            Page {
                query: &query,
                keys: &keys,
            }
            .haunt(&mut page, ghosts);
        }
        Ok(answer(status, &page))
    }

    fn recent(&self, table: &str, since: Duration) -> Vec<Value> {
        let mut ghosts = self.ghosts.lock();
        let Some(ghosts) = ghosts.get_mut(table) else {
            return Vec::new();
        };
        ghosts.retain(|ghost| ghost.at >= since);
        ghosts.iter().map(|ghost| ghost.item.clone()).collect()
    }

    async fn keys(&self, like: &Parts, backend: &Backend, table: &str) -> Result<Option<Keys>, BoxError> {
        if let Some(keys) = self.keys.lock().get(table) {
            return Ok(Some(keys.clone()));
        }
        let request = json!({ "TableName": table });
        let (_, described) = ask(backend, like, Some("DescribeTable"), &request).await?;
        let schema = described["Table"]["KeySchema"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let role = |role: &str| {
            let element = schema.iter().find(|element| element["KeyType"] == role)?;
            Some(element["AttributeName"].as_str()?.to_owned())
        };
        let keys = role("HASH").map(|partition| Keys {
            partition,
            sort: role("RANGE"),
        });
        if let Some(keys) = &keys {
            self.keys.lock().insert(table.to_owned(), keys.clone());
        }
        Ok(keys)
    }
}

/// A page of a Query's results, into which ghosts are merged in order.
struct Page<'a> {
    query: &'a Value,
    keys: &'a Keys,
}

impl Page<'_> {
    fn haunt(&self, page: &mut Value, ghosts: Vec<Value>) {
        let counting = self.query["Select"] == "COUNT";
        let mut items = page["Items"].as_array().cloned().unwrap_or_default();
        let last = page["LastEvaluatedKey"].clone();
        let mut seen = 0_u64;
        for ghost in ghosts {
            let here = matches(self.query, &ghost) == Some(true)
                && self.within(&ghost, &last)
                && !items.iter().any(|item| self.same(item, &ghost));
            if here {
                seen += 1;
                items.push(ghost);
            }
        }
        if seen == 0 {
            return;
        }
        if counting {
            // Without items there is no telling which of them a limit would cut off.
            page["Count"] = (page["Count"].as_u64().unwrap_or(0) + seen).into();
            page["ScannedCount"] = (page["ScannedCount"].as_u64().unwrap_or(0) + seen).into();
            return;
        }
        items.sort_by(|one, other| self.order(one, other));
        let limit = self.query["Limit"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok());
        if let Some(limit) = limit.filter(|limit| items.len() > *limit) {
            items.truncate(limit);
            page["LastEvaluatedKey"] = items.last().map_or(Value::Null, |item| self.key(item));
        }
        page["Count"] = items.len().into();
        page["ScannedCount"] = items.len().into();
        page["Items"] = items.into_iter().map(|item| self.project(item)).collect();
    }

    /// Whether an item lies after the start of the page and not beyond its end.
    fn within(&self, item: &Value, last: &Value) -> bool {
        let start = &self.query["ExclusiveStartKey"];
        let started = start.is_null() || self.order(item, start) == Ordering::Greater;
        let ended = !last.is_null() && self.order(item, last) == Ordering::Greater;
        started && !ended
    }

    fn order(&self, one: &Value, other: &Value) -> Ordering {
        let Some(sort) = &self.keys.sort else {
            return Ordering::Equal;
        };
        let order = compare(&one[sort], &other[sort]).unwrap_or(Ordering::Equal);
        if self.query["ScanIndexForward"] == false {
            order.reverse()
        } else {
            order
        }
    }

    fn same(&self, one: &Value, other: &Value) -> bool {
        self.keys
            .sort
            .as_ref()
            .is_none_or(|sort| one[sort] == other[sort])
    }

    fn key(&self, item: &Value) -> Value {
        let partition = std::iter::once(&self.keys.partition);
        let names = partition.chain(&self.keys.sort);
        names
            .map(|name| (name.clone(), item[name].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// What the query asked for of an item.
    fn project(&self, item: Value) -> Value {
        let Some(projection) = self.query["ProjectionExpression"].as_str() else {
            return item;
        };
        let wanted: Vec<&str> = projection
            .split(',')
            .filter_map(|path| name(self.query, path.trim()))
            .collect();
        let Value::Object(mut item) = item else {
            return item;
        };
        item.retain(|name, _| wanted.contains(&name.as_str()));
        item.into()
    }
}
