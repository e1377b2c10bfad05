//! The client against real HTTP servers on the loopback interface.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::Request as Incoming, routing::any};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::{rate::Bucket, *};
use crate::fence::{BootTime, LeaseLost};

/// Serves `router`; the configuration of a client for it. Ends with the test's runtime.
async fn served(router: Router) -> Config {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    Config::new(format!("http://{address}").parse().unwrap())
}

fn map() -> String {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "map" } }).to_string()
}

/// A server that answers every request with a ConfigMap, and counts.
async fn counted() -> (Config, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let answer = async move |_: Incoming| {
        counter.fetch_add(1, Ordering::Relaxed);
        map()
    };
    (served(Router::new().fallback(any(answer))).await, requests)
}

fn options() -> ClientOptions {
    ClientOptions::new("test-operator/1.0")
}

#[tokio::test]
async fn requests_are_counted_by_code_method_and_host() {
    let (config, _) = counted().await;
    let host = config.cluster_url.authority().unwrap().to_string();
    let options = options();
    let metrics = options.metrics.clone();
    let maps: Api<ConfigMap> = Api::default_namespaced(build(config, options).unwrap());
    maps.get("map").await.unwrap();
    maps.get("map").await.unwrap();
    maps.create(&PostParams::default(), &ConfigMap::default())
        .await
        .unwrap();
    let text = metrics.encode();
    let line = |code, method, count| {
        format!(r#"rest_client_requests_total{{code="{code}",host="{host}",method="{method}"}} {count}"#)
    };
    assert!(text.contains(&line("200", "GET", 2)), "{text}");
    assert!(text.contains(&line("200", "POST", 1)), "{text}");
}

#[tokio::test]
async fn an_unanswered_request_is_counted_as_an_error() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let options = options();
    let metrics = options.metrics.clone();
    let client = build(Config::new(format!("http://{address}").parse().unwrap()), options).unwrap();
    client.apiserver_version().await.unwrap_err();
    assert!(
        metrics
            .encode()
            .contains(r#"rest_client_requests_total{code="<error>""#)
    );
}

#[tokio::test]
async fn the_server_is_told_who_asks() {
    let echo = async |request: Incoming| {
        let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
        json!({ "metadata": { "name": agent } }).to_string()
    };
    let config = served(Router::new().fallback(any(echo))).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(build(config, options()).unwrap());
    assert_eq!(
        maps.get("map").await.unwrap().metadata.name.as_deref(),
        Some("test-operator/1.0")
    );
}

#[tokio::test]
async fn a_closed_fence_sends_nothing_that_changes_anything() {
    let (config, requests) = counted().await;
    let (fence, keeper) = Fence::kept("system/operator");
    let client = build(config, ClientOptions { fence, ..options() }).unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let refused = maps
        .create(&PostParams::default(), &ConfigMap::default())
        .await
        .unwrap_err();
    assert!(LeaseLost::is_cause_of(&refused), "{refused}");
    assert_eq!(requests.load(Ordering::Relaxed), 0);
    maps.get("map").await.expect("a standby reads");
    keeper.extend(BootTime::now() + Duration::from_hours(1));
    maps.create(&PostParams::default(), &ConfigMap::default())
        .await
        .expect("a leader writes");
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[rstest]
#[case::before_the_answer(false)]
#[case::in_the_middle_of_the_answer(true)]
#[tokio::test]
async fn a_server_that_hangs_does_not_keep_a_worker(#[case] begins: bool) {
    let hang = async move |_: Incoming| {
        if !begins {
            std::future::pending::<()>().await;
        }
        let first = futures::stream::iter([Ok::<_, std::io::Error>("{")]);
        axum::body::Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()))
    };
    let config = served(Router::new().fallback(any(hang))).await;
    let request_timeout = Duration::from_millis(100);
    let client = build(
        config,
        ClientOptions {
            request_timeout,
            ..options()
        },
    )
    .unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let answer = tokio::time::timeout(Duration::from_secs(10), maps.get("map"));
    let error = answer.await.expect("the request was not bounded").unwrap_err();
    let texts: Vec<_> = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    assert!(
        texts.iter().any(|text| text.contains("did not answer GET")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn a_throttling_server_is_obeyed_by_the_caller_not_by_waiting_here() {
    let counter = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&counter);
    let throttle = async move |_: Incoming| {
        seen.fetch_add(1, Ordering::Relaxed);
        (
            axum::http::StatusCode::TOO_MANY_REQUESTS,
            [("retry-after", "60")],
            "{}",
        )
    };
    let config = served(Router::new().fallback(any(throttle))).await;
    build(config, options())
        .unwrap()
        .apiserver_version()
        .await
        .unwrap_err();
    assert_eq!(counter.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_wire_layer_sees_what_would_have_been_sent() {
    let (config, requests) = counted().await;
    let broken = wire_layer(tower::layer::layer_fn(|_: WireService| {
        tower::service_fn(|request: Request<Body>| async move {
            assert!(request.uri().authority().is_some(), "the address is complete");
            Err::<Response<Box<DynBody>>, BoxError>("cable cut".into())
        })
    }));
    let client = build(
        config,
        ClientOptions {
            wire: Some(broken),
            ..options()
        },
    )
    .unwrap();
    let error = client.apiserver_version().await.unwrap_err();
    assert!(error.to_string().contains("cable cut"), "{error}");
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_limited_and_watches_are_not() {
    let clock = Clock::system();
    let silent =
        tower::service_fn(|_: Request<()>| std::future::ready(Ok::<_, std::convert::Infallible>(())));
    let mut limited = RateLayer::new(10.0, 2, &clock).layer(silent);
    let mut send = async |uri: &'static str| {
        let request = Request::get(uri).body(()).unwrap();
        tower::Service::call(limited.ready().await.unwrap(), request)
            .await
            .unwrap();
        clock.elapsed()
    };
    assert_eq!(send("/").await, Duration::ZERO);
    assert_eq!(send("/?watch=true").await, Duration::ZERO);
    assert_eq!(send("/").await, Duration::ZERO, "the burst");
    let third = send("/").await;
    assert!(third >= Duration::from_millis(99), "{third:?}");
    assert_eq!(send("/?watch=1&x=y").await, third);
}

#[test]
fn the_bucket_refills_to_its_burst_and_no_further() {
    let mut bucket = Bucket::new(10.0, 3, Duration::ZERO);
    let waits: Vec<_> = (0..5).map(|_| bucket.take(Duration::ZERO).as_millis()).collect();
    assert_eq!(waits, [0, 0, 0, 100, 200]);
    let later = Duration::from_hours(1);
    let waits: Vec<_> = (0..4).map(|_| bucket.take(later).as_millis()).collect();
    assert_eq!(waits, [0, 0, 0, 100]);
}

#[rstest]
#[case("/api/v1/pods?watch=true", true)]
#[case("/api/v1/pods?limit=1&watch=1", true)]
#[case("/api/v1/pods?watch=false", false)]
#[case("/api/v1/pods/a/log?follow=true", true)]
#[case("/api/v1/watchers", false)]
#[case("/api/v1/pods?labelSelector=watch%3Dtrue", false)]
fn a_watch_is_recognised_by_its_query(#[case] uri: &str, #[case] endless: bool) {
    assert_eq!(is_endless(&Request::get(uri).body(()).unwrap()), endless);
}

#[tokio::test]
async fn unusable_configurations_are_refused_with_their_reason() {
    let mut proxied = Config::new("http://127.0.0.1:1".parse().unwrap());
    proxied.proxy_url = Some("http://proxy:3128".parse().unwrap());
    let error = build(proxied, options()).err().unwrap().to_string();
    assert!(error.contains("proxy:3128"), "{error}");
    let plain = Config::new("http://127.0.0.1:1".parse().unwrap());
    let error = build(plain, ClientOptions::new("line\nbreak"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("user agent"), "{error}");
}

#[rstest]
#[case::text("Too many requests, please try again later.")]
#[case::status(r#"{"kind":"Status","code":429,"message":"no","details":{}}"#)]
#[tokio::test]
async fn what_a_refusal_asks_for_by_its_header_is_known_to_the_requeue(#[case] body: &'static str) {
    let refuse = async move |_: Incoming| (http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], body);
    let config = served(Router::new().fallback(any(refuse))).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(build(config, options()).unwrap());
    let error = maps.get("map").await.unwrap_err();
    assert_eq!(
        crate::error::retry_after(&error),
        Some(Duration::from_secs(7)),
        "{error:?}"
    );
    assert_eq!(crate::error::classify(&error), crate::error::Class::Transient);
}
