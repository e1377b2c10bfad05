//! A controller: watches, queue and workers of one kind.
//!
//! # Guarantees
//! - Watches run from the start, on every replica; passes and tasks only once the manager has the lease.
//! - At most `concurrency` passes at a time (4 unless told otherwise).
//! - An object that cannot be decoded gets an event from the replica that acts, and hurts no other; its task is stopped.
//! - Children are watched as metadata only.
//! - On shutdown no pass begins; those under way, and all tasks, are awaited.

mod children;
mod watch;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use rand::RngExt as _;
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cache::Cache,
    clock::Clock,
    events::EventRecorder,
    fence::Fence,
    finalizer,
    key::ObjectKey,
    metrics::Metrics,
    pass::{Context, run},
    queue::{Priority, Queue},
    reconciler::Reconciler,
    requeue::{Backoff, RequeuePolicy},
    task::{Supervise, Tasks},
};

/// What the manager gives every controller.
pub(crate) struct Environment {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) fence: Fence,
    pub(crate) metrics: Metrics,
    /// Name of this process in events.
    pub(crate) instance: String,
    /// Namespaces to watch; empty for all.
    pub(crate) namespaces: Vec<String>,
    /// Time between resyncs of every object.
    pub(crate) sync_period: Duration,
    /// Fires when this replica may act.
    pub(crate) elected: CancellationToken,
    /// Fires when the process is to end.
    pub(crate) shutdown: CancellationToken,
    /// To be called when all watches have delivered their first list.
    pub(crate) synced: Box<dyn FnOnce() + Send>,
    /// Where the queue registers itself for the gauges that are computed on scrape.
    pub(crate) scrape: Arc<parking_lot::Mutex<Vec<Queue>>>,
}

/// A controller of any kind, ready to run.
pub(crate) trait Runnable: Send {
    fn name(&self) -> &'static str;
    fn run(self: Box<Self>, environment: Environment) -> BoxFuture<'static, ()>;
}

type ChildWatch = Box<dyn Fn(children::Scope) -> BoxFuture<'static, ()> + Send>;

/// Binds a [`Reconciler`] to its watches; handed to [`crate::Manager::register`].
pub struct Controller<R: Reconciler> {
    reconciler: R,
    concurrency: usize,
    policy: RequeuePolicy,
    children: Vec<ChildWatch>,
    wakes: Vec<BoxStream<'static, ObjectKey>>,
    supervised: Vec<Box<dyn Supervise>>,
}

impl<R: Reconciler> Controller<R> {
    /// A controller with 4 workers and the default backoff.
    pub fn new(reconciler: R) -> Self {
        debug_assert!(
            R::FINALIZER.is_none_or(finalizer::is_qualified),
            "{:?} is not domain/name",
            R::FINALIZER
        );
        Self {
            reconciler,
            concurrency: 4,
            policy: RequeuePolicy::default(),
            children: Vec::new(),
            wakes: Vec::new(),
            supervised: Vec::new(),
        }
    }

    /// At most this many passes at a time; 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, passes: usize) -> Self {
        self.concurrency = passes.max(1);
        self
    }

    /// Another backoff.
    #[must_use]
    pub fn requeue_policy(mut self, policy: RequeuePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Watches children of kind `C` (their metadata alone) and wakes the owner on every change of one.
    #[must_use]
    pub fn owns<C>(mut self) -> Self
    where
        C: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
        C: DeserializeOwned + Send + Sync + 'static,
    {
        self.children
            .push(Box::new(|scope| children::watch::<R::Kind, C>(scope).boxed()));
        self
    }

    /// Wakes the objects that `keys` yields: pollers, events of an outside world.
    #[must_use]
    pub fn wakes(mut self, keys: BoxStream<'static, ObjectKey>) -> Self {
        self.wakes.push(keys);
        self
    }

    /// Supervises `tasks`: their progress wakes objects; they are stopped when their object is gone or paused, and
    /// when the process drains.
    #[must_use]
    pub fn supervise<P, O>(mut self, tasks: &Tasks<P, O>) -> Self
    where
        P: Clone + Default + Send + Sync + 'static,
        O: Send + Sync + 'static,
    {
        self.supervised.push(Box::new(tasks.clone()));
        self
    }
}

impl<R: Reconciler> Runnable for Controller<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn run(self: Box<Self>, environment: Environment) -> BoxFuture<'static, ()> {
        Box::pin(execute(*self, environment))
    }
}

