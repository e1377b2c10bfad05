//! The process: controllers, probes, metrics, lease and signals under one roof.
//!
//! # Expected flow
//! 1. Metrics and probes are served. `/healthz` is well from here on.
//! 2. The CRDs are waited for, never created: a missing one keeps the replica unready and is named in the log.
//! 3. Watches start, on every replica. `/readyz` is well when every first list is in, whatever the leadership.
//! 4. With leader election: a replica that is ready becomes a candidate, and when the lease is ours and no other
//!    installation of the operator acts on the same objects, passes and tasks begin. Without: at once.
//! 5. On SIGTERM or SIGINT no pass begins; those under way and all tasks are awaited, at most for the drain timeout;
//!    then the lease is released, so that another replica takes over within a second, and [`Manager::run`] returns.
//!
//! # Guarantees
//! - A replica that is not ready leaves the lease to those that are.
//! - When the lease is lost, [`Manager::run`] returns an error at once, without draining: another replica may be
//!   acting already. The caller must end the process.
//! - Of two installations of one operator that serve some of the same objects, each with a lease of its own, one acts: the
//!   other is not ready, and its log, an event about its lease and `/readyz` name the one that it waits for.
//! - The lease is released only after the last pass and task have ended, or is left to expire.
//!
//! # Errors
//! [`ManagerError`]: an address in use, a bad leader election configuration, a lost lease, another installation, a
//! controller that died.

mod term;

use std::{sync::Arc, time::Duration};

use kube::Config;
use parking_lot::Mutex;
use tokio::{signal::unix, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::term::Term;
use crate::{
    background::{self, Background},
    cli::CommonArgs,
    client::{self, ClientOptions, WireLayer},
    clock::Clock,
    controller::{Controller, Environment, Runnable},
    crd,
    fence::LeaseLost,
    leader::LeaderConfig,
    metrics::Metrics,
    queue::Queue,
    reconciler::Reconciler,
    server::{self, Readiness},
};

/// How the process runs; usually made from [`crate::cli::CommonArgs`].
#[derive(Clone)]
pub struct Options {
    /// The operator's name: user agent, default name of the lease, and by what its installations find one another, so at
    /// most 63 characters that a label's value may have.
    pub name: &'static str,
    /// Name of this process in events.
    pub instance: String,
    /// Namespaces to serve; empty for all.
    pub namespaces: Vec<String>,
    /// Of the objects there, which part is served, if it is not all of them: two installations with different parts
    /// serve no object both.
    pub shard: Option<String>,
    /// The namespaces in which leases of other installations count; empty for all.
    pub installations_in: Vec<String>,
    /// The lease to hold while acting; none means that this is the only replica.
    pub leader_election: Option<LeaderConfig>,
    /// Address of `/metrics` (`:8080`); `0` for none.
    pub metrics_address: String,
    /// Address of `/healthz` and `/readyz` (`:8081`); `0` for none.
    pub probe_address: String,
    /// Time between resyncs of every object; zero for none.
    pub sync_period: Duration,
    /// How long passes and tasks may take to end, in real time.
    pub drain_timeout: Duration,
    /// Names (`plural.group`) of the CRDs to wait for.
    pub crds: Vec<String>,
    /// Requests per second to the API server, sustained.
    pub qps: f32,
    /// Requests to the API server that may be sent at once.
    pub burst: u32,
    /// The clock of everything but the lease.
    pub clock: Clock,
    /// A layer closest to the wire of the API client: where tests inject faults.
    pub wire: Option<WireLayer>,
}

impl Options {
    /// The defaults, for the operator `name`: all namespaces, no leader election, nothing served.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            instance: name.to_owned(),
            namespaces: Vec::new(),
            shard: None,
            installations_in: Vec::new(),
            leader_election: None,
            metrics_address: "0".into(),
            probe_address: "0".into(),
            sync_period: Duration::from_mins(10),
            drain_timeout: Duration::from_secs(30),
            crds: Vec::new(),
            qps: 100.0,
            burst: 200,
            clock: Clock::system(),
            wire: None,
        }
    }
}

