//! The way to the daemon: one connection for all, made when it is first needed.
//!
//! # Guarantees
//! - Whoever waits for the connection, or for what somebody else is asking for all, waits no longer than for an answer.
//! - An answer that begins and does not end is none.

use std::future::Future;

use bollard::Docker;

use super::{
    DockerEngine, REQUEST_LIMIT,
    failure::{self, explain},
    image,
};
use crate::engine::{EngineError, Failure};

impl DockerEngine {
    /// What `call` gives, from the connection to the end of the answer, if that comes in time.
    pub(super) async fn bounded<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let limit = self.shared.limit;
        let answered = tokio::time::timeout(limit, call).await;
        answered.unwrap_or_else(|_| Err(failure::too_slow(action, limit)))
    }

    /// Whether the daemon may be on another host, which can go without a word.
    pub(super) fn is_remote(&self) -> bool {
        !self.shared.address.starts_with("unix:")
    }

    /// The client. To be had within [`DockerEngine::bounded`]: one waits for the attempts of others, one by one.
    pub(super) async fn client(&self) -> Result<&Docker, EngineError> {
        let connect = || async {
            let address = &self.shared.address;
            let action = format!("connect to the daemon at {address}");
            let client = Docker::connect_with_host(address).map_err(|error| explain(&action, &error))?;
            let client = client
                .with_timeout(REQUEST_LIMIT)
                .with_request_modifier(image::with_readable_credentials);
            client
                .negotiate_version()
                .await
                .map_err(|error| explain(&action, &error))
        };
        self.shared.client.get_or_try_init(connect).await
    }

    /// The client for something that changes the world: refused once the lease may be another's.
    pub(super) async fn acting(&self, action: &str) -> Result<&Docker, EngineError> {
        let client = self.client().await?;
        match self.shared.fence.get().map(reconcile::fence::Fence::check) {
            Some(Err(lost)) => Err(EngineError {
                kind: Failure::Fenced,
                action: action.to_owned(),
                message: lost.to_string(),
            }),
            _ => Ok(client),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

    use axum::{
        Router,
        body::Body,
        extract::Request,
        http::{Response, header::CONTENT_TYPE},
    };
    use bytes::Bytes;
    use docker_api::ImagePullPolicy;
    use futures::{StreamExt as _, stream};
    use parking_lot::Mutex;
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::Engine as _;

    /// How long a test takes at most that fails.
    const DEADLINE: Duration = Duration::from_mins(2);

    /// An engine that waits this long for the daemon behind `listener`.
    fn patient_for(limit: Duration, listener: &TcpListener) -> DockerEngine {
        DockerEngine::with_limit(format!("tcp://{}", listener.local_addr().unwrap()), limit)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_daemon_that_never_answers_everybody_learns_after_one_limit() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let engine = patient_for(Duration::from_millis(300), &listener);
        let any = BTreeMap::new();
        let calls = (0..10).map(|_| engine.containers(&any));
        let answers = tokio::time::timeout(DEADLINE, futures::future::join_all(calls)).await;
        for answer in answers.expect("each waits for the one before it") {
            let error = answer.unwrap_err();
            // And not of an attempt to connect.
            assert_eq!(
                (error.kind, error.action.as_str()),
                (Failure::Unavailable, "list containers"),
                "{error}"
            );
        }
        let (host, pulled) = tokio::join!(
            engine.host(),
            engine.ensure_image("node:1", ImagePullPolicy::IfNotPresent, None)
        );
        assert_eq!(host.unwrap_err().action, "read the daemon's description");
        assert_eq!(pulled.unwrap_err().action, "look at image node:1");
    }

    /// Each announcement makes everybody look at everything, at once.
    #[tokio::test(flavor = "multi_thread")]
    async fn that_events_are_heard_is_not_announced_before_the_daemon_answers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let engine = patient_for(Duration::from_secs(20), &listener);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let asked = seen.clone();
        let answer = move |request: Request| {
            let path = request.uri().to_string();
            let what = path.rsplit('/').next().unwrap_or_default().to_owned();
            let is_first = !asked.lock().contains(&what);
            asked.lock().push(what.clone());
            async move {
                let (status, body) = match what.as_str() {
                    "version" => (
                        200,
                        Body::from(r#"{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}"#),
                    ),
                    "_ping" if is_first => (503, Body::from(r#"{"message": "it starts"}"#)),
                    "_ping" => (200, Body::from("OK")),
                    _ => (
                        200,
                        Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()),
                    ),
                };
                let answer = Response::builder().status(status);
                answer
                    .header(CONTENT_TYPE, "application/json")
                    .body(body)
                    .unwrap()
            }
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut events = engine.events();
        let announced = tokio::time::timeout(DEADLINE, events.next()).await;
        assert!(announced.unwrap().is_some_and(|event| event.labels.is_empty()));
        assert_eq!(*seen.lock(), ["version", "_ping", "_ping"]);
        let subscribed = async {
            let subscription = || seen.lock().iter().any(|what| what.contains("since="));
            while !subscription() {
                tokio::select! {
                    _ = events.next() => panic!("there is nothing to tell"),
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
            }
        };
        let subscribed = tokio::time::timeout(DEADLINE, subscribed).await;
        assert!(subscribed.is_ok(), "{:?}", seen.lock());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_that_begins_and_does_not_end_is_none() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let engine = patient_for(Duration::from_secs(2), &listener);
        let answer = |request: Request| async move {
            let body = if request.uri().path().ends_with("/version") {
                Body::from(r#"{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}"#)
            } else {
                Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())
            };
            Response::builder()
                .header(CONTENT_TYPE, "application/json")
                .body(body)
                .unwrap()
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let any = BTreeMap::new();
        let listed = tokio::time::timeout(DEADLINE, engine.containers(&any)).await;
        let error = listed.expect("it waits for the end").unwrap_err();
        assert_eq!(error.kind, Failure::Unavailable, "{error}");
        let error = engine.network("kind").await.unwrap_err();
        assert!(error.message.contains("did not answer within"), "{error}");
    }
}
