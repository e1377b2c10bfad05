//! The HTTP server: one thread, one runtime, one world.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use reconcile::clock::Clock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use crate::{
    account::Account,
    audit::{Call, Outcome},
    authority::Caller,
    error::{ApiError, message_of},
    faults::{Effect, Faults},
    query::Params,
    world::{Limits, Timings, World},
};

/// How a server is set up.
#[derive(Clone)]
pub struct Options {
    /// What the account holds.
    pub account: Account,
    /// How long things take.
    pub timings: Timings,
    /// Whether request rates are enforced.
    pub limits: Limits,
    /// What goes wrong.
    pub faults: Faults,
    /// The clock of everything.
    pub clock: Clock,
    /// Ids and lags follow from it.
    pub seed: u64,
    /// Where to listen; port 0 for a free one.
    pub listen: SocketAddr,
}

impl Default for Options {
    /// The default account on the real clock, on a free loopback port.
    fn default() -> Self {
        Self {
            account: Account::default(),
            timings: Timings::default(),
            limits: Limits::default(),
            faults: Faults::default(),
            clock: Clock::system(),
            seed: 0,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve EC2 at {address}: {source}")]
pub struct StartError {
    /// Where it was to listen.
    address: SocketAddr,
    /// Why.
    source: io::Error,
}

/// A running server. It ends when dropped.
pub struct FakeEc2 {
    world: World,
    address: SocketAddr,
    /// Its end ends the server.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FakeEc2 {
    /// Starts a server. Returns when it listens.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let address = options.listen;
        let failed = |source| StartError { address, source };
        let world = World::new(options);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, started) = mpsc::channel();
        let serving = world.clone();
        let serve = move || {
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await;
                match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                    Err(error) => drop(listening.send(Err(error))),
                    Ok((bound, listener)) => {
                        drop(listening.send(Ok(bound)));
                        tokio::select! {
                            () = accept(listener, serving) => {}
                            _ = stopped => {}
                        }
                    }
                }
            });
        };
        let thread = thread::Builder::new()
            .name("fake-ec2".into())
            .spawn(serve)
            .map_err(failed)?;
        let gone = || io::Error::other("its thread ended");
        let address = started.recv().map_err(|_| failed(gone()))?.map_err(failed)?;
        Ok(Self {
            world,
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for an SDK's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The world behind it.
    pub fn world(&self) -> &World {
        &self.world
    }
}

impl Drop for FakeEc2 {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ended by a panic that was printed already; there is nothing to add.
            thread.join().ok();
        }
    }
}

async fn accept(listener: TcpListener, world: World) {
    let requests = Arc::new(AtomicU64::new(0));
    // Dropped with this future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, world.clone(), requests.clone())); }
                // Out of descriptors: one is freed when a connection ends.
                Err(_) => { connections.join_next().await; }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, world: World, requests: Arc<AtomicU64>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| exchange(request, world.clone(), requests.clone()));
    // An error means that a fault broke the connection, or that the client went away.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

/// The connection is to be broken.
#[derive(Debug, thiserror::Error)]
#[error("the connection was broken on purpose")]
struct Broken;

async fn exchange(
    request: Request<Incoming>,
    world: World,
    requests: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let params = if body.is_empty() {
        Params::parse(parts.uri.query().unwrap_or_default().as_bytes())
    } else {
        Params::parse(&body)
    };
    let caller = Caller::of(&parts.headers);
    let id = format!(
        "00000000-0000-4000-8000-{:012x}",
        requests.fetch_add(1, Ordering::Relaxed)
    );
    handle(&world, caller, params, &id).await
}

async fn handle(
    world: &World,
    caller: Result<Caller, ApiError>,
    params: Params,
    id: &str,
) -> Result<Response<Full<Bytes>>, Broken> {
    let action = params.text("Action").unwrap_or_default().to_owned();
    let effect = world.estate.lock().faults.next(&action);
    if let Some(Effect::Delay(delay)) = effect {
        world.clock.sleep(delay).await;
    }
    let skipped = match &effect {
        Some(Effect::Refuse | Effect::Hang) => Some(Outcome::Broken),
        Some(Effect::Error { code, applied: false }) => Some(Outcome::Refused(code.clone())),
        _ => None,
    };
    let result = match (skipped.is_some(), &caller) {
        (true, _) => Ok((String::new(), false)),
        (false, Ok(caller)) => world.call(caller, &params, id),
        (false, Err(error)) => Err(error.clone()),
    };
    let outcome = skipped.unwrap_or_else(|| match (&effect, &result) {
        (Some(Effect::Lose), _) => Outcome::Lost,
        (Some(Effect::Error { code, .. }), _) => Outcome::Refused(code.clone()),
        (_, Err(error)) => Outcome::Refused(error.code.to_string()),
        (_, Ok(_)) => Outcome::Answered,
    });
    let effective = matches!(result, Ok((_, true)));
    record(world, &caller, &params, (outcome, effective));
    match effect {
        Some(Effect::Refuse | Effect::Lose) => Err(Broken),
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::Error { code, .. }) => {
            let message = message_of(&code);
            Ok(respond(Err(ApiError::new(code, message)), id))
        }
        Some(Effect::Delay(_)) | None => Ok(respond(result.map(|(body, _)| body), id)),
    }
}

impl World {
    /// Carries out one call without a server in between, and without the scripted faults: the caller has its own.
    /// The answer is the body that a server would have sent.
    pub fn ask(&self, region: &str, action: &str, params: &[(&str, &str)]) -> Result<String, ApiError> {
        let caller = Caller {
            access_key: "SIMULATION".to_owned(),
            region: region.to_owned(),
        };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).extend_pairs(params);
        let params = Params::parse(form.finish().as_bytes());
        let result = self.call(&caller, &params, "simulated");
        let outcome = match &result {
            Ok(_) => Outcome::Answered,
            Err(error) => Outcome::Refused(error.code.to_string()),
        };
        let effective = matches!(result, Ok((_, true)));
        record(self, &Ok(caller), &params, (outcome, effective));
        result.map(|(body, _)| body)
    }
}

fn record(world: &World, caller: &Result<Caller, ApiError>, params: &Params, end: (Outcome, bool)) {
    let mut all = params.all().clone();
    all.remove("Version");
    let action = all.remove("Action").unwrap_or_default();
    let caller = caller.as_ref().ok();
    let call = Call {
        at: world.clock.elapsed(),
        action,
        region: caller.map(|caller| caller.region.clone()).unwrap_or_default(),
        access_key: caller.map(|caller| caller.access_key.clone()).unwrap_or_default(),
        params: all,
        outcome: end.0,
        effective: end.1,
    };
    world.estate.lock().audit.push(call);
}

fn respond(result: Result<String, ApiError>, id: &str) -> Response<Full<Bytes>> {
    let (status, body) = match result {
        Ok(body) => (200, body),
        Err(error) => (error.status(), error.body(id)),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST);
    let xml = http::HeaderValue::from_static("text/xml;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    response
}
