//! The metric families: their names, labels, help texts and buckets.
//!
//! Names, labels and buckets are those of controller-runtime and client-go, so that dashboards and alerts written
//! for Go operators work. The few families that have no counterpart there say so in their help text.

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector,
};

/// Seconds, as controller-runtime's `reconcile_time_seconds`.
const RECONCILE_BUCKETS: [f64; 40] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0,
    50.0, 60.0,
];

/// Seconds, as client-go's work queue: 10 ns times ten, twelve times.
const QUEUE_BUCKETS: [f64; 12] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3];

/// Every family of the framework, registered.
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) reconcile_total: IntCounterVec,
    pub(super) reconcile_errors: IntCounterVec,
    pub(super) terminal_errors: IntCounterVec,
    pub(super) panics: IntCounterVec,
    pub(super) timeouts: IntCounterVec,
    pub(super) reconcile_time: HistogramVec,
    pub(super) max_concurrent: IntGaugeVec,
    pub(super) active_workers: IntGaugeVec,
    pub(super) depth: IntGaugeVec,
    pub(super) adds: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) queue_duration: HistogramVec,
    pub(super) work_duration: HistogramVec,
    pub(super) unfinished: GaugeVec,
    pub(super) longest_running: GaugeVec,
    pub(super) leader: IntGaugeVec,
    pub(super) requests: IntCounterVec,
    pub(super) stale_skips: IntCounterVec,
    pub(super) cache_reads: IntCounterVec,
}

impl Families {
    #[expect(clippy::too_many_lines, reason = "a list of names, not logic")]
    pub(super) fn new() -> Self {
        let make = Maker {
            registry: Registry::new(),
        };
        let controller: &[&str] = &["controller"];
        let queue: &[&str] = &["name", "controller"];
        #[cfg(target_os = "linux")]
        valid(make.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        )));
        Self {
            reconcile_total: make.counter(
                "controller_runtime_reconcile_total",
                "Total number of reconciliations per controller",
                &["controller", "result"],
            ),
            reconcile_errors: make.counter(
                "controller_runtime_reconcile_errors_total",
                "Total number of reconciliation errors per controller",
                controller,
            ),
            terminal_errors: make.counter(
                "controller_runtime_terminal_reconcile_errors_total",
                "Total number of terminal reconciliation errors per controller: errors that only a change of the object can cure",
                controller,
            ),
            panics: make.counter(
                "controller_runtime_reconcile_panics_total",
                "Total number of reconciliation panics per controller",
                controller,
            ),
            timeouts: make.counter(
                "controller_runtime_reconcile_timeouts_total",
                "Total number of reconciliation timeouts per controller",
                controller,
            ),
            reconcile_time: make.histogram(
                "controller_runtime_reconcile_time_seconds",
                "Length of time per reconciliation per controller",
                controller,
                &RECONCILE_BUCKETS,
            ),
            max_concurrent: make.gauge(
                "controller_runtime_max_concurrent_reconciles",
                "Maximum number of concurrent reconciles per controller",
                controller,
            ),
            active_workers: make.gauge(
                "controller_runtime_active_workers",
                "Number of currently used workers per controller",
                controller,
            ),
            depth: make.gauge(
                "workqueue_depth",
                "Current depth of workqueue by workqueue and priority",
                &["name", "controller", "priority"],
            ),
            adds: make.counter("workqueue_adds_total", "Total number of adds handled by workqueue", queue),
            retries: make.counter(
                "workqueue_retries_total",
                "Total number of retries handled by workqueue",
                queue,
            ),
            queue_duration: make.histogram(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested",
                queue,
                &QUEUE_BUCKETS,
            ),
            work_duration: make.histogram(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes",
                queue,
                &QUEUE_BUCKETS,
            ),
            unfinished: make.seconds(
                "workqueue_unfinished_work_seconds",
                "How many seconds of work has been done that is in progress and hasn't been observed by work_duration; large values indicate stuck workers",
                queue,
            ),
            longest_running: make.seconds(
                "workqueue_longest_running_processor_seconds",
                "How many seconds has the longest running processor for workqueue been running",
                queue,
            ),
            leader: make.gauge(
                "leader_election_master_status",
                "Whether this process acts: 0 is standby, or a leader that waits for another installation to end, 1 is leader; name identifies the lease",
                &["name"],
            ),
            requests: make.counter(
                "rest_client_requests_total",
                "Number of HTTP requests to the Kubernetes API, by status code, method and host",
                &["code", "method", "host"],
            ),
            stale_skips: make.counter(
                "stale_sync_skips_total",
                "Watch events ignored because they were older than the cache, which takes in the answers to writes",
                controller,
            ),
            cache_reads: make.counter(
                "reconcile_cache_reads_total",
                "Reads of the object of a pass: hit was answered from the cache, miss needed a request",
                &["controller", "result"],
            ),
            registry: make.registry,
        }
    }
}

/// Makes families and registers them.
struct Maker {
    registry: Registry,
}

impl Maker {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        registered(
            &self.registry,
            valid(IntCounterVec::new(Opts::new(name, help), labels)),
        )
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        registered(
            &self.registry,
            valid(IntGaugeVec::new(Opts::new(name, help), labels)),
        )
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        registered(
            &self.registry,
            valid(GaugeVec::new(Opts::new(name, help), labels)),
        )
    }

    fn histogram(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        registered(&self.registry, valid(HistogramVec::new(opts, labels)))
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    valid(registry.register(Box::new(collector.clone())));
    collector
}

#[expect(
    clippy::expect_used,
    reason = "names, labels and buckets are constants of this file; the tests build them"
)]
fn valid<T>(made: prometheus::Result<T>) -> T {
    made.expect("a metric family of this module is malformed or registered twice")
}
