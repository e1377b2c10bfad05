//! The way to the simulated server and back: its length, and what goes wrong on it.

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use std::time::Duration;

use tokio::time::Instant;

use super::{Looks, Simulation};

impl Simulation {
    /// From now on, and for so long, every request fails with a 503.
    pub(crate) fn fail_for(&self, outage: Duration) {
        self.0.state.lock().outage = Some(Instant::now() + outage);
    }

    /// Requests that an outage has failed so far, and proofs that were throttled.
    pub(crate) fn failed(&self) -> u64 {
        self.0.state.lock().failed
    }

    /// Waits until so many of them failed.
    pub(crate) async fn has_failed(&self, requests: u64) {
        while self.failed() < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// From now on batches are held up for so long before their bytes leave: a connection has to be made first, say.
    pub(crate) fn hold_batches(&self, delay: Duration) {
        self.0.state.lock().batches_held = delay;
    }

    /// From now on the answer to a look, which tells of the table as it is when the look is sent, comes so much later.
    pub(crate) fn delay_looks(&self, delay: Duration) {
        self.0.state.lock().looks_delayed = delay;
    }

    /// What the test wants to go wrong.
    pub(super) fn refuse(&self, operation: &str, body: &Value) -> Option<(u16, Value)> {
        let mut state = self.0.state.lock();
        if state.outage.is_some_and(|end| Instant::now() < end) {
            state.failed += 1;
            return Some((
                503,
                json!({"__type": "ServiceUnavailable", "message": "out of order"}),
            ));
        }
        let take = |count: &mut u32| {
            let left = count.checked_sub(1);
            *count = left.unwrap_or(0);
            left.is_some()
        };
        match operation {
            "DescribeTable" if state.looks == Looks::Failing => {
                Some((500, json!({"__type": "InternalServerError", "message": "later"})))
            }
            // Only the proof reads two keys at most.
            "Query" if body["Limit"] == json!(2) && take(&mut state.throttled_proofs) => {
                state.failed += 1;
                Some(read_throttle())
            }
            "BatchWriteItem" if take(&mut state.blind_batches) => Some((
                400,
                json!({"__type": "ResourceNotFoundException", "message": "no such table"}),
            )),
            _ => None,
        }
    }

    /// Counts what is under way; a look that hangs does so here.
    async fn travel(&self, operation: &str) {
        let (hangs, held) = {
            let mut state = self.0.state.lock();
            if operation == "Query" {
                state.queries_under_way += 1;
                state.asked.most_queries = state.asked.most_queries.max(state.queries_under_way);
            }
            let hangs = match operation {
                "DescribeTable" => state.looks == Looks::Hanging,
                "Query" => state.mute,
                _ => false,
            };
            let batch = operation == "BatchWriteItem";
            (hangs, batch.then_some(state.batches_held))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.0.layout.latency / 2 + held.unwrap_or_default()).await;
    }

    fn arrive(&self, operation: &str) {
        if operation == "Query" {
            self.0.state.lock().queries_under_way -= 1;
        }
    }
}

/// The answer to a read for which there is no capacity.
pub(super) fn read_throttle() -> (u16, Value) {
    let reason = json!({"reason": "TableReadProvisionedThroughputExceeded", "resource": "arn:aws:dynamodb:us-east-1:0:table/Orders"});
    (
        400,
        json!({"__type": "ProvisionedThroughputExceededException", "message": "too many reads", "ThrottlingReasons": [reason]}),
    )
}

impl HttpClient for Simulation {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Simulation {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let simulation = self.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            simulation.travel(&operation).await;
            let body = match request.take_body().collect().await {
                Ok(body) => body.to_bytes(),
                // As a connection ends that is given no whole request.
                Err(withheld) => return Err(ConnectorError::user(withheld)),
            };
            let (status, answer) = simulation.answer(&operation, &body);
            let delayed = if operation == "DescribeTable" {
                simulation.0.state.lock().looks_delayed
            } else {
                Duration::ZERO
            };
            tokio::time::sleep(simulation.0.layout.latency / 2 + delayed).await;
            simulation.arrive(&operation);
            let status = StatusCode::try_from(status).unwrap();
            Ok(HttpResponse::new(status, SdkBody::from(answer.to_string())))
        })
    }
}
