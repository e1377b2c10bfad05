//! One pass: what a reconciler is given, and the single place where every pass goes through.
//!
//! The choke point (`pass::run`) does, in this order: cache read, gate, finalizer, the reconciler's own method behind a
//! panic guard, error class → requeue, metrics, at most one event, one log line. Reconcilers contain none of these.

mod run;

use std::{
    any::Any,
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Client, ResourceExt as _, api::Patch, core::Status};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use run::{abandon, run};

use crate::{
    cache::{Cache, differs_for_reconcile, slim},
    clock::Clock,
    error::ApiError,
    events::{EventRecorder, Notice},
    fence::Fence,
    key::ObjectKey,
    metrics::ControllerMetrics,
    queue::{Priority, Queue},
    reconciler::Kind,
    requeue::Backoff,
    sabotage,
    status::{self, Report},
    task::Supervise,
};

/// How often a report is sent while others change the object.
const REPORT_ATTEMPTS: usize = 3;

/// What all passes of a controller share.
pub(crate) struct Context<K> {
    pub(crate) name: &'static str,
    pub(crate) intent_manager: String,
    pub(crate) intent_fields: &'static [&'static str],
    pub(crate) finalizer: Option<&'static str>,
    /// Fires when this replica may act.
    pub(crate) elected: CancellationToken,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) fence: Fence,
    pub(crate) events: EventRecorder,
    pub(crate) metrics: ControllerMetrics,
    pub(crate) cache: Cache<K>,
    pub(crate) queue: Queue,
    pub(crate) backoff: Backoff<ObjectKey>,
    pub(crate) supervised: Vec<Box<dyn Supervise>>,
    /// Reports that changed nothing, by UID; see [`Answer`].
    pub(crate) answers: Mutex<HashMap<String, Answer>>,
}

/// A report that the API server answered with a status that still differs from it: somebody else owns a field there,
/// or the schema has a default. Sending it again would change nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    desired: u64,
    current: u64,
}

impl Answer {
    fn new(desired: &Value, current: &Value) -> Self {
        let hash = |value: &Value| {
            let mut hasher = DefaultHasher::new();
            value.hash(&mut hasher);
            hasher.finish()
        };
        Self {
            desired: hash(desired),
            current: hash(current),
        }
    }
}

/// What a reconciler is given beside the object.
pub struct Pass<K> {
    context: Arc<Context<K>>,
    key: ObjectKey,
    /// The newest state of the object that this pass knows: as read, or as answered to its last write.
    current: Mutex<Arc<K>>,
    /// An answer to a write of this pass has shown a change that the pass was not planned from.
    overtaken: AtomicBool,
}

impl<K: Kind> Pass<K> {
    pub(crate) fn new(context: Arc<Context<K>>, key: ObjectKey, object: Arc<K>) -> Self {
        Self {
            context,
            key,
            current: Mutex::new(object),
            overtaken: AtomicBool::new(false),
        }
    }

    /// A client for other kinds. Its mutating requests are refused once the lease is lost.
    pub fn client(&self) -> &Client {
        &self.context.client
    }

    /// The clock to wait and to tell the time with.
    pub fn clock(&self) -> &Clock {
        &self.context.clock
    }

    /// The lease's fence: to be checked immediately before each request to the outside world.
    pub fn fence(&self) -> &Fence {
        &self.context.fence
    }

    /// Namespace and name of the object.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Whether a change or a wake has led to this pass, and not only the time that the last one asked for.
    pub fn is_caused(&self) -> bool {
        self.context.queue.is_caused(&self.key)
    }

    /// The newest state of the object that this pass knows, its own writes included.
    pub fn current(&self) -> Arc<K> {
        self.current.lock().clone()
    }

    /// The object's UID.
    pub fn uid(&self) -> String {
        self.current().uid().unwrap_or_default()
    }

    /// A reference to the object, for events about it.
    pub fn reference(&self) -> ObjectReference {
        self.current().object_ref(&())
    }

    /// Reads the object from the API server, past the cache. What follows is planned from what this returns.
    ///
    /// # Errors
    /// A conflict if it is gone or was replaced by another of the same name; whatever the request fails with.
    pub async fn live(&self) -> Result<Arc<K>, ApiError> {
        let gone = || {
            ApiError::new(
                self.reading(),
                conflict("the object is gone, or was replaced by another of the same name"),
            )
        };
        self.present().await?.ok_or_else(gone)
    }

