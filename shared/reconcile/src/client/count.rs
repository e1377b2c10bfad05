//! Counts requests by code, method and host.

use std::task::{Context, Poll};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// Counts every request that reaches the wire.
#[derive(Clone)]
pub(super) struct CountLayer {
    metrics: Metrics,
}

impl CountLayer {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count {
            metrics: self.metrics.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
pub(super) struct Count<S> {
    metrics: Metrics,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Count<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let metrics = self.metrics.clone();
        let method = request.method().clone();
        let host = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            match &answer {
                Ok(response) => metrics.request(response.status().as_str(), method.as_str(), &host),
                Err(_) => metrics.request("<error>", method.as_str(), &host),
            }
            answer
        }
        .boxed()
    }
}
