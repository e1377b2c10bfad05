//! A real control plane without nodes: etcd, kube-apiserver and kube-controller-manager as processes on loopback.
//!
//! It is what a controller sees of Kubernetes: CRDs with CEL, server-side apply, watches, admission, RBAC, leases,
//! garbage collection, namespaces, jobs. Nothing schedules or runs pods.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use testkit::control_plane::ControlPlane;
//!
//! let plane = ControlPlane::shared().await?;
//! let namespace = plane.namespace().await?;
//! // … create objects in namespace.name() through plane.client() …
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! - The processes and the folder are gone when the value is dropped, and soon after this process ends in any other
//!   way, SIGKILL included (see [`crate::process`]).
//! - Ports are free ones on 127.0.0.1; any number of control planes run side by side.
//! - Every request is in [`ControlPlane::audit`], once, when it has been answered.
//!
//! # Assumptions
//! - The store does not flush to disk: a power failure loses it, a killed process does not.
//! - The garbage collector learns of a new CRD within 30 s (its own resync); an owner of a kind that is younger may
//!   keep its children for as long.

mod definitions;
mod error;
mod kubeconfig;
mod namespace;
mod pki;
mod processes;
mod servers;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, Config};
use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::Instant};

pub use error::ControlPlaneError;
use error::{during, requesting};
pub use namespace::TestNamespace;
pub use pki::{Pair, PkiError};
use processes::{Owned, Programs, port, write_files};
use servers::Ports;

use crate::{
    audit::AuditLog,
    process::{ProcessError, ScratchFolder, Supervised},
    tools::{self, Tool},
};

/// The environment variable that names the kubeconfig of a control plane to attach to.
pub const KUBECONFIG_VARIABLE: &str = "TESTKIT_KUBECONFIG";
/// The environment variable that names the audit log of that control plane.
pub const AUDIT_LOG_VARIABLE: &str = "TESTKIT_AUDIT_LOG";

/// How long a control plane may take to become ready.
const READY_DEADLINE: Duration = Duration::from_mins(1);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How often a start is tried with other ports when a process ends at once.
const ATTEMPTS: usize = 3;
/// The user of [`ControlPlane::client`].
pub const ADMIN: &str = "test-admin";

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// What a control plane is to be like. The default is right for nearly every test.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments of kube-apiserver, for instance `--feature-gates=…`.
    pub apiserver_args: Vec<String>,
    /// Leaves kube-controller-manager out: nothing is collected, no namespace that is deleted ever goes away.
    pub without_controllers: bool,
    /// Where everything is kept; the folder must not exist and is removed at the end. By default a new one below
    /// the system's temporary folder.
    pub folder: Option<PathBuf>,
}

/// A running control plane, ours or one that was attached to.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig: PathBuf,
    config: Config,
    audit: AuditLog,
    owned: Option<Owned>,
    /// What this process has applied of CRDs, by name: a digest, and the generation that came of it.
    applied: Mutex<HashMap<String, (u64, Option<i64>)>>,
}

impl ControlPlane {
    /// Starts one of the caller's own; returns when it is ready, which takes about four seconds. What must be built
    /// first is built.
    pub async fn start(options: Options) -> Result<Self, ControlPlaneError> {
        let paths =
            tools::ensure_async(&[Tool::Etcd, Tool::KubeApiserver, Tool::KubeControllerManager]).await?;
        let Ok([etcd, apiserver, controller_manager]) = <[PathBuf; 3]>::try_from(paths) else {
            return Err(ControlPlaneError::NotOurs("find its programs"));
        };
        let programs = Programs {
            etcd,
            apiserver,
            controller_manager,
        };
        let mut attempt = 1;
        loop {
            match Self::start_once(&programs, &options).await {
                // The usual reason is a port that somebody else took first.
                Err(ControlPlaneError::Process(ProcessError::Ended { .. })) if attempt < ATTEMPTS => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn start_once(programs: &Programs, options: &Options) -> Result<Self, ControlPlaneError> {
        let folder = match &options.folder {
            Some(path) => ScratchFolder::adopt(path.clone()),
            None => ScratchFolder::create("testkit-control-plane"),
        }
        .map_err(during("make its folder"))?;
        let ports = Ports {
            etcd: port()?,
            peers: port()?,
            apiserver: port()?,
        };
        let kubeconfig = write_files(folder.path(), ports)?;
        let config = read_config(&kubeconfig).await?;
        let owned = Owned::spawn(programs, options, folder, ports)?;
        let audit = AuditLog::at(owned.folder.path().join("audit.log"));
        let plane = Self {
            kubeconfig,
            config,
            audit,
            owned: Some(owned),
            applied: Mutex::default(),
        };
        plane.wait_until_ready().await?;
        if !options.without_controllers {
            plane.start_controllers()?;
            plane.wait_for_controllers().await?;
        }
        Ok(plane)
    }

    /// The one of this test run: the one that the environment names ([`KUBECONFIG_VARIABLE`],
    /// [`AUDIT_LOG_VARIABLE`]), else one per process, started by whoever asks first. Tests that change
    /// cluster-scoped things which others see start their own.
    pub async fn shared() -> Result<&'static Self, ControlPlaneError> {
        SHARED
            .get_or_try_init(|| async {
                match (
                    std::env::var_os(KUBECONFIG_VARIABLE),
                    std::env::var_os(AUDIT_LOG_VARIABLE),
                ) {
                    (Some(kubeconfig), Some(log)) => Self::attach(kubeconfig.into(), log.into()).await,
                    _ => Self::start(Options::default()).await,
                }
            })
            .await
    }

    /// Uses a control plane that somebody else runs and ends.
    pub async fn attach(kubeconfig: PathBuf, audit_log: PathBuf) -> Result<Self, ControlPlaneError> {
        let config = read_config(&kubeconfig).await?;
        Ok(Self {
            kubeconfig,
            config,
            audit: AuditLog::at(audit_log),
            owned: None,
            applied: Mutex::default(),
        })
    }

    /// A client that may do everything. It belongs to the current runtime: make one per test.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn client(&self) -> Client {
        make_client(self.config.clone())
    }

    /// A client that acts for `user` in `groups`, with only the rights that RBAC gives them.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        config.auth_info.impersonate_groups = (!groups.is_empty()).then_some(groups);
        make_client(config)
    }

