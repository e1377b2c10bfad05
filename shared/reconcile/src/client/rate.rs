//! A token bucket over the requests of one client.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::Request;
use parking_lot::Mutex;
use tower::{Layer, Service};

use super::is_endless;
use crate::clock::Clock;

/// `burst` tokens that come back at `qps` per second. The count may go below zero: each waiting request has then
/// taken its token already, and knows when it falls due. So requests leave in the order in which they came.
pub(super) struct Bucket {
    qps: f64,
    burst: f64,
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    pub(super) fn new(qps: f32, burst: u32, now: Duration) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            qps: f64::from(qps),
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Takes a token; how long to wait until it is due.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = since.mul_add(self.qps, self.tokens).min(self.burst) - 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / self.qps).unwrap_or(Duration::MAX)
    }
}

/// Makes requests wait for a token; watches are exempt, and a `qps` of 0 or less is no limit.
#[derive(Clone)]
pub(super) struct RateLayer {
    limit: Option<(Arc<Mutex<Bucket>>, Clock)>,
}

impl RateLayer {
    pub(super) fn new(qps: f32, burst: u32, clock: &Clock) -> Self {
        let bucket = || Arc::new(Mutex::new(Bucket::new(qps, burst, clock.elapsed())));
        Self {
            limit: (qps > 0.0).then(|| (bucket(), clock.clone())),
        }
    }
}

impl<S> Layer<S> for RateLayer {
    type Service = Rate<S>;

    fn layer(&self, inner: S) -> Rate<S> {
        Rate {
            limit: self.limit.clone(),
            inner,
        }
    }
}

pub(super) struct Rate<S> {
    limit: Option<(Arc<Mutex<Bucket>>, Clock)>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Rate<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.limit.as_ref().filter(|_| !is_endless(&request));
        let wait = limit.map(|(bucket, clock)| (bucket.lock().take(clock.elapsed()), clock.clone()));
        // Everything below does nothing until polled, so that the wait comes before it.
        let answer = self.inner.call(request);
        async move {
            if let Some((wait, clock)) = wait.filter(|(wait, _)| !wait.is_zero()) {
                clock.sleep(wait).await;
            }
            answer.await
        }
        .boxed()
    }
}
