//! The candidate: reads, decides, claims, renews, gives up. Runs alone on its thread.

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ObjectReference};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use prometheus::IntGauge;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Farewell,
    config::{JITTER, LeaderConfig},
    decision::{Decision, Observation, decide},
    record::{claimed, is_held_by, released},
};
use crate::{
    events::{EventKind, EventRecorder, Notice},
    fence::{BootTime, FenceKeeper},
    sabotage,
};

/// How long the last event may keep a process that is about to end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where an election stands, for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Another leads, or nobody yet.
    Standby,
    /// This process leads, or did until its fence closed.
    Leading,
    /// Lost, given up, or left.
    Ended,
}

/// Where the elector tells how it stands.
pub(super) struct Signals {
    pub(super) state: watch::Sender<State>,
    pub(super) gauge: IntGauge,
}

/// Why a lease is not ours after a call.
enum Failure {
    /// Another has it.
    Taken,
    /// The call failed, or what we based it on is outdated.
    Call(kube::Error),
    /// No answer in time.
    TimedOut,
}

impl Failure {
    /// What we saw is no longer there: another write, a creation or a deletion came first.
    fn is_outdated(&self) -> bool {
        matches!(self, Self::Call(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}

/// See the module.
pub(super) struct Elector {
    config: LeaderConfig,
    leases: Api<Lease>,
    recorder: EventRecorder,
    keeper: FenceKeeper,
    signals: Signals,
    observed: Observation,
    /// The Lease as last seen or written; `None` if there was none.
    latest: Option<Lease>,
    /// Up to when the lease is surely ours.
    deadline: BootTime,
}

impl Elector {
    pub(super) fn new(
        config: LeaderConfig,
        leases: Api<Lease>,
        recorder: EventRecorder,
        keeper: FenceKeeper,
        signals: Signals,
    ) -> Self {
        let (observed, deadline) = (Observation::default(), BootTime::now());
        Self {
            config,
            leases,
            recorder,
            keeper,
            signals,
            observed,
            latest: None,
            deadline,
        }
    }

    /// Takes part from `campaign` on, until the lease is lost or `commands` says to leave.
    pub(super) async fn run(
        mut self,
        campaign: CancellationToken,
        mut commands: oneshot::Receiver<Farewell>,
    ) {
        let command = tokio::select! {
            biased;
            command = &mut commands => Some(command),
            () = self.take_part(campaign) => None,
        };
        self.keeper.close();
        self.signals.gauge.set(0);
        match command {
            Some(Ok(done)) => {
                if !sabotage::active(sabotage::KEEP_THE_LEASE) {
                    self.give_up().await;
                }
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
            // Dropped without release: nobody says whether work has stopped, so the lease is left to expire.
            Some(Err(_)) => {}
            None => {
                tracing::error!(
                    lease = self.config.full_name(),
                    "Lost the lease; this process must end"
                );
                self.signals.state.send_replace(State::Ended);
                let _ = timeout(LAST_WORDS, self.announce("stopped leading")).await;
            }
        }
        self.signals.state.send_replace(State::Ended);
    }

    async fn take_part(&mut self, campaign: CancellationToken) {
        campaign.cancelled().await;
        self.acquire().await;
        tracing::info!(
            lease = self.config.full_name(),
            identity = self.config.identity,
            "Became leader"
        );
        self.signals.state.send_replace(State::Leading);
        let news = self.announcement("became leader");
        tokio::spawn(news);
        self.lead().await;
    }

    /// Returns when the lease is ours.
    async fn acquire(&mut self) {
        let mut changes = pin!(changes(self.leases.clone(), &self.config));
        let mut next_poll = Instant::now();
        loop {
            let expiry = match self.decide() {
                Decision::Wait(until) => until.saturating_since(BootTime::now()),
                // A claim has just failed, or nothing was read yet: the next poll is soon enough.
                Decision::Create | Decision::Claim => Duration::MAX,
            };
            tokio::select! {
                biased;
                Some(lease) = changes.next() => self.saw(lease),
                () = sleep(expiry) => {}
                () = sleep_until(next_poll) => {
                    next_poll = Instant::now() + jittered(self.config.timing.retry_period);
                    if let Err(failure) = self.read().await {
                        self.complain("read", &failure);
                        continue;
                    }
                }
            }
            if matches!(self.decide(), Decision::Wait(_)) {
                continue;
            }
            match self.claim(self.config.timing.call_limit()).await {
                Ok(()) => return,
                Err(failure) => {
                    if failure.is_outdated() {
                        next_poll = Instant::now();
                    }
                    self.complain("claim", &failure);
                }
            }
        }
    }

    /// Renews until the lease is lost.
    async fn lead(&mut self) {
        let period = self.config.timing.retry_period;
        let mut next = Instant::now() + period;
        loop {
            let left = self.deadline.saturating_since(BootTime::now());
            sleep_until(next.min(Instant::now() + left)).await;
            next = Instant::now() + period;
            let left = self.deadline.saturating_since(BootTime::now());
            if left.is_zero() {
                return;
            }
            match self.renew(left.min(self.config.timing.call_limit())).await {
                Ok(()) => {}
                Err(Failure::Taken) => {
                    self.complain("renew", &Failure::Taken);
                    return;
                }
                Err(failure) => self.complain("renew", &failure),
            }
        }
    }

    /// Renews; what was outdated (somebody edited the Lease, or an answer was lost) is read and renewed again at once.
    async fn renew(&mut self, limit: Duration) -> Result<(), Failure> {
        match self.claim(limit).await {
            Err(failure) if failure.is_outdated() => {}
            other => return other,
        }
        self.read().await?;
        if self
            .latest
            .as_ref()
            .is_some_and(|lease| !is_held_by(lease, &self.config.identity))
        {
            return Err(Failure::Taken);
        }
        let left = self.deadline.saturating_since(BootTime::now());
        if left.is_zero() {
            // Even a request that is given no time might still be sent.
            return Err(Failure::Taken);
        }
        self.claim(left.min(self.config.timing.call_limit())).await
    }

    fn decide(&self) -> Decision {
        let exists = self.latest.is_some();
        let duration = self.config.timing.lease_duration;
        decide(
            &self.config.identity,
            exists,
            &self.observed,
            duration,
            BootTime::now(),
        )
    }

    fn saw(&mut self, lease: Option<Lease>) {
        self.observed.see(
            lease.as_ref().and_then(|lease| lease.spec.as_ref()),
            BootTime::now(),
        );
        self.latest = lease;
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let lease = bounded(
            self.config.timing.call_limit(),
            self.leases.get_opt(&self.config.lease),
        )
        .await?;
        self.saw(lease);
        Ok(())
    }

    /// Writes our name into the Lease as last seen, or creates it. Our time runs from before the request.
    async fn claim(&mut self, limit: Duration) -> Result<(), Failure> {
        let begun = BootTime::now();
        let lease = claimed(self.latest.as_ref(), &self.config, Timestamp::now());
        let written = match &self.latest {
            Some(_) => bounded(limit, self.replace(&lease)).await,
            None => bounded(limit, self.leases.create(&PostParams::default(), &lease)).await,
        };
        self.saw(Some(written?));
        self.deadline = begun + self.config.timing.renew_deadline;
        self.keeper.extend(self.deadline);
        Ok(())
    }

    async fn replace(&self, lease: &Lease) -> kube::Result<Lease> {
        self.leases
            .replace(&self.config.lease, &PostParams::default(), lease)
            .await
    }

    /// Clears the holder if that is us. A claim may have been on its way when we were told to leave, so look first.
    async fn give_up(&mut self) {
        let led = *self.signals.state.borrow() == State::Leading;
        if !led && let Err(failure) = self.read().await {
            self.complain("read", &failure);
            return;
        }
        for _ in 0..2 {
            let outcome = match self
                .latest
                .clone()
                .filter(|lease| is_held_by(lease, &self.config.identity))
            {
                Some(lease) => {
                    let free = released(&lease, Timestamp::now());
                    bounded(self.config.timing.call_limit(), self.replace(&free)).await
                }
                None => Ok(Lease::default()),
            };
            match outcome {
                Ok(_) if led => {
                    tracing::info!(lease = self.config.full_name(), "Released the lease");
                    let _ = timeout(LAST_WORDS, self.announce("stopped leading")).await;
                    return;
                }
                Ok(_) => return,
                Err(failure) => self.complain("release", &failure),
            }
            if let Err(failure) = self.read().await {
                self.complain("read", &failure);
                return;
            }
        }
    }

    async fn announce(&self, what: &str) {
        self.announcement(what).await;
    }

    fn announcement(&self, what: &str) -> impl Future<Output = ()> + use<> {
        let regarding = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(self.config.namespace.clone()),
            name: Some(self.config.lease.clone()),
            uid: self.latest.as_ref().and_then(ResourceExt::uid),
            resource_version: self.latest.as_ref().and_then(ResourceExt::resource_version),
            ..ObjectReference::default()
        };
        let note = format!("{} {what}", self.config.identity);
        let notice = Notice {
            kind: EventKind::Normal,
            reason: "LeaderElection",
            action: "LeaderElection",
            note,
        };
        let recorder = self.recorder.clone();
        async move { recorder.publish(&regarding, notice).await }
    }

    fn complain(&self, verb: &str, failure: &Failure) {
        let lease = self.config.full_name();
        match failure {
            Failure::Call(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => tracing::error!(
                lease,
                error = status.message,
                "Not allowed to {verb} the lease: this operator's ServiceAccount needs get, list, watch, create and update of leases in coordination.k8s.io there, and nobody leads without"
            ),
            Failure::Call(kube::Error::Api(status)) if status.code == 409 => {
                tracing::debug!(
                    lease,
                    "Another write came first; will look again before the next {verb}"
                );
            }
            Failure::Call(error) => tracing::warn!(lease, %error, "Failed to {verb} the lease; trying again"),
            Failure::TimedOut => tracing::warn!(lease, "No answer in time to {verb} the lease; trying again"),
            Failure::Taken => tracing::warn!(lease, "The lease has another holder"),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Call(error)
    }
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    Ok(timeout(limit, call).await.map_err(|_| Failure::TimedOut)??)
}

/// client-go's jitter: one to 2.2 times `period`.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random::<f64>().mul_add(JITTER, 1.0))
}

/// The Lease whenever it changes; `None` when it was deleted. Errors are left to the polls, which go on.
fn changes(leases: Api<Lease>, config: &LeaderConfig) -> impl Stream<Item = Option<Lease>> + use<> {
    let selected = watcher::Config::default().fields(&format!("metadata.name={}", config.lease));
    let lease = config.full_name();
    watcher(leases, selected)
        .default_backoff()
        .filter_map(move |event| {
            let seen = match event {
                Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => Some(Some(lease)),
                Ok(watcher::Event::Delete(_)) => Some(None),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                Err(error) => {
                    tracing::debug!(lease, %error, "The watch of the lease was interrupted; polling goes on");
                    None
                }
            };
            std::future::ready(seen)
        })
}
