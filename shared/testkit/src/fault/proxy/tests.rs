use std::time::Instant;

use axum::{Router, body::to_bytes, extract::Request as AxumRequest, routing::any};
use http::header::AUTHORIZATION;

use super::*;
use crate::fault::{Fault, Schedule, schedule::Which};

fn echo() -> Served {
    let router = Router::new().fallback(any(async |request: AxumRequest| {
        to_bytes(request.into_body(), usize::MAX)
            .await
            .unwrap_or_default()
    }));
    Served::start("echo", |listener| async move {
        axum::serve(listener, router).await.ok();
    })
    .unwrap()
}

async fn post(
    client: &Client<HttpConnector, Full<Bytes>>,
    proxy: &Proxy,
    path: &str,
) -> Result<(u16, Bytes), String> {
    let request = Request::post(format!("{}{path}", proxy.endpoint()))
        .header(
            AUTHORIZATION,
            "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/us-east-1/dynamodb/aws4_request, x=y",
        )
        .body(Full::from("hello"))
        .unwrap();
    let response = client.request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    Ok((
        status,
        response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes(),
    ))
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

#[tokio::test]
async fn requests_pass_unchanged_and_are_accounted_for() {
    let server = echo();
    let plan = FaultPlan::default();
    let proxy = Proxy::start(server.address(), Plain, Options::new(&plan)).unwrap();
    let client = client();
    for path in ["/a", "/a", "/b"] {
        assert_eq!(
            post(&client, &proxy, path).await.unwrap(),
            (200, Bytes::from("hello"))
        );
    }
    let audit = proxy.audit();
    assert_eq!(
        (audit.total(), audit.count("POST /a"), audit.count("POST /b")),
        (3, 2, 1)
    );
    assert_eq!(audit.signers(), [("AKIDTEST".to_owned(), 3)].into());
    let last = audit.since(2);
    assert_eq!(last.len(), 1);
    assert_eq!((&*last[0].operation, last[0].size), ("POST /b", 5));
    assert!(audit.since(3).is_empty());
    assert_eq!(plan.requests(), 3);
}

#[tokio::test]
async fn faults_break_the_connection_or_answer_in_the_servers_stead() {
    let server = echo();
    let schedule = Schedule::default()
        .at("POST /a", Which::Nth(1), Fault::Refuse)
        .at("POST /a", Which::Nth(2), Fault::Lose)
        .at("POST /a", Which::Nth(3), Fault::status(503));
    let plan = FaultPlan::new(schedule);
    let proxy = Proxy::start(server.address(), Plain, Options::new(&plan)).unwrap();
    let client = client();
    assert!(post(&client, &proxy, "/a").await.is_err());
    assert!(post(&client, &proxy, "/a").await.is_err());
    assert_eq!(post(&client, &proxy, "/a").await.unwrap().0, 503);
    assert_eq!(post(&client, &proxy, "/a").await.unwrap().0, 200);
    assert_eq!(proxy.audit().total(), 4);
}

#[tokio::test]
async fn latency_is_added_to_every_exchange_and_not_to_their_sum() {
    let server = echo();
    let options = Options::new(&FaultPlan::default()).latency(Duration::from_millis(40));
    let proxy = Proxy::start(server.address(), Plain, options).unwrap();
    let client = client();
    let began = Instant::now();
    futures::future::join_all((0..20).map(|_| post(&client, &proxy, "/"))).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(40), "{took:?}");
    assert!(took < Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn a_dropped_proxy_leaves_nothing_listening() {
    let server = echo();
    let proxy = Proxy::start(server.address(), Plain, Options::new(&FaultPlan::default())).unwrap();
    let address = proxy.address();
    post(&client(), &proxy, "/").await.unwrap();
    drop(proxy);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
