//! How much the whole process does at once: ranges under work, and pages being read to measure or to verify; and how
//! much of what it read it keeps.
//!
//! A range under work holds a few pages of keys; a slot is the right to do so. Every job gets one slot in turn, jobs
//! that have one may take more as long as nobody waits: a thousand jobs share the memory of a few hundred ranges.
//!
//! # Guarantees
//! None starves, provided that holders leave when [`Slots::wanted`] tells them to: for each one that waits, one holder
//! is told, however long its own work would take.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::stock;

/// Ranges under work in one process, by default: at most about 0.3 MB each.
pub const DEFAULT_SLOTS: usize = 256;
/// Pages that the process reads at once beside those of ranges under work: at 10 ms each they count some GB per
/// second.
pub const READS: usize = 64;

/// Pages that are awaited for long, which keep no other from being asked for: one that has not come takes no memory.
const LATE: usize = 4 * READS;

/// The process's slots. Clones share them.
#[derive(Clone, Debug)]
pub struct Slots {
    permits: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    late: Arc<Semaphore>,
    /// Bytes for keys that are kept.
    stocks: Arc<Semaphore>,
    queue: Arc<Queue>,
}

/// The right to work on one range; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// The right to read one page; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reading {
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Queue {
    counts: Mutex<Counts>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: usize,
    /// Holders that were told to leave for somebody who still waits. Never more than are about to.
    leaving: usize,
}

impl Slots {
    /// `count` slots.
    pub fn new(count: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(count.max(1))),
            reads: Arc::new(Semaphore::new(READS)),
            late: Arc::new(Semaphore::new(LATE)),
            stocks: Arc::new(Semaphore::new(stock::BYTES)),
            queue: Arc::default(),
        }
    }

    /// A slot, in the order of asking. `None` cannot happen as long as the process runs.
    pub async fn acquire(&self) -> Option<Slot> {
        let _waiting = Waiting::enter(&self.queue);
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

    /// Whether somebody waits: holders should then take on no more.
    pub fn is_contended(&self) -> bool {
        self.queue.counts.lock().waiting > 0
    }

    /// Returns when the caller is to give its slot back for one who waits. As many callers are told as there are
    /// waiting, whatever else becomes free meanwhile.
    pub async fn wanted(&self) {
        loop {
            let changed = self.queue.changed.notified();
            {
                let mut counts = self.queue.counts.lock();
                if counts.waiting > counts.leaving {
                    counts.leaving += 1;
                    return;
                }
            }
            changed.await;
        }
    }

    /// So many bytes for keys, unless others have taken them.
    pub(super) fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.stocks).try_acquire_many_owned(bytes).ok()
    }

    /// A place among the pages that are read at once, in the order of asking.
    pub(crate) async fn reading(&self) -> Reading {
        Reading {
            permit: Arc::clone(&self.reads).acquire_owned().await.ok(),
        }
    }

    /// Gives the place of a read that takes long to others, as long as not too many do.
    pub(crate) fn make_way(&self, reading: &mut Reading) {
        if let Ok(late) = Arc::clone(&self.late).try_acquire_owned() {
            reading.permit = Some(late);
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new(DEFAULT_SLOTS)
    }
}

struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn enter(queue: &'a Queue) -> Self {
        queue.counts.lock().waiting += 1;
        queue.changed.notify_waiters();
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock();
        counts.waiting -= 1;
        // Served by one who left, or by another: then the next one may count on who leaves, or a further one is told.
        counts.leaving = counts.leaving.saturating_sub(1);
        drop(counts);
        self.0.changed.notify_waiters();
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
    async fn for_each_one_that_waits_one_holder_is_told_to_leave() {
        let slots = Slots::new(3);
        let mut held = Vec::new();
        while let Some(slot) = slots.spare() {
            held.push(slot);
        }
        assert_eq!(held.len(), 3);
        let mut told = Box::pin(slots.wanted());
        assert!(told.as_mut().now_or_never().is_none(), "nobody waits");
        let mut first = Box::pin(slots.acquire());
        let mut second = Box::pin(slots.acquire());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(told.as_mut().now_or_never().is_some());
        assert!(slots.wanted().now_or_never().is_none(), "one waits, one was told");
        assert!(second.as_mut().now_or_never().is_none());
        assert!(slots.wanted().now_or_never().is_some());
        // One is served by a holder that came to its end before those that were told to leave.
        held.pop();
        let served = first.await.unwrap();
        held.pop();
        let also_served = second.await.unwrap();
        let mut third = Box::pin(slots.acquire());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(
            slots.wanted().now_or_never().is_some(),
            "who waits now is not forgotten"
        );
        drop((held, served, also_served));
        assert!(third.await.is_some());
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
