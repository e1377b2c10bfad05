//! A real Kubernetes cluster in Docker containers, from nothing: kubeadm, kubelet, kube-proxy, CoreDNS, a pod
//! network across nodes, a default StorageClass.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use testkit::cluster::{Cluster, Spec};
//!
//! let cluster = Cluster::ephemeral(Spec { nodes: 2, ..Spec::default() }).await?;
//! cluster.load_image("my/operator:dev").await?;
//! let client = cluster.client();
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! - An [`Cluster::ephemeral`] cluster is gone when its value is dropped and soon after its process has ended in any
//!   other way, SIGKILL included; should even that fail, the next run removes it ([`sweep`]).
//! - [`Cluster::create`] killed at any point and run again makes a whole cluster: what is not marked as whole is
//!   removed and made again.
//! - [`Cluster::delete`] leaves no container, volume, network or kubeconfig of the cluster behind (an empty lock file
//!   stays), and removes nothing that does not carry its label.
//! - A container of somebody else that has the name of a node is never touched: the cluster is refused.
//!
//! # What a cluster has
//! - Pods on several nodes reach one another by their own addresses; services by kube-proxy; names by CoreDNS.
//! - The default StorageClass `standard` provisions at once, for every user, and its volumes are the same on all
//!   nodes.
//! - The host's Docker socket is at `/var/run/docker.sock` of every node, for pods that mount it.
//! - The API server's address is 127.0.0.1 with a port that stays.

mod error;
pub mod installation;
mod kubeadm;
mod layout;
mod limit;
mod node;
mod setup;
pub mod sweep;

use std::{
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
};

pub use error::ClusterError;
use kube::{Client, Config};
pub(crate) use kubeadm::manifests as pod_network;
use layout::Layout;
use setup::Setup;
use tokio::{process::Command, sync::OnceCell};

use crate::{
    control_plane::{make_client, read_config},
    docker::{Docker, DockerError},
    process::Janitor,
    tools::blocking,
};

/// The environment variable that names a cluster for [`Cluster::shared`] to use.
pub const CLUSTER_VARIABLE: &str = "TESTKIT_CLUSTER";
/// The name where none is given.
pub const DEFAULT_NAME: &str = "operators";
/// The most nodes of a cluster.
const MOST_NODES: u16 = 20;
/// For how many seconds nothing more must turn up after a process was killed that may have been creating something.
const SETTLE_SECONDS: &str = "3";
const DELETE: &str = include_str!("cluster/delete.sh");

static SHARED: OnceCell<Cluster> = OnceCell::const_new();

/// What a cluster is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, [`DEFAULT_NAME`] by default. An ephemeral cluster's name only starts with it.
    pub name: String,
    /// How many nodes, 1 by default. The first is the control plane, which runs pods only when it is alone.
    pub nodes: u16,
    /// Images of the local Docker to copy into every node.
    pub load: Vec<String>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            nodes: 1,
            load: Vec::new(),
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    setup: Setup,
    nodes: u16,
    kubeconfig: PathBuf,
    config: Config,
    /// Only of an ephemeral one.
    _held: Option<Held>,
}

/// What ends a cluster with its value. In this order: the objects go first, then the claim to them.
#[derive(Debug)]
struct Held {
    _janitor: Janitor,
    _claim: File,
}

impl Cluster {
    /// Makes a cluster that stays until it is deleted; one of that name that is whole and like `spec` is used as it
    /// is, one that never became whole is made again.
    pub async fn create(spec: &Spec) -> Result<Self, ClusterError> {
        check(spec)?;
        let layout = Layout::new(&spec.name)?;
        let docker = Docker::connect().await?;
        sweep::sweep(&docker).await?;
        let _claim = claim(&layout).await?;
        let setup = Setup::new(&docker, layout, false);
        setup.refuse_foreign(spec.nodes).await?;
        match setup.marker().await? {
            Some(marker) if marker.nodes != spec.nodes => {
                return Err(ClusterError::Different {
                    name: spec.name.clone(),
                    existing: marker.nodes,
                    wanted: spec.nodes,
                });
            }
            Some(marker) => {
                let cluster = Self::open(setup, marker.nodes).await?;
                for image in &spec.load {
                    cluster.load_image(image).await?;
                }
                return Ok(cluster);
            }
            None => remove(&docker, &setup.layout, "0").await?,
        }
        match setup.create(spec).await {
            // A command of a process that was killed has gone on after it and came in between.
            Err(ClusterError::Docker { source, .. }) if source.says("already ") => {
                remove(&docker, &setup.layout, "0").await?;
                setup.create(spec).await?;
            }
            result => drop(result?),
        }
        Self::open(setup, spec.nodes).await
    }

    /// Makes a cluster of the caller's own, with a name of its own, that ends with the value.
    pub async fn ephemeral(spec: Spec) -> Result<Self, ClusterError> {
        check(&spec)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let prefix: String = spec.name.chars().take(30).collect();
        let layout = Layout::new(&format!("{prefix}-{}", &id[..8]))?;
        let docker = Docker::connect().await?;
        sweep::sweep(&docker).await?;
        let claim = claim(&layout).await?;
        let janitor = engage_janitor(&docker, &layout)?;
        let setup = Setup::new(&docker, layout, true);
        setup.create(&spec).await?;
        let cluster = Self::open(setup, spec.nodes).await?;
        Ok(Self {
            _held: Some(Held {
                _janitor: janitor,
                _claim: claim,
            }),
            ..cluster
        })
    }

