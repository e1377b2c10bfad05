//! The engine over the Docker API.
//!
//! # Guarantees
//! - The API version is negotiated with the daemon on the first call, and again after a failed first call: the
//!   daemon need not be there when the process starts.
//! - Requests are bounded by [`REQUEST_LIMIT`], from the connection to the end of the answer, commands by their own limit.
//! - Whatever changes something is preceded by a look at the lease's fence.

mod connection;
mod container;
mod failure;
mod image;
mod pull;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bollard::{
    Docker, body_full,
    models::{Ipam, IpamConfig, NetworkCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, InspectNetworkOptions,
        KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
    },
};
use docker_api::ImagePullPolicy;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use reconcile::fence::Fence;
use tokio::sync::OnceCell;

use self::failure::explain;
use super::{
    Command, Container, ContainerEvent, ContainerPlan, Engine, EngineError, Failure, Host, Network,
    RegistryCredentials,
};
use crate::{archive, network::parse_subnet};

/// How long a request may take, a daemon under load included.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// How long a pull, or the copy of an image, may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(600);

/// Label of the networks that this controller made.
const NETWORK_LABEL: &str = "capdkc.cluster.x-k8s.io/network";

/// Docker, through the host that it was connected to. Clones share the connection.
#[derive(Clone)]
pub struct DockerEngine {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    address: String,
    /// How long a request may take.
    limit: Duration,
    client: OnceCell<Docker>,
    host: OnceCell<Host>,
    fence: OnceLock<Fence>,
    /// Networks that refuse addresses that are asked for, by id.
    assigning: Mutex<BTreeSet<String>>,
    pulls: pull::Pulls,
    /// Held while a network is made.
    network_making: tokio::sync::Mutex<()>,
}

impl DockerEngine {
    /// The daemon at `address` (`unix:///…`, `tcp://…`); TLS as `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say.
    pub fn new(address: impl Into<String>) -> Self {
        Self::with_limit(address, REQUEST_LIMIT)
    }

    fn with_limit(address: impl Into<String>, limit: Duration) -> Self {
        let shared = Arc::new(Shared {
            address: address.into(),
            limit,
            ..Shared::default()
        });
        Self { shared }
    }
}

