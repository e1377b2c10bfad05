//! One life of an operator: a thread, a runtime, and the end of both.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::fault::FaultPlan;

/// How long a blocking task may outlive its incarnation.
const GRACE: Duration = Duration::from_secs(1);

/// How an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The scenario says that nothing is left to do.
    Converged,
    /// Its crash fired.
    Crashed,
}

/// Runs one incarnation and returns after its runtime is gone. If this future is dropped, so is the incarnation.
pub(super) async fn run<W, R>(run: &Arc<R>, world: &Arc<W>, plan: &FaultPlan) -> anyhow::Result<End>
where
    W: Send + Sync + 'static,
    R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
{
    let (run, world, plan) = (Arc::clone(run), Arc::clone(world), plan.clone());
    let (ended, end) = oneshot::channel();
    // Dropped with this future, which tells the thread to stop.
    let (alive, abandoned) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("incarnation".to_owned())
        .spawn(move || {
            let end = live(async {
                tokio::select! {
                    biased;
                    () = plan.crashed() => Ok(End::Crashed),
                    _ = abandoned => Ok(End::Crashed),
                    converged = run(world, plan.clone()) => converged.map(|()| End::Converged),
                }
            });
            ended.send(end).ok();
        })?;
    let end = end.await.context("the incarnation panicked")?;
    drop(alive);
    end
}

fn live(life: impl Future<Output = anyhow::Result<End>>) -> anyhow::Result<End> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let end = runtime.block_on(life);
    runtime.shutdown_timeout(GRACE);
    end
}
