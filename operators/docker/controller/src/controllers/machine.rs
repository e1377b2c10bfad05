//! `DockerMachine`: container, id, bootstrap.
//!
//! # What happens when
//! 1. The Machine has bootstrap data, and the cluster's infrastructure is there: the container is made and started.
//! 2. It runs: a control plane machine is put into the load balancer's configuration; the bootstrap begins, as a
//!    supervised task; id and addresses are published. `provisioned` does not wait for the bootstrap: whether the
//!    node is well is the Node's to say.
//! 3. The bootstrap ends: the condition `BootstrapCompleted` says how. One that failed is never repeated over the same
//!    container. Where another attempt was asked for and does no harm, the status announces it; then the container is
//!    removed, and made anew under the attempt's number. Else the machine must be replaced.
//! 4. Deletion: the task ends, the load balancer forgets the machine, then the container goes with its volumes.

mod error;
mod follow;
mod plan;
mod publish;
mod removal;
mod repeat;
mod status;
mod supply;

use std::{sync::Arc, time::Duration};

use docker_api::{DockerMachine, DockerMachineTemplate, Reason};
use futures::{StreamExt as _, stream::BoxStream};
use kube::ResourceExt as _;
use reconcile::{Gate, ObjectKey, Pass, Progress, Reconciler, clock::Clock, task::Tasks};

pub use self::error::Error;
use self::{
    plan::{Observed, Step},
    status::Picture,
};
use super::Settings;
use crate::{
    bootstrap::Outcome,
    contract::{self, Cluster, Machine, View, live, moved},
    engine::{Container, Engine},
    identity::{self, ClusterId, MACHINE_LABEL, NAMESPACE_LABEL, Role},
    launch::{Launch, launch},
    load_balancer::LoadBalancers,
    node,
};

/// Keeps a DockerMachine until its container is gone.
pub const FINALIZER: &str = "capdkc.cluster.x-k8s.io/dockermachine";

/// How often a deletion looks again while the first lists of Clusters and Machines are not in.
pub(super) const VIEW_WAIT: Duration = Duration::from_secs(1);
/// How often a deletion of a paused object looks again; a change of its Cluster wakes it anyway.
pub(super) const MOVE_WAIT: Duration = Duration::from_secs(300);
/// How often bootstrap data that cannot be used is looked at again: nobody tells that a Secret was repaired.
const DATA_WAIT: Duration = Duration::from_secs(60);
/// How long a bootstrap that failed waits for its next attempt: what was wrong may pass.
const REPEAT_WAIT: Duration = Duration::from_secs(5);
/// How often progress of a bootstrap wakes its object at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Reconciles DockerMachines.
pub struct Machines<E> {
    engine: E,
    view: View,
    load_balancers: LoadBalancers<E>,
    settings: Settings,
    tasks: Tasks<String, Outcome>,
}

/// What a pass works with.
struct Scope {
    machine: Arc<Machine>,
    cluster: Arc<Cluster>,
    id: ClusterId,
    name: String,
}

impl<E: Engine + Clone> Machines<E> {
    /// With the Docker of `engine`, and the Clusters and Machines of `view`.
    pub fn new(
        engine: E,
        view: View,
        load_balancers: LoadBalancers<E>,
        settings: Settings,
        clock: Clock,
    ) -> Self {
        let tasks = Tasks::new(clock, PROGRESS_INTERVAL);
        Self {
            engine,
            view,
            load_balancers,
            settings,
            tasks,
        }
    }

    /// The bootstraps under way.
    pub fn tasks(&self) -> &Tasks<String, Outcome> {
        &self.tasks
    }

