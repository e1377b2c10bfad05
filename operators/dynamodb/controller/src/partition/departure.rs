//! The last look at the fence, and at when the table was seen: as the bytes of a request leave.
//!
//! Between the moment at which a request is handed to the client and the moment at which it is written to a connection,
//! the client signs it, resolves a name and connects. A process that is stopped in between (a suspended host, SIGSTOP)
//! would send it after it woke up, when another operator has long finished and the partition may have new items, or the
//! table may be another one.
//!
//! # Guarantees
//! - Both are asked when the connection asks for the request's body, with nothing to wait for between that and the
//!   writing. If either says no, the connection is given up: the server gets no whole request and carries out none.
//! - [`Departure::refused`] tells such a request, of which it is certain that nothing came of it, from one that is lost.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextMut, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::pin::Pin;
use crate::sabotage;

/// The request may not leave any more.
#[derive(Debug, thiserror::Error)]
enum Withheld {
    #[error("the lease was lost while the request was on its way to a connection; it was not sent")]
    LeaseLost,
    #[error(
        "the table was last seen too long ago when the request was on its way to a connection; it was not sent"
    )]
    TableUnseen,
}

/// Watches over one request until it leaves. Clones watch over the same one.
#[derive(Clone)]
pub(super) struct Departure {
    fence: Arc<dyn Fn() -> bool + Send + Sync>,
    table: Pin,
    refused: Arc<AtomicBool>,
}

impl Departure {
    pub(super) fn new(fence: Arc<dyn Fn() -> bool + Send + Sync>, table: Pin) -> Self {
        Self {
            fence,
            table,
            refused: Arc::default(),
        }
    }

    /// Whether the request was held back, and so was certainly not carried out.
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn look(&self) -> Result<(), Withheld> {
        let ignored = sabotage::active(sabotage::IGNORE_FENCE) || sabotage::active(sabotage::ASK_FENCE_EARLY);
        let open = (self.fence)() || ignored;
        if open && !self.table.is_stale() {
            return Ok(());
        }
        self.refused.store(true, Ordering::Relaxed);
        Err(if open {
            Withheld::TableUnseen
        } else {
            Withheld::LeaseLost
        })
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.refused();
        formatter
            .debug_struct("Departure")
            .field("refused", &refused)
            .finish_non_exhaustive()
    }
}

#[dyn_dispatch_hint]
impl Intercept for Departure {
    fn name(&self) -> &'static str {
        "Departure"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.request_mut().body_mut();
        let watched = Watched {
            body: std::mem::replace(body, SdkBody::empty()),
            departure: Some(self.clone()),
        };
        *body = SdkBody::from_body_1_x(watched);
        Ok(())
    }
}

/// A body whose first byte is given out only while the request may leave.
struct Watched {
    body: SdkBody,
    /// Nothing once the look has been taken.
    departure: Option<Departure>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(departure) = self.departure.take() {
            departure.look()?;
        }
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}
