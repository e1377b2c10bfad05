//! The connection to the API server.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::{Body, ConfigExt, DynBody},
};
use tower::{BoxError, ServiceExt, util::BoxCloneService};

use super::WireService;

/// A peer that vanished without a word is noticed by unanswered probes, the first after this time of silence; a quiet
/// watch would wait for minutes.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Between probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered ones that end the connection.
const PROBES: u32 = 3;

/// A pool of connections according to `config`.
pub(super) fn connect(config: &Config) -> kube::Result<WireService> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(tls);
    let service = client
        .map_response(|response| {
            response.map(|body| -> Box<DynBody> { Box::new(body.map_err(BoxError::from)) })
        })
        .map_err(BoxError::from);
    Ok(BoxCloneService::new(service))
}
