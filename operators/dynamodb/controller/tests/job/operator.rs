//! The operator, in this process.

use dynamodb_controller::{manager, policy::Policy};
use reconcile::manager::{ManagerError, Options};
use tokio_util::sync::CancellationToken;

/// An operator in this process, for some namespaces. Dropping it asks it to stop.
pub struct Operator {
    pub metrics: reconcile::metrics::Metrics,
    shutdown: CancellationToken,
    running: Option<tokio::task::JoinHandle<Result<(), ManagerError>>>,
}

impl Operator {
    /// Starts one with clocks sped up; `adjust` changes its options.
    pub fn start(
        config: kube::Config,
        namespaces: &[&str],
        endpoints: &str,
        adjust: impl FnOnce(&mut Options, &mut Policy),
    ) -> Self {
        let mut options = Options::new(manager::NAME);
        options.namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let mut policy = Policy {
            endpoints: endpoints.parse().unwrap(),
            ..Policy::default()
        };
        adjust(&mut options, &mut policy);
        let manager = manager::assemble(options, config, policy, 10);
        let (metrics, shutdown) = (manager.metrics().clone(), CancellationToken::new());
        let running = tokio::spawn(manager.run(shutdown.clone()));
        Self {
            metrics,
            shutdown,
            running: Some(running),
        }
    }

    /// Drains it, as a signal would.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.await.unwrap().unwrap();
        }
    }

    /// The sum of the samples of a counter whose name and labels contain all of `parts`.
    pub fn counter(&self, parts: &[&str]) -> f64 {
        let text = self.metrics.encode();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
