use std::{sync::atomic::Ordering, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, WatchParams},
};

use super::*;
use crate::fault::{CrashSite, Fault, Schedule, boundary::Broken, plan::Kind, schedule::Which};

mod apiserver;

use apiserver::Apiserver;

fn client(server: &Apiserver, plan: &FaultPlan) -> Api<ConfigMap> {
    Api::default_namespaced(faulty_client(server.config(), plan).unwrap())
}

async fn touch(api: &Api<ConfigMap>) -> kube::Result<ConfigMap> {
    api.patch("a", &PatchParams::default(), &Patch::Merge(serde_json::json!({})))
        .await
}

fn code(result: kube::Result<ConfigMap>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a status, got {other:?}"),
    }
}

fn broken(result: kube::Result<ConfigMap>) -> Broken {
    match result {
        Err(kube::Error::Service(error)) => *error.downcast_ref().expect("an error of the boundary"),
        other => panic!("expected a broken connection, got {other:?}"),
    }
}

#[test]
fn sites_carry_no_names() {
    for (method, uri, site, kind) in [
        (Method::GET, "/api/v1/namespaces/n/pods/p", "GET pods", Kind::Read),
        (
            Method::GET,
            "/api/v1/namespaces/n/pods?limit=5",
            "LIST pods",
            Kind::List,
        ),
        (
            Method::GET,
            "/api/v1/pods?watch=true&limit=5",
            "WATCH pods",
            Kind::Watch,
        ),
        (Method::GET, "/api/v1/namespaces", "LIST namespaces", Kind::List),
        (Method::GET, "/api/v1/namespaces/n", "GET namespaces", Kind::Read),
        (
            Method::PUT,
            "/api/v1/namespaces/n/finalize",
            "PUT namespaces/finalize",
            Kind::Update,
        ),
        (
            Method::PATCH,
            "/apis/a.b/v1/namespaces/n/things/x/status",
            "PATCH things/status",
            Kind::Update,
        ),
        (
            Method::POST,
            "/apis/a.b/v1/namespaces/n/things",
            "POST things",
            Kind::Create,
        ),
        (
            Method::DELETE,
            "/apis/a.b/v1/things/x",
            "DELETE things",
            Kind::Delete,
        ),
        (
            Method::DELETE,
            "/apis/a.b/v1/namespaces/n/things",
            "DELETECOLLECTION things",
            Kind::Delete,
        ),
        (Method::GET, "/version", "GET /version", Kind::Read),
    ] {
        let call = call(&method, &uri.parse().unwrap());
        assert_eq!((call.site.as_str(), call.kind), (site, kind), "{method} {uri}");
    }
}

#[tokio::test]
async fn each_fault_reaches_the_caller_and_only_the_applied_ones_the_server() {
    let server = Apiserver::start().await;
    let applied = Fault::Status {
        code: 504,
        retry_after: None,
        applied: true,
    };
    let faults = [
        Fault::Refuse,
        Fault::Lose,
        Fault::status(409),
        Fault::throttle(3),
        applied,
    ];
    let mut schedule = Schedule::default();
    for (fault, nth) in faults.iter().zip(1..) {
        schedule = schedule.at("PATCH configmaps", Which::Nth(nth), *fault);
    }
    let plan = FaultPlan::new(schedule);
    let api = client(&server, &plan);

    assert_eq!(broken(touch(&api).await), Broken::BeforeSend);
    assert_eq!(server.writes(), 0);
    assert_eq!(broken(touch(&api).await), Broken::ResponseLost);
    assert_eq!(
        server.writes(),
        1,
        "a lost response belongs to a request that took effect"
    );
    assert_eq!(code(touch(&api).await), 409);
    match touch(&api).await {
        Err(kube::Error::Api(status)) => {
            // As API priority and fairness refuses: a line of text, and a header that kube's error does not keep.
            assert_eq!((status.code, status.details.is_none()), (429, true), "{status:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.writes(), 1);
    assert_eq!(code(touch(&api).await), 504);
    assert_eq!(server.writes(), 2);
    touch(&api).await.unwrap();
    assert_eq!(server.writes(), 3);
    assert_eq!(plan.injected().len(), 5);
}

#[tokio::test]
async fn a_hang_lasts_until_the_caller_gives_up() {
    let server = Apiserver::start().await;
    let plan = FaultPlan::new(Schedule::default().at("PATCH configmaps", Which::Nth(1), Fault::Hang));
    let api = client(&server, &plan);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), touch(&api))
            .await
            .is_err()
    );
    assert_eq!(server.writes(), 0);
    touch(&api).await.unwrap();
}

#[tokio::test]
async fn a_dropped_watch_ends_after_some_events() {
    let server = Apiserver::start().await;
    let plan = FaultPlan::new(Schedule::default().at("WATCH configmaps", Which::Nth(1), Fault::DropWatch(2)));
    let api = client(&server, &plan);
    let events = api.watch(&WatchParams::default(), "0").await.unwrap();
    let events: Vec<_> = events.try_collect().await.unwrap();
    assert_eq!(events.len(), 2);
    // The server's watch never ends by itself.
    let more = api
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .take(4)
        .count()
        .await;
    assert_eq!(more, 4);
}

#[tokio::test]
async fn a_stale_list_is_one_that_was_served_before() {
    let server = Apiserver::start().await;
    let plan = FaultPlan::new(Schedule::default().at("LIST configmaps", Which::Nth(3), Fault::StaleList));
    let api = client(&server, &plan);
    let version = async || {
        api.list(&ListParams::default())
            .await
            .unwrap()
            .metadata
            .resource_version
            .unwrap()
    };
    let first = version().await;
    touch(&api).await.unwrap();
    let second = version().await;
    assert_ne!(first, second);
    assert_eq!(version().await, first);
    assert_eq!(version().await, second);
}

#[tokio::test]
async fn after_a_crash_nothing_gets_out_until_the_next_incarnation() {
    for (site, writes) in [
        (CrashSite::Before, 1),
        (CrashSite::Lost, 2),
        (CrashSite::After, 2),
    ] {
        let server = Apiserver::start().await;
        let plan = FaultPlan::new(Schedule::default().crash(2, site));
        let api = client(&server, &plan);
        touch(&api).await.unwrap();
        let second = tokio::spawn({
            let api = api.clone();
            async move { touch(&api).await.is_ok() }
        });
        plan.crashed().await;
        let late = tokio::time::timeout(Duration::from_millis(30), touch(&api)).await;
        assert!(late.is_err(), "{site}: a dead incarnation got an answer");
        assert_eq!(server.writes(), writes, "{site}");
        if site == CrashSite::After {
            assert!(second.await.unwrap());
        } else {
            assert!(!second.is_finished(), "{site}: the caller learned how it ended");
        }
        plan.next_incarnation();
        touch(&client(&server, &plan)).await.unwrap();
        assert_eq!(server.state.writes.load(Ordering::SeqCst), writes + 1);
    }
}
