//! What has been published lately: pure bookkeeping, no I/O.

use std::{collections::HashMap, time::Duration};

use super::Notice;

/// A repeat this long after the last one starts a new event.
const WINDOW: Duration = Duration::from_mins(10);

/// One event that stands in the cluster, and how often its notice was seen.
pub(super) struct Entry {
    notice: Notice,
    event: String,
    count: i32,
    failure: bool,
    last: Duration,
}

/// The event that a repeat belongs to, and the count it should show now.
pub(super) struct Known {
    pub(super) event: String,
    pub(super) count: i32,
}

/// Recent series by the uid of their object, never more than a fixed number.
pub(super) struct Book {
    objects: HashMap<String, Vec<Entry>>,
    size: usize,
    capacity: usize,
}

impl Entry {
    pub(super) fn new(notice: Notice, event: String, failure: bool, now: Duration) -> Self {
        Self {
            notice,
            event,
            count: 1,
            failure,
            last: now,
        }
    }

    /// Two notices of one series differ in their note at most.
    fn same_series(&self, notice: &Notice) -> bool {
        let (old, new) = (&self.notice, notice);
        (old.kind, old.reason, old.action) == (new.kind, new.reason, new.action)
    }
}

impl Book {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            objects: HashMap::new(),
            size: 0,
            capacity,
        }
    }

    /// Counts a repeat of a known notice; `None` when the notice is news.
    pub(super) fn repeat(&mut self, uid: &str, notice: &Notice, now: Duration) -> Option<Known> {
        let entry = self
            .objects
            .get_mut(uid)?
            .iter_mut()
            .find(|entry| entry.notice == *notice)?;
        if now.saturating_sub(entry.last) > WINDOW {
            return None;
        }
        entry.last = now;
        entry.count = entry.count.saturating_add(1);
        Some(Known {
            event: entry.event.clone(),
            count: entry.count,
        })
    }

    /// Remembers a new event in place of the one its series had.
    pub(super) fn begin(&mut self, uid: &str, entry: Entry) {
        self.retain(uid, |old| !old.same_series(&entry.notice));
        if self.size >= self.capacity {
            self.make_room(entry.last);
        }
        self.objects.entry(uid.to_owned()).or_default().push(entry);
        self.size += 1;
    }

    pub(super) fn end_failures(&mut self, uid: &str) {
        self.retain(uid, |entry| !entry.failure);
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.retain(uid, |_| false);
    }

    fn retain(&mut self, uid: &str, keep: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.objects.get_mut(uid) else {
            return;
        };
        let before = entries.len();
        entries.retain(keep);
        self.size -= before - entries.len();
        if entries.is_empty() {
            self.objects.remove(uid);
        }
    }

    /// Drops what has expired and, if that frees less than a quarter, the least recent: a full book is walked once
    /// in a while rather than for every event.
    fn make_room(&mut self, now: Duration) {
        let mut seen: Vec<Duration> = self.objects.values().flatten().map(|entry| entry.last).collect();
        seen.sort_unstable();
        let oldest_kept = seen.get(self.capacity / 4).copied().unwrap_or(now);
        for entries in self.objects.values_mut() {
            entries.retain(|entry| entry.last > oldest_kept && now.saturating_sub(entry.last) <= WINDOW);
        }
        self.objects.retain(|_, entries| !entries.is_empty());
        self.size = self.objects.values().map(Vec::len).sum();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.size
    }
}
