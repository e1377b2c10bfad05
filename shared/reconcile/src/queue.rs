//! The work queue: which object is reconciled next.
//!
//! kube's `Controller` deduplicates, but has neither priorities, nor fairness, nor metrics, and waking one object
//! from outside a watch is an unstable feature. This queue has client-go's semantics and those four.
//!
//! # Guarantees
//! - **Dedup**: however often a key is added while it waits, it is handed out once.
//! - **No overlap**: a key that is being worked on is not handed out again before [`Queue::done`]; an add in the
//!   meantime is remembered and honoured then.
//! - **Priority**: everything at [`Priority::User`] goes before anything at [`Priority::Background`]. Adding a
//!   waiting key again keeps the earlier time and the higher priority. A key in work that is to be looked at again
//!   later ([`Queue::again_after`]) comes back at the priority it was taken at.
//! - **Fairness**: within a priority, namespaces take turns; ten thousand objects in one do not delay another.
//!
//! # Caveats
//! Priorities are strict: a namespace that changes objects without pause can starve resyncs, not other users'
//! changes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{clock::Clock, key::ObjectKey, metrics::ControllerMetrics, sabotage};

/// Waiting keys for which an empty queue keeps room.
const KEPT: usize = 256;

/// Who is waiting for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Initial list, relist and periodic resync: nobody waits.
    Background,
    /// A change that somebody made, or progress of the outside world.
    User,
}

impl Priority {
    const ALL: [Self; 2] = [Self::User, Self::Background];

    fn lane(self) -> usize {
        match self {
            Self::User => 0,
            Self::Background => 1,
        }
    }

    /// The value of the `priority` label: controller-runtime's numbers.
    fn label(self) -> i32 {
        match self {
            Self::User => 0,
            Self::Background => -100,
        }
    }
}

/// A queue of objects of one kind. Clones share the queue.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
    metrics: ControllerMetrics,
}

#[derive(Default)]
struct State {
    lanes: [Lane; 2],
    /// Keys that wait in a lane, or that must return to one when their current pass is done.
    waiting: HashMap<ObjectKey, Waiting>,
    /// Keys being worked on: since when, and what they were taken at.
    processing: HashMap<ObjectKey, Waiting>,
    delayed: BinaryHeap<Reverse<(Duration, Priority, ObjectKey)>>,
    /// The due time that counts for a delayed key; heap entries that differ from it are stale.
    due: HashMap<ObjectKey, (Duration, Priority)>,
}

#[derive(Clone, Copy)]
struct Waiting {
    priority: Priority,
    since: Duration,
    /// Whether something was added, and not only a delay has passed.
    caused: bool,
}

/// One priority's keys, namespaces taking turns.
#[derive(Default)]
struct Lane {
    turns: VecDeque<Arc<str>>,
    keys: HashMap<Arc<str>, VecDeque<ObjectKey>>,
}

impl Lane {
    fn push(&mut self, key: ObjectKey) {
        let keys = self.keys.entry(key.namespace.clone()).or_default();
        if keys.is_empty() {
            self.turns.push_back(key.namespace.clone());
        }
        keys.push_back(key);
    }

    fn pop(&mut self) -> Option<ObjectKey> {
        let namespace = self.turns.pop_front()?;
        let keys = self.keys.get_mut(&namespace)?;
        let key = keys.pop_front();
        if keys.is_empty() {
            self.keys.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        key
    }
}

impl State {
    /// Says whether the key was not waiting yet.
    fn enqueue(&mut self, key: ObjectKey, mut priority: Priority, now: Duration, caused: bool) -> bool {
        // An immediate add supersedes a delayed one, and who waited for that one still does.
        if let Some((_, waiting)) = self.due.remove(&key) {
            priority = priority.max(waiting);
        }
        if sabotage::active(sabotage::ONE_PRIORITY) {
            priority = Priority::Background;
        }
        let processing = self.processing.contains_key(&key);
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.caused |= caused;
        }
        let added = match self.waiting.get_mut(&key) {
            Some(waiting) if waiting.priority >= priority => return false,
            // The entry in the lower lane becomes stale and is skipped when its turn comes.
            Some(waiting) => {
                waiting.priority = priority;
                false
            }
            None => {
                let waiting = Waiting {
                    priority,
                    since: now,
                    caused,
                };
                self.waiting.insert(key.clone(), waiting);
                true
            }
        };
        if !processing {
            self.lanes[priority.lane()].push(key);
        }
        added
    }

    /// Moves what is due to the lanes; how many keys that added, and when the next one is due.
    fn promote_due(&mut self, now: Duration) -> (u64, Option<Duration>) {
        let mut added = 0;
        while let Some(Reverse((due, _, _))) = self.delayed.peek() {
            if *due > now {
                return (added, Some(*due));
            }
            if let Some(Reverse((due, _, key))) = self.delayed.pop()
                && let Some((_, priority)) =
                    self.due.get(&key).copied().filter(|(current, _)| *current == due)
            {
                added += u64::from(self.enqueue(key, priority, now, false));
            }
        }
        (added, None)
    }

    /// Notes that `key` is due then. A key that is put off again and again must not leave an entry each time.
    fn delay(&mut self, key: ObjectKey, due: Duration, priority: Priority) {
        self.due.insert(key.clone(), (due, priority));
        self.delayed.push(Reverse((due, priority, key)));
        if self.delayed.len() > KEPT && self.delayed.len() > 2 * self.due.len() {
            let due = &self.due;
            self.delayed
                .retain(|Reverse((time, priority, key))| due.get(key) == Some(&(*time, *priority)));
        }
    }

