//! What the framework promises, against a real API server.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this crate is a test"
)]

mod bed;
mod going;
mod operator;
mod trouble;
mod waking;

use std::{collections::HashSet, time::Duration};

use bed::{Bed, FINALIZER, FOREIGN, Mode, PAUSED, reports, until};
use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use operator::Operator;
use reconcile::apply::{Applied, Applier, ApplyError};
use serde_json::json;
use testkit::audit::Filter;

#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_is_there_before_apply_and_gone_after_cleanup() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    assert_eq!(bed.widgets.get("x").await.unwrap().finalizers(), [FINALIZER]);
    bed.widgets.delete("x", &DeleteParams::default()).await.unwrap();
    bed.until("x", "gone", |widget| widget.is_none()).await;
    assert_eq!(operator.journal.of("x"), ["apply 1", "cleanup"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_what_became_anothers_is_left_to_the_other() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    let foreign = |value: Option<&str>| json!({"metadata": {"annotations": {FOREIGN: value}}});
    bed.patch("x", foreign(Some("true"))).await;
    bed.widgets.delete("x", &DeleteParams::default()).await.unwrap();
    let lines = || operator.journal.of("x");
    until("a look at it", async || lines().contains(&"left".into())).await;
    // Ours again, it is cleaned up, and not before.
    bed.patch("x", foreign(None)).await;
    bed.until("x", "gone", |widget| widget.is_none()).await;
    assert_eq!(lines().last().map(String::as_str), Some("cleanup"));
    assert!(!lines().contains(&"cleanup of another's".into()), "{:?}", lines());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_cause_no_further_pass_and_every_change_of_spec_one() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    bed.patch("x", json!({"spec": {"value": 2}})).await;
    bed.until("x", "reported again", reports(2)).await;
    // A later object's pass shows that the queue has been through.
    bed.create("y", Mode::Report).await;
    bed.until("y", "reported", reports(1)).await;
    assert_eq!(operator.journal.of("x"), ["apply 1", "apply 2"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_convergence_fifty_resyncs_write_nothing() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.sync_period = Duration::from_secs(2);
    });
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    let (audit, client) = (bed.plane.audit(), bed.plane.client());
    let converged = audit.settle(&client).await.unwrap();
    let passes = operator.journal.of("x").len();
    until("50 resyncs", async || {
        operator.journal.of("x").len() >= passes + 50
    })
    .await;
    // From the audit log: a write that changes nothing leaves no other trace.
    let writes = Filter::writes().namespace(bed.namespace.name());
    let written = audit.query(&client, converged, &writes).await.unwrap();
    assert!(written.is_empty(), "{written:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_counted_reported_and_hurts_no_other_object() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("bad", Mode::Panic).await;
    bed.create("good", Mode::Report).await;
    bed.until("good", "reported", reports(1)).await;
    until("retries of the panicking one", async || {
        operator.journal.of("bad").len() >= 3
    })
    .await;
    let events: Api<Event> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    until("an event about the panic", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.iter().any(|e| {
            e.reason.as_deref() == Some("ReconcilePanic")
                && e.note.as_deref().unwrap_or("").contains("told to panic")
        })
    })
    .await;
    let exposition = operator.metrics.encode();
    let panics = exposition
        .lines()
        .find(|l| l.starts_with("controller_runtime_reconcile_panics_total"))
        .unwrap();
    assert!(!panics.ends_with(" 0"), "{panics}");
    // The next spec is not held against it.
    bed.patch("bad", json!({"spec": {"mode": "Report", "value": 7}}))
        .await;
    bed.until("bad", "reported", reports(7)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_pause_and_drain_await_the_task() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    for name in ["deleted", "paused", "drained"] {
        bed.create(name, Mode::Task).await;
        bed.until(name, "started", reports(1)).await;
    }
    bed.widgets
        .delete("deleted", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("deleted", "gone", |widget| widget.is_none()).await;
    assert_eq!(operator.journal.of("deleted")[1..], ["task ended", "cleanup"]);
    bed.patch("paused", json!({"metadata": {"annotations": {PAUSED: "true"}}}))
        .await;
    until("the paused one's task to end", async || {
        operator.journal.of("paused").contains(&"task ended".into())
    })
    .await;
    let journal = operator.journal.clone();
    operator.stop().await;
    // One pass more, to report what the task achieved up to its end.
    assert_eq!(journal.of("drained"), ["apply 1", "task ended", "apply 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_created_changed_and_pruned_and_foreign_ones_left_alone() {
    let bed = Bed::new().await;
    let owner = bed.create("x", Mode::Report).await;
    let client = bed.plane.client();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), bed.namespace.name());
    let child = |name: &str, data: serde_json::Value| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "x"}}, "data": data}))
            .unwrap()
    };
    let applier = Applier::new(&client, "widget", &owner);

    assert_eq!(
        applier
            .apply(child("a", json!({"k": "1", "gone": "1"})))
            .await
            .unwrap()
            .1,
        Applied::Created
    );
    assert_eq!(
        applier
            .apply(child("a", json!({"k": "1", "gone": "1"})))
            .await
            .unwrap()
            .1,
        Applied::Unchanged
    );
    let (changed, how) = applier.apply(child("a", json!({"k": "2"}))).await.unwrap();
    assert_eq!(how, Applied::Changed);
    assert_eq!(
        changed.data.unwrap(),
        [("k".to_owned(), "2".to_owned())].into(),
        "an omitted field goes away"
    );

    maps.create(&PostParams::default(), &child("foreign", json!({"theirs": "1"})))
        .await
        .unwrap();
    let refused = applier
        .apply(child("foreign", json!({"ours": "1"})))
        .await
        .unwrap_err();
    assert!(matches!(refused, ApplyError::NameConflict { .. }), "{refused}");
    assert!(refused.to_string().contains("foreign"), "{refused}");

    applier.apply(child("b", json!({}))).await.unwrap();
    let pruned = applier
        .prune::<ConfigMap>("app=x", &HashSet::from(["a".to_owned()]))
        .await
        .unwrap();
    assert_eq!(pruned, 1);
    let left: Vec<_> = maps
        .list(&ListParams::default().labels("app=x"))
        .await
        .unwrap()
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    assert_eq!(left, ["a", "foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_somebody_deletes_wakes_its_owner() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    let owner = bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    let client = bed.plane.client();
    let mut child = ConfigMap::default();
    child.metadata.name = Some("child".into());
    let passes = operator.journal.of("x").len();
    Applier::new(&client, "widget", &owner)
        .apply(child)
        .await
        .unwrap();
    until("a pass for the new child", async || {
        operator.journal.of("x").len() > passes
    })
    .await;
    let passes = operator.journal.of("x").len();
    let maps: Api<ConfigMap> = Api::namespaced(client, bed.namespace.name());
    maps.delete("child", &DeleteParams::default()).await.unwrap();
    until("a pass for the deleted child", async || {
        operator.journal.of("x").len() > passes
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_change_overtakes_a_thousand_resyncs() {
    let bed = Bed::new().await;
    for n in 0..1000 {
        bed.create(&format!("w{n}"), Mode::Report).await;
    }
    // An API budget that makes the initial list take long.
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.clock = reconcile::clock::Clock::system();
        (options.qps, options.burst) = (100.0, 100);
    });
    until("the first passes", async || {
        (0..1000).any(|n| !operator.journal.of(&format!("w{n}")).is_empty())
    })
    .await;
    let edited = (0..1000)
        .rev()
        .map(|n| format!("w{n}"))
        .find(|name| operator.journal.of(name).is_empty())
        .unwrap();
    bed.patch(&edited, json!({"spec": {"value": 2}})).await;
    until("the edited one's pass", async || {
        operator.journal.of(&edited).contains(&"apply 2".into())
    })
    .await;
    let waiting = (0..1000)
        .filter(|n| operator.journal.of(&format!("w{n}")).is_empty())
        .count();
    assert!(
        waiting > 100,
        "the others were through already ({waiting} waiting): nothing was overtaken"
    );
    operator.stop().await;
}