/// Docker's word for an architecture in Kubernetes' words.
fn architecture(docker: &str) -> String {
    match docker {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

impl Engine for DockerEngine {
    fn guard(&self, fence: &Fence) {
        let _ = self.shared.fence.set(fence.clone());
    }

    async fn containers(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Container>, EngineError> {
        let wanted = labels
            .iter()
            .map(|(key, value)| {
                if value.is_empty() {
                    key.clone()
                } else {
                    format!("{key}={value}")
                }
            })
            .collect();
        let filters: HashMap<&str, Vec<String>> = [("label", wanted)].into();
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let action = "list containers";
        let list = async {
            let listed = self.client().await?.list_containers(Some(options)).await;
            listed.map_err(|error| explain(action, &error))
        };
        let listed = self.bounded(action, list).await?;
        Ok(listed.into_iter().map(container::of_summary).collect())
    }

    async fn container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        // The list knows names, too; unlike an inspection it answers in the same form as above.
        let filters: HashMap<&str, Vec<String>> =
            [("name", vec![format!("^/?{}$", name.replace('.', r"\."))])].into();
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let action = format!("look at container {name}");
        let list = async {
            let listed = self.client().await?.list_containers(Some(options)).await;
            listed.map_err(|error| explain(&action, &error))
        };
        let listed = self.bounded(&action, list).await?;
        Ok(listed
            .into_iter()
            .map(container::of_summary)
            .find(|found| found.name == name))
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), EngineError> {
        let action = format!("create container {}", plan.name);
        let options = CreateContainerOptionsBuilder::default().name(&plan.name).build();
        let body = container::of_plan(plan);
        let create = async {
            let client = self.acting(&action).await?;
            let made = client.create_container(Some(options), body).await;
            made.map(|_| ())
                .map_err(|error| failure::of_creation(explain(&action, &error)))
        };
        self.bounded(&action, create).await
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        let action = format!("start container {name}");
        let start = async {
            let client = self.acting(&action).await?;
            let started = client.start_container(name, None::<StartContainerOptions>);
            started.await.map_err(|error| explain(&action, &error))
        };
        self.bounded(&action, start).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let action = format!("remove container {id}");
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let remove = async {
            let client = self.acting(&action).await?;
            let removed = client.remove_container(id, Some(options)).await;
            removed.or_else(|error| failure::unless_gone(explain(&action, &error)))
        };
        self.bounded(&action, remove).await
    }

    async fn run(
        &self,
        container: &str,
        command: Command,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), EngineError> {
        let action = format!("run a command in container {container}");
        let client = self.bounded(&action, self.acting(&action)).await?;
        let limit = command.limit;
        let run = stream::run(client, container, command, on_line, &action);
        tokio::time::timeout(limit, run).await.unwrap_or_else(|_| {
            let message = format!("it took longer than {} s", limit.as_secs());
            Err(EngineError {
                kind: Failure::Unavailable,
                action: action.clone(),
                message,
            })
        })
    }

    async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        self.finds_image(image).await
    }

    async fn copy_image(&self, container: &str, image: &str) -> Result<(), EngineError> {
        let action = format!("copy image {image} into container {container}");
        let client = self.bounded(&action, self.acting(&action)).await?;
        let copy = stream::copy_image(client, container, image, &action);
        tokio::time::timeout(TRANSFER_LIMIT, copy)
            .await
            .unwrap_or_else(|_| {
                let message = format!("it took longer than {} s", TRANSFER_LIMIT.as_secs());
                Err(EngineError {
                    kind: Failure::Image,
                    action: action.clone(),
                    message,
                })
            })
    }

    async fn write_file(&self, container: &str, path: &str, content: &[u8]) -> Result<(), EngineError> {
        let action = format!("write {path} in container {container}");
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let archive = body_full(archive::pack(path, 0o644, content).into());
        let write = async {
            let client = self.acting(&action).await?;
            let written = client.upload_to_container(container, Some(options), archive);
            written.await.map_err(|error| explain(&action, &error))
        };
        self.bounded(&action, write).await
    }

    async fn read_file(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let action = format!("read {path} in container {container}");
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let read = async {
            let client = self.client().await?;
            let chunks = client.download_from_container(container, Some(options));
            match chunks.try_collect::<Vec<_>>().await {
                Ok(chunks) => Ok(archive::unpack(&chunks.concat())),
                Err(error) => failure::unless_gone(explain(&action, &error)).map(|()| None),
            }
        };
        self.bounded(&action, read).await
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let action = format!("signal container {container}");
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        let send = async {
            let client = self.acting(&action).await?;
            let sent = client.kill_container(container, Some(options)).await;
            sent.map_err(|error| explain(&action, &error))
        };
        self.bounded(&action, send).await
    }

    async fn log(&self, container: &str, lines: u32) -> Result<Vec<String>, EngineError> {
        let action = format!("read the log of container {container}");
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .tail(&lines.to_string())
            .build();
        let read = async {
            let log = self.client().await?.logs(container, Some(options));
            let parts = log.try_collect::<Vec<_>>().await;
            parts.map_err(|error| explain(&action, &error))
        };
        let log = self.bounded(&action, read).await?;
        Ok(log
            .iter()
            .flat_map(|part| stream::lines_of(part.as_ref()))
            .collect())
    }

    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError> {
        let action = format!("look at network {name}");
        let inspect = async {
            let client = self.client().await?;
            let found = client.inspect_network(name, None::<InspectNetworkOptions>);
            match found.await {
                Ok(found) => Ok(Some(found)),
                Err(error) => failure::unless_gone(explain(&action, &error)).map(|()| None),
            }
        };
        let Some(found) = self.bounded(&action, inspect).await? else {
            return Ok(None);
        };
        let ours = found
            .labels
            .is_some_and(|labels| labels.contains_key(NETWORK_LABEL));
        let subnets = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let endpoints = found.containers.unwrap_or_default();
        let in_use = endpoints
            .values()
            .filter_map(|e| e.ipv4_address.as_ref()?.split('/').next()?.parse().ok());
        let id = found.id.unwrap_or_default();
        Ok(Some(Network {
            assigns: self.shared.assigning.lock().contains(&id),
            id,
            subnet: subnets
                .iter()
                .find_map(|config| parse_subnet(config.subnet.as_deref()?)),
            in_use: in_use.collect(),
            ours,
        }))
    }

    async fn create_network(&self, name: &str, subnet: (Ipv4Addr, u8)) -> Result<(), EngineError> {
        let action = format!("create network {name}");
        let config = IpamConfig {
            subnet: Some(format!("{}/{}", subnet.0, subnet.1)),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".into()),
            ipam: Some(Ipam {
                config: Some(vec![config]),
                ..Ipam::default()
            }),
            labels: Some([(NETWORK_LABEL.to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let create = async {
            // Many daemons take a second network of the same name, after which neither can be found by it; and one that is
            // being made holds its subnet before anybody sees it.
            let _alone = self.shared.network_making.lock().await;
            if self.network(name).await?.is_some() {
                return Err(EngineError {
                    kind: Failure::NameTaken,
                    action: action.clone(),
                    message: "it was made in this moment".into(),
                });
            }
            let made = self.acting(&action).await?.create_network(request).await;
            made.map(|_| ()).map_err(|error| explain(&action, &error))
        };
        self.bounded(&action, create).await
    }

    fn note_assigns(&self, network: &str) {
        self.shared.assigning.lock().insert(network.to_owned());
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let action = format!("remove network {name}");
        let remove = async {
            let removed = self.acting(&action).await?.remove_network(name).await;
            removed.or_else(|error| failure::unless_gone(explain(&action, &error)))
        };
        self.bounded(&action, remove).await
    }

    async fn ensure_image(
        &self,
        image: &str,
        policy: ImagePullPolicy,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<(), EngineError> {
        self.provide_image(image, policy, credentials).await
    }

    async fn host(&self) -> Result<Host, EngineError> {
        let action = "read the daemon's description";
        let read = || async {
            let info = self.client().await?.info().await;
            let info = info.map_err(|error| explain(action, &error))?;
            Ok(Host {
                cpus: info.ncpu.unwrap_or_default(),
                memory: info.mem_total.unwrap_or_default(),
                architecture: architecture(&info.architecture.unwrap_or_default()),
            })
        };
        self.bounded(action, self.shared.host.get_or_try_init(read))
            .await
            .cloned()
    }

    fn events(&self) -> BoxStream<'static, ContainerEvent> {
        stream::events(self.clone()).boxed()
    }
}
