//! What a server asks for by the header `Retry-After` of a refusal, put where [`crate::error::retry_after`] finds it.
//!
//! kube makes an error of a response's body and drops its headers; API priority and fairness answers 429 with the header
//! and a line of text.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use kube::client::{Body, DynBody};
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct RetryAfterLayer;

impl<S> Layer<S> for RetryAfterLayer {
    type Service = RetryAfter<S>;

    fn layer(&self, inner: S) -> RetryAfter<S> {
        RetryAfter(inner)
    }
}

/// See [`RetryAfterLayer`].
#[derive(Clone)]
pub(super) struct RetryAfter<S>(S);

impl<S> Service<Request<Body>> for RetryAfter<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            match asked(&response) {
                Some(seconds) => rewritten(response, seconds).await,
                None => Ok(response),
            }
        })
    }
}

/// The seconds that a refusal asks for. The header's other form, a date, is not used by API servers.
fn asked<B>(response: &Response<B>) -> Option<u32> {
    let refused = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let value = response.headers().get(header::RETRY_AFTER).filter(|_| refused)?;
    value.to_str().ok()?.trim().parse().ok()
}

/// The same response with a Status for a body that says so.
async fn rewritten(
    response: Response<Box<DynBody>>,
    seconds: u32,
) -> Result<Response<Box<DynBody>>, BoxError> {
    let (mut head, body) = response.into_parts();
    let text = body.collect().await?.to_bytes();
    let mut status = serde_json::from_slice(&text)
        .ok()
        .filter(|status: &Value| status["kind"] == "Status" && status["details"].is_object())
        .unwrap_or_else(|| {
            json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": head.status.as_u16(),
                "reason": "TooManyRequests", "message": String::from_utf8_lossy(&text).trim(), "details": {},
            })
        });
    if status["details"]["retryAfterSeconds"].is_null() {
        status["details"]["retryAfterSeconds"] = seconds.into();
    }
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    let body = Full::new(Bytes::from(status.to_string())).map_err(BoxError::from);
    Ok(Response::from_parts(head, Box::new(body)))
}
