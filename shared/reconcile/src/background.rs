//! Work that is of no object's: a sweep, a poll.
//!
//! # Guarantees
//! - It begins when this replica may act, never before, and is dropped when the shutdown begins.
//! - When the lease is lost the process ends, and it with it.
//!
//! # Assumptions
//! - It never ends by itself: a work that does is taken for one that died, and ends the process.
//! - It may be cut off at any `.await`, checks [`Background::fence`] immediately before each request to the outside
//!   world that changes something, and waits by [`Background::clock`] only.

use futures::future::BoxFuture;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, fence::Fence};

/// What such a work is given.
#[derive(Clone)]
pub struct Background {
    /// A client whose mutating requests are refused once the lease is lost.
    pub client: Client,
    /// The clock to wait and to tell the time with.
    pub clock: Clock,
    /// The lease's fence.
    pub fence: Fence,
    /// Name of this process in events.
    pub instance: String,
    /// The namespaces that are served; empty for all.
    pub namespaces: Vec<String>,
}

pub(crate) type Work = Box<dyn FnOnce(Background) -> BoxFuture<'static, ()> + Send>;

/// Runs `work` from the election to the shutdown.
pub(crate) async fn run(
    work: impl Future<Output = ()>,
    elected: CancellationToken,
    shutdown: CancellationToken,
) {
    let acting = async {
        elected.cancelled().await;
        work.await;
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = acting => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn it_begins_with_the_election_and_ends_with_the_shutdown() {
        let (elected, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let began = Arc::new(AtomicBool::new(false));
        let flag = began.clone();
        let work = async move {
            flag.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        };
        let running = run(work, elected.clone(), shutdown.clone());
        tokio::pin!(running);
        assert!(futures::poll!(&mut running).is_pending());
        assert!(!began.load(Ordering::Acquire), "a standby does nothing");
        elected.cancel();
        assert!(futures::poll!(&mut running).is_pending());
        assert!(began.load(Ordering::Acquire));
        shutdown.cancel();
        running.await;
    }

    #[tokio::test]
    async fn a_replica_that_is_told_to_end_does_not_begin() {
        let (elected, shutdown) = (CancellationToken::new(), CancellationToken::new());
        elected.cancel();
        shutdown.cancel();
        let begun = async { unreachable!("it begins after the shutdown") };
        run(begun, elected, shutdown).await;
    }
}
