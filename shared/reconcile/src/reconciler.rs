//! What an operator implements for each of its kinds.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use kube::{Resource, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::ReconcileError, pass::Pass};

/// A namespaced kind that can be reconciled. Implemented for every type that has what it takes.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Brings the world to what one object says.
///
/// The framework calls [`gate`](Self::gate), then [`apply`](Self::apply) or, for an object that is being deleted
/// and carries our finalizer, [`cleanup`](Self::cleanup).
///
/// # Guarantees
/// - At most one pass per object at a time, in this process and (with leader election) in the cluster.
/// - `apply` runs only on an object that carries [`FINALIZER`](Self::FINALIZER), if there is one; `cleanup` only on
///   one that is being deleted and still carries it, read from the API server in this very pass. The finalizer is removed when `cleanup` returns
///   [`Progress::Settled`], never before.
/// - A panic is counted, reported and retried like a transient error; it hurts no other object.
/// - The object is never older than our own last write to it.
///
/// # Assumptions
/// - Both methods are idempotent and may be cut off at any `.await` by a crash.
/// - They return soon: work that outlives a pass belongs into a [`crate::task::Tasks`].
///
/// # Caveats
/// The object may be older than *other people's* writes. A pass that is about to do something that must not be done
/// twice reads it live first ([`Pass::live`]).
///
/// # Example
/// Something outside the cluster, made once: what is about to be made is recorded before it is, the lease is checked last,
/// and the finalizer goes when nothing is left. `docs/writing-an-operator.md` shows the program around it.
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use kube::{CustomResource, ResourceExt};
/// use reconcile::{Class, Pass, Progress, ReconcileError, Reconciler, error::ApiError, fence::LeaseLost};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
///
/// #[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug)]
/// #[kube(group = "example.com", version = "v1", kind = "Bucket", namespaced, status = "BucketStatus")]
/// struct BucketSpec {}
///
/// #[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default)]
/// struct BucketStatus {
///     /// Written before the bucket is made: the name that it has, or would have.
///     reserved: Option<String>,
/// }
///
/// #[derive(Debug, thiserror::Error)]
/// enum BucketError {
///     #[error(transparent)]
///     Api(#[from] ApiError),
///     #[error(transparent)]
///     Lease(#[from] LeaseLost),
///     #[error("the store has no room for bucket {0}; free some, or ask for a larger quota")]
///     Quota(String),
/// }
///
/// impl ReconcileError for BucketError {
///     fn class(&self) -> Class {
///         match self {
///             Self::Api(error) => error.class(),
///             Self::Lease(_) | Self::Quota(_) => Class::Transient,
///         }
///     }
///
///     fn reason(&self) -> &'static str {
///         match self {
///             Self::Api(error) => error.reason(),
///             Self::Lease(_) => "LeaseLost",
///             Self::Quota(_) => "QuotaExceeded",
///         }
///     }
/// }
/// # struct Store;
/// # impl Store {
/// #     async fn create(&self, _: &str) -> Result<(), BucketError> { Ok(()) }
/// #     async fn delete(&self, _: &str) -> Result<bool, BucketError> { Ok(true) }
/// # }
///
/// struct Buckets {
///     store: Store,
/// }
///
/// impl Reconciler for Buckets {
///     type Kind = Bucket;
///     type Error = BucketError;
///     const NAME: &'static str = "bucket";
///     const FINALIZER: Option<&'static str> = Some("example.com/bucket");
///     const INTENT_FIELDS: &'static [&'static str] = &["reserved"];
///
///     async fn apply(&self, bucket: Arc<Bucket>, pass: &Pass<Bucket>) -> Result<Progress, BucketError> {
///         let reserved = bucket.status.as_ref().and_then(|status| status.reserved.clone());
///         let name = match reserved {
///             Some(name) => name,
///             None => {
///                 let name = format!("{}-{}", bucket.name_any(), pass.uid());
///                 // A pass that planned from an older object ends here, with a conflict.
///                 pass.write_intent(&json!({"reserved": name})).await?;
///                 name
///             }
///         };
///         // Nothing slow between the check and the call; a crash in between finds the name again.
///         pass.fence().check()?;
///         self.store.create(&name).await?;
///         Ok(Progress::Settled)
///     }
///
///     async fn cleanup(&self, bucket: Arc<Bucket>, pass: &Pass<Bucket>) -> Result<Progress, BucketError> {
///         let Some(name) = bucket.status.as_ref().and_then(|status| status.reserved.as_ref()) else {
///             return Ok(Progress::Settled);
///         };
///         pass.fence().check()?;
///         let gone = self.store.delete(name).await?;
///         Ok(if gone { Progress::Settled } else { Progress::waiting(Duration::from_secs(5)) })
///     }
/// }
/// ```
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Kind;
    /// Its errors.
    type Error: ReconcileError;

    /// The controller's name: metric label, field manager, reporting controller of events. Lower case.
    const NAME: &'static str;

    /// A qualified finalizer name (`domain/name`) where something outside the cluster must be cleaned up.
    const FINALIZER: Option<&'static str>;

    /// Top-level fields of `status` that hold intent: written by [`Pass::write_intent`] before the call that they
    /// explain, never part of what [`Pass::write_status`] reports.
    const INTENT_FIELDS: &'static [&'static str] = &[];

    /// Whether this object is ours to act on. Looked at before anything is written, the finalizer included.
    ///
    /// For an object that is being deleted and carries our finalizer only [`Gate::Paused`] and [`Gate::Foreign`] count:
    /// pausing holds deletion, too, and what is another's is the other's to clean up. Otherwise it is cleaned up, whatever
    /// the gate says, for our finalizer shows that it was ours.
    fn gate(&self, object: &Self::Kind) -> Gate {
        let _ = object;
        Gate::Manage
    }

    /// Brings the world one step or all the way to `object`.
    fn apply(
        &self,
        object: Arc<Self::Kind>,
        pass: &Pass<Self::Kind>,
    ) -> impl Future<Output = Result<Progress, Self::Error>> + Send;

    /// Removes what `apply` made outside the cluster.
    fn cleanup(
        &self,
        object: Arc<Self::Kind>,
        pass: &Pass<Self::Kind>,
    ) -> impl Future<Output = Result<Progress, Self::Error>> + Send {
        let _ = (object, pass);
        std::future::ready(Ok(Progress::Settled))
    }

    /// Called instead of `apply` while [`gate`](Self::gate) says [`Gate::Paused`], after the object's tasks have
    /// been told to stop. For a `Paused` condition, where a contract wants one.
    fn paused(
        &self,
        object: Arc<Self::Kind>,
        pass: &Pass<Self::Kind>,
    ) -> impl Future<Output = Result<Progress, Self::Error>> + Send {
        let _ = (object, pass);
        std::future::ready(Ok(Progress::Settled))
    }

    /// The object is gone from the API, whether or not there was a cleanup. For dropping what is kept in memory.
    fn forget(&self, uid: &str) {
        let _ = uid;
    }
}

/// Whether an object is ours to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Reconcile it.
    Manage,
    /// A person paused it: stop its tasks, call [`Reconciler::paused`], write nothing else, also while it is being
    /// deleted.
    Paused,
    /// Not yet, for this reason (an owner is not set, say): nothing is written; the next change wakes it.
    NotYet(&'static str),
    /// Nothing to do with it as long as it lives: nothing is written. One that is being deleted and carries our finalizer is
    /// cleaned up all the same, so that it is not stuck.
    Ignore,
    /// Somebody else's, its deletion included: another instance of this operator, which shares the finalizer's name, or
    /// another manager altogether. Nothing is written and our finalizer is not released, for what it guards is out of our
    /// reach. An object that nobody else looks after stays until it is made ours again.
    Foreign,
}

/// How far a pass got.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do until something changes. The periodic resync looks again.
    Settled,
    /// Something that sends no event is under way: look again after this time.
    Waiting {
        /// When to look again.
        after: Duration,
    },
}

impl Progress {
    /// Waiting for `after`.
    pub fn waiting(after: Duration) -> Self {
        Self::Waiting { after }
    }
}
