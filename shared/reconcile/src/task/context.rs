//! What a task is given.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, queue::Priority};

/// What a task is given.
pub struct TaskContext<P> {
    /// Fires when the task must end.
    pub cancel: CancellationToken,
    /// The clock to wait with.
    pub clock: Clock,
    pub(super) progress: Arc<watch::Sender<P>>,
    pub(super) wake: Arc<dyn Fn(Duration, Priority) + Send + Sync>,
    pub(super) interval: Duration,
}

impl<P> Clone for TaskContext<P> {
    fn clone(&self) -> Self {
        Self {
            cancel: self.cancel.clone(),
            clock: self.clock.clone(),
            progress: self.progress.clone(),
            wake: self.wake.clone(),
            interval: self.interval,
        }
    }
}

impl<P> TaskContext<P> {
    /// Publishes progress. Cheap: the object is woken at most once per interval, however often this is called, and after
    /// those that somebody has changed.
    pub fn report(&self, progress: P) {
        self.progress.send_replace(progress);
        (self.wake)(self.interval, Priority::Background);
    }

    /// Publishes progress and wakes the object at once: for a step that people wait to see.
    pub fn report_now(&self, progress: P) {
        self.progress.send_replace(progress);
        (self.wake)(Duration::ZERO, Priority::User);
    }
}
