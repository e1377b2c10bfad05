//! The choke point of every pass.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use kube::{Api, Resource as _, ResourceExt as _};
use tracing::{Instrument as _, Span, field, info, info_span, warn};

use super::{Context, Pass, panic_message};
use crate::{
    error::{ApiError, Class, ReconcileError, chain, classify, retry_after},
    events::{EventKind, Notice},
    finalizer,
    key::ObjectKey,
    metrics::PassResult,
    reconciler::{Gate, Kind, Progress, Reconciler},
    requeue::Backoff,
    sabotage,
};

/// Why a pass did not get through.
enum Failure<E> {
    Reconciler(E),
    Read(ApiError),
    Finalizer(kube::Error),
    Panic(String),
}

impl<E: ReconcileError> Failure<E> {
    fn class(&self) -> Class {
        match self {
            Self::Reconciler(error) => error.class(),
            Self::Read(error) => error.class(),
            Self::Finalizer(error) => classify(error),
            Self::Panic(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Reconciler(error) => error.reason(),
            Self::Read(error) => error.reason(),
            Self::Finalizer(_) => "FinalizerError",
            Self::Panic(_) => "ReconcilePanic",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Reconciler(error) => error.retry_after(),
            Self::Read(error) => error.retry_after(),
            Self::Finalizer(error) => retry_after(error),
            Self::Panic(_) => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Reconciler(error) => chain(error),
            Self::Read(error) => chain(error),
            Self::Finalizer(error) => format!("failed to write the finalizer: {}", chain(error)),
            Self::Panic(message) => format!("the reconciler panicked: {message}"),
        }
    }
}

/// Runs one pass for `key` and puts the object back into the queue as its result demands.
pub(crate) async fn run<R: Reconciler>(reconciler: &R, context: &Arc<Context<R::Kind>>, key: &ObjectKey) {
    let Some(object) = context.cache.get(key) else {
        // It was deleted while it waited.
        context.backoff.forget(key);
        return;
    };
    context.metrics.cache_hit();
    let span = info_span!(
        "reconcile",
        controller = context.name,
        namespace = &*key.namespace,
        name = &*key.name,
        generation = object.meta().generation,
        reconcile_id = %uuid::Uuid::new_v4(),
        phase = field::Empty,
    );
    let guard = context.metrics.pass_started();
    let uid = object.uid();
    let pass = Pass::new(context.clone(), key.clone(), object);
    let started = context.clock.elapsed();
    let attempt = AssertUnwindSafe(dispatch(reconciler, &pass))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    if let Err(payload) = attempt.as_ref()
        && sabotage::active(sabotage::NO_PANIC_GUARD)
    {
        // As it would be without the guard: the pass never ends.
        warn!(panic = panic_message(payload.as_ref()), "Not guarded");
        return std::future::pending().await;
    }
    let outcome = attempt.unwrap_or_else(|payload| {
        context.metrics.panic();
        Err(Failure::Panic(panic_message(payload.as_ref())))
    });
    let took = context.clock.elapsed().saturating_sub(started);
    let result = match outcome {
        Ok(progress) => succeeded(&pass, progress),
        Err(failure) => failed(&pass, &failure).instrument(span.clone()).await,
    };
    guard.finish(result);
    if context.cache.get(key).is_none_or(|now| now.uid() != uid) {
        // It vanished during the pass, which may have started a task after the watch had told everybody.
        abandon(reconciler, context, uid.as_deref().unwrap_or_default());
    }
    span.in_scope(|| info!(result = result.as_str(), took_ms = took.as_millis(), "Reconciled"));
}

/// Drops what is kept about an object that is gone, and stops its task.
pub(crate) fn abandon<R: Reconciler>(reconciler: &R, context: &Context<R::Kind>, uid: &str) {
    context.events.forget(uid);
    context.answers.lock().remove(uid);
    for tasks in &context.supervised {
        tasks.abandon(uid);
    }
    reconciler.forget(uid);
}

async fn dispatch<R: Reconciler>(
    reconciler: &R,
    pass: &Pass<R::Kind>,
) -> Result<Progress, Failure<R::Error>> {
    let object = pass.current();
    if object.meta().deletion_timestamp.is_some() {
        return depart(reconciler, pass, object).await;
    }
    match reconciler.gate(object.as_ref()) {
        Gate::Ignore | Gate::Foreign => Ok(leave(pass)),
        Gate::NotYet(reason) => {
            info!(reason, "Not managed yet");
            Ok(leave(pass))
        }
        Gate::Paused => pause(reconciler, pass).await,
        Gate::Manage => {
            Span::current().record("phase", "apply");
            if !sabotage::active(sabotage::APPLY_BEFORE_FINALIZER) {
                claim(pass, R::FINALIZER).await.map_err(Failure::Finalizer)?;
            }
            reconciler
                .apply(pass.current(), pass)
                .await
                .map_err(Failure::Reconciler)
        }
    }
}

/// Cleans up after `object`, which is being deleted.
async fn depart<R: Reconciler>(
    reconciler: &R,
    pass: &Pass<R::Kind>,
    object: Arc<R::Kind>,
) -> Result<Progress, Failure<R::Error>> {
    let Some(name) = R::FINALIZER.filter(|name| finalizer::has(object.as_ref(), name)) else {
        return Ok(Progress::Settled);
    };
    if matches!(reconciler.gate(object.as_ref()), Gate::Foreign) {
        return Ok(leave(pass));
    }
    // Nothing more is done for what is leaving, also while its state cannot be read: a deletion is never taken back.
    stop_tasks(pass);
    let present = present(pass, object).await.map_err(Failure::Read)?;
    let Some(object) = present.filter(|object| finalizer::has(object.as_ref(), name)) else {
        info!("Cleaned up already: an older list showed it once more");
        return Ok(Progress::Settled);
    };
    match reconciler.gate(object.as_ref()) {
        Gate::Paused => return pause(reconciler, pass).await,
        Gate::Foreign => return Ok(leave(pass)),
        Gate::Manage | Gate::NotYet(_) | Gate::Ignore => {}
    }
    Span::current().record("phase", "cleanup");
    let progress = reconciler
        .cleanup(object, pass)
        .await
        .map_err(Failure::Reconciler)?;
    if progress == Progress::Settled || sabotage::active(sabotage::RELEASE_BEFORE_CLEANUP) {
        release(pass, name).await.map_err(Failure::Finalizer)?;
    }
    Ok(progress)
}

/// The object as the API server has it now, if it is still there. A list of the past may show one as leaving that is gone,
/// and whose name is another's by now: what a cleanup would find outside by that name is the other's.
async fn present<K: Kind>(pass: &Pass<K>, object: Arc<K>) -> Result<Option<Arc<K>>, ApiError> {
    let present = pass.present().await?;
    Ok(present.or_else(|| sabotage::active(sabotage::CLEAN_UP_AFTER_A_GHOST).then_some(object)))
}

async fn pause<R: Reconciler>(reconciler: &R, pass: &Pass<R::Kind>) -> Result<Progress, Failure<R::Error>> {
    Span::current().record("phase", "paused");
    stop_tasks(pass);
    reconciler
        .paused(pass.current(), pass)
        .await
        .map_err(Failure::Reconciler)
}

/// Leaves the object as it is.
fn leave<K: Kind>(pass: &Pass<K>) -> Progress {
    stop_tasks(pass);
    Progress::Settled
}

/// Whoever does not act on an object lets no task of it go on.
fn stop_tasks<K: Kind>(pass: &Pass<K>) {
    for tasks in &pass.context.supervised {
        tasks.stop(&pass.uid());
    }
}

async fn claim<K: Kind>(pass: &Pass<K>, name: Option<&'static str>) -> Result<(), kube::Error> {
    let object = pass.current();
    let Some(name) = name.filter(|name| !finalizer::has(object.as_ref(), name)) else {
        return Ok(());
    };
    let api: Api<K> = Api::namespaced(pass.context.client.clone(), &pass.key.namespace);
    let written = finalizer::add(&api, object.as_ref(), name).await?;
    pass.wrote(written);
    Ok(())
}

async fn release<K: Kind>(pass: &Pass<K>, name: &str) -> Result<(), kube::Error> {
    let api: Api<K> = Api::namespaced(pass.context.client.clone(), &pass.key.namespace);
    if let Some(written) = finalizer::remove(&api, pass.current().as_ref(), name).await? {
        pass.wrote(written);
    }
    Ok(())
}

fn succeeded<K: Kind>(pass: &Pass<K>, progress: Progress) -> PassResult {
    let context = &pass.context;
    // A pass that has only started what may fail has not succeeded yet.
    let uid = pass.uid();
    let open = context.supervised.iter().any(|tasks| tasks.is_on_probation(&uid));
    if !open || sabotage::active(sabotage::FORGET_AT_THE_START) {
        context.backoff.forget(&pass.key);
        context.events.success(&uid);
    }
    match progress {
        Progress::Settled => PassResult::Success,
        Progress::Waiting { after } => {
            context.queue.again_after(&pass.key, after);
            PassResult::RequeueAfter
        }
    }
}

async fn failed<K: Kind, E: ReconcileError>(pass: &Pass<K>, failure: &Failure<E>) -> PassResult {
    let context = &pass.context;
    let class = failure.class();
    let delay = delay(&context.backoff, &pass.key, class, failure.retry_after());
    let result = match class {
        Class::Terminal => {
            context.metrics.terminal_error();
            PassResult::Error
        }
        Class::Transient | Class::Denied => PassResult::Error,
        Class::Conflict => PassResult::Requeue,
        Class::Waiting => PassResult::RequeueAfter,
    };
    if let Some(delay) = delay {
        context.queue.again_after(&pass.key, delay);
    }
    let (error, class_name) = (failure.text(), class.as_str());
    match class {
        Class::Waiting | Class::Conflict => info!(error, class = class_name, retry_in = ?delay, "Retrying"),
        Class::Denied => tracing::error!(error, class = class_name, retry_in = ?delay, "Permission denied"),
        Class::Terminal | Class::Transient => {
            warn!(error, class = class_name, retry_in = ?delay, "Reconcile failed");
        }
    }
    if !matches!(class, Class::Waiting | Class::Conflict) {
        let notice = Notice {
            kind: EventKind::Warning,
            reason: failure.reason(),
            action: "Reconcile",
            note: error,
        };
        context.events.failure(&pass.reference(), notice).await;
    }
    result
}

/// When an object whose pass failed is looked at again; `None` for when something wakes it.
fn delay(
    backoff: &Backoff<ObjectKey>,
    key: &ObjectKey,
    class: Class,
    asked: Option<Duration>,
) -> Option<Duration> {
    match class {
        Class::Terminal => {
            backoff.forget(key);
            None
        }
        Class::Transient => Some(backoff.next(key, asked)),
        Class::Denied => Some(backoff.denied()),
        Class::Conflict => Some(backoff.conflict()),
        // Who does not know how long it takes is not asked twice a second for ever.
        Class::Waiting => Some(asked.unwrap_or_else(|| backoff.next(key, None))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requeue::RequeuePolicy;

    #[test]
    fn what_waits_for_a_time_that_nobody_knows_is_looked_at_ever_less_often() {
        let backoff = Backoff::new(RequeuePolicy::default());
        let key = ObjectKey::new("ns", "x");
        let delays: Vec<_> = (0..100)
            .filter_map(|_| delay(&backoff, &key, Class::Waiting, None))
            .collect();
        assert_eq!(delays.len(), 100);
        assert!(delays[0] <= Duration::from_secs(1));
        // Ninety draws, each from up to five minutes: an hour is more than any luck can undercut.
        assert!(delays.iter().sum::<Duration>() > Duration::from_hours(1));
    }

    #[test]
    fn what_waits_for_a_known_time_is_looked_at_then_and_holds_no_failure_against_the_object() {
        let backoff = Backoff::new(RequeuePolicy::default());
        let key = ObjectKey::new("ns", "x");
        for _ in 0..10 {
            let asked = Some(Duration::from_secs(7));
            assert_eq!(delay(&backoff, &key, Class::Waiting, asked), asked);
        }
        assert_eq!(backoff.failures(&key), 0);
    }
}