impl Options {
    /// The options that the flags of an operator's process ask for; `config` lends its default namespace to the lease.
    ///
    /// In events the process is called as in the lease: by its host's name, which in a pod is the pod's, and a suffix
    /// of its own.
    pub fn from_args(name: &'static str, args: &CommonArgs, config: &Config) -> Self {
        Self {
            instance: crate::leader::process_identity(),
            namespaces: args.namespaces(),
            installations_in: args.installations_in(),
            leader_election: args.election(name, &config.default_namespace),
            metrics_address: args.metrics_bind_address.to_string(),
            probe_address: args.health_probe_bind_address.to_string(),
            sync_period: args.sync_period,
            drain_timeout: args.graceful_shutdown_timeout,
            qps: args.kube_api_qps,
            burst: args.kube_api_burst,
            ..Self::new(name)
        }
    }
}

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The API client cannot be built from the kubeconfig.
    #[error("failed to build the Kubernetes client")]
    Client(#[from] client::Error),
    /// A server cannot listen.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// Leader election is misconfigured.
    #[error("failed to start leader election")]
    Election(#[from] crate::leader::Error),
    /// The lease was lost: the process must end at once.
    #[error("another replica may be acting, so this process must end")]
    LeaseLost(#[from] LeaseLost),
    /// A controller ended although nobody asked it to.
    #[error("controller {0} ended unexpectedly")]
    ControllerDied(String),
    /// Passes or tasks did not end in time.
    #[error("passes or tasks still ran {0:?} after the shutdown began")]
    DrainTimeout(Duration),
}

/// Runs controllers. See the [module's documentation](self).
pub struct Manager {
    options: Options,
    config: Config,
    metrics: Metrics,
    controllers: Vec<Box<dyn Runnable>>,
    background: Vec<(&'static str, background::Work)>,
}

impl Manager {
    /// A manager of no controllers yet, for the cluster of `config`.
    pub fn new(options: Options, config: Config) -> Self {
        Self {
            options,
            config,
            metrics: Metrics::new(),
            controllers: Vec::new(),
            background: Vec::new(),
        }
    }

    /// The metrics that `/metrics` serves; operators register their own here.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds a controller.
    #[must_use]
    pub fn register<R: Reconciler>(mut self, controller: Controller<R>) -> Self {
        self.controllers.push(Box::new(controller));
        self
    }

    /// Adds work that is of no object's, under this name. See [`crate::background`].
    #[must_use]
    pub fn background<F>(
        mut self,
        name: &'static str,
        work: impl FnOnce(Background) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.background
            .push((name, Box::new(|given| Box::pin(work(given)))));
        self
    }

    /// Runs until `shutdown` fires (see [`shutdown_signal`]) and everything has ended.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        let Self {
            options,
            config,
            metrics,
            controllers,
            background: works,
        } = self;
        // Every gate stands before the first probe can be answered.
        let readiness = Readiness::new();
        let crds = readiness.gate("crds");
        let caches: Vec<_> = controllers
            .iter()
            .map(|controller| readiness.gate(&format!("cache-{}", controller.name())))
            .collect();
        let serving = CancellationToken::new();
        let stop_serving = serving.clone().drop_guard();
        let scrape: Arc<Mutex<Vec<Queue>>> = Arc::default();
        server::serve(
            &options.probe_address,
            server::probes(readiness.clone()),
            serving.clone(),
        )
        .await?;
        let on_scrape = scrape.clone();
        let exposition = server::metrics(metrics.clone(), move || {
            on_scrape.lock().iter().for_each(Queue::observe);
        });
        server::serve(&options.metrics_address, exposition, serving).await?;

        let client_options = ClientOptions {
            qps: options.qps,
            burst: options.burst,
            metrics: metrics.clone(),
            clock: options.clock.clone(),
            wire: options.wire.clone(),
            ..ClientOptions::new(options.name)
        };
        let term = Term::stand_by(&options, &config, client_options.clone(), &readiness).await?;
        let fence = term.fence();
        let client = client::build(
            config,
            ClientOptions {
                fence: fence.clone(),
                ..client_options
            },
        )?;

        tokio::select! {
            () = crd::wait_established(&client, &options.crds, &options.clock) => crds.open(),
            () = shutdown.cancelled() => return term.finish().await,
        }

        let stop = CancellationToken::new();
        let elected = CancellationToken::new();
        let mut running = JoinSet::new();
        for (controller, cache) in controllers.into_iter().zip(caches) {
            let name = controller.name();
            let environment = Environment {
                client: client.clone(),
                clock: options.clock.clone(),
                fence: fence.clone(),
                metrics: metrics.clone(),
                instance: options.instance.clone(),
                namespaces: options.namespaces.clone(),
                sync_period: options.sync_period,
                elected: elected.clone(),
                shutdown: stop.clone(),
                synced: Box::new(move || cache.open()),
                scrape: scrape.clone(),
            };
            running.spawn(async move {
                controller.run(environment).await;
                name
            });
        }
        for (name, work) in works {
            let given = Background {
                client: client.clone(),
                clock: options.clock.clone(),
                fence: fence.clone(),
                instance: options.instance.clone(),
                namespaces: options.namespaces.clone(),
            };
            let acting = background::run(async { work(given).await }, elected.clone(), stop.clone());
            running.spawn(async move {
                acting.await;
                name
            });
        }
        term.watch_over(&client, &mut running, &elected, &shutdown)
            .await?;

        info!("Draining");
        stop.cancel();
        let finished = term.wind_up(running, options.drain_timeout).await;
        drop(stop_serving);
        finished
    }
}

/// A token that fires on the first SIGTERM or SIGINT. A second signal ends the process at once, with status 130.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn shutdown_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        for count in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if count > 0 {
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(shutdown)
}
