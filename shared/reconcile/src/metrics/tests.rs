//! The exposition against the list that stock dashboards and alerts rely on.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::{LabelPair, Metric, MetricType};

use super::*;

/// Name, type and labels of every family, as controller-runtime and client-go have them.
const EXPECTED: &[(&str, MetricType, &[&str])] = &[
    (
        "controller_runtime_reconcile_total",
        MetricType::COUNTER,
        &["controller", "result"],
    ),
    (
        "controller_runtime_reconcile_errors_total",
        MetricType::COUNTER,
        &["controller"],
    ),
    (
        "controller_runtime_terminal_reconcile_errors_total",
        MetricType::COUNTER,
        &["controller"],
    ),
    (
        "controller_runtime_reconcile_panics_total",
        MetricType::COUNTER,
        &["controller"],
    ),
    (
        "controller_runtime_reconcile_timeouts_total",
        MetricType::COUNTER,
        &["controller"],
    ),
    (
        "controller_runtime_reconcile_time_seconds",
        MetricType::HISTOGRAM,
        &["controller"],
    ),
    (
        "controller_runtime_max_concurrent_reconciles",
        MetricType::GAUGE,
        &["controller"],
    ),
    (
        "controller_runtime_active_workers",
        MetricType::GAUGE,
        &["controller"],
    ),
    (
        "workqueue_depth",
        MetricType::GAUGE,
        &["controller", "name", "priority"],
    ),
    (
        "workqueue_adds_total",
        MetricType::COUNTER,
        &["controller", "name"],
    ),
    (
        "workqueue_retries_total",
        MetricType::COUNTER,
        &["controller", "name"],
    ),
    (
        "workqueue_queue_duration_seconds",
        MetricType::HISTOGRAM,
        &["controller", "name"],
    ),
    (
        "workqueue_work_duration_seconds",
        MetricType::HISTOGRAM,
        &["controller", "name"],
    ),
    (
        "workqueue_unfinished_work_seconds",
        MetricType::GAUGE,
        &["controller", "name"],
    ),
    (
        "workqueue_longest_running_processor_seconds",
        MetricType::GAUGE,
        &["controller", "name"],
    ),
    ("leader_election_master_status", MetricType::GAUGE, &["name"]),
    (
        "rest_client_requests_total",
        MetricType::COUNTER,
        &["code", "host", "method"],
    ),
    ("process_cpu_seconds_total", MetricType::COUNTER, &[]),
    ("process_resident_memory_bytes", MetricType::GAUGE, &[]),
    ("stale_sync_skips_total", MetricType::COUNTER, &["controller"]),
    (
        "reconcile_cache_reads_total",
        MetricType::COUNTER,
        &["controller", "result"],
    ),
];

fn populated() -> Metrics {
    let metrics = Metrics::new();
    metrics.controller("database", 3);
    metrics.leader_status("database-lease");
    metrics.request("200", "GET", "10.0.0.1:443");
    metrics
}

#[test]
fn the_exposition_has_the_names_types_and_labels_of_stock_dashboards() {
    let gathered = populated().registry().gather();
    let found: BTreeMap<&str, (MetricType, BTreeSet<&str>)> = gathered
        .iter()
        .map(|family| {
            let labels = family.get_metric().iter().flat_map(Metric::get_label);
            (
                family.name(),
                (family.get_field_type(), labels.map(LabelPair::name).collect()),
            )
        })
        .collect();
    for (name, kind, labels) in EXPECTED {
        let (found_kind, found_labels) = found
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not exported"));
        assert_eq!(found_kind, kind, "type of {name}");
        assert_eq!(
            found_labels,
            &labels.iter().copied().collect(),
            "labels of {name}"
        );
    }
    let expected: BTreeSet<_> = EXPECTED.iter().map(|(name, _, _)| *name).collect();
    let extra: Vec<_> = found
        .keys()
        .filter(|name| !expected.contains(*name) && !name.starts_with("process_"))
        .collect();
    assert!(extra.is_empty(), "families that no dashboard knows: {extra:?}");
}

