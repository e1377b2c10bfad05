//! Bounds how long a request may take, its answer's body included.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use kube::client::DynBody;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Layer, Service};

use super::is_endless;

/// The API server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer {method} {path} within {limit:?}")]
pub(super) struct TooSlow {
    method: http::Method,
    path: String,
    limit: Duration,
}

/// Fails requests that take longer than a limit, in real time. Of a watch only the beginning is bounded.
#[derive(Clone)]
pub(super) struct TimeLimitLayer {
    limit: Duration,
}

impl TimeLimitLayer {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for TimeLimitLayer {
    type Service = TimeLimit<S>;

    fn layer(&self, inner: S) -> TimeLimit<S> {
        TimeLimit {
            limit: self.limit,
            inner,
        }
    }
}

pub(super) struct TimeLimit<S> {
    limit: Duration,
    inner: S,
}

impl<S, A> Service<Request<A>> for TimeLimit<S>
where
    S: Service<Request<A>, Response = Response<Box<DynBody>>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let limit = self.limit;
        let endless = is_endless(&request);
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = self.inner.call(request);
        async move {
            // Counted from the first poll: time spent waiting for the rate limit is not the server's.
            let deadline = Instant::now() + limit;
            let slow = TooSlow { method, path, limit };
            match timeout_at(deadline, answer).await {
                Err(_) => Err(slow.into()),
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(response)) if endless => Ok(response),
                Ok(Ok(response)) => Ok(response.map(|body| bounded(body, deadline, slow))),
            }
        }
        .boxed()
    }
}

fn bounded(inner: Box<DynBody>, deadline: Instant, slow: TooSlow) -> Box<DynBody> {
    Box::new(BoundedBody {
        inner,
        alarm: Box::pin(sleep_until(deadline)),
        slow: Some(slow),
    })
}

/// A body that fails at its deadline.
struct BoundedBody {
    inner: Box<DynBody>,
    alarm: Pin<Box<Sleep>>,
    slow: Option<TooSlow>,
}

impl Body for BoundedBody {
    type Data = <DynBody as Body>::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if frame.is_ready() || self.alarm.as_mut().poll(context).is_pending() {
            return frame;
        }
        Poll::Ready(self.slow.take().map(|slow| Err(slow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
