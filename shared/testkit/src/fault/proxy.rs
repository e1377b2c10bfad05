//! A loopback HTTP/1.1 proxy in front of a backend: faults by plan, latency, counters, an audit log.
//!
//! [`Protocol`] is all that it knows about what it carries: how a request is named, how a failure is worded, and,
//! for protocols with faults of their own, what else happens to a request on its way.
//!
//! # Guarantees
//! - A connection belongs to the incarnation in which it was opened: what a dead incarnation left in a socket is not
//!   sent on behalf of its successor.
//! - The audit log holds every request that reached the proxy, including those that a fault kept from the backend.
//! - The proxy runs on a thread of its own: runtimes may come and go around it. It ends when dropped.
//!
//! # Caveats
//! Requests are read whole before they are sent on; responses are streamed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, Uri, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::{TcpListener, TcpStream};
use tower::BoxError;

use super::{Body, Boundary, FaultPlan, plan::Call};

mod audit;
#[cfg(test)]
mod tests;
mod thread;

#[cfg(feature = "dynamodb")]
pub(crate) use audit::key_id;
pub use audit::{Audit, Entry};
pub use thread::Served;

/// What a proxy knows about the requests that it carries.
pub trait Protocol: Send + Sync + 'static {
    /// Names a request. [`Call::site`] is also its operation in counters and the audit log.
    fn call(&self, request: &Request<Bytes>) -> Call;

    /// Words a failure as the backend would.
    fn failure(&self, status: StatusCode, retry_after: Option<u32>) -> Response<Body>;

    /// Takes a request that the plan let through to the backend. Overridden by protocols with faults of their own.
    fn exchange(
        self: Arc<Self>,
        request: Request<Bytes>,
        backend: Backend,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        Box::pin(async move { backend.send(request).await })
    }
}

/// The server behind a proxy. Clones share connections.
#[derive(Clone, Debug)]
pub struct Backend {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Backend {
    fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            address,
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Sends a request to the backend, whatever host it names.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::builder()
            .scheme("http")
            .authority(self.address.to_string())
            .path_and_query(path)
            .build()?;
        let response = self
            .client
            .request(Request::from_parts(parts, Full::new(body)))
            .await?;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

/// How a proxy is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plan that decides what happens to each request.
    pub plan: FaultPlan,
    /// Real time added to each exchange, before it is sent.
    pub latency: Duration,
}

impl Options {
    /// No latency.
    pub fn new(plan: &FaultPlan) -> Self {
        Self {
            plan: plan.clone(),
            latency: Duration::ZERO,
        }
    }

    /// Adds real time to each exchange.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }
}

/// A running proxy. It ends when dropped, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    audit: Arc<Audit>,
    served: Served,
}

impl Proxy {
    /// Starts a proxy in front of the backend at `address`, on a free loopback port.
    pub fn start<P: Protocol>(address: SocketAddr, protocol: P, options: Options) -> anyhow::Result<Self> {
        let audit = Arc::new(Audit::default());
        let shared = Arc::new(Shared {
            backend: Backend::new(address),
            protocol: Arc::new(protocol),
            audit: Arc::clone(&audit),
            options,
        });
        let served = Served::start("fault-proxy", |listener| accept(listener, shared))
            .with_context(|| format!("cannot start a proxy in front of {address}"))?;
        Ok(Self { audit, served })
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.served.address()
    }

    /// The URL that clients use instead of the backend's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What was asked of the backend.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }
}

struct Shared<P> {
    backend: Backend,
    protocol: Arc<P>,
    audit: Arc<Audit>,
    options: Options,
}

async fn accept<P: Protocol>(listener: TcpListener, shared: Arc<Shared<P>>) {
    // Dropped with this future, and every connection with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, Arc::clone(&shared))); }
                // Out of descriptors: a descriptor is freed when a connection ends.
                Err(_) => { connections.join_next().await; }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<P: Protocol>(stream: TcpStream, shared: Arc<Shared<P>>) {
    stream.set_nodelay(true).ok();
    let boundary = shared.options.plan.boundary();
    let service = service_fn(|request| exchange(request, Arc::clone(&shared), boundary.clone()));
    // An error means that a fault broke the connection or that the client went away: both are what was wanted.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

async fn exchange<P: Protocol>(
    request: Request<Incoming>,
    shared: Arc<Shared<P>>,
    boundary: Boundary,
) -> Result<Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await?.to_bytes());
    let call = shared.protocol.call(&request);
    shared.audit.record(&call.site, &request);
    if !shared.options.latency.is_zero() {
        tokio::time::sleep(shared.options.latency).await;
    }
    let backend = shared.backend.clone();
    boundary
        .carry(
            call,
            |status, retry_after| shared.protocol.failure(status, retry_after),
            || Arc::clone(&shared.protocol).exchange(request, backend),
        )
        .await
}

/// Plain HTTP without a vocabulary of its own: the site is method and path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Protocol for Plain {
    fn call(&self, request: &Request<Bytes>) -> Call {
        let site = format!("{} {}", request.method(), request.uri().path());
        Call {
            site,
            kind: super::plan::Kind::Call,
            list: None,
        }
    }

    fn failure(&self, status: StatusCode, retry_after: Option<u32>) -> Response<Body> {
        let mut response = Response::new(super::full(format!("injected fault: {status}")));
        *response.status_mut() = status;
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(http::header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
