//! Supervised tasks: work that outlives a pass.
//!
//! A partition that is being deleted, a node that boots, a dump: such work must not hold a worker, so it runs as a
//! task beside the passes. A pass starts it, looks at it, or stops it; none of the three waits.
//!
//! # Expected flow
//! 1. A pass calls [`Tasks::start`] with the object's UID and a hash of what the task depends on.
//! 2. The task reports progress through its [`TaskContext`]; the object is woken, at most once per interval.
//! 3. The pass reads [`Tasks::state`] and writes the status.
//! 4. The task ends; the object is woken at once; the pass sees [`TaskState::Finished`] and acts on the result.
//!
//! # Guarantees
//! - **Single-flight**: at most one task per UID. Starting with another hash stops the old one first; the object is
//!   woken when it has ended, and only then can the new one start.
//! - **Awaited**: a stopped task is told through its token and then waited for, never dropped in mid-request, so
//!   that what it had in flight is accounted for.
//! - A task that panics ends as [`Ended::Panicked`]; nothing else is hurt.
//! - Tasks are stopped when their object disappears, is paused, or the process drains.
//! - **A start is no success**: a pass that goes well while the object's task is younger than five minutes forgets none of
//!   its failures, or a task that fails at once would be started again every second for ever.
//!
//! # Assumptions
//! - Tasks look at their token often, and end soon after it fires.
//! - Their checkpoint is in the outside world or in the object's status: a task lost with its process starts again
//!   from there.
//!
//! # Example
//! ```
//! use std::time::Duration;
//!
//! use reconcile::{
//!     ObjectKey, Progress,
//!     clock::Clock,
//!     task::{Ended, TaskId, TaskState, Tasks},
//! };
//!
//! /// What a pass does: it starts, looks, and never waits. The controller was given them by `Controller::supervise(&copies)`.
//! fn pass(copies: &Tasks<u64, Result<(), String>>, id: &TaskId) -> Result<Progress, String> {
//!     match copies.state(&id.uid) {
//!         None => {
//!             copies.start(id, async |task| {
//!                 for copied in 1..=3 {
//!                     if task.cancel.is_cancelled() {
//!                         return Err("stopped".to_owned());
//!                     }
//!                     // … copy some more; it ends soon after the token fires …
//!                     task.report(copied);
//!                 }
//!                 Ok(())
//!             });
//!             Ok(Progress::Settled)
//!         }
//!         // The end of the task wakes the object.
//!         Some(TaskState::Running(_) | TaskState::Stopping(_)) => Ok(Progress::Settled),
//!         Some(TaskState::Finished(_, Ended::Returned(result))) => (*result).clone().map(|()| Progress::Settled),
//!         Some(TaskState::Finished(_, Ended::Panicked(message))) => Err(message),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let copies = Tasks::new(Clock::system(), Duration::from_secs(5));
//! let id = TaskId {
//!     uid: "7f3a".to_owned(),
//!     key: ObjectKey::new("default", "first"),
//!     spec_hash: 1,
//! };
//! assert_eq!(pass(&copies, &id), Ok(Progress::Settled));
//! while copies.running() > 0 {
//!     tokio::task::yield_now().await;
//! }
//! assert!(matches!(copies.state("7f3a"), Some(TaskState::Finished(3, Ended::Returned(_)))));
//! # }
//! ```

mod context;
mod state;

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    context::TaskContext,
    state::{Ended, TaskState},
};
use crate::{clock::Clock, key::ObjectKey, queue::Priority, queue::Queue, sabotage};

/// How long a task must have lived until its object counts as doing well.
const PROBATION: Duration = Duration::from_mins(5);

/// What a task is for.
#[derive(Clone, Debug)]
pub struct TaskId {
    /// UID of the object.
    pub uid: String,
    /// The object to wake.
    pub key: ObjectKey,
    /// A hash of everything in the spec that the task depends on.
    pub spec_hash: u64,
}

/// What [`Tasks::start`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The task runs now.
    Started,
    /// A task with this hash runs already, or has ended and waits to be looked at.
    Present,
    /// A task with another hash is being stopped; the object is woken when that is done.
    Replacing,
    /// The process is draining; nothing is started any more.
    Draining,
}

