//! What goes wrong around an operator: watches that break, objects that vanish, leases that are lost.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use reconcile::{
    apply::{Applied, Applier},
    client::{WireLayer, WireService, wire_layer},
    leader::{LeaderConfig, Timing},
    manager::ManagerError,
};
use serde_json::json;
use testkit::{
    audit::Filter,
    fault::{FaultPlan, kube::FaultLayer},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, layer::layer_fn, service_fn};

use crate::{
    bed::{self, Bed, FINALIZER, Mode, reports, until},
    operator::Operator,
};

const LEASE: &str = "widgets";

fn election(namespace: &str) -> LeaderConfig {
    let mut config = LeaderConfig::new(LEASE, namespace);
    config.timing = Timing::FAST;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_object_gets_an_event_and_hurts_no_other() {
    let bed = Bed::new().await;
    let broken: kube::core::DynamicObject = serde_json::from_value(json!({
        "apiVersion": "test.example.com/v1", "kind": "Widget",
        "metadata": {"name": "broken"}, "spec": {"value": "seven"},
    }))
    .unwrap();
    let resource = kube::core::ApiResource::erase::<bed::Widget>(&());
    let untyped: Api<kube::core::DynamicObject> =
        Api::namespaced_with(bed.plane.client(), bed.namespace.name(), &resource);
    untyped.create(&PostParams::default(), &broken).await.unwrap();
    // With an election: watches run before the lease is held, when nothing may be written.
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.leader_election = Some(election(bed.namespace.name()));
    });
    bed.create("good", Mode::Report).await;
    bed.until("good", "reported", reports(1)).await;
    let events: Api<Event> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    until("an event about the broken one", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.iter().any(|e| e.reason.as_deref() == Some("InvalidObject"))
    })
    .await;
    bed.patch("broken", json!({"spec": {"value": 7}})).await;
    bed.until("broken", "reported once corrected", reports(7)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_late_does_not_undo_the_one_of_a_successor() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::LateReport).await;
    until("a report", async || operator.journal.of("x").len() > 1).await;
    assert_eq!(operator.journal.of("x")[1], "report Err(Conflict)");
    bed.until("x", "the successor's report stands", reports(99)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_planned_from_a_stale_object_is_refused() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    for (name, mode) in [("x", Mode::StaleIntent), ("y", Mode::OvertakenIntent)] {
        bed.create(name, mode).await;
        until("an attempt", async || operator.journal.of(name).len() >= 2).await;
        assert_eq!(operator.journal.of(name)[1], "intent Err(Conflict)", "{name}");
        let status = bed.widgets.get(name).await.unwrap().status;
        assert!(status.is_none_or(|s| s.intent.is_none()));
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_went_while_the_watch_was_broken_wakes_its_owner() {
    let bed = Bed::new().await;
    let owner = bed.create("x", Mode::Report).await;
    let client = bed.plane.client();
    let mut child = ConfigMap::default();
    child.metadata.name = Some("child".into());
    Applier::new(&client, "widget", &owner)
        .apply(child)
        .await
        .unwrap();
    // The watch is told that it is too old, and the list that follows takes its time.
    let schedule = "WATCH configmaps#1=410; LIST configmaps#2=delay:2000ms";
    let plan = FaultPlan::new(schedule.parse().unwrap());
    let faults = plan.clone();
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.wire = Some(wire_layer(FaultLayer::new(&faults)));
    });
    bed.until("x", "reported", reports(1)).await;
    until("the second list", async || {
        plan.sites()
            .get("LIST configmaps")
            .is_some_and(|lists| *lists >= 2)
    })
    .await;
    let passes = operator.journal.of("x").len();
    let maps: Api<ConfigMap> = Api::namespaced(client, bed.namespace.name());
    maps.delete("child", &DeleteParams::default()).await.unwrap();
    until("a pass for the child that is gone", async || {
        operator.journal.of("x").len() > passes
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_list_shows_as_leaving_is_not_cleaned_up_once_more() {
    let bed = Bed::new().await;
    for name in ["gone", "replaced"] {
        bed.create(name, Mode::Report).await;
        bed.patch(name, json!({"metadata": {"finalizers": [FINALIZER]}}))
            .await;
        bed.widgets.delete(name, &DeleteParams::default()).await.unwrap();
    }
    // Every list is the first one, in which both are leaving, and no watch corrects the second.
    let plan = FaultPlan::new("LIST widgets=stale-list; WATCH widgets#2=hang".parse().unwrap());
    let start = || {
        Operator::start(bed.plane, &bed.namespace, |options| {
            options.wire = Some(wire_layer(FaultLayer::new(&plan)));
        })
    };
    let first = start();
    for name in ["gone", "replaced"] {
        bed.until(name, "gone", |widget| widget.is_none()).await;
        assert_eq!(first.journal.of(name), ["cleanup"]);
    }
    first.stop().await;
    bed.create("replaced", Mode::Report).await;

    let looks = || plan.sites().get("GET widgets").copied().unwrap_or_default();
    let before = looks();
    let second = start();
    until("a look at both", async || looks() >= before + 2).await;
    let journal = second.journal.clone();
    second.stop().await;
    assert!(journal.of("gone").is_empty(), "{:?}", journal.of("gone"));
    assert!(journal.of("replaced").is_empty(), "{:?}", journal.of("replaced"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_of_what_is_leaving_is_stopped_although_its_state_cannot_be_read() {
    let bed = Bed::new().await;
    let plan = FaultPlan::new("GET widgets=500".parse().unwrap());
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.wire = Some(wire_layer(FaultLayer::new(&plan)));
    });
    bed.create("x", Mode::Task).await;
    bed.until("x", "reported", reports(1)).await;
    bed.widgets.delete("x", &DeleteParams::default()).await.unwrap();
    until("the end of the task", async || {
        operator.journal.of("x").contains(&"task ended".to_owned())
    })
    .await;
    assert!(!operator.journal.of("x").contains(&"cleanup".to_owned()));
    operator.stop().await;
    bed.patch("x", json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_started_for_an_object_that_has_vanished_is_stopped() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("x", Mode::Vanish).await;
    until("the end of the task", async || {
        operator.journal.of("x").contains(&"task ended".to_owned())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_cannot_be_told_hurts_no_other_object_and_not_the_next_spec() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |_| {});
    bed.create("bad", Mode::BadError).await;
    until("a pass", async || !operator.journal.of("bad").is_empty()).await;
    bed.create("good", Mode::Report).await;
    bed.until("good", "reported", reports(1)).await;
    bed.patch("bad", json!({"spec": {"mode": "Report", "value": 7}}))
        .await;
    bed.until("bad", "reported", reports(7)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_somebody_else_in_the_status_does_not_make_every_pass_write() {
    let bed = Bed::new().await;
    bed.create("x", Mode::Report).await;
    let note = Patch::Merge(json!({"status": {"note": "by hand"}}));
    let params = PatchParams::default();
    bed.widgets.patch_status("x", &params, &note).await.unwrap();
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.sync_period = Duration::from_secs(2);
    });
    bed.until("x", "reported", reports(1)).await;
    until("20 resyncs", async || operator.journal.of("x").len() >= 20).await;
    let start = testkit::audit::Position::default();
    let writes = Filter::writes()
        .namespace(bed.namespace.name())
        .subresource("status");
    let writes = writes.user_agent("widget-operator");
    let written = bed
        .plane
        .audit()
        .query(&bed.plane.client(), start, &writes)
        .await
        .unwrap();
    assert_eq!(written.len(), 1, "{written:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_sent_once_whatever_the_server_makes_of_it() {
    let bed = Bed::new().await;
    let owner = bed.create("x", Mode::Report).await;
    let client = bed.plane.client();
    let applier = Applier::new(&client, "widget", &owner);
    let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(json!({
        "metadata": {"name": "pod", "labels": {}},
        "spec": {
            "hostNetwork": false,
            "containers": [{"name": "c", "image": "i", "args": [], "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}}],
        },
    }))
    .unwrap();
    let secret: k8s_openapi::api::core::v1::Secret =
        serde_json::from_value(json!({"metadata": {"name": "secret"}, "stringData": {"password": "x"}}))
            .unwrap();
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "map"}, "data": {}})).unwrap();
    for pass in 0..3 {
        let expected = if pass == 0 {
            Applied::Created
        } else {
            Applied::Unchanged
        };
        assert_eq!(
            applier.apply(pod.clone()).await.unwrap().1,
            expected,
            "pod, pass {pass}"
        );
        assert_eq!(
            applier.apply(secret.clone()).await.unwrap().1,
            expected,
            "secret, pass {pass}"
        );
        assert_eq!(
            applier.apply(map.clone()).await.unwrap().1,
            expected,
            "map, pass {pass}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_tasks_do_not_end_says_so_and_leaves_the_lease_to_expire() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.leader_election = Some(election(bed.namespace.name()));
        options.drain_timeout = Duration::from_millis(300);
    });
    bed.create("x", Mode::Stubborn).await;
    bed.until("x", "started", reports(1)).await;
    let ended = operator.end().await;
    assert!(matches!(ended, Err(ManagerError::DrainTimeout(_))), "{ended:?}");
    let leases: Api<Lease> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let holder = leases.get(LEASE).await.unwrap().spec.unwrap().holder_identity;
    assert!(holder.is_some_and(|holder| !holder.is_empty()), "released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lost_while_draining_ends_the_process_at_once() {
    let bed = Bed::new().await;
    let operator = Operator::start(bed.plane, &bed.namespace, |options| {
        options.leader_election = Some(election(bed.namespace.name()));
        options.drain_timeout = bed::DEADLINE * 2;
    });
    bed.create("x", Mode::Stubborn).await;
    bed.until("x", "started", reports(1)).await;
    let leases: Api<Lease> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let stolen = Patch::Merge(json!({"spec": {"holderIdentity": "thief"}}));
    let steal = async {
        leases
            .patch(LEASE, &PatchParams::default(), &stolen)
            .await
            .unwrap();
    };
    let (ended, ()) = tokio::join!(operator.end(), steal);
    assert!(matches!(ended, Err(ManagerError::LeaseLost(_))), "{ended:?}");
}

/// Lets no request for widgets through before `admitted`; the first one sets `asked`.
fn held_back(asked: CancellationToken, admitted: CancellationToken) -> WireLayer {
    wire_layer(layer_fn(move |inner: WireService| {
        let (asked, admitted) = (asked.clone(), admitted.clone());
        service_fn(move |request: http::Request<kube::client::Body>| {
            let (asked, admitted, inner) = (asked.clone(), admitted.clone(), inner.clone());
            async move {
                if request.uri().path().ends_with("/widgets") {
                    asked.cancel();
                    admitted.cancelled().await;
                }
                inner.oneshot(request).await
            }
        })
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_ready_leaves_the_lease_to_one_that_is() {
    let bed = Bed::new().await;
    let leases: Api<Lease> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let holder = async || {
        let lease = leases.get_opt(LEASE).await.unwrap();
        lease.and_then(|lease| lease.spec?.holder_identity)
    };
    let (asked, admitted) = (CancellationToken::new(), CancellationToken::new());
    let held = held_back(asked.clone(), admitted.clone());
    let replica = |identity: &str| {
        let mut election = election(bed.namespace.name());
        identity.clone_into(&mut election.identity);
        election
    };
    let unready = Operator::start(bed.plane, &bed.namespace, |options| {
        options.leader_election = Some(replica("unready"));
        options.wire = Some(held);
    });
    tokio::time::timeout(bed::DEADLINE, asked.cancelled())
        .await
        .unwrap();
    let ready = Operator::start(bed.plane, &bed.namespace, |options| {
        options.leader_election = Some(replica("ready"));
    });
    bed.create("x", Mode::Report).await;
    bed.until("x", "reported", reports(1)).await;
    assert_eq!(holder().await.as_deref(), Some("ready"));
    assert!(unready.journal.of("x").is_empty());
    ready.stop().await;
    // Nobody else is there, and still it takes nothing before its first list is in.
    assert_eq!(holder().await.as_deref(), Some(""));
    admitted.cancel();
    until("the other leads", async || {
        holder().await.as_deref() == Some("unready")
    })
    .await;
    unready.stop().await;
}