    /// The configuration of [`ControlPlane::client`], for a client with layers of the caller's own.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kubeconfig of an administrator, with everything inline.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// What the API server was asked.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// A new namespace with a name of its own. It stays as long as the control plane.
    pub async fn namespace(&self) -> Result<TestNamespace, ControlPlaneError> {
        TestNamespace::create(&self.config, "test").await
    }

    /// Kills the API server, as a crash would. Requests fail until [`ControlPlane::start_apiserver`].
    pub fn stop_apiserver(&self) -> Result<(), ControlPlaneError> {
        let owned = self
            .owned
            .as_ref()
            .ok_or(ControlPlaneError::NotOurs("stop the API server"))?;
        owned.apiserver.lock().kill();
        Ok(())
    }

    /// Starts the API server again, on the same port and with the same data; returns when it is ready.
    pub async fn start_apiserver(&self) -> Result<(), ControlPlaneError> {
        let owned = self
            .owned
            .as_ref()
            .ok_or(ControlPlaneError::NotOurs("start the API server"))?;
        let started = owned.spawn_apiserver()?;
        *owned.apiserver.lock() = started;
        self.wait_until_ready().await
    }

    /// [`ControlPlane::stop_apiserver`], then [`ControlPlane::start_apiserver`].
    pub async fn restart_apiserver(&self) -> Result<(), ControlPlaneError> {
        self.stop_apiserver()?;
        self.start_apiserver().await
    }

    /// Ends the processes and removes the folder; dropping the value does the same.
    pub fn stop(self) {}

    fn start_controllers(&self) -> Result<(), ControlPlaneError> {
        if let Some(owned) = &self.owned {
            let folder = owned.folder.path();
            let command = servers::controller_manager(&owned.programs.controller_manager, folder);
            let log = folder.join("kube-controller-manager.log");
            let process = Supervised::spawn("kube-controller-manager", &command, &log)?;
            *owned.controller_manager.lock() = Some(process);
        }
        Ok(())
    }

    async fn wait_until_ready(&self) -> Result<(), ControlPlaneError> {
        let client = self.client();
        self.wait(READY_DEADLINE, "the API server is ready", async || {
            let request = http::Request::get("/readyz")
                .body(Vec::new())
                .map_err(kube::Error::HttpError)?;
            Ok(client.request_text(request).await.is_ok())
        })
        .await
    }

    /// The controllers run once they have given the first namespace its service account.
    async fn wait_for_controllers(&self) -> Result<(), ControlPlaneError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        self.wait(READY_DEADLINE, "the controllers run", async || {
            Ok(accounts.get_opt("default").await?.is_some())
        })
        .await
    }

    async fn wait(
        &self,
        limit: Duration,
        what: &str,
        mut holds: impl AsyncFnMut() -> Result<bool, kube::Error>,
    ) -> Result<(), ControlPlaneError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(owned) = &self.owned {
                owned.check()?;
            }
            if holds().await.map_err(requesting(what.to_owned()))? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let folder = self.kubeconfig.parent().unwrap_or(&self.kubeconfig).to_owned();
                return Err(ControlPlaneError::Deadline {
                    what: what.to_owned(),
                    after: limit,
                    folder,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The ids of the processes: etcd, kube-apiserver, kube-controller-manager. Empty when they are not ours.
    pub fn process_ids(&self) -> Vec<u32> {
        self.owned.as_ref().map_or_else(Vec::new, |owned| {
            let first = [owned.etcd.lock().id(), owned.apiserver.lock().id()];
            first
                .into_iter()
                .chain(owned.controller_manager.lock().as_ref().map(Supervised::id))
                .collect()
        })
    }
}

pub(crate) async fn read_config(path: &Path) -> Result<Config, ControlPlaneError> {
    kubeconfig::read(path)
        .await
        .map_err(|source| ControlPlaneError::Kubeconfig {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

#[expect(
    clippy::expect_used,
    reason = "the configuration was read and checked when the control plane started"
)]
pub(crate) fn make_client(config: Config) -> Client {
    Client::try_from(config).expect("a configuration made by the test bed is valid")
}