/// The tasks of one controller: progress `P`, output `O`. Clones share them.
pub struct Tasks<P, O> {
    shared: Arc<Shared<P, O>>,
}

impl<P, O> Clone for Tasks<P, O> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

struct Shared<P, O> {
    entries: Mutex<HashMap<String, Entry<P, O>>>,
    queue: Mutex<Option<Queue>>,
    clock: Clock,
    interval: Duration,
    running: TaskTracker,
    root: CancellationToken,
}

struct Entry<P, O> {
    key: ObjectKey,
    spec_hash: u64,
    /// When it began, by the clock.
    began: Duration,
    cancel: CancellationToken,
    progress: watch::Receiver<P>,
    ended: Option<Ended<O>>,
    /// Nobody will look at the result: drop the entry when the task ends.
    abandoned: bool,
}

impl<P, O> Tasks<P, O>
where
    P: Clone + Default + Send + Sync + 'static,
    O: Send + Sync + 'static,
{
    /// No tasks yet. Progress wakes an object at most once per `interval`.
    pub fn new(clock: Clock, interval: Duration) -> Self {
        let shared = Shared {
            entries: Mutex::default(),
            queue: Mutex::default(),
            clock,
            interval,
            running: TaskTracker::new(),
            root: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Starts `work` unless a task with this id is there already.
    pub fn start<F, Fut>(&self, id: &TaskId, work: F) -> Started
    where
        F: FnOnce(TaskContext<P>) -> Fut,
        Fut: Future<Output = O> + Send + 'static,
    {
        let shared = &self.shared;
        let mut entries = shared.entries.lock();
        // Under the lock, or a drain could miss a task that is just being started.
        if shared.root.is_cancelled() {
            return Started::Draining;
        }
        if let Some(entry) = entries.get(&id.uid) {
            match (
                &entry.ended,
                entry.spec_hash == id.spec_hash && !entry.cancel.is_cancelled(),
            ) {
                (_, true) => return Started::Present,
                (None, false) => {
                    entry.cancel.cancel();
                    return Started::Replacing;
                }
                (Some(_), false) => {}
            }
        }
        let (sender, progress) = watch::channel(P::default());
        let cancel = shared.root.child_token();
        let context = TaskContext {
            cancel: cancel.clone(),
            clock: shared.clock.clone(),
            progress: Arc::new(sender),
            wake: self.waker(id.key.clone()),
            interval: shared.interval,
        };
        let entry = Entry {
            key: id.key.clone(),
            spec_hash: id.spec_hash,
            began: shared.clock.elapsed(),
            cancel,
            progress,
            ended: None,
            abandoned: false,
        };
        entries.insert(id.uid.clone(), entry);
        // Making the future may panic as well.
        let task = std::panic::catch_unwind(AssertUnwindSafe(|| work(context)));
        let (tasks, id) = (self.clone(), id.clone());
        let task = shared.running.track_future(async move {
            let outcome = match task {
                Ok(task) => AssertUnwindSafe(task).catch_unwind().await,
                Err(payload) => Err(payload),
            };
            let ended = match outcome {
                Ok(output) => Ended::Returned(Arc::new(output)),
                Err(payload) => Ended::Panicked(crate::pass::panic_message(payload.as_ref())),
            };
            tasks.end(&id, ended);
        });
        drop(entries);
        tokio::spawn(task);
        Started::Started
    }

    /// What is known of the task of the object with this UID.
    pub fn state(&self, uid: &str) -> Option<TaskState<P, O>> {
        let entries = self.shared.entries.lock();
        let entry = entries.get(uid)?;
        let progress = entry.progress.borrow().clone();
        Some(match &entry.ended {
            Some(ended) => TaskState::Finished(progress, ended.clone()),
            None if entry.cancel.is_cancelled() => TaskState::Stopping(progress),
            None => TaskState::Running(progress),
        })
    }

    /// What the task of the object with this UID was started with; it differs when the spec has changed since.
    pub fn spec_hash(&self, uid: &str) -> Option<u64> {
        self.shared.entries.lock().get(uid).map(|entry| entry.spec_hash)
    }

    /// Tells the task to stop; the object is woken when it has ended. Says whether a task is still running.
    pub fn stop(&self, uid: &str) -> bool {
        let entries = self.shared.entries.lock();
        let Some(entry) = entries.get(uid).filter(|entry| entry.ended.is_none()) else {
            return false;
        };
        entry.cancel.cancel();
        true
    }

    /// Stops the task, if it still runs, and drops its result: nobody will look at it.
    pub fn abandon(&self, uid: &str) {
        let mut entries = self.shared.entries.lock();
        let Some(entry) = entries.get_mut(uid) else { return };
        if entry.ended.is_some() {
            entries.remove(uid);
        } else {
            entry.abandoned = true;
            entry.cancel.cancel();
        }
    }

    /// Drops the result of a task that has ended. A running one is left alone.
    pub fn clear(&self, uid: &str) {
        let mut entries = self.shared.entries.lock();
        if entries.get(uid).is_some_and(|entry| entry.ended.is_some()) {
            entries.remove(uid);
        }
    }

    /// Number of tasks that run.
    pub fn running(&self) -> usize {
        self.shared.running.len()
    }

    /// Whether nothing is started any more, for the process drains: then a pass has only to tell what was done.
    pub fn is_draining(&self) -> bool {
        self.shared.root.is_cancelled()
    }

    fn waker(&self, key: ObjectKey) -> Arc<dyn Fn(Duration, Priority) + Send + Sync> {
        let shared = self.shared.clone();
        Arc::new(move |delay, priority| {
            if let Some(queue) = shared.queue.lock().as_ref() {
                queue.add_after(key.clone(), delay, priority);
            }
        })
    }

    fn end(&self, id: &TaskId, ended: Ended<O>) {
        {
            let mut entries = self.shared.entries.lock();
            match entries.get_mut(&id.uid) {
                Some(entry) if !entry.abandoned => entry.ended = Some(ended),
                // The object may be back (a stale list does that), waiting for the old task to end.
                _ => drop(entries.remove(&id.uid)),
            }
        }
        (self.waker(id.key.clone()))(Duration::ZERO, Priority::User);
    }
}

/// What the controller does with the tasks of its reconciler.
pub(crate) trait Supervise: Send + Sync {
    /// Connects progress to the queue.
    fn attach(&self, queue: Queue);
    /// Stops the task of this object and keeps its result for a pass to look at.
    fn stop(&self, uid: &str);
    /// Stops the task of an object that is gone; nobody will look at the result.
    fn abandon(&self, uid: &str);
    /// Whether this object's task has begun so lately that what comes of it is not known, or has not been looked at.
    fn is_on_probation(&self, uid: &str) -> bool;
    /// Stops all tasks, waits for them, and names the objects of these and of those whose result may not have been
    /// looked at.
    fn drain(&self) -> BoxFuture<'static, HashSet<ObjectKey>>;
}

impl<P, O> Supervise for Tasks<P, O>
where
    P: Clone + Default + Send + Sync + 'static,
    O: Send + Sync + 'static,
{
    fn attach(&self, queue: Queue) {
        *self.shared.queue.lock() = Some(queue);
    }

    fn stop(&self, uid: &str) {
        Self::stop(self, uid);
    }

    fn abandon(&self, uid: &str) {
        Self::abandon(self, uid);
    }

    fn is_on_probation(&self, uid: &str) -> bool {
        let entries = self.shared.entries.lock();
        let now = self.shared.clock.elapsed();
        entries
            .get(uid)
            .is_some_and(|entry| !entry.abandoned && now.saturating_sub(entry.began) < PROBATION)
    }

    fn drain(&self) -> BoxFuture<'static, HashSet<ObjectKey>> {
        let shared = self.shared.clone();
        if sabotage::active(sabotage::LEAVE_TASKS_BEHIND) {
            return Box::pin(std::future::ready(HashSet::new()));
        }
        Box::pin(async move {
            shared.root.cancel();
            shared.running.close();
            let running: HashSet<_> = {
                let entries = shared.entries.lock();
                entries
                    .values()
                    .filter(|e| !e.abandoned)
                    .map(|e| e.key.clone())
                    .collect()
            };
            shared.running.wait().await;
            running
        })
    }
}

#[cfg(test)]
#[path = "task/tests.rs"]
mod tests;