    /// The one of this test run: the one that the environment names ([`CLUSTER_VARIABLE`]), else an ephemeral one of
    /// one node per process, made by whoever asks first.
    pub async fn shared() -> Result<&'static Self, ClusterError> {
        SHARED
            .get_or_try_init(|| async {
                match std::env::var(CLUSTER_VARIABLE) {
                    Ok(name) => Self::find(&name).await,
                    Err(_) => {
                        Self::ephemeral(Spec {
                            name: "shared".to_owned(),
                            ..Spec::default()
                        })
                        .await
                    }
                }
            })
            .await
    }

    /// A cluster that somebody has created.
    pub async fn find(name: &str) -> Result<Self, ClusterError> {
        let layout = Layout::new(name)?;
        let docker = Docker::connect().await?;
        let setup = Setup::new(&docker, layout, false);
        setup.refuse_foreign(1).await?;
        let marker = setup
            .marker()
            .await?
            .ok_or_else(|| ClusterError::Absent(name.to_owned()))?;
        Self::open(setup, marker.nodes).await
    }

    /// Removes the cluster of this name, whole or not; nothing happens when there is none. Waits for whoever is
    /// making it.
    pub async fn delete(name: &str) -> Result<(), ClusterError> {
        let layout = Layout::new(name)?;
        let docker = Docker::connect().await?;
        let _claim = claim(&layout).await?;
        let setup = Setup::new(&docker, layout, false);
        // Whoever made one that is not whole may have been killed just now, with a request under way.
        let is_whole = setup.refuse_foreign(1).await.is_ok() && setup.marker().await?.is_some();
        let settle = if is_whole { "0" } else { SETTLE_SECONDS };
        remove(&docker, &setup.layout, settle).await
    }

    async fn open(setup: Setup, nodes: u16) -> Result<Self, ClusterError> {
        if setup.running().await? != usize::from(nodes) {
            return Err(ClusterError::Stopped(setup.layout.name));
        }
        let kubeconfig = setup.layout.kubeconfig()?;
        let config = if let Ok(config) = read_config(&kubeconfig).await {
            config
        } else {
            // Lost or damaged: the node has it.
            setup.rewrite_kubeconfig().await?;
            read_config(&kubeconfig).await?
        };
        Ok(Self {
            setup,
            nodes,
            kubeconfig,
            config,
            _held: None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.setup.layout.name
    }

    /// The kubeconfig of an administrator, with everything inline.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The configuration of [`Cluster::client`].
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A client that may do everything. It belongs to the current runtime: make one per test.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn client(&self) -> Client {
        make_client(self.config.clone())
    }

    /// The nodes' names, which are their containers' too; the control plane first.
    pub fn nodes(&self) -> Vec<String> {
        self.setup.layout.nodes(self.nodes)
    }

    /// The Docker in which the nodes run.
    pub fn docker(&self) -> &Docker {
        &self.setup.docker
    }

    /// Runs kubectl as an administrator, in the control plane's node: this machine needs none. Returns what it
    /// prints; `input` is its standard input, for `--filename -`.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, ClusterError> {
        self.setup.kubectl(arguments, input).await
    }

    /// The address of this machine as pods see it: a server that listens on it can be asked from a pod. Only where
    /// Docker runs on this very machine and not, for instance, in a virtual one.
    pub async fn host_address(&self) -> Result<IpAddr, ClusterError> {
        self.setup.gateway().await
    }

    /// Copies an image of the local Docker into every node.
    pub async fn load_image(&self, image: &str) -> Result<(), ClusterError> {
        self.setup.load(&self.nodes(), image).await
    }
}

fn check(spec: &Spec) -> Result<(), ClusterError> {
    if (1..=MOST_NODES).contains(&spec.nodes) {
        Ok(())
    } else {
        Err(ClusterError::Nodes(spec.name.clone()))
    }
}

/// Claims the cluster's name among the processes of this machine, waiting for whoever has it.
async fn claim(layout: &Layout) -> Result<File, ClusterError> {
    let path = layout.lock()?;
    blocking(move || {
        let failed = |source| ClusterError::File {
            path: path.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::create(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    })
    .await
}

/// The arguments of `delete.sh`: for how many seconds nothing more must turn up, and which files go too.
fn deletion(docker: &Docker, layout: &Layout, settle: &str, files: &[PathBuf]) -> Vec<String> {
    let program = docker.program().to_string_lossy().into_owned();
    let files = files.iter().map(|path| path.to_string_lossy().into_owned());
    [program, layout.label(), settle.to_owned()]
        .into_iter()
        .chain(files)
        .collect()
}

fn engage_janitor(docker: &Docker, layout: &Layout) -> Result<Janitor, ClusterError> {
    // Nobody else will ever want this name, so the lock goes as well.
    let arguments = deletion(
        docker,
        layout,
        SETTLE_SECONDS,
        &[layout.kubeconfig()?, layout.lock()?],
    );
    Janitor::engage(DELETE, &arguments).map_err(|source| ClusterError::File {
        path: "/bin/sh".into(),
        source,
    })
}

/// Removes everything with the cluster's label. Its lock stays: removed while somebody waits for it, it would be had
/// by two.
async fn remove(docker: &Docker, layout: &Layout, settle: &str) -> Result<(), ClusterError> {
    let arguments = deletion(docker, layout, settle, &[layout.kubeconfig()?]);
    let output = Command::new("/bin/sh")
        .args(["-c", DELETE, "delete"])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| ClusterError::File {
            path: "/bin/sh".into(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(ClusterError::Docker {
        name: layout.name.clone(),
        action: "delete it".to_owned(),
        source: Box::new(DockerError::Failed {
            command: "rm, volume rm, network rm".to_owned(),
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    })
}
