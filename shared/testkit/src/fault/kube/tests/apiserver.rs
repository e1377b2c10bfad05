//! The least server that kube's client can talk to: one ConfigMap whose version grows with each write.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    routing::{get, patch},
};
use futures::StreamExt as _;
use serde_json::{Value, json};

#[derive(Default)]
pub(super) struct Counters {
    pub(super) writes: AtomicU64,
}

pub(super) struct Apiserver {
    pub(super) state: Arc<Counters>,
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Apiserver {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Counters::default());
        let router = Router::new()
            .route("/api/v1/namespaces/default/configmaps", get(list))
            .route("/api/v1/namespaces/default/configmaps/a", patch(write))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { state, url, serving }
    }

    pub(super) fn config(&self) -> kube::Config {
        kube::Config::new(self.url.parse().unwrap())
    }

    pub(super) fn writes(&self) -> u64 {
        self.state.writes.load(Ordering::SeqCst)
    }
}

fn object(version: u64) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": { "name": "a", "namespace": "default", "resourceVersion": version.to_string() },
    })
}

async fn write(State(state): State<Arc<Counters>>) -> String {
    object(state.writes.fetch_add(1, Ordering::SeqCst) + 1).to_string()
}

async fn list(State(state): State<Arc<Counters>>, RawQuery(query): RawQuery) -> Body {
    let version = state.writes.load(Ordering::SeqCst);
    if !query.is_some_and(|query| query.contains("watch=true")) {
        let list = json!({
            "kind": "ConfigMapList", "apiVersion": "v1",
            "metadata": { "resourceVersion": version.to_string() }, "items": [object(version)],
        });
        return Body::from(list.to_string());
    }
    // One event per chunk, then silence: an open watch.
    let events = (1..=4).map(|n| {
        let event = json!({ "type": "MODIFIED", "object": object(n) });
        Ok::<_, Infallible>(format!("{event}\n"))
    });
    Body::from_stream(futures::stream::iter(events).chain(futures::stream::pending()))
}
