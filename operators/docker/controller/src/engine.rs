//! The container engine: what this controller asks of Docker, in its own terms.
//!
//! The only seam to the outside world. [`docker`] implements it over the Docker API; tests of the reconcilers that
//! need no Docker use a twin in memory.
//!
//! # Guarantees
//! - Every call is bounded in time; a daemon that hangs is an error, not a worker that hangs.
//! - Removing what is gone, and starting what runs, succeed.
//! - Nothing is created by an observation.

pub mod docker;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::Ipv4Addr,
    time::Duration,
};

use docker_api::{ImagePullPolicy, PortProtocol};
use futures::stream::BoxStream;
use reconcile::{
    error::{Class, ReconcileError},
    fence::Fence,
};

/// How long until an image that is on its way is asked after again.
const PULL_WAIT: Duration = Duration::from_secs(2);

/// A container, as the engine lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The engine's id: another one after the container was made anew.
    pub id: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
    /// Networks that it is attached to, or will be again when it is started.
    pub networks: BTreeSet<String>,
    /// Its address, by network; of a stopped container the one that it was given for good.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// Networks on which its address is its own for good.
    pub kept: BTreeSet<String>,
    /// Ports of the host that lead into it, by port of the container.
    pub ports: BTreeMap<u16, u16>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// Made and never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Not running now, about to be restarted by the daemon.
    Restarting,
    /// Stopped, or frozen.
    Stopped,
}

/// What a container is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerPlan {
    /// Name.
    pub name: String,
    /// Host name.
    pub hostname: String,
    /// Image.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// Network to attach to.
    pub network: String,
    /// Address to keep for good, where the network lets addresses be kept.
    pub address: Option<Ipv4Addr>,
    /// Ports to publish.
    pub ports: Vec<PublishedPort>,
    /// What makes it a machine rather than a process; `None` for a plain container.
    pub machine: Option<MachinePlan>,
}

/// What a container needs to run a whole operating system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachinePlan {
    /// Paths of the host.
    pub mounts: Vec<HostMount>,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
}

/// A path of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// A port of a container that is published on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// Port of the container.
    pub container_port: u16,
    /// Port of the host; none lets the engine choose.
    pub host_port: Option<u16>,
    /// Address of the host.
    pub listen_address: String,
    /// Protocol.
    pub protocol: PortProtocol,
}

/// A command to run in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Given to its standard input.
    pub stdin: Vec<u8>,
    /// How long it may take.
    pub limit: Duration,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The engine's id: another one after the network was made anew.
    pub id: String,
    /// Its IPv4 subnet, whoever chose it.
    pub subnet: Option<(Ipv4Addr, u8)>,
    /// Whether it is known to refuse addresses that are asked for and to assign its own. So do networks whose subnet the
    /// engine chose; a look at one does not tell, only [`Failure::AddressRefused`] does.
    pub assigns: bool,
    /// Addresses in use by running containers.
    pub in_use: Vec<Ipv4Addr>,
    /// Whether this controller made it.
    pub ours: bool,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Processors.
    pub cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Architecture in Kubernetes' words (`amd64`).
    pub architecture: String,
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// The registry, as a daemon wants it named: some send credentials nowhere else.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryCredentials").finish_non_exhaustive()
    }
}

/// Something happened to a container that carries our labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The container's labels. Empty: events may have been missed, look at everything.
    pub labels: BTreeMap<String, String>,
    /// Whether the container is no more.
    pub is_gone: bool,
}

/// Why the engine did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Docker failed to {action}: {message}")]
pub struct EngineError {
    /// What kind of failure.
    pub kind: Failure,
    /// What was attempted, as in "failed to …".
    pub action: String,
    /// The engine's own words.
    pub message: String,
}

/// Kinds of failure, as far as they make a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such container, network or image.
    NotFound,
    /// The name is taken.
    NameTaken,
    /// A port of the host is taken.
    PortTaken,
    /// The address is taken.
    AddressTaken,
    /// The network lets nobody choose an address: its subnet was chosen by the engine.
    AddressRefused,
    /// A path to mount does not exist on the host.
    MountMissing,
    /// The image is not there, cannot be pulled, or is of another architecture.
    Image,
    /// A node's runtime has not taken an image.
    Import,
    /// The image is on its way; ask again.
    Pulling,
    /// A field of the plan cannot be used.
    Invalid,
    /// Access to the socket is denied.
    Denied,
    /// The daemon cannot be reached, is overloaded, or took too long.
    Unavailable,
    /// The lease was lost; nothing was sent.
    Fenced,
}

