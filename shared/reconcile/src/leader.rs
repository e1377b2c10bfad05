//! Leader election with client-go's protocol on a Lease, made for hosts that sleep and servers that hang.
//!
//! # What happens
//! 0. A replica that cannot work yet stands by: it is no candidate before [`Leadership::campaign`].
//! 1. Every candidate reads the Lease, and watches it. Who finds none creates it; who finds it without holder claims it.
//! 2. A candidate notes *on its own clock* when the record last changed. Timestamps inside of the record are never
//!    compared with anything, so hosts may disagree about the time as much as they like.
//! 3. If the record has not changed for the duration that it states, the standby claims it, at that very moment.
//! 4. Every claim is a PUT with the resourceVersion that the decision was based on: of two claims, one is refused.
//! 5. The leader renews every retry period. Each call is bounded by half of the renew deadline.
//! 6. After a renew deadline without success the lease counts as lost: the [`Fence`] closes by
//!    itself, [`Leadership::lost`] resolves, and the process must end.
//! 7. On a drain, [`Leadership::release`] clears the holder; the standbys' watch tells them at once.
//!
//! # Guarantees
//! - At most one process has an open fence at any moment, as long as clocks *run* at rates that differ by less than
//!   lease duration : renew deadline. That includes hosts that were suspended (CLOCK_BOOTTIME goes on) and processes
//!   that were stopped.
//! - A busy process does not lose its lease: the elector has a thread, a runtime and connections of its own.
//! - A call that hangs does not outlive the lease, and a claim whose answer was lost is found again by the next read.
//! - Identities are unique per process start: a restarted container never renews a lease that it does not know of.
//! - If somebody deletes the Lease, a standby that saw it waits as long as it was valid; the leader puts it back.
//!
//! # Assumptions
//! - The operator may `get`, `create`, `update` and `watch` `leases` in the lease's namespace. Without `watch` it polls.
//! - Whoever is told that the lease is lost ends the process at once, without draining. Whoever calls
//!   [`Leadership::release`] has drained before: nothing is sent afterwards.
//!
//! # Caveats
//! - A crash is noticed after the lease duration, less the time since the last renewal, plus one request. See [`Timing`].
//! - A replica that starts just after the Lease was deleted has nothing to wait for, and creates it.
//! - The event that says that the lease is lost is sent after the fence has closed, by the elector's own connection: the one
//!   request, and as in client-go, that a replica begins then. It changes nothing that is reconciled.
//! - Kubernetes does not fence: a request already sent when the lease is lost may still take effect. See
//!   [`crate::fence`].
//! - Dropping the [`Leadership`] closes the fence but does not release: that is what a crash looks like.
//!
//! # Errors
//! [`ConfigError`] for timings that cannot work, [`Error`] when the elector cannot start. From then on it never gives up as
//! a standby: refusals (401, 403) are logged as errors, everything else as warnings, and tried again.
//!
//! # Example
//! ```no_run
//! use reconcile::{client::ClientOptions, leader::{LeaderConfig, LeaderElector, Timing}};
//!
//! # async fn example(kube: kube::Config) -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = LeaderConfig::new("database-operator", "databases");
//! config.timing = Timing::FAST;
//! let leadership = LeaderElector::spawn(config, kube, ClientOptions::new("database-operator/1.4.0")).await?;
//! leadership.acquired().await?;
//! tokio::select! {
//!     lost = leadership.lost() => return Err(lost.into()),
//!     () = async { /* work, drain */ } => leadership.release().await,
//! }
//! # Ok(())
//! # }
//! ```

mod config;
mod decision;
mod elector;
mod record;

use std::{io, thread, time::Duration};

use kube::Api;
use prometheus::IntGauge;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use self::config::{ConfigError, LeaderConfig, Timing, process_identity};
use self::elector::{Elector, State};
use crate::{
    client::{self, ClientOptions},
    clock::Clock,
    events::EventRecorder,
    fence::{Fence, FenceKeeper, LeaseLost},
};

