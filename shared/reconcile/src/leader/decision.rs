//! What to do about a lease, as a pure function of what was seen and when.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;

use crate::{fence::BootTime, sabotage};

/// What a candidate should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// There is no Lease, and none that could still be valid: create it.
    Create,
    /// The Lease is free, has expired, or is ours already: put our name in, with the resourceVersion that was seen.
    Claim,
    /// Another holds it, until this moment at least.
    Wait(BootTime),
}

/// The record last seen and since when, on our own clock, it has been as it is.
#[derive(Debug, Default)]
pub(super) struct Observation {
    last: Option<(LeaseSpec, BootTime)>,
}

impl Observation {
    /// Takes note of a record read or received at `now`. Only a record that differs restarts the wait.
    ///
    /// A vanished record (`None`) leaves the last one standing: its holder may go on for as long as it was valid.
    /// An old record that arrives late can only prolong the wait.
    pub(super) fn see(&mut self, record: Option<&LeaseSpec>, now: BootTime) {
        let Some(record) = record else { return };
        if self.last.as_ref().is_none_or(|(last, _)| last != record) {
            self.last = Some((record.clone(), now));
        }
    }

    /// When the record last seen ceases to protect its holder; `None` if it protects nobody.
    ///
    /// The record's own duration counts, not ours: during a change of configuration they differ.
    fn protected_until(&self, default: Duration) -> Option<(&str, BootTime)> {
        let (record, since) = self.last.as_ref()?;
        let holder = record
            .holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())?;
        let stated = record
            .lease_duration_seconds
            .map(|seconds| u64::try_from(seconds).unwrap_or_default());
        let duration = stated.map_or(default, Duration::from_secs);
        Some((holder, *since + duration))
    }
}

/// Decides for the candidate `identity`.
///
/// `exists` tells whether the Lease was there when last looked; `observed` is what is known about its record;
/// `default` is how long a record without duration is respected.
pub(super) fn decide(
    identity: &str,
    exists: bool,
    observed: &Observation,
    default: Duration,
    now: BootTime,
) -> Decision {
    match observed.protected_until(default) {
        Some((holder, until))
            if holder != identity && now < until && !sabotage::active(sabotage::CLAIM_TOO_EARLY) =>
        {
            Decision::Wait(until)
        }
        _ if exists => Decision::Claim,
        _ => Decision::Create,
    }
}