impl ReconcileError for EngineError {
    fn class(&self) -> Class {
        match self.kind {
            Failure::Denied => Class::Denied,
            Failure::Pulling => Class::Waiting,
            // Only people can cure these, and none of the cures sends an event.
            Failure::NameTaken | Failure::MountMissing | Failure::Image | Failure::Invalid => {
                Class::Transient
            }
            _ => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        use docker_api::Reason;
        let reason = match self.kind {
            Failure::NameTaken => Reason::NameConflict,
            Failure::MountMissing => Reason::MountInvalid,
            Failure::Image | Failure::Import | Failure::Pulling => Reason::ImageUnavailable,
            Failure::Invalid | Failure::PortTaken => Reason::SpecInvalid,
            _ => Reason::DockerUnavailable,
        };
        reason.as_str()
    }

    fn retry_after(&self) -> Option<Duration> {
        (self.kind == Failure::Pulling).then_some(PULL_WAIT)
    }
}

/// A container engine.
pub trait Engine: Send + Sync + 'static {
    /// From now on nothing is changed unless `fence` is open. The first fence stays.
    fn guard(&self, fence: &Fence);

    /// All containers, running or not, that carry all of `labels`; an empty value stands for any.
    fn containers(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<Vec<Container>, EngineError>> + Send;

    /// The container of this name, whoever made it.
    fn container(&self, name: &str) -> impl Future<Output = Result<Option<Container>, EngineError>> + Send;

    /// Makes a container without starting it.
    fn create(&self, plan: &ContainerPlan) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Starts a container.
    fn start(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a container, running or not, with its anonymous volumes.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Runs a command in a container; `on_line` sees each line of its output. Returns when it ends.
    fn run(
        &self,
        container: &str,
        command: Command,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Whether an image is on the host. Fails with [`Failure::Image`] if it is there and made for another architecture.
    fn has_image(&self, image: &str) -> impl Future<Output = Result<bool, EngineError>> + Send;

    /// Copies an image of the host into a node's runtime. Fails with [`Failure::Import`] if the runtime does not take it,
    /// as long as it is not up, too.
    fn copy_image(
        &self,
        container: &str,
        image: &str,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Writes a file into a container, running or not.
    fn write_file(
        &self,
        container: &str,
        path: &str,
        content: &[u8],
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Reads a file of a container, running or not; nothing if it is not there.
    fn read_file(
        &self,
        container: &str,
        path: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, EngineError>> + Send;

    /// Sends a signal to a container's first process.
    fn signal(&self, container: &str, signal: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The last lines of a container's log, each beginning with its time stamp.
    fn log(
        &self,
        container: &str,
        lines: u32,
    ) -> impl Future<Output = Result<Vec<String>, EngineError>> + Send;

    /// The network of this name; nothing if there is none.
    fn network(&self, name: &str) -> impl Future<Output = Result<Option<Network>, EngineError>> + Send;

    /// Makes a network with this subnet. Fails with [`Failure::AddressTaken`] if it overlaps another.
    fn create_network(
        &self,
        name: &str,
        subnet: (Ipv4Addr, u8),
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Notes that the network with this id refuses addresses that are asked for: [`Engine::network`] says so from now on.
    fn note_assigns(&self, network: &str);

    /// Removes a network.
    fn remove_network(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Sees to it that an image is there, as `policy` says. Fails with [`Failure::Pulling`] where that takes long; the
    /// image then comes all the same.
    fn ensure_image(
        &self,
        image: &str,
        policy: ImagePullPolicy,
        credentials: Option<&RegistryCredentials>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// What the host offers.
    fn host(&self) -> impl Future<Output = Result<Host, EngineError>> + Send;

    /// What happens to our containers from now on. Never ends; after a break it begins with an event without labels.
    fn events(&self) -> BoxStream<'static, ContainerEvent>;
}
