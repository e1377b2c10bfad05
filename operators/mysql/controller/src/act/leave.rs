//! The end of a cluster's members: retired one by one, proven gone, and looked for once more; then what they left behind.
//!
//! Volumes and network interfaces go with their instance, unless somebody has changed that or moved them. What is attached
//! to nothing, carries our id and was launched with a member of the cluster is deleted, but not what carries the tag
//! [`RETAINED`] with the cluster's UID, nor a volume that was made from a snapshot: a backup that somebody has restored may carry
//! the tags of the volume that it is of.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use mysql_api::cluster::LaunchPhase;

use super::{Outcome, PassError, Work, is_over};
use crate::{
    cloud::{CloudError, Instance, InstanceState, Instances, Part},
    evidence::PROPAGATION,
    identity::{RETAINED, TOMBSTONE},
    ledger::Ledger,
    plan::{self, Step},
    records::Records,
};

/// How soon the listing that ends a deletion is made once more.
pub const SWEEP_AGAIN: Duration = Duration::from_secs(5);

/// How far a deletion is.
#[derive(Debug)]
pub enum Leaving {
    /// Something is left to be done, or to be waited for.
    Going(Box<Outcome>),
    /// Every launch is proven over, and a last listing still shows these; again after [`SWEEP_AGAIN`].
    Showing(Vec<String>),
    /// No instance is left. These are, which carry the cluster's UID: somebody keeps them, uses them otherwise, has given
    /// them that tag, or has made them from a snapshot.
    Over(Vec<Part>),
}

