//! The fence, alone and in front of a service that records what reaches it.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn, ready},
    sync::atomic::AtomicUsize,
    task::Poll,
};

use http::{Method, Request};
use tokio::sync::Notify;
use tower::{BoxError, Layer, ServiceExt};

use super::*;

const LONG: Duration = Duration::from_hours(1);

#[test]
fn an_open_fence_lets_everything_pass() {
    assert_eq!(Fence::open().check(), Ok(()));
    assert_eq!(Fence::open().remaining(), None);
}

#[test]
fn a_kept_fence_is_closed_before_during_and_after_as_its_keeper_says() {
    let (fence, keeper) = Fence::kept("ns/name");
    assert!(fence.check().is_err(), "closed until the lease is held");
    keeper.extend(BootTime::now() + LONG);
    assert!(fence.check().is_ok());
    assert!(fence.remaining() > Some(LONG / 2));
    keeper.extend(BootTime::now());
    assert!(fence.check().is_err(), "closed from the deadline on");
    assert_eq!(fence.remaining(), Some(Duration::ZERO));
    keeper.extend(BootTime::now() + LONG);
    keeper.close();
    assert!(fence.check().is_err(), "closed when given up");
    assert!(
        fence
            .check()
            .is_err_and(|error| error.to_string().contains("ns/name"))
    );
}

#[test]
fn a_keeper_that_dies_leaves_nobody_leading() {
    let (fence, keeper) = Fence::kept("ns/name");
    keeper.extend(BootTime::now() + LONG);
    drop(keeper);
    assert!(fence.check().is_err());
}

#[test]
fn a_lost_lease_is_recognised_inside_a_client_error() {
    let (fence, _keeper) = Fence::kept("ns/name");
    let lost = fence.check().unwrap_err();
    assert!(LeaseLost::is_cause_of(&kube::Error::Service(Box::new(lost))));
    assert!(!LeaseLost::is_cause_of(
        &kube::Error::LinesCodecMaxLineLengthExceeded
    ));
}

/// Sends one request through the layer; tells whether it reached the service, and what came back.
async fn send(fence: Fence, method: Method) -> (usize, Result<(), BoxError>) {
    let sent = AtomicUsize::new(0);
    let sent = Arc::new(sent);
    let counter = Arc::clone(&sent);
    let service = tower::service_fn(move |_: Request<()>| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        }
    });
    let request = Request::builder().method(method).body(()).unwrap();
    let result = FenceLayer::new(fence).layer(service).oneshot(request).await;
    (sent.load(Ordering::Relaxed), result)
}

#[tokio::test]
async fn a_closed_fence_sends_no_mutating_request_and_still_reads() {
    let (fence, keeper) = Fence::kept("ns/name");
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let (sent, result) = send(fence.clone(), method.clone()).await;
        assert_eq!(sent, 0, "{method} was sent");
        assert!(LeaseLost::is_cause_of(&*result.unwrap_err()));
    }
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(send(fence.clone(), method).await.0, 1);
    }
    keeper.extend(BootTime::now() + LONG);
    let (sent, result) = send(fence, Method::PUT).await;
    assert_eq!((sent, result.is_ok()), (1, true));
}

#[tokio::test]
async fn a_request_whose_fence_closes_before_it_is_sent_is_not_sent() {
    let (fence, keeper) = Fence::kept("ns/name");
    keeper.extend(BootTime::now() + LONG);
    let service = tower::service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(())));
    let request = Request::post("/").body(()).unwrap();
    let on_its_way = FenceLayer::new(fence).layer(service).oneshot(request);
    keeper.close();
    assert!(on_its_way.await.is_err());
}

#[tokio::test]
async fn a_request_that_still_connects_when_its_fence_closes_is_not_sent() {
    let (fence, keeper) = Fence::kept("ns/name");
    keeper.extend(BootTime::now() + LONG);
    let (sent, connected) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
    let service = tower::service_fn(|_: Request<()>| {
        let (sent, connected) = (Arc::clone(&sent), Arc::clone(&connected));
        async move {
            connected.notified().await;
            sent.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        }
    });
    let request = Request::post("/").body(()).unwrap();
    let mut on_its_way = Box::pin(FenceLayer::new(fence).layer(service).oneshot(request));
    let connects = poll_fn(|context| Poll::Ready(on_its_way.as_mut().poll(context).is_pending()));
    assert!(connects.await);
    keeper.close();
    connected.notify_one();
    assert!(LeaseLost::is_cause_of(&*on_its_way.await.unwrap_err()));
    assert_eq!(sent.load(Ordering::Relaxed), 0);
}
