//! The model of a daemon, behind a plan's boundary.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use docker_api::ImagePullPolicy;
use docker_controller::engine::{
    Command, Container, ContainerEvent, ContainerPlan, Engine, EngineError, Failure, Host, Network,
    RegistryCredentials,
};
use futures::{StreamExt as _, stream, stream::BoxStream};
use http::Response;
use parking_lot::Mutex;
use reconcile::fence::Fence;
use testkit::fault::{
    Boundary, full,
    plan::{Call, Kind},
};
use tokio::sync::broadcast;

use crate::daemon::{Daemon, Model, failure};

/// The daemon as one incarnation of the operator reaches it.
#[derive(Clone)]
pub struct Docker {
    pub daemon: Arc<Mutex<Daemon>>,
    pub boundary: Boundary,
    /// Networks that have refused an address, as far as this incarnation knows.
    pub noted: Arc<Mutex<BTreeSet<String>>>,
}

impl Docker {
    async fn ask<T: Send + 'static>(
        &self,
        operation: &str,
        kind: Kind,
        act: impl FnOnce(&mut Daemon) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let call = Call {
            site: format!("Docker {operation}"),
            kind,
            list: None,
        };
        let operation = operation.to_owned();
        let answer = Arc::new(Mutex::new(None));
        let (slot, daemon) = (answer.clone(), self.daemon.clone());
        let send = move || async move {
            let mut daemon = daemon.lock();
            let refusal = daemon.refusals.get(&operation).cloned();
            let answered = refusal.map_or_else(|| act(&mut daemon), Err);
            *slot.lock() = Some(answered);
            Ok(Response::new(full("")))
        };
        let injected = |status, _| {
            let mut response = Response::new(full(""));
            *response.status_mut() = status;
            response
        };
        let carried = self.boundary.carry(call, injected, send).await;
        let unavailable = |why: String| Err(failure(Failure::Unavailable, &why));
        match carried {
            Ok(response) if response.status().is_success() => answer
                .lock()
                .take()
                .unwrap_or_else(|| unavailable("no answer".into())),
            Ok(response) => unavailable(format!("status {}", response.status())),
            Err(error) => unavailable(error.to_string()),
        }
    }
}

impl Engine for Docker {
    fn guard(&self, _: &Fence) {}

    async fn containers(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Container>, EngineError> {
        let labels = labels.clone();
        self.ask("list", Kind::List, move |daemon| Ok(daemon.list(&labels)))
            .await
    }

    async fn container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let name = name.to_owned();
        self.ask("inspect", Kind::Read, move |daemon| {
            Ok(daemon.containers.get(&name).map(Model::seen))
        })
        .await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), EngineError> {
        let plan = plan.clone();
        while self.daemon.lock().hanging.contains(&plan.name) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.ask("create", Kind::Create, move |daemon| daemon.create(&plan))
            .await
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        let name = name.to_owned();
        self.ask("start", Kind::Update, move |daemon| daemon.start(&name))
            .await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let id = id.to_owned();
        let removed = self
            .ask("remove", Kind::Delete, move |daemon| daemon.remove(&id))
            .await;
        removed.or_else(|error| {
            if error.kind == Failure::NotFound {
                Ok(())
            } else {
                Err(error)
            }
        })
    }

    async fn run(
        &self,
        container: &str,
        command: Command,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), EngineError> {
        let name = container.to_owned();
        let said = self
            .ask("exec", Kind::Call, move |daemon| daemon.run(&name, &command))
            .await?;
        while said != ["absent"] && self.daemon.lock().holds(container) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        said.into_iter().for_each(on_line);
        Ok(())
    }

    async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        let image = image.to_owned();
        self.ask("look at image", Kind::Read, move |daemon| {
            Ok(!daemon.missing.contains(&image))
        })
        .await
    }

    async fn copy_image(&self, _: &str, _: &str) -> Result<(), EngineError> {
        self.ask("copy image", Kind::Call, |_| Ok(())).await
    }

    async fn write_file(&self, container: &str, path: &str, content: &[u8]) -> Result<(), EngineError> {
        let (container, path, content) = (container.to_owned(), path.to_owned(), content.to_vec());
        self.ask("write", Kind::Update, move |daemon| {
            daemon.find(&container)?.files.insert(path, content);
            Ok(())
        })
        .await
    }

    async fn read_file(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let (container, path) = (container.to_owned(), path.to_owned());
        self.ask("read", Kind::Read, move |daemon| {
            Ok(daemon.find(&container)?.files.get(&path).cloned())
        })
        .await
    }

    async fn signal(&self, container: &str, _: &str) -> Result<(), EngineError> {
        let container = container.to_owned();
        self.ask("signal", Kind::Update, move |daemon| {
            let refuses = daemon.refuses_configurations;
            let model = daemon.find(&container)?;
            if refuses {
                model.refuse();
            } else {
                model.load();
            }
            Ok(())
        })
        .await
    }

    async fn log(&self, container: &str, _: u32) -> Result<Vec<String>, EngineError> {
        let container = container.to_owned();
        self.ask("log", Kind::Read, move |daemon| {
            Ok(daemon.find(&container)?.log.clone())
        })
        .await
    }

    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError> {
        let name = name.to_owned();
        let assigns = self.noted.lock().contains(&name);
        self.ask("network", Kind::Read, move |daemon| {
            let subnet = daemon.networks.get(&name).copied();
            Ok(subnet.map(|subnet| Network {
                id: name.clone(),
                subnet: Some(subnet),
                assigns,
                in_use: daemon.addresses_on(&name, ""),
                ours: daemon.ours.contains(&name),
            }))
        })
        .await
    }

    async fn create_network(&self, name: &str, subnet: (Ipv4Addr, u8)) -> Result<(), EngineError> {
        let name = name.to_owned();
        self.ask("create network", Kind::Create, move |daemon| {
            daemon.create_network(&name, subnet)
        })
        .await
    }

    fn note_assigns(&self, network: &str) {
        self.noted.lock().insert(network.to_owned());
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let name = name.to_owned();
        self.ask("remove network", Kind::Delete, move |daemon| {
            daemon.remove_network(&name);
            Ok(())
        })
        .await
    }

    async fn ensure_image(
        &self,
        _: &str,
        _: ImagePullPolicy,
        _: Option<&RegistryCredentials>,
    ) -> Result<(), EngineError> {
        self.ask("image", Kind::Read, |_| Ok(())).await
    }

    async fn host(&self) -> Result<Host, EngineError> {
        self.ask("info", Kind::Read, |_| {
            Ok(Host {
                cpus: 2,
                memory: 1 << 30,
                architecture: "amd64".into(),
            })
        })
        .await
    }

    fn events(&self) -> BoxStream<'static, ContainerEvent> {
        let receiver = self.daemon.lock().events.subscribe();
        let rest = stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        stream::iter([ContainerEvent::default()]).chain(rest).boxed()
    }
}
