//! The operator that is measured, and what the benchmark asks of it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /passes` | the [`PassTime`]s since the last such request |
//! | `POST /resync/true` | every object is queued; passes call the backend, or not |
//! | `POST /bare/N` | nanoseconds of N calls of the backend without a pass around them |

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::{Path, State},
    routing::{get, post},
};
use bytes::Bytes;
use futures::{StreamExt as _, channel::mpsc, stream};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::ResourceExt as _;
use reconcile::{
    Class, Controller, Manager, ObjectKey, Pass, Progress, ReconcileError, Reconciler,
    cli::CommonArgs,
    conditions::{self, DesiredCondition, READY},
    error::ApiError,
    manager::{self, Options},
    telemetry,
};
use serde::Serialize;
use tokio::net::TcpListener;
use tracing_subscriber::{fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

use crate::{
    gadget::{self, CRD, FINALIZER, Gadget},
    pass_times::PassTimes,
};

/// The operator's name, in user agents and as its lease's.
pub(crate) const NAME: &str = "gadget-operator";
/// Passes, and bare calls of the backend, at a time: the framework's default.
pub(crate) const CONCURRENCY: usize = 4;

/// Arguments of `operate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Name of this process at the backend
    #[arg(long)]
    identity: String,
    /// URL of the backend
    #[arg(long)]
    backend: String,
    /// Where to listen for the benchmark's requests
    #[arg(long)]
    control: SocketAddr,
    /// Objects in the namespace
    #[arg(long)]
    objects: usize,
}

/// A client of the backend.
#[derive(Clone)]
struct Outside {
    client: Client<HttpConnector, Empty<Bytes>>,
    url: String,
    identity: String,
}

#[derive(Debug, thiserror::Error)]
enum GadgetError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the backend does not answer: {0}")]
    Backend(String),
}

impl ReconcileError for GadgetError {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) => error.class(),
            Self::Backend(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::Backend(_) => "BackendError",
        }
    }
}

impl Outside {
    async fn ask(&self, name: &str) -> Result<Bytes, GadgetError> {
        let failed = |error: &dyn std::fmt::Display| GadgetError::Backend(error.to_string());
        let request = Request::get(format!("{}/{}/{name}", self.url, self.identity));
        let request = request.body(Empty::new()).map_err(|error| failed(&error))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| failed(&error))?;
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| failed(&error))?;
        Ok(body.to_bytes())
    }
}

struct Gadgets {
    outside: Outside,
    calls_backend: Arc<AtomicBool>,
}

impl Reconciler for Gadgets {
    type Kind = Gadget;
    type Error = GadgetError;
    const NAME: &'static str = "gadget";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);

    async fn apply(&self, gadget: Arc<Gadget>, pass: &Pass<Gadget>) -> Result<Progress, GadgetError> {
        let name = gadget.name_any();
        if self.calls_backend.load(Ordering::Relaxed) {
            self.outside.ask(&name).await?;
        }
        let mut status = gadget.status.clone().unwrap_or_default();
        let generation = gadget.metadata.generation;
        status.observed_generation = generation;
        status.endpoint = Some(format!("{name}.databases.svc.cluster.local:3306"));
        for (type_, reason) in [
            (READY, "AllReady"),
            ("Provisioned", "VolumesBound"),
            ("Reachable", "Answers"),
        ] {
            let desired = DesiredCondition::new(type_, true, reason, format!("{name} is as specified"));
            let _ = conditions::set(&mut status.conditions, desired, generation, pass.clock().now());
        }
        pass.write_status(&status).await?;
        Ok(Progress::Settled)
    }
}

/// What the benchmark's requests act on.
#[derive(Clone)]
struct Control {
    passes: PassTimes,
    outside: Outside,
    calls_backend: Arc<AtomicBool>,
    wakes: mpsc::UnboundedSender<ObjectKey>,
    namespace: String,
    objects: usize,
}

/// Runs until SIGTERM.
pub(crate) async fn operate(args: Args) -> Result<()> {
    let passes = PassTimes::default();
    // As `telemetry::init` does it, and the observer of passes.
    let json = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false);
    let filter = telemetry::check(&args.common.log_filter())?;
    registry()
        .with(json.with_writer(std::io::stderr))
        .with(passes.clone())
        .with(filter)
        .try_init()?;

    let config = args.common.kube_config().await?;
    let mut options = Options::from_args(NAME, &args.common, &config);
    options.crds = vec![CRD.to_owned()];
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let outside = Outside {
        client: Client::builder(TokioExecutor::new()).build(connector),
        url: args.backend,
        identity: args.identity,
    };
    let calls_backend = Arc::new(AtomicBool::new(true));
    let (wakes, woken) = mpsc::unbounded();
    let control = Control {
        passes,
        outside: outside.clone(),
        calls_backend: Arc::clone(&calls_backend),
        wakes,
        namespace: args.common.namespace.clone(),
        objects: args.objects,
    };
    let listener = TcpListener::bind(args.control)
        .await
        .context("cannot listen for the benchmark")?;
    let listening = axum::serve(listener, routes(control));
    tokio::spawn(async move { listening.await });
    let controller = Controller::new(Gadgets {
        outside,
        calls_backend,
    })
    .concurrency(CONCURRENCY);
    let manager = Manager::new(options, config).register(controller.wakes(woken.boxed()));
    manager.run(manager::shutdown_signal()?).await?;
    Ok(())
}

fn routes(control: Control) -> Router {
    Router::new()
        .route(
            "/passes",
            get(async |State(control): State<Control>| json(&control.passes.take())),
        )
        .route("/resync/{io}", post(resync))
        .route("/bare/{calls}", post(bare))
        .with_state(control)
}

async fn resync(State(control): State<Control>, Path(io): Path<bool>) -> String {
    control.calls_backend.store(io, Ordering::Relaxed);
    let earlier = control.passes.take();
    for number in 0..control.objects {
        let key = ObjectKey::new(control.namespace.as_str(), gadget::name(number));
        // The receiver is gone only when the process ends.
        control.wakes.unbounded_send(key).ok();
    }
    json(&earlier)
}

async fn bare(State(control): State<Control>, Path(calls): Path<usize>) -> String {
    let outside = &control.outside;
    let call = async |number: usize| {
        let began = Instant::now();
        let answer = outside.ask(&gadget::name(number)).await;
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        answer.ok().map(|_| took)
    };
    let calls = stream::iter(0..calls).map(call).buffer_unordered(CONCURRENCY);
    json(&calls.filter_map(async |took| took).collect::<Vec<u64>>().await)
}

/// Nothing, which no one can take for an answer, if it cannot be written as JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
