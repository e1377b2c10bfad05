//! The operator under test.

use std::{sync::Arc, time::Duration};

use reconcile::{
    Controller, Manager,
    clock::Clock,
    manager::{ManagerError, Options},
    requeue::RequeuePolicy,
    task::Tasks,
};
use testkit::control_plane::{ControlPlane, TestNamespace};
use tokio_util::sync::CancellationToken;

use crate::bed::{Journal, Widgets};

/// An operator in this process, for one namespace.
pub struct Operator {
    pub journal: Arc<Journal>,
    pub metrics: reconcile::metrics::Metrics,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), ManagerError>>,
}

impl Operator {
    pub fn start(plane: &ControlPlane, namespace: &TestNamespace, adjust: impl FnOnce(&mut Options)) -> Self {
        Self::requeueing(plane, namespace, RequeuePolicy::default(), adjust)
    }

    pub fn requeueing(
        plane: &ControlPlane,
        namespace: &TestNamespace,
        policy: RequeuePolicy,
        adjust: impl FnOnce(&mut Options),
    ) -> Self {
        let mut options = Options::new("widget-operator");
        options.namespaces = vec![namespace.name().to_owned()];
        options.crds = vec!["widgets.test.example.com".to_owned()];
        // Backoff and task wake-ups in tens of milliseconds.
        options.clock = Clock::accelerated(50);
        // What a resync would mend is a failure.
        options.sync_period = Duration::ZERO;
        adjust(&mut options);
        let journal = Arc::<Journal>::default();
        let tasks = Tasks::new(options.clock.clone(), Duration::from_secs(5));
        let widgets = Widgets {
            journal: journal.clone(),
            tasks: tasks.clone(),
        };
        let manager = Manager::new(options, plane.config().clone()).register(
            Controller::new(widgets)
                .supervise(&tasks)
                .requeue_policy(policy)
                .owns::<k8s_openapi::api::core::v1::ConfigMap>()
                .owns::<k8s_openapi::api::core::v1::Service>(),
        );
        let (metrics, shutdown) = (manager.metrics().clone(), CancellationToken::new());
        let running = tokio::spawn(manager.run(shutdown.clone()));
        Self {
            journal,
            metrics,
            shutdown,
            running,
        }
    }

    pub async fn stop(self) {
        self.end().await.unwrap();
    }

    /// Asks it to end; how it did.
    pub async fn end(self) -> Result<(), ManagerError> {
        self.shutdown.cancel();
        self.running.await.unwrap()
    }
}
