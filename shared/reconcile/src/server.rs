//! Probes and metrics over HTTP, as Kubernetes and Prometheus ask for them.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz`, `/readyz` | 200 and `ok`; or 500 and the names of the checks that fail |
//! | `/healthz/<check>`, `/readyz/<check>` | one check; 404 if there is none of that name |
//! | `…?verbose` | every check with its outcome, also when all is well |
//! | `…?exclude=<check>` | that check does not count; may be repeated |
//! | `/metrics` | the exposition of [`crate::metrics::Metrics`] |
//!
//! # Guarantees
//! - Why a check fails is never told over HTTP (`reason withheld`): probes are open to everybody. The log tells.
//! - Readiness says that this replica could work, not that it leads: standbys are ready.
//! - An address that is in use is an error when [`serve`] returns, not a silence later.
//! - HTTP/1.1 only, so that the floods of resets that HTTP/2 permits do not concern us.
//!
//! # Example
//! ```
//! use reconcile::server::{self, Readiness};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), server::Error> {
//! let readiness = Readiness::new();
//! let caches = readiness.gate("caches");
//! let shutdown = CancellationToken::new();
//! server::serve("127.0.0.1:0", server::probes(readiness), shutdown.clone()).await?;
//! caches.open();
//! shutdown.cancel();
//! # Ok(())
//! # }
//! ```

mod address;
mod probe;

use std::{io, net::SocketAddr};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::{
    address::BindAddress,
    probe::{Gate, Readiness},
};
use crate::metrics::{self, Metrics};

/// A server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not understood.
    #[error(
        "{0:?} is no address to listen on; write `:8080`, `127.0.0.1:8080`, `[::1]:8080`, or `0` for none"
    )]
    Address(String),
    /// The address cannot be listened on.
    #[error("failed to listen on {address}: free the port, or choose another address by flag (`0` for none)")]
    Listen {
        /// The address as given.
        address: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

/// The routes of `/healthz`, which is well as long as the process answers, and of `/readyz`.
pub fn probes(readiness: Readiness) -> Router {
    probe::routes("/healthz", Readiness::new()).merge(probe::routes("/readyz", readiness))
}

/// The route of `/metrics`. `before` runs ahead of each scrape, to bring gauges up to date; it must be cheap.
pub fn metrics(metrics: Metrics, before: impl Fn() + Clone + Send + Sync + 'static) -> Router {
    let scrape = async move || {
        before();
        ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode())
    };
    Router::new().route("/metrics", get(scrape))
}

/// Serves `router` on `address` (see [`BindAddress`]) in the background until `shutdown`.
///
/// Returns as soon as connections are accepted, with the address listened on; `None` if `address` is `0`.
pub async fn serve(
    address: &str,
    router: Router,
    shutdown: CancellationToken,
) -> Result<Option<SocketAddr>, Error> {
    let parsed: BindAddress = address.parse()?;
    let refused = |source| Error::Listen {
        address: address.to_owned(),
        source,
    };
    let Some(listener) = bind(&parsed).await.map_err(refused)? else {
        return Ok(None);
    };
    let listening = listener.local_addr().map_err(refused)?;
    tracing::debug!(address = %listening, "Listening");
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(address = %listening, %error, "A server ended; its probes or metrics are gone");
        }
    });
    Ok(Some(listening))
}

async fn bind(address: &BindAddress) -> io::Result<Option<TcpListener>> {
    let listener = match address {
        BindAddress::Disabled => return Ok(None),
        BindAddress::Everywhere(port) => match TcpListener::bind(("::", *port)).await {
            // A host without IPv6. An occupied port is occupied for IPv4, too.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", *port)).await
            }
            other => other,
        },
        BindAddress::Host(host, port) => TcpListener::bind((host.as_str(), *port)).await,
    };
    listener.map(Some)
}

#[cfg(test)]
mod tests;
