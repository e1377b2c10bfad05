//! Carries out a plan's decision around one request, whatever the protocol.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::pending;
use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use super::{
    Body, full,
    plan::{Call, FaultPlan, Kind, Listed, Verdict},
    schedule::{CrashSite, Fault},
};

/// The connection broke, because a plan said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Nothing was sent.
    #[error("injected fault: connection refused before the request was sent")]
    BeforeSend,
    /// The request took effect.
    #[error("injected fault: connection reset before the response arrived")]
    ResponseLost,
}

/// The place where one incarnation's requests leave it.
#[derive(Clone, Debug)]
pub struct Boundary {
    plan: FaultPlan,
    incarnation: usize,
}

impl Boundary {
    pub(super) fn new(plan: FaultPlan, incarnation: usize) -> Self {
        Self { plan, incarnation }
    }

    /// The plan that decides here.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// Sends a request, or does to it what the plan decides.
    ///
    /// `answer` words an injected status as the protocol's servers would. An error is either the transport's own
    /// or [`Broken`]. Hangs for ever, until dropped, if the plan says so or the incarnation is dead.
    pub async fn carry<S, F, A>(&self, call: Call, answer: A, send: S) -> Result<Response<Body>, BoxError>
    where
        S: FnOnce() -> F,
        F: Future<Output = Result<Response<Body>, BoxError>>,
        A: FnOnce(StatusCode, Option<u32>) -> Response<Body>,
    {
        let fault = match self.plan.admit(self.incarnation, &call) {
            Verdict::Pass => return self.pass(&call, send().await?).await,
            Verdict::Dead => return pending().await,
            Verdict::Stale(listed) => return Ok(stale(listed)),
            Verdict::Crash(site) => return self.crash(site, send).await,
            Verdict::Fault(fault) => fault,
        };
        match fault {
            Fault::Refuse => Err(Broken::BeforeSend.into()),
            Fault::Hang => pending().await,
            Fault::Lose => {
                finish(send().await?).await?;
                Err(Broken::ResponseLost.into())
            }
            Fault::Delay(delay) => {
                self.plan.clock().sleep(delay).await;
                if self.plan.is_dead(self.incarnation) {
                    return pending().await;
                }
                self.pass(&call, send().await?).await
            }
            Fault::Status {
                code,
                retry_after,
                applied,
            } => {
                if applied {
                    finish(send().await?).await?;
                }
                Ok(answer(StatusCode::from_u16(code)?, retry_after))
            }
            Fault::DropWatch(frames) => {
                let (mut parts, body) = send().await?.into_parts();
                parts.headers.remove(CONTENT_LENGTH);
                Ok(Response::from_parts(parts, Cut { body, frames }.boxed_unsync()))
            }
            // Resolved to `Verdict::Stale` or to a pass by the plan.
            Fault::StaleList => self.pass(&call, send().await?).await,
        }
    }

    async fn crash<S, F>(&self, site: CrashSite, send: S) -> Result<Response<Body>, BoxError>
    where
        S: FnOnce() -> F,
        F: Future<Output = Result<Response<Body>, BoxError>>,
    {
        match site {
            CrashSite::Before => pending().await,
            CrashSite::Lost => {
                // Dead even if the backend failed: a crash must not depend on it.
                if let Ok(response) = send().await {
                    finish(response).await.ok();
                }
                self.plan.kill(self.incarnation);
                pending().await
            }
            CrashSite::After => {
                let response = send().await;
                self.plan.kill(self.incarnation);
                response
            }
        }
    }

    /// Hands a response on, and remembers it if it is a list that may be served once more.
    async fn pass(&self, call: &Call, response: Response<Body>) -> Result<Response<Body>, BoxError> {
        let Some(list) = call.list.as_ref().filter(|_| {
            call.kind == Kind::List
                && response.status() == StatusCode::OK
                && self.plan.schedule().serves_stale_lists()
        }) else {
            return Ok(response);
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        self.plan.remember(
            list,
            Listed {
                headers: parts.headers.clone(),
                body: body.clone(),
            },
        );
        Ok(Response::from_parts(parts, full(body)))
    }
}

fn stale(listed: Listed) -> Response<Body> {
    let mut response = Response::new(full(listed.body));
    *response.headers_mut() = listed.headers;
    response
}

/// Reads an answer to its end, so that the request has taken effect whatever the server does last. A stream has
/// none; a short while stands for it.
async fn finish(response: Response<Body>) -> Result<(), BoxError> {
    const STREAM: Duration = Duration::from_millis(50);
    match tokio::time::timeout(STREAM, response.into_body().collect()).await {
        Ok(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

/// A body that ends after some more frames.
struct Cut {
    body: Body,
    frames: u32,
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.frames == 0 {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.frames -= 1;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.frames == 0 || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
