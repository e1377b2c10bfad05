//! The fence: after its deadline a replica begins no request that changes anything.
//!
//! A lease alone does not keep two replicas apart. A process that was stopped (a suspended host, SIGSTOP, a starved
//! CPU) wakes up in the middle of a pass, believing what it believed before. So the deadline up to which the lease
//! is surely ours is checked here, immediately before each request is sent.
//!
//! # Guarantees
//! - [`Fence::check`] fails from the deadline on, also when the host was suspended in between, also when the elector's
//!   thread did not get to run: it compares the clock with a number and needs nobody's help.
//! - A client built with [`FenceLayer`] refuses mutating requests then, without sending them.
//! - The deadline lies before the moment at which any standby may take over, by the difference between the lease's
//!   duration and its renew deadline.
//!
//! # Assumptions
//! Every side effect that is not a request of such a client (a call to a cloud, a container, a database) is preceded
//! by [`Fence::check`], with nothing slow between the check and the call.
//!
//! # Caveats
//! A request that is already on its way when the deadline passes is not recalled. It must be harmless by
//! itself: by a precondition (intents, reports and finalizers carry the resourceVersion), an idempotency token, or because
//! it is mended by the next pass (a child that is applied late as it was before). Its answer is discarded, so its outcome is
//! unknown, as after a lost connection.
//!
//! # Example
//! ```
//! use reconcile::fence::{Fence, LeaseLost};
//!
//! fn terminate_instance(fence: &Fence) -> Result<(), LeaseLost> {
//!     fence.check()?;
//!     // … the call, at once …
//!     Ok(())
//! }
//! assert!(terminate_instance(&Fence::open()).is_ok());
//! ```

mod boot_time;
mod layer;

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::{
    boot_time::BootTime,
    layer::{FenceLayer, FenceService},
};

use crate::sabotage;

/// The deadline of a fence that nobody drives: it never comes.
const NEVER: u64 = u64::MAX;

/// Tells whether this process may still change the world. Clones share one deadline.
///
/// A check is one atomic load and, if there is a deadline, one reading of the clock: tens of nanoseconds.
#[derive(Clone)]
pub struct Fence {
    shared: Arc<Shared>,
}

struct Shared {
    lease: String,
    /// Nanoseconds of [`BootTime`]; 0 as long as the lease is not held.
    deadline: AtomicU64,
}

/// The lease is not, or no longer, held by this process, so nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lease {lease} is not held by this process any more; the request was not sent, and the process must end"
)]
pub struct LeaseLost {
    lease: String,
}

impl LeaseLost {
    /// Whether `error` or any of its sources is a [`LeaseLost`]; kube wraps it in a service error.
    pub fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("lease", &self.shared.lease)
            .field("remaining", &self.remaining())
            .finish()
    }
}

impl Fence {
    /// A fence that is always open: for a process that does without leader election.
    pub fn open() -> Self {
        Self::with_deadline("(no election)", NEVER)
    }

    /// A closed fence for the lease of this name, and the keeper that opens it.
    pub(crate) fn kept(lease: &str) -> (Self, FenceKeeper) {
        let fence = Self::with_deadline(lease, 0);
        (fence.clone(), FenceKeeper { fence })
    }

    fn with_deadline(lease: &str, deadline: u64) -> Self {
        let deadline = AtomicU64::new(deadline);
        Self {
            shared: Arc::new(Shared {
                lease: lease.to_owned(),
                deadline,
            }),
        }
    }

    /// Fails if the deadline has passed, or if the lease was never held or was given up.
    pub fn check(&self) -> Result<(), LeaseLost> {
        let deadline = self.shared.deadline.load(Ordering::Acquire);
        let open = deadline == NEVER || BootTime::now().as_nanos() < deadline;
        if open || sabotage::active(sabotage::NO_FENCE) {
            return Ok(());
        }
        Err(LeaseLost {
            lease: self.shared.lease.clone(),
        })
    }

    /// How long the lease is surely ours from now on; zero when it is not; `None` without an election.
    pub fn remaining(&self) -> Option<Duration> {
        match self.shared.deadline.load(Ordering::Acquire) {
            NEVER => None,
            deadline => Some(BootTime::from_nanos(deadline).saturating_since(BootTime::now())),
        }
    }
}

/// Moves the deadline of a fence. Dropped, it closes the fence: an elector that dies leaves nobody leading.
pub(crate) struct FenceKeeper {
    fence: Fence,
}

impl FenceKeeper {
    /// The lease is ours until `deadline`.
    pub(crate) fn extend(&self, deadline: BootTime) {
        self.fence
            .shared
            .deadline
            .store(deadline.as_nanos().clamp(1, NEVER - 1), Ordering::Release);
    }

    /// The lease is not ours from now on.
    pub(crate) fn close(&self) {
        self.fence.shared.deadline.store(0, Ordering::Release);
    }
}

impl Drop for FenceKeeper {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