    fn take(&mut self, now: Duration) -> Option<(ObjectKey, Waiting)> {
        for priority in Priority::ALL {
            while let Some(key) = self.lanes[priority.lane()].pop() {
                let current = self.waiting.get(&key).copied().filter(|w| w.priority == priority);
                // A stale entry: the key moved to the other lane, or was taken from there already.
                let Some(waiting) = current.filter(|_| !self.processing.contains_key(&key)) else {
                    continue;
                };
                self.waiting.remove(&key);
                if self.waiting.is_empty() {
                    // A burst (the first list, a resync) leaves no memory behind.
                    self.waiting.shrink_to(KEPT);
                }
                let taken = Waiting {
                    since: now,
                    ..waiting
                };
                self.processing.insert(key.clone(), taken);
                return Some((key, waiting));
            }
        }
        None
    }

    /// Keys that wait to be handed out. One in work that was added again is not among them yet, as in client-go.
    fn depth(&self, priority: Priority) -> usize {
        let waiting = self.waiting.iter().filter(|(_, w)| w.priority == priority);
        waiting
            .filter(|(key, _)| !self.processing.contains_key(*key))
            .count()
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(clock: Clock, metrics: ControllerMetrics) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            clock,
            metrics,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Adds `key` now.
    pub fn add(&self, key: ObjectKey, priority: Priority) {
        let shared = &self.shared;
        let now = shared.clock.elapsed();
        let added = shared.state.lock().enqueue(key, priority, now, true);
        shared.metrics.added(u64::from(added));
        shared.changed.notify_one();
    }

    /// Adds `key` after `delay`. A key that already waits at this priority, or is due earlier, keeps its place; one
    /// that waits among the resyncs is raised when the delay is over.
    pub fn add_after(&self, key: ObjectKey, delay: Duration, priority: Priority) {
        if delay.is_zero() {
            return self.add(key, priority);
        }
        let shared = &self.shared;
        let due = shared.clock.elapsed() + delay;
        {
            let mut state = shared.state.lock();
            if state.waiting.get(&key).is_some_and(|w| w.priority >= priority) {
                return;
            }
            match state.due.get(&key).copied() {
                Some((current, p)) if current <= due && p >= priority => return,
                Some((current, p)) => state.delay(key, current.min(due), p.max(priority)),
                None => state.delay(key, due, priority),
            }
        }
        shared.metrics.retried();
        shared.changed.notify_one();
    }

    /// Adds a key that is being worked on again after `delay`, at the priority it was taken at: objects of the first
    /// list that fail, or wait, do not stand in the way of what a person has changed.
    pub fn again_after(&self, key: &ObjectKey, delay: Duration) {
        let taken = self.shared.state.lock().processing.get(key).copied();
        let priority = taken.map_or(Priority::Background, |taken| taken.priority);
        self.add_after(key.clone(), delay, priority);
    }

    /// Whether a key that is being worked on was added since it was taken last, and not only delayed: something may have
    /// changed.
    pub fn is_caused(&self, key: &ObjectKey) -> bool {
        let taken = self.shared.state.lock().processing.get(key).copied();
        taken.is_none_or(|taken| taken.caused)
    }

    /// The next key, when there is one. Cancel-safe. One caller at a time is expected: the dispatcher.
    pub async fn next(&self) -> ObjectKey {
        let shared = &self.shared;
        loop {
            let next_due = {
                let now = shared.clock.elapsed();
                let mut state = shared.state.lock();
                let (added, next_due) = state.promote_due(now);
                shared.metrics.added(added);
                if let Some((key, waiting)) = state.take(now) {
                    shared.metrics.waited(now.saturating_sub(waiting.since));
                    return key;
                }
                next_due
            };
            match next_due {
                Some(due) => tokio::select! {
                    () = shared.changed.notified() => {}
                    () = shared.clock.sleep_until(due) => {}
                },
                None => shared.changed.notified().await,
            }
        }
    }

    /// Ends the work on `key`; if it was added meanwhile it waits again.
    pub fn done(&self, key: &ObjectKey) {
        let shared = &self.shared;
        {
            let mut state = shared.state.lock();
            if let Some(taken) = state.processing.remove(key) {
                shared
                    .metrics
                    .worked(shared.clock.elapsed().saturating_sub(taken.since));
            }
            if let Some(waiting) = state.waiting.get(key).copied() {
                state.lanes[waiting.priority.lane()].push(key.clone());
            }
        }
        shared.changed.notify_one();
    }

    /// Drops the delayed adds of `key`: it is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.shared.state.lock().due.remove(key);
    }

    /// Keys that wait or are due later, and keys being worked on.
    pub fn len(&self) -> usize {
        let state = self.shared.state.lock();
        state.waiting.len() + state.due.len() + state.processing.len()
    }

    /// Whether nothing waits, is due later, or is being worked on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys that wait now or are being worked on; delayed adds are not counted.
    pub fn busy(&self) -> usize {
        let state = self.shared.state.lock();
        state.waiting.len() + state.processing.len()
    }

    /// Brings the gauges (depth, unfinished work) up to date; called when metrics are scraped.
    pub fn observe(&self) {
        let shared = &self.shared;
        let now = shared.clock.elapsed();
        let state = shared.state.lock();
        for priority in Priority::ALL {
            let depth = i64::try_from(state.depth(priority)).unwrap_or(i64::MAX);
            shared.metrics.queue_depth(priority.label(), depth);
        }
        let ages = state
            .processing
            .values()
            .map(|taken| now.saturating_sub(taken.since).as_secs_f64());
        let (total, longest) = ages.fold((0.0, 0.0), |(sum, max): (f64, f64), age| {
            (sum + age, max.max(age))
        });
        shared.metrics.set_unfinished(total, longest);
    }
}

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
