//! Prometheus metrics with controller-runtime's names, labels and result values.
//!
//! Dashboards and alerts written for operators in Go (kubebuilder's two Grafana dashboards, the usual mixins) work
//! unchanged, because names, labels and buckets are theirs.
//!
//! # Guarantees
//! - Every label value a controller can have exists from the moment [`Metrics::controller`] returns, at zero: a rate
//!   over a counter that has not moved yet is 0 rather than absent.
//! - Label values are closed sets. No object, namespace or error text ever becomes a label.
//! - A pass that is dropped half-way (a panic, a cancelled future) is counted as an error, and its worker as free.
//!
//! # Caveats
//! Durations of passes and requests are real time, also when the framework runs on an accelerated
//! [`crate::clock::Clock`]: they measure what the machine did. Those of the queue are that clock's. Native histograms need the protobuf exposition, so only the classic buckets are here.
//!
//! # Example
//! ```
//! use reconcile::metrics::{Metrics, PassResult};
//!
//! let metrics = Metrics::new();
//! let database = metrics.controller("database", 4);
//! let pass = database.pass_started();
//! pass.finish(PassResult::Success);
//! let success = r#"controller_runtime_reconcile_total{controller="database",result="success"} 1"#;
//! assert!(metrics.encode().contains(success));
//! ```

mod families;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use self::families::Families;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Priorities whose depth is exported from the start: a user's change, and the initial list and resyncs.
const USUAL_PRIORITIES: [i32; 2] = [0, -100];

/// All metrics of one process. Clones share the same registry.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

/// How a pass ended: the closed set of values of the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassResult {
    /// Nothing is left to do (`success`).
    Success,
    /// The pass failed (`error`).
    Error,
    /// The pass asked to run again, with backoff (`requeue`).
    Requeue,
    /// The pass asked to run again after a time (`requeue_after`).
    RequeueAfter,
}

impl PassResult {
    const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Requeue, Self::RequeueAfter];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own, with every family of the framework and the process's CPU and memory.
    pub fn new() -> Self {
        Self {
            families: Arc::new(Families::new()),
        }
    }

    /// Where an operator registers metrics of its own.
    pub fn registry(&self) -> &Registry {
        &self.families.registry
    }

    /// The exposition in Prometheus' text format.
    pub fn encode(&self) -> String {
        let gathered = self.families.registry.gather();
        TextEncoder::new()
            .encode_to_string(&gathered)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "failed to encode the metrics");
                String::new()
            })
    }

    /// The handle of one controller, with all its label values created.
    ///
    /// `name` is the kind in lower case; `workers` is the number of passes that may run at once. Asking twice for the
    /// same name yields handles on the same numbers.
    pub fn controller(&self, name: &'static str, workers: usize) -> ControllerMetrics {
        let metrics = ControllerMetrics {
            inner: Arc::new(Handles::new(name, Arc::clone(&self.families))),
        };
        let limit = self.families.max_concurrent.with_label_values(&[name]);
        limit.set(i64::try_from(workers).unwrap_or(i64::MAX));
        metrics
    }

    /// The gauge that tells whether this process holds the lease `name`: 1 leader, 0 standby. Starts at 0.
    pub fn leader_status(&self, name: &str) -> IntGauge {
        self.families.leader.with_label_values(&[name])
    }

    /// Counts a request to the Kubernetes API. `code` is the HTTP status, or `<error>` when no response came.
    pub fn request(&self, code: &str, method: &str, host: &str) {
        self.families
            .requests
            .with_label_values(&[code, method, host])
            .inc();
    }
}

/// The metrics of one controller and its queue. Clones share the same numbers; every method is a few atomics.
#[derive(Clone)]
pub struct ControllerMetrics {
    inner: Arc<Handles>,
}

struct Handles {
    name: &'static str,
    families: Arc<Families>,
    results: [IntCounter; 4],
    errors: IntCounter,
    terminal_errors: IntCounter,
    panics: IntCounter,
    timeouts: IntCounter,
    time: Histogram,
    active: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    queue_duration: Histogram,
    work_duration: Histogram,
    unfinished: Gauge,
    longest: Gauge,
    stale_skips: IntCounter,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
}