/// Name and labels of every row of a table whose columns are metric, type, labels and meaning; a first cell may hold
/// several names.
fn documented(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let metrics = cells.filter(|cells| ["counter", "gauge", "histogram", ""].contains(&cells[2]));
    metrics
        .flat_map(|cells| {
            let labels: BTreeSet<_> = cells[3].split(", ").filter(|label| !label.is_empty()).collect();
            let names = cells[1].split(", ").map(|name| name.trim_matches('`'));
            names.map(move |name| (name, labels.clone())).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_page_about_metrics_has_those_that_are_served_with_their_labels_and_no_others() {
    let told = documented(include_str!("../../../../docs/metrics.md"));
    let served: BTreeMap<_, BTreeSet<_>> = EXPECTED
        .iter()
        .map(|(name, _, labels)| (*name, labels.iter().copied().collect()))
        .collect();
    assert_eq!(told, served);
    // Elsewhere they are named with their labels in braces.
    let page = include_str!("../../../../docs/operations.md");
    let named: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.strip_suffix('}')?.split_once('{'))
        .filter(|(name, _)| served.contains_key(name))
        .collect();
    assert!(named.len() >= 6, "{named:?}");
    for (name, labels) in named {
        assert_eq!(served[name], labels.split(',').collect(), "{name}");
    }
}

#[test]
fn every_label_value_exists_at_zero_before_the_first_pass() {
    let text = populated().encode();
    for line in [
        r#"controller_runtime_reconcile_total{controller="database",result="success"} 0"#,
        r#"controller_runtime_reconcile_total{controller="database",result="error"} 0"#,
        r#"controller_runtime_reconcile_total{controller="database",result="requeue"} 0"#,
        r#"controller_runtime_reconcile_total{controller="database",result="requeue_after"} 0"#,
        r#"controller_runtime_reconcile_errors_total{controller="database"} 0"#,
        r#"controller_runtime_max_concurrent_reconciles{controller="database"} 3"#,
        r#"workqueue_depth{controller="database",name="database",priority="-100"} 0"#,
        r#"workqueue_depth{controller="database",name="database",priority="0"} 0"#,
        r#"leader_election_master_status{name="database-lease"} 0"#,
        r#"reconcile_cache_reads_total{controller="database",result="hit"} 0"#,
        r#"reconcile_cache_reads_total{controller="database",result="miss"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "missing: {line}\n{text}");
    }
}

#[test]
fn buckets_are_those_of_controller_runtime() {
    let text = populated().encode();
    let buckets = |name: &str| {
        text.lines()
            .filter(|line| line.starts_with(&format!("{name}_bucket")))
            .count()
    };
    // One more than the bounds: +Inf.
    assert_eq!(buckets("controller_runtime_reconcile_time_seconds"), 41);
    assert_eq!(buckets("workqueue_queue_duration_seconds"), 13);
    assert_eq!(buckets("workqueue_work_duration_seconds"), 13);
    assert!(
        text.contains(
            r#"workqueue_work_duration_seconds_bucket{controller="database",name="database",le="0.00000001"}"#
        ) || text.contains(r#"name="database",le="1e-08"}"#),
        "{text}"
    );
}

#[test]
fn a_dropped_pass_is_an_error_and_frees_its_worker() {
    let metrics = Metrics::new();
    let controller = metrics.controller("database", 1);
    let pass = controller.pass_started();
    assert!(
        metrics
            .encode()
            .contains(r#"active_workers{controller="database"} 1"#)
    );
    drop(pass);
    controller.pass_started().finish(PassResult::RequeueAfter);
    let text = metrics.encode();
    assert!(text.contains(r#"active_workers{controller="database"} 0"#));
    assert!(text.contains(r#"reconcile_total{controller="database",result="error"} 1"#));
    assert!(text.contains(r#"reconcile_total{controller="database",result="requeue_after"} 1"#));
    assert!(text.contains(r#"reconcile_errors_total{controller="database"} 1"#));
    assert!(text.contains(r#"reconcile_time_seconds_count{controller="database"} 2"#));
}

#[test]
fn a_controller_asked_for_twice_counts_in_one_place() {
    let metrics = Metrics::new();
    metrics.controller("database", 1).added(1);
    metrics.controller("database", 1).added(1);
    let line = r#"workqueue_adds_total{controller="database",name="database"} 2"#;
    assert!(metrics.encode().contains(line));
}
