//! Which lease, in whose name, and how fast.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

/// client-go's jitter of a standby's polls: a poll comes after one to 2.2 retry periods.
pub(super) const JITTER: f64 = 1.2;

/// The three durations of an election.
///
/// | | lease | renew | retry | after a crash | writes of the leader |
/// |---|---|---|---|---|---|
/// | [`Timing::DEFAULT`] | 15 s | 10 s | 2 s | 13–15 s | 0.5/s |
/// | [`Timing::FAST`] | 3 s | 2 s | 0.5 s | 2.5–3 s | 2/s |
/// | [`Timing::TOLERANT`] | 60 s | 40 s | 5 s | 55–60 s | 0.2/s |
///
/// The shorter the renew deadline, the shorter the pause of the API server that costs the leader its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a standby waits for a sign of life before it takes over. Whole seconds, at least 1.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it considers the lease lost. Shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// How often the leader renews, and about how often a standby polls. `renew_deadline` is more than 1.2 times this.
    pub retry_period: Duration,
}

impl Timing {
    /// As every operator built with controller-runtime: 15 s, 10 s, 2 s.
    pub const DEFAULT: Self = Self::new(15_000, 10_000, 2_000);
    /// Takes over in less than five seconds after a crash: 3 s, 2 s, 0.5 s.
    pub const FAST: Self = Self::new(3_000, 2_000, 500);
    /// For API servers that pause (upgrades of a single control plane node): 60 s, 40 s, 5 s.
    pub const TOLERANT: Self = Self::new(60_000, 40_000, 5_000);

    const fn new(lease: u64, renew: u64, retry: u64) -> Self {
        Self {
            lease_duration: Duration::from_millis(lease),
            renew_deadline: Duration::from_millis(renew),
            retry_period: Duration::from_millis(retry),
        }
    }

    /// How long one call may take: two fit into the renew deadline.
    pub(super) fn call_limit(self) -> Duration {
        self.renew_deadline / 2
    }

    /// Checks what client-go checks, and that the lease's integer field can hold the duration.
    pub fn validate(self) -> Result<(), ConfigError> {
        let Self {
            lease_duration: lease,
            renew_deadline: renew,
            retry_period: retry,
        } = self;
        if lease < Duration::from_secs(1)
            || lease.subsec_nanos() != 0
            || i32::try_from(lease.as_secs()).is_err()
        {
            return Err(ConfigError::LeaseDuration(lease));
        }
        if lease <= renew {
            return Err(ConfigError::RenewDeadline { lease, renew });
        }
        if retry.is_zero() || renew <= retry.mul_f64(JITTER) {
            return Err(ConfigError::RetryPeriod { renew, retry });
        }
        Ok(())
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// An election: the lease, the candidate, the timing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderConfig {
    /// The Lease's name.
    pub lease: String,
    /// The Lease's namespace.
    pub namespace: String,
    /// The candidate: unique per process start.
    pub identity: String,
    /// Default [`Timing::DEFAULT`].
    pub timing: Timing,
    /// Set on the Lease by whoever holds it; others' labels stay. Default: none.
    pub labels: BTreeMap<String, String>,
    /// The same for annotations.
    pub annotations: BTreeMap<String, String>,
}

impl LeaderConfig {
    /// An election for `namespace/lease` with the defaults, in the name of this process start.
    pub fn new(lease: &str, namespace: &str) -> Self {
        Self {
            lease: lease.to_owned(),
            namespace: namespace.to_owned(),
            identity: process_identity(),
            timing: Timing::DEFAULT,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// `namespace/lease`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.lease)
    }

    /// Checks names and [`Timing::validate`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let named = [
            ("lease", &self.lease),
            ("namespace", &self.namespace),
            ("identity", &self.identity),
        ];
        if let Some((field, _)) = named.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(ConfigError::Empty(field));
        }
        self.timing.validate()
    }
}

/// The host's name (in a pod, the pod's), an underscore, and a UUID made anew by every call.
pub fn process_identity() -> String {
    let host = rustix::system::uname();
    format!("{}_{}", host.nodename().to_string_lossy(), Uuid::new_v4())
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name is missing.
    #[error("leader election: the {0} must not be empty")]
    Empty(&'static str),
    /// The lease's duration does not fit the Lease's field.
    #[error("leader election: the lease duration must be whole seconds, at least 1s, but is {0:?}")]
    LeaseDuration(Duration),
    /// The leader would still believe in its lease when a standby takes over.
    #[error(
        "leader election: the lease duration ({lease:?}) must be longer than the renew deadline ({renew:?})"
    )]
    RenewDeadline {
        /// The lease's duration.
        lease: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// A single late renewal would lose the lease.
    #[error(
        "leader election: the renew deadline ({renew:?}) must be longer than 1.2 times the retry period ({retry:?}), which must not be 0"
    )]
    RetryPeriod {
        /// The renew deadline.
        renew: Duration,
        /// The retry period.
        retry: Duration,
    },
}
