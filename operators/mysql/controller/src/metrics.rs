//! The operator's own metrics, beside the framework's.
//!
//! | name | labels | meaning |
//! |---|---|---|
//! | `mysqlcluster_reconciles_total` | `error` | passes; `error` is empty for those that got through, else their class |
//! | `mysqlcluster_reconciles_duration_seconds` | | how long passes took |
//! | `mysql_ec2_orphans` | `region` | live instances of this operator whose cluster does not exist |
//!
//! Every label value but the regions exists from the start, at zero.

use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};
use reconcile::{Class, ReconcileError};

/// The label of a pass that got through.
const NONE: &str = "";
const CLASSES: [Class; 5] = [
    Class::Terminal,
    Class::Transient,
    Class::Conflict,
    Class::Denied,
    Class::Waiting,
];

/// Clones share the same numbers.
#[derive(Clone)]
pub struct ClusterMetrics {
    passes: IntCounterVec,
    durations: Histogram,
    orphans: IntGaugeVec,
}

impl ClusterMetrics {
    /// Makes the metrics, and registers them where `/metrics` finds them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = Opts::new(
            "mysqlcluster_reconciles_total",
            "Reconciliations of MySQLClusters; error is empty for those that succeeded, else the class of the error",
        );
        let histogram = HistogramOpts::new(
            "mysqlcluster_reconciles_duration_seconds",
            "Length of time per reconciliation of a MySQLCluster",
        );
        let gauge = Opts::new(
            "mysql_ec2_orphans",
            "Live EC2 instances of this operator whose MySQLCluster does not exist, by region",
        );
        let metrics = Self {
            passes: IntCounterVec::new(counter, &["error"])?,
            durations: Histogram::with_opts(histogram)?,
            orphans: IntGaugeVec::new(gauge, &["region"])?,
        };
        registry.register(Box::new(metrics.passes.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.orphans.clone()))?;
        for value in CLASSES.map(Class::as_str).into_iter().chain([NONE]) {
            metrics.passes.with_label_values(&[value]);
        }
        Ok(metrics)
    }

    /// Runs a pass, and counts it.
    pub(crate) async fn measure<T, E: ReconcileError>(
        &self,
        pass: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let result = pass.await;
        self.count(result.as_ref().err().map(ReconcileError::class), began.elapsed());
        result
    }

    fn count(&self, error: Option<Class>, took: Duration) {
        self.passes
            .with_label_values(&[error.map_or(NONE, Class::as_str)])
            .inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// So many orphans are in a region.
    pub(crate) fn orphans(&self, region: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.orphans.with_label_values(&[region]).set(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_counted_by_a_closed_set_of_classes() {
        let registry = Registry::new();
        let metrics = ClusterMetrics::new(&registry).unwrap();
        let text = || {
            prometheus::TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        let count = |text: &str, class: &str, number: u32| {
            text.contains(&format!(
                "mysqlcluster_reconciles_total{{error=\"{class}\"}} {number}\n"
            ))
        };
        for class in CLASSES.map(Class::as_str).into_iter().chain([NONE]) {
            assert!(count(&text(), class, 0), "{class:?} is there from the start");
        }
        metrics.count(None, Duration::from_millis(1));
        metrics.count(Some(Class::Denied), Duration::from_millis(1));
        let text = text();
        assert!(
            count(&text, NONE, 1) && count(&text, "denied", 1) && count(&text, "transient", 0),
            "{text}"
        );
        assert!(
            text.contains("mysqlcluster_reconciles_duration_seconds_count 2\n"),
            "{text}"
        );
    }
}
