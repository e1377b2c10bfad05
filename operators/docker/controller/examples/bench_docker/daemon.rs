//! A stand-in of the Docker daemon: as much of its API as the provider asks for, over a TCP port.
//!
//! Containers are entries of a map, addresses are kept, names and networks are unique; a load balancer takes every
//! configuration, and a node is bootstrapped as soon as it is told to. Every request is counted under its kind.

// By their paths, since a test includes this file, too.
#[path = "daemon/containers.rs"]
mod containers;
#[path = "daemon/exec.rs"]
mod exec;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast};

use self::containers::Containers;

/// The most that a request may send.
const BODY_LIMIT: usize = 16 << 20;

/// What all connections share.
pub(crate) struct Daemon {
    containers: Mutex<Containers>,
    networks: Mutex<BTreeMap<String, Value>>,
    /// What runs in containers: the container's name and the command.
    commands: Mutex<Vec<(String, Vec<String>)>>,
    /// The containers whose bootstrap has begun.
    begun: Mutex<BTreeSet<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
    events: broadcast::Sender<Bytes>,
}

/// What a request asks for.
struct Asked<'a> {
    method: &'a Method,
    path: Vec<&'a str>,
    query: BTreeMap<String, String>,
}

impl Daemon {
    /// Starts one on a free port of the loopback.
    pub(crate) async fn start() -> Result<(Arc<Self>, SocketAddr)> {
        let daemon = Arc::new(Self {
            containers: Mutex::default(),
            networks: Mutex::default(),
            commands: Mutex::default(),
            begun: Mutex::default(),
            counts: Mutex::default(),
            events: broadcast::channel(16 << 10).0,
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(daemon.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((daemon, address))
    }

    /// How often each kind of request was made since the last call.
    pub(crate) fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.counts.lock())
    }

    /// The number of containers.
    pub(crate) fn len(&self) -> usize {
        self.containers.lock().len()
    }

    fn count(&self, asked: &Asked) {
        let kind = match (asked.path.first().copied(), asked.path.len()) {
            (Some("containers" | "exec"), 3) => format!("{}/{}", asked.path[0], asked.path[2]),
            (Some(first @ ("containers" | "networks")), 2) if ["json", "create"].contains(&asked.path[1]) => {
                format!("{first}/{}", asked.path[1])
            }
            (Some(first), _) => first.to_owned(),
            (None, _) => "/".to_owned(),
        };
        *self
            .counts
            .lock()
            .entry(format!("{} {kind}", asked.method))
            .or_default() += 1;
    }

    fn tell(&self, action: &str, container: &Value) {
        let event = json!({
            "Type": "container", "Action": action,
            "Actor": {"ID": container["Id"], "Attributes": container["Labels"]},
        });
        // Nobody listening is no error.
        let _ = self.events.send(Bytes::from(format!("{event}\n")));
    }

    fn network(&self, name: &str) -> Response {
        let Some(network) = self.networks.lock().get(name).cloned() else {
            return refused(StatusCode::NOT_FOUND, &format!("network {name} not found"));
        };
        let in_use = self.containers.lock().addresses();
        let endpoints: BTreeMap<_, _> = in_use
            .into_iter()
            .map(|(name, address)| (name, json!({"IPv4Address": format!("{address}/16")})))
            .collect();
        let mut network = network;
        network["Containers"] = json!(endpoints);
        axum::Json(network).into_response()
    }

    fn on_network(&self, asked: &Asked, body: &Bytes) -> Response {
        match (asked.method.as_str(), asked.path.as_slice()) {
            ("POST", [_, "create"]) => {
                let network: Value = serde_json::from_slice(body).unwrap_or_default();
                let name = network["Name"].as_str().unwrap_or_default().to_owned();
                self.networks.lock().insert(name.clone(), network);
                (
                    StatusCode::CREATED,
                    axum::Json(json!({"Id": name, "Warning": ""})),
                )
                    .into_response()
            }
            ("DELETE", [_, name]) => {
                self.networks.lock().remove(*name);
                StatusCode::NO_CONTENT.into_response()
            }
            (_, [_, name]) => self.network(name),
            _ => refused(StatusCode::NOT_FOUND, "page not found"),
        }
    }

    /// Events as they come; nothing of the past.
    fn event_stream(&self) -> Response {
        let stream = stream::unfold(self.events.subscribe(), |mut events| async move {
            // One that lags behind has missed some, and reconnects.
            let event = events.recv().await.ok()?;
            Some((Ok::<_, Infallible>(event), events))
        });
        Body::from_stream(stream.boxed()).into_response()
    }
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({"message": message}))).into_response()
}

async fn answer(State(daemon): State<Arc<Daemon>>, mut request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut path: Vec<_> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    if path.first().is_some_and(|first| first.starts_with("v1.")) {
        path.remove(0);
    }
    let query = url_query(uri.query().unwrap_or_default());
    let asked = Asked {
        method: &method,
        path,
        query,
    };
    daemon.count(&asked);
    if let ["exec", id, "start"] = asked.path.as_slice() {
        return exec::start(&daemon, id, &mut request);
    }
    let body = match to_bytes(request.into_body(), BODY_LIMIT).await {
        Ok(body) => body,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match asked.path.as_slice() {
        ["_ping"] => "OK".into_response(),
        ["version"] => axum::Json(json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10"}))
            .into_response(),
        ["info"] => axum::Json(json!({"NCPU": 64, "MemTotal": 64_i64 << 30, "Architecture": "x86_64"}))
            .into_response(),
        ["images", ..] => axum::Json(json!({"Id": "sha256:0", "Architecture": "amd64"})).into_response(),
        ["events"] => daemon.event_stream(),
        ["networks", ..] => daemon.on_network(&asked, &body),
        ["containers", _, "exec"] => exec::create(&daemon, &asked, &body),
        ["containers", ..] => containers::answer(&daemon, &asked, &body),
        _ => refused(StatusCode::NOT_FOUND, "page not found"),
    }
}

fn url_query(query: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}

/// What the daemon reads of `filters`.
fn filters(asked: &Asked) -> Result<BTreeMap<String, Vec<String>>> {
    let text = asked.query.get("filters").map_or("{}", String::as_str);
    serde_json::from_str(text).context("filters are malformed")
}
