//! Events (`events.k8s.io/v1`) about an object, aggregated, and never in the way of the work that they report.
//!
//! # Guarantees
//! - Publishing never fails and never takes longer than five seconds: what cannot be written is logged at debug and
//!   forgotten. Failing to report must not change what happens.
//! - A notice identical to the last one of its series, within ten minutes of it, raises the count of the event that
//!   is already there. A changed note is a new event, so that a person never reads an outdated message.
//! - If the event behind a series was deleted or has expired, the next repeat starts a new one.
//! - A note longer than 1,024 bytes is cut on a character boundary: the API server would refuse it.
//! - Memory is bounded: at most [`EventRecorder::CAPACITY`] series are remembered, the least recent are dropped first.
//!
//! # Assumptions
//! The caller publishes transitions, not every pass. A failure is the exception: publish it with
//! [`EventRecorder::failure`] whenever it happens, and call [`EventRecorder::success`] after a pass without one.
//! The operator may `create` and `patch` `events` in the API group `events.k8s.io`.
//!
//! # Caveats
//! Two calls at once about one object may lose one count. An event about a cluster-scoped object lands in the
//! namespace `default`, as everywhere in Kubernetes.
//!
//! # Example
//! ```no_run
//! use k8s_openapi::api::core::v1::ObjectReference;
//! use reconcile::{clock::Clock, events::{EventKind, EventRecorder, Notice}};
//!
//! # async fn example(client: kube::Client, regarding: ObjectReference) {
//! let recorder = EventRecorder::new(client, Clock::system(), "database.example.com/operator", "operator-7d9f");
//! let note = "Volume vol-1 grew from 10 to 20 GiB".to_owned();
//! let notice = Notice { kind: EventKind::Normal, reason: "VolumeResized", action: "ResizeVolume", note };
//! recorder.publish(&regarding, notice).await;
//! # }
//! ```

mod series;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;

use self::series::{Book, Entry, Known};
use crate::clock::Clock;

/// Bytes of a note that are told: the API server refuses a longer one, so its end is cut off.
pub const NOTE_LIMIT: usize = 1024;
/// Longer instance names are refused by the API server.
const INSTANCE_LIMIT: usize = 128;
/// An event's name is `<object>.<16 hex digits>` and a DNS subdomain of at most 253 bytes.
const NAME_LIMIT: usize = 253 - 17;
/// How long one publication may take, in real time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether an event tells of normal operation or of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Something went as planned.
    Normal,
    /// Something needs a person's attention, or soon will.
    Warning,
}

impl EventKind {
    /// The value of the event's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Normal or Warning.
    pub kind: EventKind,
    /// Why: CamelCase, specific, at most 128 characters, from a closed set.
    pub reason: &'static str,
    /// What the controller was doing: CamelCase, at most 128 characters.
    pub action: &'static str,
    /// For people: what is wrong or was done, with names. Cut to 1,024 bytes. Never a secret.
    pub note: String,
}

/// Publishes events in the name of one controller. Clones share the same series.
#[derive(Clone)]
pub struct EventRecorder {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    clock: Clock,
    controller: String,
    instance: String,
    book: Mutex<Book>,
    serial: AtomicU64,
}

impl EventRecorder {
    /// How many series are remembered.
    pub const CAPACITY: usize = 4096;

    /// A recorder that signs as `controller` (a domain-like name) and `instance` (the pod's name).
    pub fn new(client: Client, clock: Clock, controller: &str, instance: &str) -> Self {
        let inner = Inner {
            client,
            clock,
            controller: controller.to_owned(),
            instance: cut(instance, INSTANCE_LIMIT).to_owned(),
            book: Mutex::new(Book::new(Self::CAPACITY)),
            serial: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Publishes `notice` about the object `regarding`, or raises the count of an identical recent one.
    ///
    /// `regarding` needs at least kind, API version, name, uid and, when it has one, namespace.
    pub async fn publish(&self, regarding: &ObjectReference, notice: Notice) {
        self.bounded(regarding, notice, false).await;
    }

    /// As [`EventRecorder::publish`], in a series that ends with the object's next [`EventRecorder::success`]: the same
    /// failure after a success is news again.
    pub async fn failure(&self, regarding: &ObjectReference, notice: Notice) {
        self.bounded(regarding, notice, true).await;
    }

    /// The object with this uid had a pass without failure: its failure series end.
    pub fn success(&self, uid: &str) {
        self.inner.book.lock().end_failures(uid);
    }

    /// The object with this uid is gone: everything remembered about it is dropped.
    pub fn forget(&self, uid: &str) {
        self.inner.book.lock().forget(uid);
    }

    async fn bounded(&self, regarding: &ObjectReference, mut notice: Notice, failure: bool) {
        let kept = cut(&notice.note, NOTE_LIMIT).len();
        notice.note.truncate(kept);
        let reason = notice.reason;
        let outcome = match tokio::time::timeout(TIMEOUT, self.write(regarding, notice, failure)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {TIMEOUT:?}"),
        };
        tracing::debug!(
            kind = regarding.kind,
            namespace = regarding.namespace,
            name = regarding.name,
            reason,
            error = outcome,
            "Failed to publish an event"
        );
    }

    async fn write(&self, regarding: &ObjectReference, notice: Notice, failure: bool) -> kube::Result<()> {
        let namespace = regarding
            .namespace
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.inner.client.clone(), namespace);
        let uid = regarding.uid.as_deref().unwrap_or_default();
        let known = self
            .inner
            .book
            .lock()
            .repeat(uid, &notice, self.inner.clock.elapsed());
        if let Some(Known { event, count }) = known {
            let last_observed_time = MicroTime(self.inner.clock.now());
            let patch = json!({ "series": EventSeries { count, last_observed_time } });
            match events
                .patch(&event, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(|_| ()),
            }
        }
        let event = self.event(regarding, namespace, &notice);
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&PostParams::default(), &event).await?;
        let now = self.inner.clock.elapsed();
        self.inner
            .book
            .lock()
            .begin(uid, Entry::new(notice, name, failure, now));
        Ok(())
    }

    fn event(&self, regarding: &ObjectReference, namespace: &str, notice: &Notice) -> Event {
        let now = self.inner.clock.now();
        Event {
            metadata: ObjectMeta {
                name: Some(self.event_name(regarding.name.as_deref().unwrap_or_default())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(notice.kind.as_str().to_owned()),
            reason: Some(notice.reason.to_owned()),
            action: Some(notice.action.to_owned()),
            note: Some(notice.note.clone()),
            event_time: Some(MicroTime(now)),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(self.inner.controller.clone()),
            reporting_instance: Some(self.inner.instance.clone()),
            ..Event::default()
        }
    }

    /// `<object>.<hex>`. The API server's `generateName` is no help: it refuses a prefix that ends with a dot.
    fn event_name(&self, object: &str) -> String {
        let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(self.inner.clock.now().as_nanosecond()).unwrap_or_default();
        let stem = cut(object, NAME_LIMIT).trim_end_matches(['.', '-']);
        let legal =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        // Some kinds allow names that are no DNS subdomain; an event must have one all the same.
        let stem = if !stem.is_empty() && stem.bytes().all(legal) {
            stem
        } else {
            "event"
        };
        format!("{stem}.{:016x}", nanoseconds.wrapping_add(serial))
    }
}

/// The longest prefix of `text` that is at most `limit` bytes of whole characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests;
