//! DynamoDB in virtual time: a real implementation in this process, behind a distance and write limits of simulated
//! physical partitions, all on tokio's stopped clock. What a test measures here follows from the engine's decisions
//! alone; the machine and its load have no part in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{Client, config::retry::RetryConfig};
use dynamodb_controller::{
    credentials,
    partition::{Control, Request},
};
use dynoxide::Database;
use parking_lot::Mutex;
use reconcile::clock::Clock;
use serde_json::{Value, json};
use tokio::time::Instant;

#[path = "simulation/keys.rs"]
mod keys;
#[path = "simulation/reads.rs"]
mod reads;
#[path = "simulation/wire.rs"]
mod wire;

pub(crate) use keys::{devices, kinds, notifications, orders, sort_key};

/// The table, its partition, and what its items hold beside their keys.
const TABLE: &str = "Orders";
const TENANT: &str = "tenant";

/// How the simulated table is laid out, and what it grants.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Items of the partition.
    pub(crate) items: u64,
    /// The sort key of each, by its number.
    pub(crate) keys: fn(u64) -> String,
    /// Physical partitions, over which sort keys are spread evenly.
    pub(crate) partitions: u64,
    /// What each grants, in WCU per second. It begins with a second's worth.
    pub(crate) rate: f64,
    /// What the first grants instead.
    pub(crate) first_rate: f64,
    /// What deleting an item consumes.
    pub(crate) wcu: f64,
    /// What DynamoDB names as the reason when it refuses a whole batch.
    pub(crate) reason: Option<&'static str>,
    /// Read units per second that the table grants. It begins with a second's worth.
    pub(crate) reads: f64,
    /// Items on a page, at most.
    pub(crate) page: Option<u64>,
    /// There and back.
    pub(crate) latency: Duration,
}

/// What becomes of a look at the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Looks {
    /// It is answered.
    #[default]
    Answered,
    /// The server fails.
    Failing,
    /// No answer comes.
    Hanging,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            items: 1000,
            keys: sort_key,
            partitions: 1,
            rate: f64::INFINITY,
            first_rate: f64::INFINITY,
            wcu: 1.0,
            reason: Some("TableWriteKeyRangeThroughputExceeded"),
            reads: f64::INFINITY,
            page: None,
            latency: Duration::from_millis(10),
        }
    }
}

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// Looks at the table that were answered.
    pub(crate) looks: u64,
    /// Queries.
    pub(crate) queries: u64,
    /// Batches, refused ones included.
    pub(crate) batches: u64,
    /// Batches of which nothing was processed.
    pub(crate) refused: u64,
    /// Keys sent, each time counted.
    pub(crate) keys: u64,
    /// WCU consumed.
    pub(crate) wcu: f64,
    /// The most Queries that were under way at once.
    pub(crate) most_queries: u64,
}

/// A simulated DynamoDB. Clones are the same.
#[derive(Clone)]
pub(crate) struct Simulation(Arc<Inner>);

struct Inner {
    database: Database,
    layout: Layout,
    /// Where each sort key stands in their order.
    places: HashMap<String, u64>,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asked: Asked,
    /// Tokens of each physical partition, and when they were counted.
    buckets: Vec<(f64, Duration)>,
    /// Read units of the table, and when they were counted.
    read_units: (f64, Duration),
    /// WCU consumed, and when, for [`Simulation::most_within`].
    history: Vec<(Duration, f64)>,
    queries_under_way: u64,
    /// No Query is answered.
    mute: bool,
    looks: Looks,
    /// So many of the next reads that prove the partition empty are throttled.
    throttled_proofs: u32,
    /// So many of the next batches find no table.
    blind_batches: u32,
    /// Until when every request fails.
    outage: Option<Instant>,
    /// Requests that failed on the way.
    failed: u64,
    /// How long a batch is on its way before its bytes leave.
    batches_held: Duration,
    /// How much longer than others the answer to a look is on its way.
    looks_delayed: Duration,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").finish_non_exhaustive()
    }
}

