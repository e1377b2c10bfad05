//! What is known of other installations, by their Leases and since when.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::ResourceExt as _;

use super::{ACTING, territory::Territory};
use crate::{fence::BootTime, leader::LeaderConfig};

/// A Lease that was last renewed so long ago, by this host's clock, is likely to be left behind.
const LEFT: SignedDuration = SignedDuration::from_hours(2);

/// Namespace and name of a Lease.
type Key = (String, String);

/// Another installation that serves some of what this one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// `namespace/name` of its Lease.
    pub(super) name: String,
    pub(super) territory: Territory,
    /// Its Lease has changed since it was first seen.
    pub(super) is_proven: bool,
}

struct Sighting {
    neighbour: Neighbour,
    record: Option<LeaseSpec>,
    /// When the record last changed, or was first seen.
    changed: BootTime,
    /// It acts, as far as is known.
    acts: bool,
    /// When it was last seen acting.
    acted: Option<BootTime>,
    /// For how long an unchanged record is respected.
    patience: Duration,
}

/// All of them, by name.
pub(crate) struct Sightings {
    territory: Territory,
    own: Key,
    /// The namespaces whose Leases count; all if there are none.
    trusted: Vec<String>,
    /// The own lease's duration.
    patience: Duration,
    known: BTreeMap<Key, Sighting>,
}

impl Sightings {
    /// Nothing is known yet, by the holder of the Lease of `config`, which serves `territory`. The Leases in the `trusted`
    /// namespaces count; all if there are none.
    pub(crate) fn new(territory: Territory, config: &LeaderConfig, trusted: Vec<String>) -> Self {
        Self {
            territory,
            own: (config.namespace.clone(), config.lease.clone()),
            trusted,
            patience: config.timing.lease_duration,
            known: BTreeMap::new(),
        }
    }

    /// Whether it is this installation's own.
    pub(super) fn is_own(&self, lease: &Lease) -> bool {
        key(lease) == self.own
    }

    fn counts(&self, lease: &Lease) -> bool {
        let namespace = lease.namespace().unwrap_or_default();
        self.trusted.is_empty() || self.trusted.contains(&namespace)
    }

    /// Takes note of a whole list, read at `now`, when the clock showed `time`.
    ///
    /// A Lease that is gone leaves what was known of it: its holder puts it back.
    pub(super) fn see(&mut self, listed: &[Lease], now: BootTime, time: Timestamp) {
        for sighting in self.known.values_mut() {
            sighting.acts = false;
        }
        for lease in listed {
            if self.is_own(lease) || !self.counts(lease) {
                continue;
            }
            match Territory::of(lease).filter(|theirs| theirs.overlaps(&self.territory)) {
                Some(theirs) => self.meet((lease, is_left(lease, time)), theirs, now),
                None => drop(self.known.remove(&key(lease))),
            }
        }
        self.known.retain(|known, sighting| {
            sighting.is_respected(now) || listed.iter().any(|lease| key(lease) == *known)
        });
    }

    fn meet(&mut self, (lease, is_left): (&Lease, bool), territory: Territory, now: BootTime) {
        let key = key(lease);
        let neighbour = Neighbour {
            name: format!("{}/{}", key.0, key.1),
            territory,
            is_proven: false,
        };
        let seen = self.known.entry(key).or_insert_with(|| Sighting {
            neighbour: neighbour.clone(),
            record: lease.spec.clone(),
            changed: now,
            acts: false,
            acted: None,
            patience: self.patience,
        });
        let is_proven = seen.neighbour.is_proven || seen.record != lease.spec;
        seen.neighbour = Neighbour {
            is_proven,
            ..neighbour
        };
        if seen.record != lease.spec {
            seen.record.clone_from(&lease.spec);
            seen.changed = now;
        }
        seen.patience = self.patience.max(duration(lease));
        if is_left && !seen.neighbour.is_proven {
            // Clocks may differ: one that changes lives, and whoever lives changes it several times in a duration.
            seen.patience /= 2;
        }
        seen.acts = is_noted(lease) && now.saturating_since(seen.changed) < seen.patience;
        if seen.acts {
            seen.acted = Some(now);
        }
    }

    /// One that acts, or did so a moment ago.
    pub(super) fn acting(&self, now: BootTime) -> Option<Neighbour> {
        let mut known = self.known.values();
        let found = known.find(|sighting| sighting.is_respected(now))?;
        Some(found.neighbour.clone())
    }

    /// One that acts according to the last list.
    pub(super) fn at_work(&self) -> Option<Neighbour> {
        let mut known = self.known.values();
        let found = known.find(|sighting| sighting.acts)?;
        Some(found.neighbour.clone())
    }
}

impl Sighting {
    fn is_respected(&self, now: BootTime) -> bool {
        let acted = self.acted;
        acted.is_some_and(|acted| now.saturating_since(acted) < self.patience)
    }
}

fn key(lease: &Lease) -> Key {
    (lease.namespace().unwrap_or_default(), lease.name_any())
}

/// How long the Lease says that it is valid.
fn duration(lease: &Lease) -> Duration {
    let stated = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(
        stated
            .and_then(|stated| u64::try_from(stated).ok())
            .unwrap_or_default(),
    )
}

/// Whether the Lease says that its holder acts. The note of an earlier holder says nothing.
fn is_noted(lease: &Lease) -> bool {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
    holder.is_some_and(|holder| !holder.is_empty() && lease.annotations().get(ACTING) == Some(holder))
}

/// Whether nobody has renewed the Lease for hours, if the clock that shows `time` is right.
fn is_left(lease: &Lease, time: Timestamp) -> bool {
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    renewed.is_some_and(|renewed| time.duration_since(renewed.0) > LEFT)
}
