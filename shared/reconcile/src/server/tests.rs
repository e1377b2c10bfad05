//! Probes and metrics, asked over real sockets.

use std::net::{Ipv4Addr, SocketAddr};

use axum::http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rstest::rstest;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

/// A server on a free port that ends with the test.
async fn served(router: Router) -> (SocketAddr, DropGuard) {
    let shutdown = CancellationToken::new();
    let address = serve("127.0.0.1:0", router, shutdown.clone())
        .await
        .unwrap()
        .unwrap();
    (address, shutdown.drop_guard())
}

async fn fetch(address: SocketAddr, path: &str) -> (StatusCode, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<&'static [u8]>>();
    let answer = client
        .get(format!("http://{address}{path}").parse().unwrap())
        .await
        .unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn probes_answer_ok_when_every_check_holds() {
    let readiness = Readiness::new();
    let caches = readiness.gate("caches");
    let (address, _server) = served(probes(readiness.clone())).await;
    caches.open();
    for path in [
        "/healthz",
        "/readyz",
        "/readyz/ping",
        "/readyz/caches",
        "/healthz/ping",
    ] {
        assert_eq!(
            fetch(address, path).await,
            (StatusCode::OK, "ok".to_owned()),
            "{path}"
        );
    }
    let (status, body) = fetch(address, "/readyz?verbose").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, "[+]ping ok\n[+]caches ok\nreadyz check passed\n");
    assert!(readiness.is_ready());
}

#[tokio::test]
async fn a_failing_check_is_named_and_its_reason_withheld() {
    let readiness = Readiness::new();
    readiness.gate("crds").open();
    let caches = readiness.gate("caches");
    let (address, _server) = served(probes(readiness)).await;
    let (status, body) = fetch(address, "/readyz").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        body,
        "[+]ping ok\n[+]crds ok\n[-]caches failed: reason withheld\nreadyz check failed\n"
    );
    let single = (
        StatusCode::INTERNAL_SERVER_ERROR,
        "[-]caches failed: reason withheld\n".to_owned(),
    );
    assert_eq!(fetch(address, "/readyz/caches").await, single);
    assert_eq!(
        fetch(address, "/healthz").await.0,
        StatusCode::OK,
        "not being ready is no reason to be restarted"
    );
    assert_eq!(fetch(address, "/readyz/nonsense").await.0, StatusCode::NOT_FOUND);
    caches.open();
    assert_eq!(fetch(address, "/readyz").await.0, StatusCode::OK);
    caches.close();
    assert_eq!(
        fetch(address, "/readyz").await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn an_excluded_check_does_not_count() {
    let readiness = Readiness::new();
    let _closed = readiness.gate("caches");
    let (address, _server) = served(probes(readiness)).await;
    assert_eq!(
        fetch(address, "/readyz?exclude=caches").await,
        (StatusCode::OK, "ok".to_owned())
    );
    let (_, body) = fetch(address, "/readyz?verbose&exclude=caches&exclude=typo").await;
    assert!(body.contains("[+]caches excluded: ok\n"), "{body}");
    assert!(
        body.contains(r#"warn: there is no check "typo" to exclude"#),
        "{body}"
    );
}

#[tokio::test]
async fn metrics_are_brought_up_to_date_before_each_scrape() {
    let registry = Metrics::new();
    let controller = registry.controller("database", 1);
    let (address, _server) = served(metrics(registry, move || controller.queue_depth(0, 7))).await;
    let (status, body) = fetch(address, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        body.contains(r#"workqueue_depth{controller="database",name="database",priority="0"} 7"#),
        "{body}"
    );
}

#[tokio::test]
async fn an_occupied_port_is_an_error_that_says_what_to_do() {
    let occupied = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let error = serve(&address, Router::new(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert!(error.to_string().contains("choose another address"), "{error}");
}

#[tokio::test]
async fn zero_listens_nowhere() {
    assert_eq!(
        serve("0", Router::new(), CancellationToken::new()).await.unwrap(),
        None
    );
}

#[rstest]
#[case("0", BindAddress::Disabled)]
#[case("", BindAddress::Disabled)]
#[case(":8080", BindAddress::Everywhere(8080))]
#[case(":0", BindAddress::Everywhere(0))]
#[case("127.0.0.1:8080", BindAddress::Host("127.0.0.1".into(), 8080))]
#[case("[::1]:8080", BindAddress::Host("::1".into(), 8080))]
#[case("localhost:8080", BindAddress::Host("localhost".into(), 8080))]
fn addresses_are_read_as_go_writes_them(#[case] text: &str, #[case] expected: BindAddress) {
    let parsed: BindAddress = text.parse().unwrap();
    assert_eq!(parsed, expected);
    assert_eq!(parsed.to_string().parse::<BindAddress>().unwrap(), expected);
}

#[rstest]
fn unclear_addresses_are_refused(#[values("8080", "::1:8080", ":http", "[::1:80", ":70000")] text: &str) {
    let error = text.parse::<BindAddress>().unwrap_err().to_string();
    assert!(error.contains("write `:8080`"), "{error}");
}

#[tokio::test]
async fn who_waits_for_readiness_is_told_when_the_last_check_holds() {
    let readiness = Readiness::new();
    let gates = ["crds", "cache"].map(|name| readiness.gate(name));
    let waiting = tokio::spawn({
        let readiness = readiness.clone();
        async move { readiness.ready().await }
    });
    gates[0].open();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    gates[1].open();
    tokio::time::timeout(std::time::Duration::from_mins(1), waiting)
        .await
        .unwrap()
        .unwrap();
    readiness.ready().await;
}

#[tokio::test]
async fn a_reason_that_is_for_everybody_is_told_until_the_check_fails_for_another() {
    let readiness = Readiness::new();
    let gate = readiness.gate("alone");
    let (address, _server) = served(probes(readiness)).await;
    gate.open();
    gate.close_because("waiting for a/b");
    let (_, body) = fetch(address, "/readyz").await;
    assert!(body.contains("[-]alone failed: waiting for a/b\n"), "{body}");
    gate.open();
    assert_eq!(fetch(address, "/readyz/alone").await.0, StatusCode::OK);
    gate.close();
    let (_, body) = fetch(address, "/readyz/alone").await;
    assert_eq!(body, "[-]alone failed: reason withheld\n");
}