/// The elector could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system gave no thread or no event queue.
    #[error("failed to start the thread of the leader election")]
    Thread(#[source] io::Error),
    /// The client of the elector could not be made.
    #[error("failed to make the client of the leader election")]
    Client(#[from] client::Error),
    /// The thread ended before it had begun; the log tells why.
    #[error("the thread of the leader election ended before it had begun; its panic is in the log")]
    Died,
}

/// Starts elections.
#[derive(Clone, Copy, Debug)]
pub struct LeaderElector;

impl LeaderElector {
    /// Joins the election for `config`'s lease, on a thread of its own.
    ///
    /// Of `options` the elector takes user agent, metrics and wire layer; it needs neither fence nor rate limit.
    pub async fn spawn(
        config: LeaderConfig,
        kube: kube::Config,
        options: ClientOptions,
    ) -> Result<Leadership, Error> {
        let leadership = Self::stand_by(config, kube, options).await?;
        leadership.campaign();
        Ok(leadership)
    }

    /// As [`Self::spawn`], for a process that is not ready to lead: it becomes a candidate by
    /// [`Leadership::campaign`]. Until then the lease is left to those who can work.
    pub async fn stand_by(
        config: LeaderConfig,
        kube: kube::Config,
        options: ClientOptions,
    ) -> Result<Leadership, Error> {
        config.validate()?;
        let gauge = options.metrics.leader_status(&config.lease);
        let campaign = CancellationToken::new();
        let (fence, keeper) = Fence::kept(&config.full_name());
        let (state_out, state) = watch::channel(State::Standby);
        let (release, commands) = oneshot::channel();
        let (started_out, started) = oneshot::channel();
        let farewell = config.timing.call_limit() * 2 + Duration::from_secs(1);
        let start = Start {
            config,
            kube,
            options,
            keeper,
            state: state_out,
            gauge: gauge.clone(),
            campaign: campaign.clone(),
        };
        let body = move || start.run(started_out, commands);
        thread::Builder::new()
            .name("leader-elector".to_owned())
            .spawn(body)
            .map_err(Error::Thread)?;
        started.await.map_err(|_| Error::Died)??;
        Ok(Leadership {
            fence,
            state,
            campaign,
            gauge,
            release,
            farewell,
        })
    }
}

/// What the elector's thread begins with.
struct Start {
    config: LeaderConfig,
    kube: kube::Config,
    options: ClientOptions,
    keeper: FenceKeeper,
    state: watch::Sender<State>,
    gauge: IntGauge,
    campaign: CancellationToken,
}

impl Start {
    fn run(self, started: oneshot::Sender<Result<(), Error>>, commands: oneshot::Receiver<Farewell>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                // Nobody listens if the caller gave up, which is no loss.
                let _ = started.send(Err(Error::Thread(error)));
                return;
            }
        };
        let campaign = self.campaign.clone();
        runtime.block_on(async {
            match self.elector() {
                Ok(elector) => {
                    let _ = started.send(Ok(()));
                    elector.run(campaign, commands).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    }

    fn elector(self) -> Result<Elector, Error> {
        let Self {
            config,
            kube,
            mut options,
            keeper,
            state,
            gauge,
            ..
        } = self;
        options.fence = Fence::open();
        options.qps = 0.0;
        options.request_timeout = config.timing.call_limit();
        let controller = options
            .user_agent
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let client = client::build(kube, options)?;
        let recorder = EventRecorder::new(client.clone(), Clock::system(), &controller, &config.identity);
        let leases = Api::namespaced(client, &config.namespace);
        Ok(Elector::new(
            config,
            leases,
            recorder,
            keeper,
            elector::Signals { state, gauge },
        ))
    }
}

/// Asks the elector to give the lease up; answered when that is done.
type Farewell = oneshot::Sender<()>;

/// This process's part in an election.
#[derive(Debug)]
pub struct Leadership {
    fence: Fence,
    state: watch::Receiver<State>,
    campaign: CancellationToken,
    gauge: IntGauge,
    release: oneshot::Sender<Farewell>,
    farewell: Duration,
}

impl Leadership {
    /// From now on this process is a candidate. Saying it again changes nothing.
    pub fn campaign(&self) {
        self.campaign.cancel();
    }

    /// Says in the metrics that this process, which holds the lease, acts now.
    pub fn acts(&self) {
        self.gauge.set(1);
    }

    /// Resolves when this process holds the lease; fails if the election ended before that.
    pub async fn acquired(&self) -> Result<(), LeaseLost> {
        let mut state = self.state.clone();
        // An error means that the elector is gone; the check below says so.
        let _ = state.wait_for(|state| *state != State::Standby).await;
        self.fence.check()
    }

    /// Resolves when the lease, once held, is held no longer: the process must end, without a drain.
    ///
    /// Does not depend on the elector's thread: the fence's deadline alone is enough.
    pub async fn lost(&self) -> LeaseLost {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state != State::Standby).await;
        loop {
            if let Err(lost) = self.fence.check() {
                return lost;
            }
            let deadline = self.fence.remaining().unwrap_or(Duration::MAX);
            // Whichever comes first, the fence decides; it moves with each renewal.
            // The guard that `wait_for` yields must not live on across an await.
            let ended = async { drop(state.wait_for(|state| *state == State::Ended).await) };
            tokio::select! {
                () = tokio::time::sleep(deadline) => {}
                () = ended => tokio::task::yield_now().await,
            }
        }
    }

    /// The fence that is open while this process holds the lease.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Whether this process holds the lease now.
    pub fn is_leader(&self) -> bool {
        self.fence.check().is_ok()
    }

    /// Gives the lease up, so that a standby can take over at once, and leaves the election.
    ///
    /// To be called after a drain: the fence is closed first. Takes a renew deadline and a second at most; failing, it
    /// logs a warning, and the standbys wait until the lease expires. For a standby it does nothing but leave.
    pub async fn release(self) {
        let (done_out, done) = oneshot::channel();
        if self.release.send(done_out).is_err() {
            return;
        }
        if tokio::time::timeout(self.farewell, done).await.is_err() {
            tracing::warn!(
                "Gave up waiting for the lease to be released; standbys take over when it expires"
            );
        }
    }
}

#[cfg(test)]
mod tests;
