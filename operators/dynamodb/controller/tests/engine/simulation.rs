//! DynamoDB in virtual time: a real implementation in this process, behind a distance and write limits of simulated
//! physical partitions, all on tokio's stopped clock. What a test measures here follows from the engine's decisions
//! alone; the machine and its load have no part in it.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::{Client, config::retry::RetryConfig};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use dynamodb_controller::{
    credentials,
    partition::{Control, Request},
};
use dynoxide::Database;
use parking_lot::Mutex;
use reconcile::clock::Clock;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The table, its partition, and what its items hold beside their keys.
const TABLE: &str = "Orders";
const TENANT: &str = "tenant";

/// How the simulated table is laid out, and what it grants.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Items of the partition; their sort keys are their numbers.
    pub(crate) items: u64,
    /// Physical partitions, over which sort keys are spread evenly.
    pub(crate) partitions: u64,
    /// What each grants, in WCU per second. It begins with a second's worth.
    pub(crate) rate: f64,
    /// What the first grants instead.
    pub(crate) first_rate: f64,
    /// What deleting an item consumes.
    pub(crate) wcu: f64,
    /// There and back.
    pub(crate) latency: Duration,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            items: 1000,
            partitions: 1,
            rate: f64::INFINITY,
            first_rate: f64::INFINITY,
            wcu: 1.0,
            latency: Duration::from_millis(10),
        }
    }
}

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
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
}

/// A simulated DynamoDB. Clones are the same.
#[derive(Clone)]
pub(crate) struct Simulation(Arc<Inner>);

struct Inner {
    database: Database,
    layout: Layout,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asked: Asked,
    /// Tokens of each physical partition, and when they were counted.
    buckets: Vec<(f64, Duration)>,
    /// WCU consumed, and when, for [`Simulation::most_within`].
    history: Vec<(Duration, f64)>,
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
        let table = json!({
            "TableName": TABLE, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        });
        database
            .create_table(serde_json::from_value(table).unwrap())
            .unwrap();
        let numbers: Vec<u64> = (0..layout.items).collect();
        for numbers in numbers.chunks(25) {
            let put = |number: &u64| json!({"PutRequest": {"Item": {"pk": {"S": TENANT}, "sk": {"S": sort_key(*number)}}}});
            let puts: Vec<_> = numbers.iter().map(put).collect();
            let batch = json!({"RequestItems": {TABLE: puts}});
            database
                .batch_write_item(serde_json::from_value(batch).unwrap())
                .unwrap();
        }
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
            layout,
            origin: Instant::now(),
            state: Mutex::new(State {
                buckets,
                ..State::default()
            }),
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

    pub(crate) fn asked(&self) -> Asked {
        self.0.state.lock().asked
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
        let parsed: Value = serde_json::from_slice(body).unwrap();
        let answer = match operation {
            "Query" => {
                self.0.state.lock().asked.queries += 1;
                let output = database.query(serde_json::from_value(parsed).unwrap());
                output.map(|output| self.charge(serde_json::to_value(output).unwrap()))
            }
            "DescribeTable" => database
                .describe_table(serde_json::from_value(parsed).unwrap())
                .map(|output| serde_json::to_value(output).unwrap()),
            "BatchWriteItem" => return self.write(&parsed),
            other => unreachable!("the engine is not expected to call {other}"),
        };
        match answer {
            Ok(answer) => (200, answer),
            Err(error) => (400, serde_json::from_str(&error.to_json()).unwrap()),
        }
    }

    /// A page of items that each cost as much to delete as the layout says.
    fn charge(&self, mut page: Value) -> Value {
        let kilobytes = page["Count"].as_f64().unwrap() * self.0.layout.wcu;
        let units = (kilobytes / 4.0).ceil().max(1.0) / 2.0;
        page["ConsumedCapacity"] = json!({"TableName": TABLE, "CapacityUnits": units});
        page
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
            let reasons = json!([{"reason": "TableWriteKeyRangeThroughputExceeded", "resource": "arn:aws:dynamodb:us-east-1:0:table/Orders"}]);
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
        let number: u64 = write["DeleteRequest"]["Key"]["sk"]["S"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let partition = (number * partitions / items.max(1)).min(partitions - 1);
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

impl HttpClient for Simulation {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Simulation {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let simulation = self.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            let half = simulation.0.layout.latency / 2;
            tokio::time::sleep(half).await;
            let (status, answer) = simulation.answer(&operation, request.body().bytes().unwrap_or_default());
            tokio::time::sleep(simulation.0.layout.latency.saturating_sub(half)).await;
            let status = StatusCode::try_from(status).unwrap();
            Ok(HttpResponse::new(status, SdkBody::from(answer.to_string())))
        })
    }
}

/// The sort key of an item.
pub(crate) fn sort_key(number: u64) -> String {
    format!("{number:012}")
}

/// How long something takes in virtual time.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let result = work.await;
    (result, began.elapsed())
}