    /// What wakes a DockerMachine beside its own changes: its Machine, its Cluster, and what happens to its container.
    pub fn wakes(&self) -> BoxStream<'static, ObjectKey> {
        let view = self.view.clone();
        let of_changes = self
            .view
            .changes()
            .flat_map(move |change| futures::stream::iter(view.docker_machines(&change)));
        let view = self.view.clone();
        let of_events = self.engine.events().flat_map(move |event| {
            let keys = match (event.labels.get(NAMESPACE_LABEL), event.labels.get(MACHINE_LABEL)) {
                (Some(namespace), Some(machine)) => {
                    vec![ObjectKey::new(namespace.as_str(), machine.as_str())]
                }
                (Some(_), None) => Vec::new(),
                (None, _) => view.all_docker_machines(),
            };
            futures::stream::iter(keys)
        });
        futures::stream::select(of_changes, of_events).boxed()
    }

    fn scope(&self, object: &DockerMachine) -> Option<Scope> {
        let machine = self.view.owner_machine(object)?;
        // Anybody can write an owner reference; what it runs on the Machine says itself.
        machine
            .docker_machine()
            .filter(|named| *named.name == object.name_any())?;
        let namespace = object.namespace()?;
        let cluster = self.view.cluster(&namespace, &machine.spec.cluster_name)?;
        let id = ClusterId::new(namespace, cluster.name_any());
        Some(Scope {
            machine,
            cluster,
            id,
            name: object.name_any(),
        })
    }

    /// The container of the machine. One of its name in another cluster is somebody else's.
    async fn container(&self, scope: &Scope) -> Result<Option<Container>, Error> {
        let id = &scope.id;
        let labels = identity::machine_labels(&id.namespace, Some(&id.name), &scope.name);
        Ok(self.engine.containers(&labels).await?.into_iter().next())
    }

    /// The name of the Cluster that `object` belongs to, also when that is gone.
    fn cluster_name(&self, object: &DockerMachine) -> Option<String> {
        // By which its container was made; the label is what is left of it once the Machine is gone.
        let owner = self.view.owner_machine(object);
        let of_owner = owner.map(|machine| machine.spec.cluster_name.clone());
        of_owner.or_else(|| contract::label(object, contract::CLUSTER_NAME).map(str::to_owned))
    }

    /// Takes the machine as far as it can be taken now. `picture` collects what is seen on the way, so that it can
    /// be told also when a step fails.
    async fn advance(
        &self,
        object: &DockerMachine,
        scope: &Scope,
        pass: &Pass<DockerMachine>,
        picture: &mut Picture,
    ) -> Result<(), Error> {
        let (storage, client) = (&self.settings.storage, pass.client());
        storage.check::<DockerMachine>(client).await?;
        storage.check::<DockerMachineTemplate>(client).await?;
        picture.container = self.container(scope).await?;
        let live = self.live_scope(object, scope, picture, pass).await?;
        let scope = live.as_ref().unwrap_or(scope);
        if scope.cluster.pauses(object) {
            picture.is_paused = true;
            return Ok(());
        }
        let mut step = plan::next(observe(object, scope, picture));
        if step == Step::Launch {
            self.give_up(scope, pass, picture).await?;
            step = match self.network(scope, pass).await? {
                Some(network) => {
                    let existing = picture.container.take();
                    self.launch(object, scope, pass, network, existing.as_ref())
                        .await?;
                    picture.container = self.container(scope).await?;
                    plan::next(observe(object, scope, picture))
                }
                None => Step::Wait(Reason::WaitingForClusterInfrastructureReady),
            };
        }
        picture.step = Some(step);
        let Some(container) = picture.container.clone().filter(|_| step == Step::Proceed) else {
            return Ok(());
        };
        if scope.machine.is_control_plane() {
            // First: kubeadm reaches its own API server through the load balancer.
            picture.balanced = self.load_balancers.sync(&scope.id, None).await?;
        }
        let bootstrap = self.bootstrap(object, scope, pass, &container).await?;
        picture.bootstrap = repeat::repeated(object, scope, &container, bootstrap);
        self.publish_id(object, &container, pass).await
    }

    async fn launch(
        &self,
        object: &DockerMachine,
        scope: &Scope,
        pass: &Pass<DockerMachine>,
        network: String,
        existing: Option<&Container>,
    ) -> Result<(), Error> {
        let machine = &scope.machine;
        let wanted = node::Machine {
            cluster: &scope.id,
            name: &scope.name,
            role: if machine.is_control_plane() {
                Role::ControlPlane
            } else {
                Role::Worker
            },
            version: machine.spec.version.as_deref(),
            failure_domain: machine.spec.failure_domain.as_deref(),
            attempt: object
                .status
                .as_ref()
                .and_then(|status| status.bootstrap_attempt)
                .unwrap_or(1),
        };
        let plan = node::plan(&wanted, &object.spec, &network, None)?;
        let credentials = self.credentials(object, pass).await?;
        let policy = object.spec.image_pull_policy.unwrap_or_default();
        self.engine
            .ensure_image(&plan.image, policy, credentials.as_ref())
            .await?;
        // What is about to be made cannot be unmade by a later pass of an object that is gone.
        if pass.live().await?.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let launching = Launch {
            plan,
            address: None,
            host_ports: Vec::new(),
            files: Vec::new(),
        };
        Ok(launch(&self.engine, launching, existing).await?)
    }
}

