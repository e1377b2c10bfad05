//! The Kubernetes client of an operator: fenced, rate limited, bounded in time, counted.
//!
//! From the caller down to the wire a request passes: the rate limit, the time limit, the address and the
//! credentials, the fence, the count, and last a hook in which tests inject faults.
//!
//! # Guarantees
//! - No mutating request is sent once [`ClientOptions::fence`] is closed. Nothing that can wait lies below the fence but the
//!   opening of a connection, and the fence is asked again after that.
//! - Every request but a watch is answered, in whole, within [`ClientOptions::request_timeout`] or fails; so is the
//!   beginning of a watch. A server that hangs does not keep a worker.
//! - At most `burst` requests leave at once, and `qps` per second from then on. Watches neither wait nor count.
//! - Every request that was sent is counted in `rest_client_requests_total`, an unanswered one as `<error>`.
//!
//! # Assumptions
//! [`crate::cli::install_crypto_provider`] or anything else has chosen the TLS provider, or none is chosen yet.
//!
//! # Caveats
//! Requests are never repeated here, unlike by kube's default client: a worker that waits inside of a request
//! helps nobody, and the framework's requeue honours what the server asks for, in a Status or, as API priority and
//! fairness does, in the header `Retry-After` alone. HTTP/1.1 only. Proxies are refused
//! rather than bypassed.
//!
//! # Errors
//! [`Error`] when the configuration cannot be used. A refused or timed out request is a [`kube::Error::Service`].
//!
//! # Example
//! ```no_run
//! use reconcile::client::{self, ClientOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = kube::Config::infer().await?;
//! let client = client::build(config, ClientOptions::new("database-operator/1.4.0"))?;
//! # Ok(())
//! # }
//! ```

mod count;
mod rate;
mod retry_after;
mod time_limit;
mod wire;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt, DynBody},
};
use tower::{BoxError, Layer, ServiceBuilder, util::BoxCloneService};

use self::{count::CountLayer, rate::RateLayer, retry_after::RetryAfterLayer, time_limit::TimeLimitLayer};
use crate::{
    clock::Clock,
    fence::{Fence, FenceLayer},
    metrics::Metrics,
};

/// What lies directly above the connection: requests with absolute addresses and credentials, raw responses. Clones
/// share the connections.
pub type WireService = BoxCloneService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// A layer closest to the wire, below fence and count. Tests inject faults here. Make one with [`wire_layer`].
pub type WireLayer = Arc<dyn Fn(WireService) -> WireService + Send + Sync>;

/// How to talk to the API server.
#[derive(Clone)]
pub struct ClientOptions {
    /// Requests per second, on average. Default 100; 0 or less: no limit.
    pub qps: f32,
    /// Requests at once after a pause. Default 200; at least 1.
    pub burst: u32,
    /// Sent with every request, for the audit log: `<operator>/<version>`.
    pub user_agent: String,
    /// Asked before every mutating request. Default: open.
    pub fence: Fence,
    /// Where requests are counted. Default: a registry of its own.
    pub metrics: Metrics,
    /// Drives the rate limit. Default: the real clock.
    pub clock: Clock,
    /// How long a request may take in real time, from being sent to the last byte. Default 30 s.
    pub request_timeout: Duration,
    /// Wraps the connection. Default: nothing.
    pub wire: Option<WireLayer>,
}

impl ClientOptions {
    /// The defaults, with this user agent.
    pub fn new(user_agent: &str) -> Self {
        Self {
            qps: 100.0,
            burst: 200,
            user_agent: user_agent.to_owned(),
            fence: Fence::open(),
            metrics: Metrics::new(),
            clock: Clock::system(),
            request_timeout: Duration::from_secs(30),
            wire: None,
        }
    }
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user agent is no legal header value.
    #[error("the user agent {0:?} has characters that no HTTP header may have; use visible ASCII")]
    UserAgent(String),
    /// The configuration names a proxy.
    #[error(
        "the Kubernetes configuration asks for the proxy {0}, which this client cannot use; remove `proxy-url` from the kubeconfig"
    )]
    Proxy(http::Uri),
    /// Credentials or certificates of the configuration are unusable.
    #[error("failed to make a Kubernetes client of the configuration for {server}")]
    Config {
        /// The API server's address.
        server: http::Uri,
        /// What is wrong with it.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Makes a client. Must run inside of a tokio runtime, in which its background task lives.
pub fn build(mut config: Config, options: ClientOptions) -> Result<Client, Error> {
    if let Some(proxy) = config.proxy_url.take() {
        return Err(Error::Proxy(proxy));
    }
    let agent =
        HeaderValue::from_str(&options.user_agent).map_err(|_| Error::UserAgent(options.user_agent))?;
    config.headers.retain(|(name, _)| name != USER_AGENT);
    config.headers.push((USER_AGENT, agent));
    let server = config.cluster_url.clone();
    let unusable = |source| Error::Config {
        server,
        source: Box::new(source),
    };

    crate::cli::install_crypto_provider();
    let layers = || {
        Ok((
            config.auth_layer()?,
            config.extra_headers_layer()?,
            wire::connect(&config)?,
        ))
    };
    let (auth, headers, connection) = layers().map_err(unusable)?;
    let connection = match options.wire {
        Some(wrap) => wrap(connection),
        None => connection,
    };
    let service = ServiceBuilder::new()
        .layer(RateLayer::new(options.qps, options.burst, &options.clock))
        .layer(TimeLimitLayer::new(options.request_timeout))
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(headers)
        .layer(FenceLayer::new(options.fence))
        .layer(RetryAfterLayer)
        .layer(CountLayer::new(options.metrics))
        .service(connection);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Makes a [`WireLayer`] of a tower layer.
///
/// ```
/// use reconcile::client::{WireService, wire_layer};
/// use tower::{ServiceExt, layer::layer_fn};
///
/// let silent = wire_layer(layer_fn(|inner: WireService| inner.map_request(|request| request)));
/// ```
pub fn wire_layer<L>(layer: L) -> WireLayer
where
    L: Layer<WireService> + Send + Sync + 'static,
    L::Service: tower::Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    <L::Service as tower::Service<Request<Body>>>::Future: Send + 'static,
{
    Arc::new(move |inner| BoxCloneService::new(layer.layer(inner)))
}

/// Whether a request is a watch, or any other stream without an end (`follow=true` of logs).
fn is_endless<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        matches!(name, "watch" | "follow") && !matches!(value, "false" | "0")
    })
}

#[cfg(test)]
mod tests;
