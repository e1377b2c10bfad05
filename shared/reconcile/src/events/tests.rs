//! The recorder against a server that keeps what it is sent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::Value;

use super::{series::Book, *};

/// An API server that knows events and nothing else.
#[derive(Clone, Default)]
struct Server {
    events: Arc<Mutex<BTreeMap<String, Value>>>,
    hangs: bool,
}

impl Server {
    fn recorder(&self, clock: &Clock) -> EventRecorder {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                if server.hangs {
                    std::future::pending::<()>().await;
                }
                Ok::<_, kube::Error>(server.answer(request).await)
            }
        });
        EventRecorder::new(
            Client::new(service, "default"),
            clock.clone(),
            "example.com/operator",
            "pod-1",
        )
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let sent: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
        let path = parts.uri.path();
        assert!(path.starts_with("/apis/events.k8s.io/v1/namespaces/"), "{path}");
        let mut events = self.events.lock();
        let answer = match parts.method {
            Method::POST => {
                events.insert(
                    sent["metadata"]["name"].as_str().unwrap().to_owned(),
                    sent.clone(),
                );
                Some(sent)
            }
            Method::PATCH => events.get_mut(path.rsplit('/').next().unwrap()).map(|event| {
                event["series"] = sent["series"].clone();
                event.clone()
            }),
            other => panic!("{other} of an event"),
        };
        drop(events);
        let missing = json!({ "kind": "Status", "code": 404, "reason": "NotFound", "message": "gone" });
        let status = if answer.is_some() { 200 } else { 404 };
        let body = Body::from(serde_json::to_vec(&answer.unwrap_or(missing)).unwrap());
        Response::builder().status(status).body(body).unwrap()
    }

    /// Notes and counts of the events there are.
    fn told(&self) -> Vec<(String, i64)> {
        let events = self.events.lock();
        let told = events.values().map(|event| {
            (
                event["note"].as_str().unwrap().to_owned(),
                event["series"]["count"].as_i64().unwrap_or(1),
            )
        });
        told.collect()
    }
}

fn database(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("example.com/v1".to_owned()),
        kind: Some("Database".to_owned()),
        namespace: Some("tenant".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(format!("uid-of-{name}")),
        ..ObjectReference::default()
    }
}

fn notice(note: &str) -> Notice {
    Notice {
        kind: EventKind::Warning,
        reason: "Throttled",
        action: "Delete",
        note: note.to_owned(),
    }
}

#[tokio::test]
async fn an_event_carries_what_kubectl_shows() {
    let server = Server::default();
    server
        .recorder(&Clock::system())
        .publish(&database("orders"), notice("slow"))
        .await;
    let events = server.events.lock();
    let (name, event) = events.iter().next().unwrap();
    assert!(name.starts_with("orders."), "{name}");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "Throttled");
    assert_eq!(event["action"], "Delete");
    assert_eq!(event["reportingController"], "example.com/operator");
    assert_eq!(event["reportingInstance"], "pod-1");
    assert_eq!(event["regarding"]["uid"], "uid-of-orders");
    assert_eq!(event["metadata"]["namespace"], "tenant");
    assert!(
        event["eventTime"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
}

#[tokio::test]
async fn repeats_raise_a_count_and_a_changed_note_is_news() {
    let server = Server::default();
    let recorder = server.recorder(&Clock::system());
    for note in ["slow", "slow", "slow", "slower", "slower"] {
        recorder.publish(&database("orders"), notice(note)).await;
    }
    recorder.publish(&database("users"), notice("slower")).await;
    let mut told = server.told();
    told.sort();
    assert_eq!(
        told,
        [
            ("slow".to_owned(), 3),
            ("slower".to_owned(), 1),
            ("slower".to_owned(), 2)
        ]
    );
}

#[tokio::test]
async fn a_deleted_event_is_told_again() {
    let server = Server::default();
    let recorder = server.recorder(&Clock::system());
    recorder.publish(&database("orders"), notice("slow")).await;
    server.events.lock().clear();
    recorder.publish(&database("orders"), notice("slow")).await;
    recorder.publish(&database("orders"), notice("slow")).await;
    assert_eq!(server.told(), [("slow".to_owned(), 2)]);
}

#[tokio::test]
async fn a_failure_after_a_success_is_news_and_other_series_go_on() {
    let server = Server::default();
    let recorder = server.recorder(&Clock::system());
    let orders = database("orders");
    for _ in 0..2 {
        recorder.failure(&orders, notice("broken")).await;
        recorder
            .publish(
                &orders,
                Notice {
                    reason: "Scaled",
                    ..notice("done")
                },
            )
            .await;
        recorder.success("uid-of-orders");
    }
    let mut told = server.told();
    told.sort();
    assert_eq!(
        told,
        [
            ("broken".to_owned(), 1),
            ("broken".to_owned(), 1),
            ("done".to_owned(), 2)
        ]
    );
    recorder.forget("uid-of-orders");
    assert_eq!(recorder.inner.book.lock().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_five_seconds_and_nothing_else() {
    let server = Server {
        hangs: true,
        ..Server::default()
    };
    let begun = tokio::time::Instant::now();
    server
        .recorder(&Clock::system())
        .publish(&database("orders"), notice("slow"))
        .await;
    assert_eq!(begun.elapsed(), TIMEOUT);
}

#[tokio::test]
async fn long_notes_are_cut_between_characters() {
    let server = Server::default();
    // 1,023 bytes and then a character of two.
    let note = format!("{}{}", "x".repeat(1023), "é".repeat(100));
    server
        .recorder(&Clock::system())
        .publish(&database("orders"), notice(&note))
        .await;
    assert_eq!(server.told(), [("x".repeat(1023), 1)]);
}

#[rstest]
#[case::ordinary("orders", "orders.")]
#[case::no_subdomain("system:Auditor", "event.")]
#[case::nameless("", "event.")]
#[tokio::test]
async fn event_names_are_always_legal(#[case] object: &str, #[case] prefix: &str) {
    let recorder = Server::default().recorder(&Clock::system());
    assert!(recorder.event_name(object).starts_with(prefix));
    assert_ne!(recorder.event_name(object), recorder.event_name(object));
    let longest = recorder.event_name(&"a".repeat(253));
    assert!(longest.len() <= 253, "{longest}");
}

#[test]
fn a_series_ends_after_ten_quiet_minutes() {
    let mut book = Book::new(10);
    let minutes = Duration::from_mins;
    book.begin(
        "uid",
        Entry::new(notice("slow"), "first".to_owned(), false, minutes(0)),
    );
    assert!(
        book.repeat("uid", &notice("slow"), minutes(10))
            .is_some_and(|known| known.count == 2)
    );
    assert!(
        book.repeat("uid", &notice("slow"), minutes(20))
            .is_some_and(|known| known.count == 3)
    );
    assert!(book.repeat("uid", &notice("slow"), minutes(31)).is_none());
}

#[test]
fn memory_is_bounded_and_the_least_recent_go_first() {
    let mut book = Book::new(100);
    for number in 0..1000_u32 {
        let entry = Entry::new(
            notice("slow"),
            number.to_string(),
            false,
            Duration::from_millis(number.into()),
        );
        book.begin(&number.to_string(), entry);
        assert!(book.len() <= 100);
    }
    let now = Duration::from_secs(1);
    assert!(book.repeat("999", &notice("slow"), now).is_some());
    assert!(book.repeat("0", &notice("slow"), now).is_none());
}
