//! The outside world behind each pass: answers after one millisecond, and remembers who asked when.

use std::{
    convert::Infallible,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use testkit::fault::proxy::Served;
use tokio::sync::oneshot;

/// How long a request takes.
pub(crate) const LATENCY: Duration = Duration::from_millis(1);

/// A running backend.
pub(crate) struct Backend {
    served: Served,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it arrived.
    pub(crate) at: Instant,
    /// The operator that asked: the first part of the path.
    pub(crate) operator: String,
}

impl Backend {
    /// Starts it on a loopback port.
    pub(crate) fn start() -> Result<Self> {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (log, alarm) = (Arc::clone(&calls), Alarm::start()?);
        let served = Served::start("backend", |listener| async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).ok();
                let (log, alarm) = (Arc::clone(&log), alarm.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, &log, &alarm));
                    // An operator that is killed breaks its connections.
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        })?;
        Ok(Self { served, calls })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.served.address())
    }

    /// Forgets all requests.
    pub(crate) fn forget(&self) {
        self.calls.lock().clear();
    }

    /// When this operator first asked, of the requests not forgotten.
    pub(crate) fn first_of(&self, operator: &str) -> Option<Instant> {
        self.calls
            .lock()
            .iter()
            .find(|call| call.operator == operator)
            .map(|call| call.at)
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: &Mutex<Vec<Call>>,
    alarm: &Alarm,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    let operator = request
        .uri()
        .path()
        .split('/')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    calls.lock().push(Call { at, operator });
    alarm.wait_until(at + LATENCY).await;
    Ok(Response::new(Full::new(Bytes::from_static(b"running"))))
}

/// Wakes after a fraction of a millisecond, where the runtime's timers only know whole ones: a thread that sleeps.
#[derive(Clone)]
struct Alarm(mpsc::Sender<(Instant, oneshot::Sender<()>)>);

impl Alarm {
    fn start() -> Result<Self> {
        let (set, due) = mpsc::channel::<(Instant, oneshot::Sender<()>)>();
        // All waits are equally long: what comes first is due first.
        thread::Builder::new().name("alarm".to_owned()).spawn(move || {
            for (at, wake) in due {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                wake.send(()).ok();
            }
        })?;
        Ok(Self(set))
    }

    async fn wait_until(&self, at: Instant) {
        let (wake, woken) = oneshot::channel();
        if self.0.send((at, wake)).is_ok() {
            woken.await.ok();
        }
    }
}