    /// [`Pass::live`], with nothing for an object that is gone or was replaced.
    pub(crate) async fn present(&self) -> Result<Option<Arc<K>>, ApiError> {
        let found = self.read_again().await;
        let found = found.map_err(|e| ApiError::new(self.reading(), e))?;
        if found.is_some() {
            self.overtaken.store(false, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Takes in what the API server has; nothing if the object is gone or was replaced.
    async fn read_again(&self) -> Result<Option<Arc<K>>, kube::Error> {
        self.context.metrics.cache_miss();
        let found = self.api().get_opt(&self.key.name).await?;
        let Some(object) = found.filter(|found| found.uid() == self.current().uid()) else {
            return Ok(None);
        };
        self.wrote(object);
        Ok(Some(self.current()))
    }

    fn reading(&self) -> String {
        format!("read {} {}", K::kind(&()), self.key)
    }

    /// Reports what was observed; says whether a write was needed. See [`crate::status`].
    ///
    /// An object that is gone needs no status: that is not an error.
    pub async fn write_status(&self, status: &impl Serialize) -> Result<bool, ApiError> {
        let action = || format!("write the status of {} {}", K::kind(&()), self.key);
        let unreadable = |e| ApiError::new(action(), kube::Error::SerdeError(e));
        let fields = self.context.intent_fields;
        let report = Report::of(self.current().as_ref(), status, fields).map_err(unreadable)?;
        let answer = Answer::new(&report.desired, &report.current);
        if !report.differs() || self.context.answers.lock().get(&self.uid()) == Some(&answer) {
            return Ok(false);
        }
        match self.send(&report, status).await {
            Ok(()) => {
                let after = Report::of(self.current().as_ref(), status, fields).map_err(unreadable)?;
                let mut answers = self.context.answers.lock();
                if after.differs() {
                    answers.insert(self.uid(), Answer::new(&after.desired, &after.current));
                } else {
                    answers.remove(&self.uid());
                }
                Ok(true)
            }
            Err(error) if crate::error::is_not_found(&error) => Ok(false),
            Err(error) => Err(ApiError::new(action(), error)),
        }
    }

    /// Sends a report. Where somebody else has changed the object meanwhile, and nobody has reported, it is sent again.
    async fn send(&self, report: &Report, status: &impl Serialize) -> Result<(), kube::Error> {
        for _ in 1..REPORT_ATTEMPTS {
            let patch = report.patch(self.current().as_ref());
            match self.patch_status(self.context.name, &patch).await {
                Err(kube::Error::Api(answer)) if answer.code == 409 => {}
                answered => return answered,
            }
            let Some(object) = self.read_again().await? else {
                break;
            };
            let now = Report::of(object.as_ref(), status, self.context.intent_fields)
                .map_err(kube::Error::SerdeError)?;
            if !now.differs() {
                return Ok(());
            }
            if now.current != report.current {
                return Err(conflict("somebody else has written the status meanwhile"));
            }
        }
        let patch = report.patch(self.current().as_ref());
        self.patch_status(self.context.name, &patch).await
    }

    /// Records what is about to be done, before it is done; `intent` is the whole intent, under the fields that
    /// [`Reconciler::INTENT_FIELDS`](crate::Reconciler::INTENT_FIELDS) lists.
    ///
    /// # Errors
    /// A conflict if the object is not the one that this pass planned from: abandon the pass.
    pub async fn write_intent(&self, intent: &impl Serialize) -> Result<(), ApiError> {
        let action = || format!("record the intent of {} {}", K::kind(&()), self.key);
        if self.overtaken.load(Ordering::Relaxed) && !sabotage::active(sabotage::TRUST_STALE_INTENT) {
            return Err(ApiError::new(
                action(),
                conflict("the object was changed during this pass"),
            ));
        }
        let patch = status::intend(self.current().as_ref(), intent)
            .map_err(|e| ApiError::new(action(), kube::Error::SerdeError(e)))?;
        self.patch_status(&self.context.intent_manager, &patch)
            .await
            .map_err(|e| ApiError::new(action(), e))
    }

    /// Publishes an event about the object. Best effort: it never fails the pass.
    pub async fn event(&self, notice: Notice) {
        self.context.events.publish(&self.reference(), notice).await;
    }

    async fn patch_status(&self, manager: &str, patch: &Value) -> Result<(), kube::Error> {
        let params = status::apply_params(manager);
        let written = self
            .api()
            .patch_status(&self.key.name, &params, &Patch::Apply(patch))
            .await?;
        self.wrote(written);
        Ok(())
    }

    fn api(&self) -> Api<K> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }

    /// Takes in the answer to a write of ours, or to a live read. If it shows a change of somebody else's as well, this
    /// pass was not planned from that; and if the watch has not shown it yet, its event will be older than the cache
    /// and ignored, so the object is woken here.
    fn wrote(&self, object: K) {
        let object = Arc::new(slim(object));
        if differs_for_reconcile(self.current().as_ref(), object.as_ref(), self.context.finalizer) {
            self.overtaken.store(true, Ordering::Relaxed);
        }
        if let Some(before) = self.context.cache.wrote(object.clone())
            && differs_for_reconcile(before.as_ref(), object.as_ref(), self.context.finalizer)
        {
            self.context.queue.add(self.key.clone(), Priority::User);
        }
        *self.current.lock() = object;
    }
}

fn conflict(why: &str) -> kube::Error {
    kube::Error::Api(Box::new(Status {
        code: 409,
        reason: "Conflict".into(),
        message: why.into(),
        ..Status::default()
    }))
}

/// The text of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
