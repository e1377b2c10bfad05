//! What is written into the Lease: pure functions from the old record to the new one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::config::LeaderConfig;

/// `lease` with our name in it; a new one if there is none. Everything that is not ours stays as it is, the
/// resourceVersion in particular.
pub(super) fn claimed(lease: Option<&Lease>, config: &LeaderConfig, now: Timestamp) -> Lease {
    let mut lease = lease.cloned().unwrap_or_else(|| blank(config));
    add(&mut lease.metadata.labels, &config.labels);
    add(&mut lease.metadata.annotations, &config.annotations);
    let old = lease.spec.take();
    let ours = old
        .as_ref()
        .is_some_and(|spec| spec.holder_identity.as_deref() == Some(&config.identity));
    let mut spec = old.clone().unwrap_or_default();
    if !ours {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions =
            Some(old.map_or(0, |spec| spec.lease_transitions.unwrap_or(0).saturating_add(1)));
        spec.holder_identity = Some(config.identity.clone());
    }
    spec.renew_time = Some(MicroTime(now));
    spec.lease_duration_seconds = i32::try_from(config.timing.lease_duration.as_secs()).ok();
    lease.spec = Some(spec);
    lease
}

/// Sets ours among those that are there.
fn add(all: &mut Option<BTreeMap<String, String>>, ours: &BTreeMap<String, String>) {
    if !ours.is_empty() {
        let ours = ours.iter().map(|(key, value)| (key.clone(), value.clone()));
        all.get_or_insert_default().extend(ours);
    }
}

/// `lease` without holder, as client-go leaves it: with a duration of one second, for candidates that look at nothing else.
pub(super) fn released(lease: &Lease, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.acquire_time = Some(MicroTime(now));
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Whether `lease` names this candidate as its holder.
pub(super) fn is_held_by(lease: &Lease, identity: &str) -> bool {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        == Some(identity)
}

fn blank(config: &LeaderConfig) -> Lease {
    let metadata = ObjectMeta {
        name: Some(config.lease.clone()),
        namespace: Some(config.namespace.clone()),
        ..ObjectMeta::default()
    };
    Lease { metadata, spec: None }
}