fn observe(object: &DockerMachine, scope: &Scope, picture: &Picture) -> Observed {
    let container = picture.container.as_ref();
    // With the container gone already, what was announced is under way.
    let may_repeat = container.is_none() || repeat::is_harmless(scope);
    Observed {
        infrastructure_ready: scope.cluster.infrastructure_provisioned(),
        control_plane_ready: scope.cluster.control_plane_initialized(),
        is_control_plane: scope.machine.is_control_plane(),
        has_data: scope.machine.data_secret().is_some(),
        is_provisioned: status::is_published(object),
        repeats: may_repeat && status::announced(object, container).is_some(),
        container: container.map(|container| container.state),
    }
}

impl<E: Engine + Clone> Reconciler for Machines<E> {
    type Kind = DockerMachine;
    type Error = Error;
    const NAME: &'static str = "dockermachine";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);

    fn gate(&self, object: &DockerMachine) -> Gate {
        if !contract::is_served(object, self.settings.watch_filter.as_deref()) {
            return Gate::Foreign;
        }
        if contract::owner(object, "Machine").is_none() {
            return Gate::NotYet("it has no owner Machine yet");
        }
        match self.scope(object) {
            None => Gate::NotYet("its Machine, which has to name it, or its Cluster was not seen yet"),
            Some(scope) if scope.cluster.pauses(object) => Gate::Paused,
            Some(_) => Gate::Manage,
        }
    }

    async fn apply(&self, object: Arc<DockerMachine>, pass: &Pass<DockerMachine>) -> Result<Progress, Error> {
        self.engine.guard(pass.fence());
        let Some(scope) = self.scope(&object) else {
            return Ok(Progress::Settled);
        };
        moved::take_back(object.as_ref(), &scope.id.name, Self::NAME, pass).await?;
        let mut picture = Picture::new(scope.machine.spec.failure_domain.clone());
        let result = self.advance(&object, &scope, pass, &mut picture).await;
        if picture.is_paused {
            return self.paused(object, pass).await;
        }
        self.tell(&object, &picture, pass).await;
        pass.write_status(&status::observed(
            &object,
            &picture,
            result.as_ref().err(),
            pass.clock().now(),
        ))
        .await?;
        let waits_for_data = matches!(
            picture.bootstrap,
            status::Bootstrap::Ended {
                reason: Reason::BootstrapDataInvalid,
                ..
            }
        );
        result.map(|()| {
            if waits_for_data {
                Progress::waiting(DATA_WAIT)
            } else if matches!(picture.bootstrap, status::Bootstrap::Repeating { .. }) {
                Progress::waiting(REPEAT_WAIT)
            } else {
                Progress::Settled
            }
        })
    }

    async fn cleanup(
        &self,
        object: Arc<DockerMachine>,
        pass: &Pass<DockerMachine>,
    ) -> Result<Progress, Error> {
        self.engine.guard(pass.fence());
        if !self.view.is_complete() {
            return Ok(Progress::waiting(VIEW_WAIT));
        }
        let name = self.cluster_name(&object);
        let cluster: Option<Cluster> = match &name {
            Some(name) => live::read(name, pass).await?,
            None => None,
        };
        if contract::is_paused(cluster.as_ref(), object.as_ref()) {
            // It moves to another management cluster: the container stays. Looked at live, since what was last seen may
            // be of before the move.
            pass.write_status(&status::paused(&object, pass.clock().now()))
                .await?;
            return Ok(Progress::waiting(MOVE_WAIT));
        }
        if moved::is_moved(object.as_ref()) {
            // The move was broken off before it took the finalizer away: the target runs on the container.
            return Ok(Progress::Settled);
        }
        if !status::is_deleting(&object) {
            pass.write_status(&status::deleting(&object, None, pass.clock().now()))
                .await?;
        }
        if self.tasks.stop(&pass.uid()) {
            // Its end wakes the object.
            return Ok(Progress::waiting(MOVE_WAIT));
        }
        let removed = self
            .remove_containers(&object, name.as_deref(), cluster.as_ref(), pass)
            .await;
        if let Err(error) = &removed {
            pass.write_status(&status::deleting(&object, Some(error), pass.clock().now()))
                .await?;
        }
        removed.map(|()| Progress::Settled)
    }

    async fn paused(
        &self,
        object: Arc<DockerMachine>,
        pass: &Pass<DockerMachine>,
    ) -> Result<Progress, Error> {
        pass.write_status(&status::paused(&object, pass.clock().now()))
            .await?;
        Ok(Progress::Settled)
    }
}

/// A reason that a bootstrap is over for good.
fn is_final(reason: &str) -> Option<Reason> {
    [Reason::Failed, Reason::Interrupted]
        .into_iter()
        .find(|known| known.as_str() == reason)
}
