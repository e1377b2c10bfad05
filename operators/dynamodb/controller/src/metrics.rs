//! The operator's own metrics, beside those of the framework. No label holds a name.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::partition::Totals;

/// Counters over all jobs since the process began.
#[derive(Clone, Debug)]
pub struct JobMetrics {
    keys_read: IntCounter,
    keys_acknowledged: IntCounter,
    unprocessed: IntCounter,
    throttles: IntCounter,
    write_capacity: IntCounter,
    read_capacity: IntCounter,
    running: IntGauge,
}

impl JobMetrics {
    /// The metrics, registered in `registry`.
    ///
    /// # Errors
    /// If they are registered there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let running = IntGauge::new(
            "dynamoctl_partition_tasks",
            "Measurements and deletions that run now.",
        )?;
        registry.register(Box::new(running.clone()))?;
        Ok(Self {
            keys_read: counter(
                "dynamoctl_partition_keys_read_total",
                "Keys read from partitions.",
            )?,
            keys_acknowledged: counter(
                "dynamoctl_partition_keys_acknowledged_total",
                "Keys whose deletion DynamoDB acknowledged.",
            )?,
            unprocessed: counter(
                "dynamoctl_partition_keys_unprocessed_total",
                "Keys that DynamoDB handed back unprocessed and that were sent again.",
            )?,
            throttles: counter(
                "dynamoctl_partition_throttles_total",
                "Requests that DynamoDB refused as a whole because of throttling.",
            )?,
            write_capacity: counter(
                "dynamoctl_partition_write_capacity_milliunits_total",
                "Write capacity consumed, in thousandths of a unit.",
            )?,
            read_capacity: counter(
                "dynamoctl_partition_read_capacity_milliunits_total",
                "Read capacity consumed, in thousandths of a unit.",
            )?,
            running,
        })
    }

    /// A task runs from now until the guard is dropped.
    pub(crate) fn task(&self) -> RunningTask {
        self.running.inc();
        RunningTask(self.running.clone())
    }

    /// Adds what was done between two totals of one task.
    pub(crate) fn advance(&self, before: &Totals, after: &Totals) {
        let add =
            |counter: &IntCounter, before: u64, after: u64| counter.inc_by(after.saturating_sub(before));
        add(&self.keys_read, before.keys_read, after.keys_read);
        add(
            &self.keys_acknowledged,
            before.keys_acknowledged,
            after.keys_acknowledged,
        );
        add(
            &self.unprocessed,
            before.unprocessed_retries,
            after.unprocessed_retries,
        );
        add(&self.throttles, before.throttles, after.throttles);
        add(&self.write_capacity, before.wcu_milli, after.wcu_milli);
        add(&self.read_capacity, before.rcu_milli, after.rcu_milli);
    }
}

/// Counts one running task while it lives.
pub(crate) struct RunningTask(IntGauge);

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_kinds_page_has_all_of_them_and_no_others() {
        let registry = Registry::new();
        let _metrics = JobMetrics::new(&registry).unwrap();
        let families = registry.gather();
        let served: BTreeSet<_> = families
            .iter()
            .map(prometheus::proto::MetricFamily::name)
            .collect();
        let page = include_str!("../../../../docs/dynamodb.md");
        let cells = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let told: BTreeSet<_> = cells
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("dynamoctl_partition_"))
            .collect();
        assert_eq!(told, served);
    }
}
