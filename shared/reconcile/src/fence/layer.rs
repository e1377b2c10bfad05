//! The fence as a layer of an HTTP client.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request};
use tower::{BoxError, Layer, Service};

use super::Fence;
use crate::sabotage;

/// Refuses requests that may change something (any method but GET and HEAD) when the fence is closed.
///
/// It belongs below everything that can wait (rate limits, token refresh, retries) and above the connection.
#[derive(Clone, Debug)]
pub struct FenceLayer {
    fence: Fence,
}

impl FenceLayer {
    /// A layer that asks `fence`.
    pub fn new(fence: Fence) -> Self {
        Self { fence }
    }
}

impl<S> Layer<S> for FenceLayer {
    type Service = FenceService<S>;

    fn layer(&self, inner: S) -> FenceService<S> {
        FenceService {
            fence: self.fence.clone(),
            inner,
        }
    }
}

/// See [`FenceLayer`].
#[derive(Clone, Debug)]
pub struct FenceService<S> {
    fence: Fence,
    inner: S,
}

impl<S, B> Service<Request<B>> for FenceService<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = FencedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let fence = is_mutating(request.method()).then(|| self.fence.clone());
        FencedFuture {
            fence,
            inner: Box::pin(self.inner.call(request)),
        }
    }
}

fn is_mutating(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// A request that is given up as soon as its fence closes.
///
/// Futures do nothing until polled, so the first poll is the moment before anything is sent. Each later one
/// asks again, because opening a connection takes time, too: a process stopped while it connects wakes up here.
pub struct FencedFuture<F> {
    fence: Option<Fence>,
    inner: Pin<Box<F>>,
}

impl<F, T, E> Future for FencedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(fence) = &self.fence {
            fence.check()?;
        }
        if sabotage::active(sabotage::ASK_FENCE_ONCE) {
            self.fence = None;
        }
        self.inner.as_mut().poll(context).map_err(Into::into)
    }
}