impl Handles {
    fn new(name: &'static str, families: Arc<Families>) -> Self {
        let queue: &[&str] = &[name, name];
        for priority in USUAL_PRIORITIES {
            families
                .depth
                .with_label_values(&[name, name, &priority.to_string()])
                .set(0);
        }
        Self {
            name,
            results: PassResult::ALL.map(|result| {
                families
                    .reconcile_total
                    .with_label_values(&[name, result.as_str()])
            }),
            errors: families.reconcile_errors.with_label_values(&[name]),
            terminal_errors: families.terminal_errors.with_label_values(&[name]),
            panics: families.panics.with_label_values(&[name]),
            timeouts: families.timeouts.with_label_values(&[name]),
            time: families.reconcile_time.with_label_values(&[name]),
            active: families.active_workers.with_label_values(&[name]),
            adds: families.adds.with_label_values(queue),
            retries: families.retries.with_label_values(queue),
            queue_duration: families.queue_duration.with_label_values(queue),
            work_duration: families.work_duration.with_label_values(queue),
            unfinished: families.unfinished.with_label_values(queue),
            longest: families.longest_running.with_label_values(queue),
            stale_skips: families.stale_skips.with_label_values(&[name]),
            cache_hits: families.cache_reads.with_label_values(&[name, "hit"]),
            cache_misses: families.cache_reads.with_label_values(&[name, "miss"]),
            families,
        }
    }

    fn record(&self, result: PassResult, took: Duration) {
        self.results[result as usize].inc();
        if result == PassResult::Error {
            self.errors.inc();
        }
        self.time.observe(took.as_secs_f64());
        self.active.dec();
    }
}

impl ControllerMetrics {
    /// A pass begins: one more active worker until the guard is finished or dropped.
    pub fn pass_started(&self) -> PassGuard {
        self.inner.active.inc();
        PassGuard {
            handles: Some(Arc::clone(&self.inner)),
            started: Instant::now(),
        }
    }

    /// A pass failed in a way that only a change of its object can cure. The pass still finishes as an error.
    pub fn terminal_error(&self) {
        self.inner.terminal_errors.inc();
    }

    /// A pass panicked. The pass still finishes as an error.
    pub fn panic(&self) {
        self.inner.panics.inc();
    }

    /// A pass ran into its time limit. The pass still finishes as an error.
    pub fn timeout(&self) {
        self.inner.timeouts.inc();
    }

    /// How many keys of `priority` are queued and ready now.
    ///
    /// Priorities other than 0 and -100 appear with their first call; a queue has a small fixed set of them.
    pub fn queue_depth(&self, priority: i32, depth: i64) {
        let name = self.inner.name;
        self.inner
            .families
            .depth
            .with_label_values(&[name, name, &priority.to_string()])
            .set(depth);
    }

    /// This many keys that did not wait yet were added to the queue.
    pub fn added(&self, keys: u64) {
        self.inner.adds.inc_by(keys);
    }

    /// A key will be added when a delay is over: after a failure, or because somebody waits.
    pub fn retried(&self) {
        self.inner.retries.inc();
    }

    /// A key was taken from the queue after having been ready for `duration`.
    pub fn waited(&self, duration: Duration) {
        self.inner.queue_duration.observe(duration.as_secs_f64());
    }

    /// A key was handed back after `duration` of work.
    pub fn worked(&self, duration: Duration) {
        self.inner.work_duration.observe(duration.as_secs_f64());
    }

    /// How long the passes that are under way now have been running: the sum over all, and the longest, in seconds.
    pub fn set_unfinished(&self, total_seconds: f64, longest_seconds: f64) {
        self.inner.unfinished.set(total_seconds);
        self.inner.longest.set(longest_seconds);
    }

    /// An event of the watch was ignored, being older than the cache.
    pub fn stale_skip(&self) {
        self.inner.stale_skips.inc();
    }

    /// A pass read its own object from the cache.
    pub fn cache_hit(&self) {
        self.inner.cache_hits.inc();
    }

    /// A pass asked the API server for its own object.
    pub fn cache_miss(&self) {
        self.inner.cache_misses.inc();
    }
}

/// A pass under way. Dropped without [`PassGuard::finish`], it counts as an error.
#[must_use = "a dropped guard counts the pass as failed"]
pub struct PassGuard {
    handles: Option<Arc<Handles>>,
    started: Instant,
}

impl PassGuard {
    /// The pass ended with `result`: counts it, records its duration, frees its worker.
    pub fn finish(mut self, result: PassResult) {
        if let Some(handles) = self.handles.take() {
            handles.record(result, self.started.elapsed());
        }
    }
}

impl Drop for PassGuard {
    fn drop(&mut self) {
        if let Some(handles) = self.handles.take() {
            handles.record(PassResult::Error, self.started.elapsed());
        }
    }
}

#[cfg(test)]
mod tests;
