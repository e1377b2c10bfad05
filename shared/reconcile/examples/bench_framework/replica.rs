//! An operator's process, seen from the benchmark, and the bed that it runs in.

use std::{
    env,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;
use testkit::{
    bench::{Exposition, Usage},
    control_plane::{ControlPlane, Options},
    process::{ScratchFolder, Supervised, free_address},
};

use crate::{backend::Backend, gadget, pass_times::PassTime};

/// How long anything that a replica is asked to do may take.
const DEADLINE: Duration = Duration::from_mins(10);
/// How often a condition is looked at.
/// Seldom enough that scrapes of `/metrics` cost an operator next to nothing.
const POLL: Duration = Duration::from_millis(100);
/// How long a replica may take to end on SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

/// The control plane, the backend, and a folder for logs.
pub(crate) struct Bed {
    pub(crate) plane: ControlPlane,
    pub(crate) backend: Backend,
    folder: ScratchFolder,
}

impl Bed {
    /// Starts everything that operators need.
    pub(crate) async fn start() -> Result<Self> {
        let options = Options {
            without_controllers: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await?;
        plane.apply_crds(&[gadget::crd()]).await?;
        Ok(Self {
            plane,
            backend: Backend::start()?,
            folder: ScratchFolder::create("bench-framework")?,
        })
    }
}

/// A running operator; killed when dropped.
pub(crate) struct Replica {
    pub(crate) identity: String,
    /// When it was started.
    pub(crate) started: SystemTime,
    process: Supervised,
    http: Client<HttpConnector, Empty<Bytes>>,
    control: SocketAddr,
    metrics: SocketAddr,
}

impl Replica {
    /// Starts an operator for the `objects` gadgets of a namespace, with further flags.
    pub(crate) fn start(
        bed: &Bed,
        identity: &str,
        namespace: &str,
        objects: usize,
        flags: &[&str],
    ) -> Result<Self> {
        let (control, metrics) = (free_address()?, free_address()?);
        let mut command = Command::new(env::current_exe().context("cannot find this program")?);
        command
            .arg("operate")
            .args(["--identity", identity, "--namespace", namespace])
            .args(["--objects", &objects.to_string(), "--backend", &bed.backend.url()])
            .args([
                "--control",
                &control.to_string(),
                "--metrics-bind-address",
                &metrics.to_string(),
            ])
            .args(["--health-probe-bind-address", "0"])
            .arg("--kubeconfig")
            .arg(bed.plane.kubeconfig_path())
            .args(flags);
        let log = bed.folder.path().join(format!("{identity}.log"));
        let started = SystemTime::now();
        let process = Supervised::spawn(identity, &command, &log)?;
        let http = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self {
            identity: identity.to_owned(),
            started,
            process,
            http,
            control,
            metrics,
        })
    }

    /// What it uses now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> Result<Exposition> {
        Exposition::scrape(self.metrics).await
    }

    /// The passes since the last call.
    pub(crate) async fn passes(&self) -> Result<Vec<PassTime>> {
        self.ask(Method::GET, "/passes").await
    }

    /// Queues every object; forgets the passes before.
    pub(crate) async fn resync(&self, io: bool) -> Result<()> {
        let _: Vec<PassTime> = self.ask(Method::POST, &format!("/resync/{io}")).await?;
        Ok(())
    }

    /// Nanoseconds of this many calls of the backend from inside the operator, without passes.
    pub(crate) async fn bare_calls(&self, calls: usize) -> Result<Vec<u64>> {
        self.ask(Method::POST, &format!("/bare/{calls}")).await
    }

    /// Passes that ended since the process began.
    pub(crate) async fn passes_ended(&self) -> Result<f64> {
        Ok(self
            .metrics()
            .await?
            .sum("controller_runtime_reconcile_total", &[]))
    }

    /// Waits until this many passes have ended since the process began.
    pub(crate) async fn until_ended(&mut self, passes: f64) -> Result<()> {
        self.until("passes end", async |replica| {
            Ok(replica.passes_ended().await? >= passes)
        })
        .await
    }

    /// Waits until `holds`. While the process does not listen yet, nothing holds.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.process.check()?;
            match holds(self).await {
                Ok(true) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Ok(false) if Instant::now() > deadline => {
                    bail!("{}: not within {DEADLINE:?}: {what}", self.identity)
                }
                Ok(false) | Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub(crate) async fn terminate(mut self) -> Result<()> {
        Ok(tokio::task::spawn_blocking(move || self.process.stop(GRACE)).await?)
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(tokio::task::spawn_blocking(move || self.process.kill()).await?)
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        Ok(serde_json::from_slice(&self.request(method, path).await?)?)
    }

    async fn request(&self, method: Method, path: &str) -> Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.control));
        let response = self.http.request(request.body(Empty::new())?).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }
}
