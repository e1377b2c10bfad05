//! What goes wrong with which request, by a seed.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::Notify;

/// What a request is answered that comes on top of too many.
pub(crate) const THROTTLED: &str = "request limit exceeded";

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    /// It never arrives.
    Refused,
    /// It is answered that there are too many, and nothing else happens.
    Throttled,
    /// It takes effect, its answer is lost.
    Lost,
    /// The operator dies before it.
    CrashBefore,
    /// The operator dies after it took effect, before its answer.
    CrashAfter,
}

struct State {
    random: StdRng,
    per_mille: u32,
    crashes: u64,
    lost: u64,
    requests: u64,
    /// What happens to the next request, whatever the odds.
    doom: Option<Fate>,
}

/// Decides over requests. Clones are the same.
#[derive(Clone)]
pub(crate) struct Chance {
    state: Arc<Mutex<State>>,
    crash: Arc<Notify>,
}

impl Chance {
    pub(crate) fn new(seed: u64, per_mille: u32) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            per_mille,
            crashes: 0,
            lost: 0,
            requests: 0,
            doom: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            crash: Arc::default(),
        }
    }

    /// Whether something that happens this often in a thousand happens now.
    pub(crate) fn happens(&self, per_mille: u32) -> bool {
        self.state.lock().random.random_range(0..1000) < per_mille
    }

    pub(crate) fn below(&self, limit: usize) -> usize {
        self.state.lock().random.random_range(0..limit)
    }

    /// Decides over the next request.
    pub(crate) fn doom(&self, fate: Fate) {
        self.state.lock().doom = Some(fate);
    }

    fn fate(&self) -> Fate {
        let mut state = self.state.lock();
        state.requests += 1;
        if let Some(fate) = state.doom.take() {
            return fate;
        }
        if state.random.random_range(0..1000) >= state.per_mille {
            return Fate::Pass;
        }
        match state.random.random_range(0..5) {
            0 => Fate::Refused,
            1 => {
                state.lost += 1;
                Fate::Lost
            }
            2 => Fate::CrashBefore,
            3 => Fate::Throttled,
            _ => Fate::CrashAfter,
        }
    }

    /// Carries out a request, or what fate makes of it. An error is a broken
    /// connection, or [`THROTTLED`].
    pub(crate) async fn request<T>(&self, effect: impl FnOnce() -> T) -> Result<T, &'static str> {
        // A request takes time, in which others get their turn.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        match self.fate() {
            Fate::Pass => Ok(effect()),
            Fate::Refused => Err("connection refused"),
            Fate::Throttled => Err(THROTTLED),
            Fate::Lost => {
                effect();
                Err("connection reset")
            }
            Fate::CrashBefore => self.die().await,
            Fate::CrashAfter => {
                effect();
                self.die().await
            }
        }
    }

    async fn die<T>(&self) -> T {
        self.state.lock().crashes += 1;
        self.crash.notify_one();
        std::future::pending().await
    }

    /// Completes when the operator dies.
    pub(crate) async fn death(&self) {
        self.crash.notified().await;
    }

    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state.lock();
        (state.requests, state.crashes, state.lost)
    }
}