async fn execute<R: Reconciler>(controller: Controller<R>, environment: Environment) {
    let Controller {
        reconciler,
        concurrency,
        policy,
        children,
        wakes,
        supervised,
    } = controller;
    let metrics = environment.metrics.controller(R::NAME, concurrency);
    let queue = Queue::new(environment.clock.clone(), metrics.clone());
    environment.scrape.lock().push(queue.clone());
    for tasks in &supervised {
        tasks.attach(queue.clone());
    }
    let events = EventRecorder::new(
        environment.client.clone(),
        environment.clock.clone(),
        R::NAME,
        &environment.instance,
    );
    let context = Arc::new(Context {
        name: R::NAME,
        intent_manager: format!("{}-intent", R::NAME),
        intent_fields: R::INTENT_FIELDS,
        finalizer: R::FINALIZER,
        elected: environment.elected.clone(),
        client: environment.client.clone(),
        clock: environment.clock.clone(),
        fence: environment.fence,
        events,
        metrics,
        cache: Cache::default(),
        queue: queue.clone(),
        backoff: Backoff::new(policy),
        supervised,
        answers: parking_lot::Mutex::default(),
    });
    let reconciler = Arc::new(reconciler);

    // Dropped, and with it all watches, when this function returns.
    let mut background = JoinSet::new();
    let mut lists = Vec::new();
    for namespace in scopes(&environment.namespaces) {
        let (listed, list) = oneshot::channel();
        lists.push(list);
        background.spawn(watch::objects(
            reconciler.clone(),
            context.clone(),
            namespace,
            listed,
        ));
    }
    for child in children {
        for namespace in scopes(&environment.namespaces) {
            let (listed, list) = oneshot::channel();
            lists.push(list);
            let client = environment.client.clone();
            background.spawn(child(children::Scope {
                client,
                namespace,
                queue: queue.clone(),
                listed,
            }));
        }
    }
    for keys in wakes {
        let queue = queue.clone();
        background.spawn(keys.for_each(move |key| {
            queue.add(key, Priority::User);
            std::future::ready(())
        }));
    }
    background.spawn(resync(context.clone(), environment.sync_period));

    let ready = async {
        futures::future::join_all(lists).await;
        (environment.synced)();
        environment.elected.cancelled().await;
    };
    tokio::select! {
        () = environment.shutdown.cancelled() => return,
        () = ready => {}
        () = broken(&mut background) => return,
    }
    tokio::select! {
        () = work(&reconciler, &context, concurrency, &environment.shutdown) => {}
        // Blind or deaf, a controller must not go on: the manager ends the process.
        () = broken(&mut background) => {}
    }
}

/// Ends when a watch or another source of keys has panicked. One that merely ended has nothing more to say.
async fn broken(background: &mut JoinSet<()>) {
    while let Some(ended) = background.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "A watch or another source of objects panicked");
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// When an object is tried again whose pass panicked outside of the guard.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// Hands a key back however its pass ends.
struct InWork {
    queue: Queue,
    key: ObjectKey,
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.queue.done(&self.key);
        if std::thread::panicking() {
            // Not in the reconciler, whose panics are caught and counted: in what describes its error, say.
            self.queue
                .add_after(self.key.clone(), AFTER_PANIC, Priority::User);
        }
    }
}

/// Hands out keys until shutdown, then waits for the passes and tasks under way.
async fn work<R: Reconciler>(
    reconciler: &Arc<R>,
    context: &Arc<Context<R::Kind>>,
    concurrency: usize,
    shutdown: &CancellationToken,
) {
    let workers = Arc::new(Semaphore::new(concurrency));
    let passes = TaskTracker::new();
    loop {
        let next = async {
            let worker = workers.clone().acquire_owned().await.ok()?;
            Some((worker, context.queue.next().await))
        };
        let (worker, key) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(next) = next => next,
        };
        let (reconciler, context) = (reconciler.clone(), context.clone());
        let in_work = InWork {
            queue: context.queue.clone(),
            key,
        };
        passes.spawn(async move {
            run(reconciler.as_ref(), &context, &in_work.key).await;
            drop(in_work);
            drop(worker);
        });
    }
    // What tasks achieved up to their end is reported before the lease is given up: one pass for each of them.
    let tasks = futures::future::join_all(context.supervised.iter().map(|tasks| tasks.drain()));
    let (ended, ()) = tokio::join!(tasks, async {
        passes.close();
        passes.wait().await;
    });
    let ended: HashSet<_> = ended.into_iter().flatten().collect();
    futures::stream::iter(ended)
        .for_each_concurrent(concurrency, |key| async move {
            run(reconciler.as_ref(), context, &key).await;
        })
        .await;
}

/// Looks at every object again, once per period (never, if that is zero), a little earlier or later so that controllers do not march in step.
async fn resync<K: crate::reconciler::Kind>(context: Arc<Context<K>>, period: Duration) {
    while !period.is_zero() {
        let spread = rand::rng().random_range(0.9..1.1);
        context.clock.sleep(period.mul_f64(spread)).await;
        for key in context.cache.keys() {
            context.queue.add(key, Priority::Background);
        }
    }
}

fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().cloned().map(Some).collect()
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    namespace.map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    )
}