impl Simulation {
    /// A table with one filled partition. The caller's runtime must stand still in time.
    pub(crate) fn new(layout: Layout) -> Self {
        let database = Database::memory().unwrap();
        let keys = keys::sorted(&layout);
        keys::create(&database, &keys);
        let rate = |partition| {
            if partition == 0 {
                layout.first_rate.min(layout.rate)
            } else {
                layout.rate
            }
        };
        let buckets = (0..layout.partitions)
            .map(|partition| (rate(partition), Duration::ZERO))
            .collect();
        Self(Arc::new(Inner {
            database,
            places: keys.into_iter().zip(0..).collect(),
            origin: Instant::now(),
            state: Mutex::new(State {
                buckets,
                read_units: (layout.reads, Duration::ZERO),
                ..State::default()
            }),
            layout,
        }))
    }

    /// A client as the operator makes them, as far as time and retries are concerned.
    pub(crate) fn client(&self) -> Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::from_static("us-east-1"))
            .endpoint_url("http://simulation")
            .credentials_provider(credentials::placeholder())
            .retry_config(RetryConfig::disabled())
            .http_client(self.clone());
        Client::from_conf(config.build())
    }

    /// Deletes the filled partition.
    pub(crate) fn request() -> Request {
        Request::new(TABLE, TENANT)
    }

    /// A control on the stopped clock.
    pub(crate) fn control() -> Control {
        Control::unattended(Clock::system())
    }

    /// Drops the table and makes it anew, filled as before.
    pub(crate) fn recreate(&self) {
        let drop = serde_json::from_value(json!({"TableName": TABLE})).unwrap();
        self.0.database.delete_table(drop).unwrap();
        keys::create(&self.0.database, &keys::sorted(&self.0.layout));
    }

    /// From now on looks at the table end like this.
    pub(crate) fn looks(&self, looks: Looks) {
        self.0.state.lock().looks = looks;
    }

    /// Answers no Query any more.
    pub(crate) fn fall_mute(&self) {
        self.0.state.lock().mute = true;
    }

    /// Waits until so many Queries are under way at once.
    pub(crate) async fn has_under_way(&self, queries: u64) {
        while self.asked().most_queries < queries {
            tokio::time::sleep(self.0.layout.latency).await;
        }
    }

    /// Throttles so many of the reads that look whether anything is left.
    pub(crate) fn throttle_proofs(&self, count: u32) {
        self.0.state.lock().throttled_proofs = count;
    }

    /// Answers so many batches as if there were no table.
    pub(crate) fn hide_from_batches(&self, count: u32) {
        self.0.state.lock().blind_batches = count;
    }

    pub(crate) fn asked(&self) -> Asked {
        self.0.state.lock().asked
    }

    /// Waits until so many batches were sent.
    pub(crate) async fn has_been_asked(&self, batches: u64) {
        while self.asked().batches < batches {
            tokio::time::sleep(self.0.layout.latency).await;
        }
    }

    /// Waits until so many batches were refused whole.
    pub(crate) async fn has_refused(&self, batches: u64) {
        while self.asked().refused < batches {
            tokio::time::sleep(self.0.layout.latency).await;
        }
    }

    /// The most WCU that were consumed within any stretch of this length.
    pub(crate) fn most_within(&self, stretch: Duration) -> f64 {
        let history = &self.0.state.lock().history;
        let from = |begin: Duration| {
            let inside = history
                .iter()
                .filter(|(at, _)| *at >= begin && *at < begin + stretch);
            inside.map(|(_, wcu)| wcu).sum::<f64>()
        };
        history.iter().map(|(at, _)| from(*at)).fold(0.0, f64::max)
    }

    /// Items left in the partition.
    pub(crate) fn left(&self) -> u64 {
        let query = json!({"TableName": TABLE, "Select": "COUNT", "KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": TENANT}}});
        let query = serde_json::from_value(query).unwrap();
        u64::try_from(self.0.database.query(query).unwrap().count).unwrap()
    }

    fn answer(&self, operation: &str, body: &[u8]) -> (u16, Value) {
        let database = &self.0.database;
        let mut parsed: Value = serde_json::from_slice(body).unwrap();
        if let Some(refusal) = self.refuse(operation, &parsed) {
            return refusal;
        }
        if let Some(page) = self.0.layout.page.filter(|_| operation == "Query") {
            parsed["Limit"] = json!(parsed["Limit"].as_u64().map_or(page, |limit| limit.min(page)));
        }
        let answer = match operation {
            "Query" => {
                if !self.has_read_units() {
                    return wire::read_throttle();
                }
                self.0.state.lock().asked.queries += 1;
                let output = database.query(serde_json::from_value(parsed).unwrap());
                output.map(|output| self.charge(serde_json::to_value(output).unwrap()))
            }
            "DescribeTable" => {
                self.0.state.lock().asked.looks += 1;
                let output = database.describe_table(serde_json::from_value(parsed).unwrap());
                output.map(|output| serde_json::to_value(output).unwrap())
            }
            "BatchWriteItem" => return self.write(&parsed),
            other => unreachable!("the engine is not expected to call {other}"),
        };
        match answer {
            Ok(answer) => (200, answer),
            Err(error) => (400, serde_json::from_str(&error.to_json()).unwrap()),
        }
    }

    fn write(&self, body: &Value) -> (u16, Value) {
        let keys = body["RequestItems"][TABLE].as_array().cloned().unwrap();
        let sent = keys.len() as u64;
        let (passed, withheld): (Vec<Value>, Vec<Value>) = {
            let mut state = self.0.state.lock();
            keys.into_iter().partition(|key| self.admit(&mut state, key))
        };
        let mut state = self.0.state.lock();
        state.asked.batches += 1;
        state.asked.keys += sent;
        if passed.is_empty() {
            state.asked.refused += 1;
            let named =
                |reason| json!({"reason": reason, "resource": "arn:aws:dynamodb:us-east-1:0:table/Orders"});
            let reasons: Vec<_> = self.0.layout.reason.map(named).into_iter().collect();
            return (
                400,
                json!({"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "too fast", "ThrottlingReasons": reasons}),
            );
        }
        let consumed = passed.len() as f64 * self.0.layout.wcu;
        state.asked.wcu += consumed;
        state.history.push((self.0.origin.elapsed(), consumed));
        drop(state);
        let batch = json!({"RequestItems": {TABLE: passed}});
        self.0
            .database
            .batch_write_item(serde_json::from_value(batch).unwrap())
            .unwrap();
        let unprocessed = if withheld.is_empty() {
            json!({})
        } else {
            json!({TABLE: withheld})
        };
        (
            200,
            json!({"UnprocessedItems": unprocessed, "ConsumedCapacity": [{"TableName": TABLE, "CapacityUnits": consumed}]}),
        )
    }

    /// Charges the key's physical partition, unless it is in debt.
    fn admit(&self, state: &mut State, write: &Value) -> bool {
        let Layout {
            items,
            partitions,
            rate,
            first_rate,
            wcu,
            ..
        } = self.0.layout;
        let key = write["DeleteRequest"]["Key"]["sk"]["S"].as_str().unwrap();
        let partition = (self.0.places[key] * partitions / items.max(1)).min(partitions - 1);
        let rate = if partition == 0 {
            first_rate.min(rate)
        } else {
            rate
        };
        if rate.is_infinite() {
            return true;
        }
        let now = self.0.origin.elapsed();
        let (tokens, at) = &mut state.buckets[usize::try_from(partition).unwrap()];
        *tokens = (*tokens + now.saturating_sub(*at).as_secs_f64() * rate).min(rate.max(1.0));
        *at = now;
        let room = *tokens >= 1.0;
        if room {
            *tokens -= wcu;
        }
        room
    }
}

/// How long something takes in virtual time.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let result = work.await;
    (result, began.elapsed())
}
