//! How many ranges the whole process works on at once.
//!
//! A range under work holds a few pages of keys; a slot is the right to do so. Every job gets one slot in turn, jobs
//! that have one may take more as long as nobody waits: a thousand jobs share the memory of a few hundred ranges, and
//! none starves.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Ranges under work in one process, by default: at most about 0.3 MB each.
pub const DEFAULT_SLOTS: usize = 256;

/// The process's slots. Clones share them.
#[derive(Clone, Debug)]
pub struct Slots {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The right to work on one range; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// `count` slots.
    pub fn new(count: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(count.max(1))),
            waiting: Arc::default(),
        }
    }

    /// A slot, in the order of asking. `None` cannot happen as long as the process runs.
    pub async fn acquire(&self) -> Option<Slot> {
        let _waiting = Waiting::enter(&self.waiting);
        Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .ok()
            .map(|permit| Slot { _permit: permit })
    }

    /// A further slot, if there is one that nobody waits for.
    pub fn spare(&self) -> Option<Slot> {
        if self.is_contended() {
            return None;
        }
        Arc::clone(&self.permits)
            .try_acquire_owned()
            .ok()
            .map(|permit| Slot { _permit: permit })
    }

    /// Whether somebody waits: holders should then give back what they have had for a while.
    pub fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new(DEFAULT_SLOTS)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_waits_comes_before_who_wants_more() {
        let slots = Slots::new(2);
        let first = slots.acquire().await.unwrap();
        let spare = slots.spare().unwrap();
        assert!(slots.spare().is_none());
        let mut waiter = Box::pin(slots.acquire());
        assert!(waiter.as_mut().now_or_never().is_none());
        assert!(slots.is_contended());
        drop(spare);
        assert!(slots.spare().is_none(), "it is promised to the waiter");
        assert!(waiter.await.is_some());
        assert!(!slots.is_contended());
        drop(first);
        assert!(slots.spare().is_some());
    }

    #[tokio::test]
    async fn giving_up_the_wait_leaves_no_trace() {
        let slots = Slots::new(1);
        let held = slots.acquire().await;
        drop(Box::pin(slots.acquire()).as_mut().now_or_never());
        let mut waiter = Box::pin(slots.acquire());
        assert!(waiter.as_mut().now_or_never().is_none());
        drop(waiter);
        assert!(!slots.is_contended());
        drop(held);
    }
}
