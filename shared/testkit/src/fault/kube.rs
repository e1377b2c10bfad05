//! Faults between kube's client and the apiserver.
//!
//! [`faulty_client`] is a client of the current incarnation. An operator that builds its own client takes
//! [`FaultLayer`] and puts it closest to the wire; its response type is the one that kube's own stack has, so
//! `service.boxed()` fits wherever kube's generic service does.
//!
//! # Caveats
//! Sitting on top of kube's built stack, the layer is above kube's own retries of 429, 503 and 504: an injected one
//! reaches the operator at once.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::{Body as KubeBody, ClientBuilder, DynBody};
use tokio::sync::Mutex;
use tower::{BoxError, Layer, Service, ServiceExt as _};

use super::{Body, Boundary, FaultPlan, full, plan::Kind};

mod site;
#[cfg(test)]
mod tests;

pub use site::call;

/// A client whose requests go through the plan, as the plan's current incarnation.
///
/// Fails as [`kube::Client::try_from`] does.
pub fn faulty_client(config: kube::Config, plan: &FaultPlan) -> kube::Result<kube::Client> {
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&FaultLayer::new(plan)).build())
}

/// Puts a plan's current incarnation between a client and the wire.
#[derive(Clone, Debug)]
pub struct FaultLayer(Boundary);

impl FaultLayer {
    /// A layer for the plan's current incarnation.
    pub fn new(plan: &FaultPlan) -> Self {
        Self(plan.boundary())
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> FaultService<S> {
        FaultService {
            boundary: self.0.clone(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }
}

/// A client's transport behind a [`FaultLayer`].
#[derive(Debug)]
pub struct FaultService<S> {
    boundary: Boundary,
    // Shared because a request may be sent long after it was made; held only while it is handed over.
    inner: Arc<Mutex<S>>,
}

impl<S> Clone for FaultService<S> {
    fn clone(&self) -> Self {
        Self {
            boundary: self.boundary.clone(),
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S, B> Service<Request<KubeBody>> for FaultService<S>
where
    S: Service<Request<KubeBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<KubeBody>) -> Self::Future {
        let Self { boundary, inner } = self.clone();
        async move {
            let call = site::call(request.method(), request.uri());
            let words = if call.kind == Kind::Watch {
                watch_status
            } else {
                status
            };
            let response = boundary.carry(call, words, || send(inner, request)).await?;
            Ok(response.map(|body| Box::new(body) as Box<DynBody>))
        }
        .boxed()
    }
}

async fn send<S, B>(inner: Arc<Mutex<S>>, request: Request<KubeBody>) -> Result<Response<Body>, BoxError>
where
    S: Service<Request<KubeBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let sending = inner
        .lock()
        .await
        .ready()
        .await
        .map_err(Into::into)?
        .call(request);
    let response = sending.await.map_err(Into::into)?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// A failure of a watch as an apiserver words it: that the version asked for is too old comes as an event.
fn watch_status(code: StatusCode, retry_after: Option<u32>) -> Response<Body> {
    if code != StatusCode::GONE {
        return status(code, retry_after);
    }
    let event = serde_json::json!({ "type": "ERROR", "object": object(code) });
    Response::new(full(format!("{event}\n")))
}

/// A failure as an apiserver words it. API priority and fairness, which sends 429, says when to come back in a header
/// alone.
fn status(code: StatusCode, retry_after: Option<u32>) -> Response<Body> {
    let text = if code == StatusCode::TOO_MANY_REQUESTS {
        "Too many requests, please try again later.".to_owned()
    } else {
        object(code).to_string()
    };
    let mut response = Response::new(full(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A `Status`.
fn object(code: StatusCode) -> serde_json::Value {
    let reason = match code.as_u16() {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": format!("injected fault: {reason}"),
    })
}