/// What came of the deletion of a volume or interface.
enum Discarded {
    /// It is not there.
    Gone,
    /// It may be shown for a while.
    Accepted,
    /// Somebody or something uses it.
    Refused,
}

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// One pass of a deletion.
    pub async fn leave(&self, ledger: Ledger) -> Result<Leaving, PassError<R::Error>> {
        if !is_over(&ledger) {
            return self
                .wind_up(ledger)
                .await
                .map(|outcome| Leaving::Going(Box::new(outcome)));
        }
        let (shown, is_shown) = self.sweep().await?;
        if !shown.is_empty() {
            return Ok(Leaving::Showing(shown.into_iter().map(|one| one.id).collect()));
        }
        let now = self.operator.clock.steady();
        let since = self.evidence.lock().clearing(now);
        let left = self.clear(since, now).await?;
        if matches!(left, Leaving::Over(_)) && !is_shown {
            self.recognise_any(&ledger).await.map_err(PassError::Cloud)?;
        }
        Ok(left)
    }

    /// Deletes what the members have left behind. What is attached or in use may be shown late, or be going, as may be a member's
    /// root volume, which is made from its image's snapshot; if it is there for longer than that, it is somebody else's
    /// business. What was deleted is over when it is not shown any more.
    async fn clear(&self, since: Timestamp, now: Timestamp) -> Result<Leaving, PassError<R::Error>> {
        let (cloud, operator_id) = (&self.operator.cloud, &self.operator.operator_id);
        let parts = cloud.parts(self.region, operator_id, self.cluster_uid).await;
        let is_late = now.duration_since(since) > PROPAGATION;
        let (mut left, mut going) = (Vec::new(), Vec::new());
        for part in parts.map_err(PassError::Cloud)? {
            let kept = part.tags.get(RETAINED).is_some_and(|uid| uid == self.cluster_uid);
            let foreign = part.identity().is_none();
            let used = if kept || foreign || part.attached_to.is_some() || part.snapshot.is_some() {
                true
            } else {
                match self.discard(&part).await.map_err(PassError::Cloud)? {
                    Discarded::Gone => continue,
                    Discarded::Accepted => false,
                    Discarded::Refused => true,
                }
            };
            if kept || foreign || used && is_late {
                left.push(part);
            } else {
                going.push(part.id);
            }
        }
        Ok(if going.is_empty() {
            Leaving::Over(left)
        } else {
            Leaving::Showing(going)
        })
    }

    async fn discard(&self, part: &Part) -> Result<Discarded, CloudError> {
        match self.operator.cloud.discard(self.region, part, self.fence).await {
            Ok(()) => Ok(Discarded::Accepted),
            Err(error) if error.is_part_not_found() => Ok(Discarded::Gone),
            Err(error) if error.is_part_in_use() => Ok(Discarded::Refused),
            Err(error) => Err(error),
        }
    }

    /// Looks for what came of launches whose outcome is unknown, and touches nothing else.
    pub async fn resolve(&self, ledger: Ledger) -> Result<Outcome, PassError<R::Error>> {
        let seen = self.observe(&ledger, super::FRESH).await?;
        let now = self.operator.clock.steady();
        let mut steps = {
            let mut evidence = self.evidence.lock();
            let since = evidence.leaving(now);
            plan::wind_up(&ledger, &seen, &evidence, since, now)
        };
        steps.retain(|step| {
            matches!(
                step,
                Step::Search { .. } | Step::Record { .. } | Step::Conclude { .. }
            )
        });
        self.carry_out(None, ledger, seen, steps).await
    }

    async fn wind_up(&self, ledger: Ledger) -> Result<Outcome, PassError<R::Error>> {
        let seen = self.observe(&ledger, super::FRESH).await?;
        // Not what a deletion waits for: what is proven gone needs no tombstone.
        if let Err(error) = self.entomb(&seen.instances).await {
            if error.is_unsent() {
                self.fence.check()?;
            }
            tracing::warn!(cluster_uid = self.cluster_uid, %error, "Instances get no tombstone");
        }
        let now = self.operator.clock.steady();
        let steps = {
            let mut evidence = self.evidence.lock();
            let since = evidence.leaving(now);
            plan::wind_up(&ledger, &seen, &evidence, since, now)
        };
        self.carry_out(None, ledger, seen, steps).await
    }

    /// Marks what is about to be terminated as unwanted, so that what survives its cluster is known to be.
    async fn entomb(&self, instances: &[Instance]) -> Result<(), CloudError> {
        let bare = |instance: &&Instance| {
            let named = instance
                .identity()
                .is_some_and(|identity| identity.is_entombed(&instance.tags));
            instance.is_live()
                && instance.is_ours(&self.operator.operator_id)
                && !named
                && !self.evidence.lock().is_entombed(&instance.id)
        };
        let ids: Vec<String> = instances.iter().filter(bare).map(|one| one.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let tags = BTreeMap::from([(TOMBSTONE.to_owned(), self.cluster_uid.to_owned())]);
        let cloud = &self.operator.cloud;
        cloud.tag(self.region, &ids, &tags, self.fence).await?;
        let mut evidence = self.evidence.lock();
        for id in &ids {
            evidence.entomb(id);
        }
        Ok(())
    }

    /// Gives up on a cluster's instances, which may be out of reach: those that can be seen get a tombstone.
    pub async fn abandon(&self) -> Result<(), CloudError> {
        let reader = &self.operator.reader;
        let listing = reader.listing(self.region, Duration::ZERO).await?;
        self.entomb(listing.of(self.cluster_uid)).await
    }

    /// Marks the instances of a ledger as ones that outlive their cluster, and returns their ids. What they are known by
    /// stays on them, for who takes them over.
    pub async fn retain(&self, ledger: &Ledger) -> Result<Vec<String>, PassError<R::Error>> {
        let mut released = Vec::new();
        let kept = ledger
            .entries()
            .iter()
            .filter(|entry| entry.phase != LaunchPhase::Over);
        let tags = BTreeMap::from([(RETAINED.to_owned(), self.cluster_uid.to_owned())]);
        let cloud = &self.operator.cloud;
        for id in kept.filter_map(|entry| entry.instance_id.clone()) {
            let tagged = cloud
                .tag(self.region, std::slice::from_ref(&id), &tags, self.fence)
                .await;
            let marked = match tagged {
                // It may have been to go, before somebody changed their mind.
                Ok(()) => cloud.release(self.region, &id, self.fence).await,
                Err(error) => Err(error),
            };
            match marked {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(PassError::Cloud(error)),
                Ok(()) => released.push(id),
            }
        }
        Ok(released)
    }

    /// What members that are gone have left behind, where the others stay: nobody uses it, and nobody deletes it.
    pub async fn idle(&self) -> Result<Vec<Part>, PassError<R::Error>> {
        let (cloud, operator_id) = (&self.operator.cloud, &self.operator.operator_id);
        let parts = cloud.parts(self.region, operator_id, self.cluster_uid).await;
        let mut parts = parts.map_err(PassError::Cloud)?;
        parts.retain(|part| part.attached_to.is_none());
        Ok(parts)
    }

    /// What a listing made after this moment shows of ours, and whether it shows any that is terminated. What it shows is ours
    /// to terminate: it carries our id, the cluster's UID and a token of ours.
    async fn sweep(&self) -> Result<(Vec<Instance>, bool), PassError<R::Error>> {
        let reader = &self.operator.reader;
        let listing = reader.listing(self.region, Duration::ZERO).await;
        let listing = listing.map_err(PassError::Cloud)?;
        let shown = listing.of(self.cluster_uid).iter();
        let shown = shown.filter(|instance| instance.is_ours(&self.operator.operator_id));
        let (over, ours): (Vec<_>, Vec<_>) = shown
            .cloned()
            .partition(|instance| instance.state == InstanceState::Terminated);
        for instance in ours.iter().filter(|instance| instance.is_live()) {
            let cloud = &self.operator.cloud;
            let ended = cloud.terminate(self.region, &instance.id, self.fence).await;
            ended.map_err(PassError::Cloud)?;
        }
        Ok((ours, !over.is_empty()))
    }
}
